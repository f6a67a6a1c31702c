"""What this project's own checks make of an LSTM."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from kill.target import Target, mathematics
from torch_ref import diagnose
from torch_ref.diagnosis.mistakes.catalogue import Mistake
from torch_ref.harness.check_list import CHECKS, not_applicable
from torch_ref.harness.search import search
from torch_ref.harness.subject import subject_of


@dataclass(frozen=True)
class Named:
    """A diagnosis.

    Attributes:
        noticed: whether it says that something is wrong.
        found: the identifiers of the mistakes that it names, the first choice.
        right: whether they are those that were planted, or the same mathematics.
        located: where it sends the reader if it names none.
        seconds: of processor time, which other processes do not add to.
    """

    noticed: bool
    found: tuple[str, ...]
    right: bool
    located: str
    seconds: float


def name(target: Target, planted: Sequence[Mistake], seconds: float = 60.0) -> Named:
    """Diagnose a target and compare the finding with what was planted in it."""
    started = time.process_time()
    diagnosis = diagnose(target.implementation, seconds=seconds)
    spent = time.process_time() - started
    found = () if diagnosis.finding is None else diagnosis.finding.mistakes
    right = bool(found and planted) and (
        mathematics(target.form, found) == mathematics(target.form, planted)
    )
    identifiers = tuple(mistake.identifier for mistake in found)
    return Named(diagnosis.wrong, identifiers, right, diagnosis.located, spent)


def failing_check(target: Target, examples: int) -> str:
    """The first of the checks that fails, on so many cases each; "" if all of them hold."""
    subject = subject_of(target.implementation)
    for check in CHECKS:
        if not_applicable(check, subject) is not None:
            continue
        if search(check, subject, examples, seed=0, shrink=False).failure is not None:
            return check.name
    return ""
