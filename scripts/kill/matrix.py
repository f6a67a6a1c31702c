"""One LSTM through all checks, and what came of many as a table."""

import random
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
import torch

from kill.correct import draw_correct
from kill.others import OTHERS
from kill.ours import failing_check, name
from kill.target import FORMS, Target, chosen, known_in, mathematics, mathematics_of, plant

DIAGNOSIS, CHECKS = "manual-lstm: the diagnosis", "manual-lstm: the checks"
OURS = (DIAGNOSIS, CHECKS)
CHECKERS = (*OURS, *OTHERS)
COLUMNS = (*FORMS, "pairs", "correct")


@dataclass(frozen=True)
class Task:
    """What is to be checked: mistakes by identifier, or the number of a correct LSTM.

    Attributes:
        column: of COLUMNS. form: of FORMS.
        planted: the identifiers; () for a correct one.
        number: of the task in its column: every other one is in float32 only.
    """

    column: str
    form: str
    planted: tuple[str, ...]
    number: int

    @property
    def key(self) -> str:
        """The same for the same task."""
        return " | ".join((self.column, self.form, *self.planted, str(self.number)))


@dataclass(frozen=True)
class Record:
    """What came of a task.

    Attributes:
        key, column, name: of the task; the name is that of the LSTM.
        noticed: checker to whether it noticed something.
        named: whether the diagnosis named what was planted, or the same mathematics.
        found: the identifiers that it named.
        detail: the first check that failed, where the diagnosis sends the reader, or the crash.
        seconds: of processor time for the diagnosis.
    """

    key: str
    column: str
    name: str
    noticed: Mapping[str, bool]
    named: bool
    found: Sequence[str]
    detail: str
    seconds: float

    @property
    def problem(self) -> str:
        """What our checks did wrong, a word; "" if nothing."""
        ours = [self.noticed.get(checker, False) for checker in OURS]
        if self.column == "correct":
            return "false alarm" if any(ours) or self.found else ""
        if not any(ours):
            return "unseen"
        if self.found:
            return "" if self.named else "misnamed"
        return "not named" if self.column != "pairs" else ""


def tasks(seed: int, sample: int | None, pairs: int, correct: int) -> list[Task]:
    """All single mistakes or a sample of them, the first of the fixed pairs, correct LSTMs."""
    found = []
    for form in FORMS:
        identifiers = [mistake.identifier for mistake in known_in(form).mistakes]
        if sample is not None and sample < len(identifiers):
            rng = random.Random(f"{seed} {form}")
            identifiers = rng.sample(identifiers, sample)
        found += [Task(form, form, (each,), n) for n, each in enumerate(identifiers)]
    found += [Task("correct", "", (), seed + n) for n in range(correct)]
    # A form and dtype after the other: they share cases, and what the mistakes make of those.
    return found + sorted(_draw_pairs(seed, pairs), key=lambda task: (task.form, task.number % 2))


def prepare() -> None:
    """Make a process ready for `measure`: one thread, and an interrupt is the parent's affair."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _draw_pairs(seed: int, number: int) -> list[Task]:
    """Pairs in the three forms in turn; none that is no mistake at all, or a single one."""
    rng = random.Random(seed)
    found: list[Task] = []
    for n in count():
        if len(found) == number:
            return found
        form = FORMS[n % len(FORMS)]
        known = known_in(form)
        pair = rng.sample(known.mistakes, 2)
        alone = {mathematics_of(form, known.table)} | {mathematics(form, [each]) for each in pair}
        if mathematics(form, pair) in alone:
            continue
        identifiers = (pair[0].identifier, pair[1].identifier)
        found.append(Task("pairs", form, identifiers, len(found)))
    raise AssertionError


def measure(task: Task, examples: int, one_in: int) -> Record:
    """Everything that is to be known of one task.

    Args:
        examples: how many cases each of our checks is given.
        one_in: the checks, ours and others', are run on one task in so many; the diagnosis on all.
    """
    is_correct = task.column == "correct"
    planted = [] if is_correct else chosen(task.form, task.planted)
    if is_correct:
        target = draw_correct(task.number)
    else:
        target = plant(task.form, planted, "float32" if task.number % 2 else None)
    noticed, detail = {}, []
    started = time.process_time()
    with np.errstate(all="ignore"):
        try:
            diagnosis = name(target, planted)
            noticed[DIAGNOSIS] = diagnosis.noticed
            right, found, seconds = diagnosis.right, diagnosis.found, diagnosis.seconds
            detail.append(diagnosis.located)
        except Exception as error:
            noticed[DIAGNOSIS], right, found = True, False, ()
            seconds = time.process_time() - started
            detail.append(f"{type(error).__name__}: {error}")
        if task.number % one_in == 0:
            try:
                failing = failing_check(target, examples)
            except Exception as error:
                failing = f"{type(error).__name__}: {error}"
            noticed[CHECKS] = bool(failing)
            detail.append(failing)
            noticed |= {checker: _notices(check, target) for checker, check in OTHERS.items()}
    told = "; ".join(each for each in detail if each)
    return Record(task.key, task.column, target.name, noticed, right, found, told, seconds)


def _notices(check: Any, target: Target) -> bool:
    try:
        return bool(check(target))
    except Exception:  # what crashes is noticed by everybody
        return True


def table(records: Sequence[Record]) -> list[list[str]]:
    """Rows of what was noticed, the header first; every cell is "seen/all"."""
    rows = [["noticed by", *COLUMNS]]
    for checker in CHECKERS:
        asked = [record for record in records if checker in record.noticed]
        rows.append([checker, *(_share(asked, c, checker) for c in COLUMNS)])
    named = [_count([r.named for r in records if r.column == c]) for c in COLUMNS[:-1]]
    rows.insert(2, ["  and named first", *named, ""])
    return rows


def _share(records: Sequence[Record], column: str, checker: str) -> str:
    return _count([r.noticed[checker] for r in records if r.column == column])


def _count(values: Sequence[bool]) -> str:
    return f"{sum(values)}/{len(values)}" if values else "-"


def times(seconds: Sequence[float]) -> str:
    """The median, the 99th percentile and the greatest, in words."""
    if not seconds:
        return "-"
    median, high = np.quantile(seconds, [0.5, 0.99])
    return f"median {median:.2f} s, 99 % within {high:.2f} s, longest {max(seconds):.2f} s"
