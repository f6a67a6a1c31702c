"""One check on drawn cases: search for a case on which it fails, then for a small one."""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import hypothesis
import numpy as np
from hypothesis import HealthCheck, Phase, Verbosity, configuration
from hypothesis import strategies as st
from hypothesis.errors import HypothesisException

from torch_ref.compare.errors import Comparison, TensorError
from torch_ref.harness.answers import MalformedAnswer
from torch_ref.harness.cases import sized_case
from torch_ref.harness.check_list import Check
from torch_ref.harness.judge import Inconclusive, Subject
from torch_ref.harness.program import MalformedResult
from torch_ref.harness.required import CheckFailed
from torch_ref.harness.strategies import Sizes, cases, model_cases
from torch_ref.harness.theirs import sentence_of
from torch_ref.oracles.case import Case

# After this long a failing case that is not yet the smallest is small enough.
SHRINK_SECONDS = 4.0
# As many cases at least are drawn to find a smaller one than the first, in that time.
_SMALLER_IN = 100
# After so many cases that the implementation cannot do, and none that it can, no more are drawn.
MOST_REFUSED = 5
UNJUDGED = "none of its cases could be run and judged"
# Ordinary, larger and tiny weights. Saturated ones only slow a campaign: they hide gradients.
_MAGNITUDES = (1.0, 4.0, 2.0**-20)


@dataclass(frozen=True)
class Failure:
    """A check that failed.

    Attributes:
        check: its name. catches: what it is there to catch.
        sentence: what was found.
        case: the smallest on which it failed; None where no case was needed.
        comparison: the tensors of that case, where some were compared.
        error: what the implementation raised, where it did.
    """

    check: str
    catches: str
    sentence: str
    case: Case | None = None
    comparison: Comparison | None = None
    error: Exception | None = None


@dataclass(frozen=True)
class Found:
    """What one check found on its cases.

    Attributes:
        examples: how many were judged, but for blank ones. refused: of none, as the implementation
            cannot do it.
    """

    check: str
    failure: Failure | None
    tensors: tuple[TensorError, ...]
    examples: int
    refused: bool = False


def search(check: Check, subject: Subject, examples: int, seed: int, *, shrink: bool) -> Found:
    """Run one check on drawn cases until one fails, and with `shrink` until a small one does.

    First come those of `full_cases`: the first that Hypothesis draws is the smallest, of zeros,
    and a check that is given one or two would see no other.
    """
    smallest: Failure | None = None
    tensors: list[TensorError] = []
    count = refused = 0
    give_up = float("inf")
    for case in (*raising_cases(check, subject), *full_cases(check, subject, seed)):
        found = try_check(check, subject, case)
        count += found.examples
        refused += found.refused
        tensors.extend(found.tensors)
        smallest = found.failure
        if smallest is not None:
            give_up = time.perf_counter() + SHRINK_SECONDS
            break
    wanted = max(examples, _SMALLER_IN) if smallest is not None else examples - count
    if wanted < 1 or (smallest is not None and not shrink):
        return Found(check.name, smallest, tuple(tensors), count)

    def run(case: Case) -> None:
        nonlocal smallest, count, refused, give_up
        if time.perf_counter() > give_up:
            return
        found = try_check(check, subject, case)
        if found.examples == 0:
            refused += found.refused
            if refused >= MOST_REFUSED and count == 0:
                raise _Stop
            hypothesis.reject()
        if found.failure is None and _blank(case):
            hypothesis.reject()
        count += 1
        tensors.extend(found.tensors)
        if found.failure is None:
            return
        if smallest is None:
            give_up = time.perf_counter() + SHRINK_SECONDS
        if smallest is None or _size(case) <= _size(smallest.case):
            smallest = found.failure
        raise _Stop

    quiet = hypothesis.settings(
        max_examples=wanted,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink] if shrink else [Phase.generate],
        verbosity=Verbosity.quiet,
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )
    # Hypothesis objects to an example that fails once and, after SHRINK_SECONDS, no longer.
    with _leaving_nothing(), suppress(_Stop, HypothesisException), _interrupt_kept():
        hypothesis.seed(seed)(quiet(hypothesis.given(_drawn(check, subject))(run)))()
    return Found(check.name, smallest, tuple(tensors), count)


def try_check(check: Check, subject: Subject, case: Case) -> Found:
    """One check on one case; no examples where the case cannot be judged."""
    failure = None
    try:
        comparison = check.function(subject, case)
    except (Inconclusive, NotImplementedError) as error:
        refused = isinstance(error, NotImplementedError)
        return Found(check.name, None, (), 0, refused)
    except (MalformedAnswer, MalformedResult) as error:
        comparison = None
        failure = Failure(check.name, check.catches, str(error), case)
    except CheckFailed as error:
        comparison = error.comparison
        failure = Failure(check.name, check.catches, error.sentence, case, comparison)
    except Exception as error:
        comparison = None
        sentence = sentence_of(error)
        failure = Failure(check.name, check.catches, sentence, case, None, error)
    return Found(check.name, failure, comparison.tensors if comparison else (), 1)


def raising_cases(check: Check, subject: Subject) -> list[Case]:
    """The cases on which an implementation is known to raise and which a check is for."""
    return [
        case
        for size, case in subject.abilities.meant.items()
        if not isinstance(wanted := check.sizes.get(size, 1), int) and wanted[0] > 1
    ]


def full_cases(check: Check, subject: Subject, seed: int) -> list[Case]:
    """A case in each dtype, of the larger sizes that a check is for, without a zero in it."""
    implementation = subject.implementation
    rng = np.random.default_rng([seed, *check.name.encode()])

    def larger(wanted: int | tuple[int, int]) -> int:
        least, most = (wanted, wanted) if isinstance(wanted, int) else wanted
        return int(rng.integers((least + most + 1) // 2, most + 1))

    return [
        sized_case(
            {name: larger(wanted) for name, wanted in _sizes(check, subject).items()},
            dtype=dtype,
            targets=implementation.head_inside is not None,
            head=implementation.head_inside,
            variant=implementation.variant,
            seed=seed,
        )
        for dtype in subject.abilities.dtypes
    ]


class _Stop(Exception):
    """A case failed."""


@contextmanager
def _interrupt_kept() -> Iterator[None]:
    """Ctrl-C, where Hypothesis stumbles over it: an error of its own passes for a crash."""
    try:
        yield
    except Exception as error:
        before = error.__context__
        while before is not None:
            if isinstance(before, KeyboardInterrupt):
                raise KeyboardInterrupt from None
            before = before.__context__
        raise


@contextmanager
def _leaving_nothing() -> Iterator[None]:
    """What Hypothesis keeps of the modules that it reads is no file in somebody's current folder.

    Where they have said where it is to be kept, it is.
    """
    if "HYPOTHESIS_STORAGE_DIRECTORY" in os.environ:
        yield
        return
    before = vars(configuration).get("__hypothesis_home_directory")
    with tempfile.TemporaryDirectory(prefix="manual-lstm-", ignore_cleanup_errors=True) as folder:
        configuration.set_hypothesis_home_dir(folder)
        try:
            yield
        finally:
            configuration.set_hypothesis_home_dir(before)


def _sizes(check: Check, subject: Subject) -> Sizes:
    abilities = subject.abilities
    return {
        "T": (1, 6),
        "B": (1, 3) if abilities.batches else 1,
        "I": (1, 4),
        "H": (1, 5),
        "L": (1, 3) if abilities.stacks else 1,
        **check.sizes,
        **subject.implementation.sizes,
    }


def _drawn(check: Check, subject: Subject) -> st.SearchStrategy[Case]:
    implementation, abilities = subject.implementation, subject.abilities
    sizes = _sizes(check, subject)
    head = implementation.head_inside
    if head is None:
        return cases(
            sizes=sizes,
            variant=implementation.variant,
            dtypes=abilities.dtypes,
            magnitudes=_MAGNITUDES,
        )
    return model_cases(
        heads=[head],
        sizes=sizes,
        variant=implementation.variant,
        dtypes=abilities.dtypes,
        magnitudes=_MAGNITUDES,
        only_one_hot=True,
    )


def _blank(case: Case) -> bool:
    """Whether hardly anything can show: with no weights, or nothing that flows back.

    Hypothesis begins with such a case; of a check with few cases it would be the only one.
    """
    upstream = (case.dy, case.dh_n, case.dc_n)
    silent = case.dy is not None and not any(np.any(each) for each in upstream)
    return silent or not any(np.any(value) for value in case.params.values())


def _size(case: Case | None) -> tuple[int, ...]:
    if case is None:
        return ()
    steps, batch, inputs = case.x.shape
    layers, _, hidden = case.h0.shape
    return (layers, steps * batch * hidden * inputs, steps, batch, hidden, inputs)
