"""A campaign: all checks of one implementation, on cases that Hypothesis draws and shrinks."""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, as_completed
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import hypothesis
from hypothesis import HealthCheck, Phase, Verbosity
from hypothesis import strategies as st
from hypothesis.errors import HypothesisException

from torch_ref.compare.errors import Comparison, TensorError
from torch_ref.harness.abilities import find_abilities
from torch_ref.harness.checks import CHECKS, OUTPUTS, Check, CheckFailed, not_applicable
from torch_ref.harness.contract import Implementation, as_implementation
from torch_ref.harness.findings import Clipping, Scale, find_clipping, find_scale
from torch_ref.harness.judge import Inconclusive, Subject
from torch_ref.harness.strategies import Sizes, cases, model_cases
from torch_ref.oracles.case import Case

# After this long a failing case that is not yet the smallest is small enough.
SHRINK_SECONDS = 10.0
# As many cases go to a process at a time.
PART = 50
_KINDS = ("weight_ih", "weight_hh", "bias", "bias_hh")
_STATES = ("dx", "dh0", "dc0")
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
class CheckReport:
    """What a campaign found.

    Attributes:
        name: of the implementation.
        passed: the names of the checks that hold.
        skipped: check to the reason why it could not be run.
        failures: the checks that failed, in their order.
        expected_failures: check to reason, for those that failed as expected.
        tensors: of every tensor the worst over all cases, in the order of a comparison.
        scale: the one ratio that explains every gradient, or None.
        clipping: that gradients are cut off inside, or None.
        layout: what is known of the layout, a sentence, or "".
        unverified: what the implementation cannot be asked.
        examples: how many cases were run. seconds: how long it took.
    """

    name: str
    dtypes: tuple[str, ...]
    passed: tuple[str, ...]
    skipped: Mapping[str, str]
    failures: tuple[Failure, ...]
    tensors: tuple[TensorError, ...]
    unverified: tuple[str, ...]
    examples: int
    seconds: float
    scale: Scale | None = None
    clipping: Clipping | None = None
    expected_failures: Mapping[str, str] = field(default_factory=dict)
    layout: str = ""

    @property
    def verdict(self) -> str:
        """ "agree" if some check could be run and none failed unexpectedly."""
        return "disagree" if self.failures or not self.passed else "agree"


@dataclass(frozen=True)
class _Found:
    """What one check found on its cases."""

    check: str
    failure: Failure | None
    tensors: tuple[TensorError, ...]
    examples: int


def check_implementation(
    implementation: Any,
    *,
    examples: int = 200,
    seed: int = 0,
    expected_failures: Mapping[str, str] | None = None,
    case: Case | None = None,
    executor: Executor | None = None,
    progress: Callable[[int], None] | None = None,
) -> CheckReport:
    """Run every check on an implementation.

    Args:
        implementation: an Implementation, or a bare callable in the vjp or the loss form.
        examples: how many cases, shared out over the checks.
        seed: of the cases.
        expected_failures: check to reason. A check that is expected to fail and holds is a failure.
        case: run the checks on this one case, those that its sizes suit, instead of drawn ones.
        executor: where to run the checks; a pool of processes needs an implementation that can be
            pickled. None runs them here, one after the other.
        progress: called with the number of cases that were run since it was last called.

    Raises:
        ValueError: examples below 1, or an expected failure of a check that there is not.
        Exception: what the implementation raises on the plainest case of all.
    """
    started = time.perf_counter()
    expected = dict(expected_failures or {})
    if unknown := set(expected) - {check.name for check in CHECKS}:
        raise ValueError(f"expected_failures names {min(unknown)!r}, which is not a check.")
    if examples < 1:
        raise ValueError(f"examples is {examples} but must be at least 1.")
    subject = subject_of(as_implementation(implementation))
    reasons = {check.name: not_applicable(check, subject) for check in CHECKS}
    if case is not None:
        reasons |= {check.name: why for check in CHECKS if (why := _unsuited(check, case))}
    runnable = [check for check in CHECKS if reasons[check.name] is None]
    if case is None:
        found = _run_all(runnable, subject, examples, seed, executor, progress)
    else:
        found = [_try(check, subject, case) for check in runnable]

    failures = [f.failure for f in found if f.failure is not None]
    if failures and case is None:
        first = next(check for check in runnable if check.name == failures[0].check)
        count = _share(first, runnable, examples)
        smaller = search(first, subject, count, seed, shrink=True).failure
        failures[0] = smaller or failures[0]
    unexpected = [f for f in failures if f.check not in expected]
    too_good = [
        Failure(f.check, "", f"It was expected to fail ({expected[f.check]}) but holds.")
        for f in found
        if f.failure is None and f.check in expected
    ]
    wrong = any(failure.comparison is not None for failure in unexpected)
    scale = find_scale(subject) if wrong else None
    return CheckReport(
        name=subject.implementation.name,
        dtypes=subject.abilities.dtypes,
        passed=tuple(f.check for f in found if f.failure is None and f.check not in expected),
        skipped={name: reason for name, reason in reasons.items() if reason is not None},
        failures=(*unexpected, *too_good),
        tensors=_worst(found),
        unverified=subject.abilities.unverified,
        examples=sum(f.examples for f in found),
        seconds=time.perf_counter() - started,
        scale=scale,
        clipping=find_clipping(subject) if wrong and scale is None else None,
        expected_failures={f.check: expected[f.check] for f in failures if f.check in expected},
    )


def subject_of(implementation: Implementation) -> Subject:
    """An implementation with what it can do."""
    return Subject(implementation, find_abilities(implementation))


def search(check: Check, subject: Subject, examples: int, seed: int, *, shrink: bool) -> _Found:
    """Run one check on drawn cases until one fails, and with `shrink` until a small one does."""
    smallest: Failure | None = None
    tensors: list[TensorError] = []
    count = 0
    give_up = float("inf")

    def run(case: Case) -> None:
        nonlocal smallest, count, give_up
        if time.perf_counter() > give_up:
            return
        count += 1
        found = _try(check, subject, case)
        if found.examples == 0:
            hypothesis.reject()
        tensors.extend(found.tensors)
        if found.failure is None:
            return
        if smallest is None:
            give_up = time.perf_counter() + SHRINK_SECONDS
        if smallest is None or _size(case) <= _size(smallest.case):
            smallest = found.failure
        raise _Stop

    quiet = hypothesis.settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink] if shrink else [Phase.generate],
        verbosity=Verbosity.quiet,
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )
    # Hypothesis objects to an example that fails once and, after SHRINK_SECONDS, no longer.
    with suppress(_Stop, HypothesisException):
        hypothesis.seed(seed)(quiet(hypothesis.given(_drawn(check, subject))(run)))()
    return _Found(check.name, smallest, tuple(tensors), count)


def _try(check: Check, subject: Subject, case: Case) -> _Found:
    """One check on one case; no examples where the case cannot be judged."""
    failure = None
    try:
        comparison = check.function(subject, case)
    except (Inconclusive, NotImplementedError):
        return _Found(check.name, None, (), 0)
    except CheckFailed as error:
        comparison = error.comparison
        failure = Failure(check.name, check.catches, error.sentence, case, comparison)
    except Exception as error:
        comparison = None
        sentence = f"It raises {type(error).__name__}: {error}".rstrip(": ")
        failure = Failure(check.name, check.catches, sentence, case, None, error)
    return _Found(check.name, failure, comparison.tensors if comparison else (), 1)


def _unsuited(check: Check, case: Case) -> str | None:
    steps, batch, _ = case.x.shape
    layers, _, hidden = case.h0.shape
    sizes = {"T": steps, "B": batch, "H": hidden, "L": layers}
    for name, wanted in check.sizes.items():
        least = wanted if isinstance(wanted, int) else wanted[0]
        if sizes[name] < least:
            return f"it needs {name} of at least {least}"
    return None


class _Stop(Exception):
    """A case failed."""


def _drawn(check: Check, subject: Subject) -> st.SearchStrategy[Case]:
    implementation, abilities = subject.implementation, subject.abilities
    sizes: Sizes = {
        "T": (1, 6),
        "B": (1, 3) if abilities.batches else 1,
        "I": (1, 4),
        "H": (1, 5),
        "L": (1, 3) if abilities.stacks else 1,
        **check.sizes,
        **implementation.sizes,
    }
    if implementation.form == "vjp":
        return cases(
            sizes=sizes,
            variant=implementation.variant,
            dtypes=abilities.dtypes,
            magnitudes=_MAGNITUDES,
        )
    return model_cases(
        heads=[implementation.head],
        sizes=sizes,
        variant=implementation.variant,
        dtypes=abilities.dtypes,
        magnitudes=_MAGNITUDES,
        only_one_hot=True,
    )


def _run_all(
    runnable: Sequence[Check],
    subject: Subject,
    examples: int,
    seed: int,
    executor: Executor | None,
    progress: Callable[[int], None] | None,
) -> list[_Found]:
    tell = progress or (lambda _: None)
    jobs = [
        (check, count, seed + part)
        for check in runnable
        for part, count in enumerate(_parts(_share(check, runnable, examples)))
    ]
    found = []
    if executor is None:
        for check, count, its_seed in jobs:
            found.append(search(check, subject, count, its_seed, shrink=False))
            tell(count)
    else:
        futures = {
            executor.submit(search, check, subject, count, its_seed, shrink=False): count
            for check, count, its_seed in jobs
        }
        for future in as_completed(futures):
            tell(futures[future])
        found = [future.result() for future in futures]
    return [_joined([f for f in found if f.check == check.name]) for check in runnable]


def _parts(count: int) -> list[int]:
    whole, rest = divmod(count, PART)
    return [PART] * whole + [rest] * (rest > 0)


def _joined(found: Sequence[_Found]) -> _Found:
    return _Found(
        found[0].check,
        next((f.failure for f in found if f.failure is not None), None),
        tuple(tensor for f in found for tensor in f.tensors),
        sum(f.examples for f in found),
    )


def _share(check: Check, runnable: Sequence[Check], examples: int) -> int:
    return max(1, round(examples * check.weight / sum(each.weight for each in runnable)))


def _worst(found: Sequence[_Found]) -> tuple[TensorError, ...]:
    worst: dict[str, TensorError] = {}
    for each in found:
        for tensor in each.tensors:
            if tensor.name not in worst or tensor.used > worst[tensor.name].used:
                worst[tensor.name] = tensor
    return tuple(sorted(worst.values(), key=lambda tensor: _order(tensor.name)))


def _order(name: str) -> tuple[int, int, int, str]:
    """Outputs, then the weights from the first layer up, then the head's, then dx, dh0, dc0."""
    kind, _, layer = name.removeprefix("d").partition("_l")
    if name in OUTPUTS:
        return 0, 0, OUTPUTS.index(name), name
    if layer.isdigit():
        return 1, int(layer), _KINDS.index(kind) if kind in _KINDS else len(_KINDS), name
    return (3, 0, _STATES.index(name), name) if name in _STATES else (2, 0, 0, name)


def _size(case: Case | None) -> tuple[int, ...]:
    if case is None:
        return ()
    steps, batch, inputs = case.x.shape
    layers, _, hidden = case.h0.shape
    return (layers, steps * batch * hidden * inputs, steps, batch, hidden, inputs)
