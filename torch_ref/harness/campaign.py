"""A campaign: all checks of one implementation, on cases that Hypothesis draws and shrinks."""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, as_completed
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from torch_ref.compare.errors import TensorError
from torch_ref.harness.abilities import OUTPUTS
from torch_ref.harness.answers import MalformedAnswer
from torch_ref.harness.check_list import CHECKS, Check, not_applicable, reasons_by_check
from torch_ref.harness.checks import check_clipping, check_forward
from torch_ref.harness.contract import Implementation, as_implementation
from torch_ref.harness.crash_notes import crash_notes
from torch_ref.harness.findings import Scale, find_clipping, find_scale
from torch_ref.harness.judge import Clipping, Subject
from torch_ref.harness.layout_auto import suggestion, with_layout_found
from torch_ref.harness.layouts.layout import Layout
from torch_ref.harness.program import MalformedResult, ProgramTimedOut
from torch_ref.harness.search import UNJUDGED, Failure, Found, raising_cases, search, try_check
from torch_ref.harness.subject import subject_of
from torch_ref.harness.theirs import sentence_of
from torch_ref.harness.where_clipped import judged_as_clipped
from torch_ref.oracles.case import Case

# As many cases go to a process at a time.
PART = 50
_KINDS = ("weight_ih", "weight_hh", "bias", "bias_hh")
_STATES = ("dx", "dh0", "dc0")


@dataclass(frozen=True)
class CheckReport:
    """What a campaign found.

    Attributes:
        name: of the implementation.
        dtypes: those it was checked in.
        passed: the names of the checks that hold.
        skipped: check to the reason why it could not be run.
        failures: the checks that failed, in their order.
        expected_failures: check to reason, for those that failed as expected.
        tensors: of every tensor the worst over all cases, in the order of a comparison: where it
            is wrong the largest error relative to the tensor, else the most used of its budget.
        scale: the one ratio that explains every gradient, or None.
        clipping: that gradients are cut off inside, or None.
        layout: what is known of the layout, a sentence, or "".
        arrangement: the layout itself, where it is known.
        coarse_tanh: whether its tanh loses the digits of a small argument.
        unverified: what the implementation cannot be asked.
        notes: on what of that it raises, and how to say whether it should.
        raising: checks of sizes of which it raises though it is meant to take them: of all other
            checks nothing is known to be raised.
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
    arrangement: Layout | None = None
    coarse_tanh: bool = False
    notes: tuple[str, ...] = ()
    raising: frozenset[str] = frozenset()

    @property
    def verdict(self) -> str:
        """ "agree" if some check could be run and none failed unexpectedly."""
        return "disagree" if self.failures or not self.passed else "agree"


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
        expected_failures: check to reason, "check_long" or "long". A check that is expected to fail
            and holds is a failure.
        case: run the checks on this one case, those that its sizes suit, instead of drawn ones.
        executor: where to run the checks; a pool of processes needs an implementation that can be
            pickled. None runs them here, one after the other.
        progress: called with how many of the examples are done since it was last called; with
            `case` how many of the checks, those among them that are left out.

    Raises:
        ValueError: examples below 1, an expected failure of a check that there is not, or a case
            with another head, dtype or size than the implementation can have.
        Exception: what the implementation raises on the plainest case of all.
    """
    started = time.perf_counter()
    expected = reasons_by_check(expected_failures)
    if examples < 1:
        raise ValueError(f"examples is {examples} but must be at least 1.")
    resolved = as_implementation(implementation)
    if case is not None:
        _require_fitting(case, resolved)
    layout = ""
    if resolved.layout == "auto":
        resolved, layout = with_layout_found(resolved)
    try:
        subject = subject_of(resolved)
    except (MalformedAnswer, MalformedResult) as error:
        return _not_run(resolved, str(error), time.perf_counter() - started)
    reasons = {check.name: not_applicable(check, subject) for check in CHECKS}
    if case is not None:
        reasons |= {check.name: why for check in CHECKS if (why := _unsuited(check, case))}
    runnable = [check for check in CHECKS if reasons[check.name] is None]
    if case is None:
        found = _run_all(runnable, subject, examples, seed, executor, progress)
    else:
        found = []
        tell = progress or (lambda _: None)
        tell(len(CHECKS) - len(runnable))
        for check in runnable:
            found.append(try_check(check, subject, case))
            tell(1)

    # Of what no case could be run or judged nothing is known: it neither holds nor fails.
    unjudged = [f.check for f in found if f.examples == 0]
    reasons |= dict.fromkeys(unjudged, UNJUDGED)
    found = [f for f in found if f.examples]

    clipping = None
    if any(f.failure is not None and f.failure.comparison is not None for f in found):
        clipping = find_clipping(subject)
    if clipping is not None:
        subject = replace(subject, clipping=clipping)
        by_name = {check.name: check for check in runnable}
        found = [judged_as_clipped(by_name[f.check], f, subject) for f in found]

    failures = [f.failure for f in found if f.failure is not None]
    if failures and case is None:
        first = next(check for check in runnable if check.name == failures[0].check)
        count = _share(first, runnable, examples)
        smaller = search(first, subject, count, seed, shrink=True).failure
        failures[0] = smaller or failures[0]
    unverified = [f"{name}: {UNJUDGED}" for name in unjudged]
    clipped = None
    if clipping is not None:
        unverified.append(clipping.unverified)
        clipped = check_clipping.__name__
        if clipped in expected or {"unclipped", "all"} & resolved.requires:
            failures.append(Failure(clipped, "", clipping.sentence))
        else:
            reasons[clipped] = clipping.sentence
    unexpected = [f for f in failures if f.check not in expected]
    too_good = [
        Failure(f.check, "", f"It was expected to fail ({expected[f.check]}) but holds.")
        for f in found
        if f.failure is None and f.check in expected and f.check != clipped
    ]
    wrong = any(failure.comparison is not None for failure in unexpected)
    forward_wrong = any(failure.check == check_forward.__name__ for failure in unexpected)
    if forward_wrong:
        layout = suggestion(resolved) or layout
    return CheckReport(
        name=subject.implementation.name,
        dtypes=subject.abilities.dtypes,
        passed=tuple(
            f.check
            for f in found
            if f.failure is None and f.check not in expected and f.check != clipped
        ),
        skipped={name: reason for name, reason in reasons.items() if reason is not None},
        failures=(*unexpected, *too_good),
        tensors=_worst(found),
        unverified=(*subject.abilities.unverified, *unverified),
        examples=sum(f.examples for f in found),
        seconds=time.perf_counter() - started,
        scale=find_scale(subject) if wrong and clipping is None else None,
        clipping=clipping,
        layout=layout,
        arrangement=resolved.layout if isinstance(resolved.layout, Layout) else None,
        coarse_tanh=subject.coarse_tanh and not forward_wrong,
        notes=subject.abilities.notes,
        raising=frozenset(check.name for check in runnable if raising_cases(check, subject)),
        expected_failures={f.check: expected[f.check] for f in failures if f.check in expected},
    )


def crash_report(implementation: Implementation, error: Exception) -> CheckReport:
    """The report on an implementation that raised on the plainest case: `error` is its failure."""
    report = _not_run(implementation, sentence_of(error), 0.0, error)
    late = isinstance(error, ProgramTimedOut | TimeoutError)
    return report if late else replace(report, notes=crash_notes(implementation, error))


def _not_run(
    implementation: Implementation, sentence: str, seconds: float, error: Exception | None = None
) -> CheckReport:
    """The report on an implementation of which not even the plainest case can be run or read."""
    first = CHECKS[0]
    failure = Failure(first.name, first.catches, sentence, error=error)
    return CheckReport(implementation.name, (), (), {}, (failure,), (), (), 1, seconds)


def _require_fitting(case: Case, implementation: Implementation) -> None:
    """A case of another kind than the implementation is given is no fault of the implementation."""
    own, found = implementation.head_inside, case.head
    name = implementation.name
    if found != own:
        has = "dy and no head" if found is None else f"targets and the {found} head"
        takes = "dy and has no head" if own is None else f"targets and has the {own} head"
        raise ValueError(f"the case has {has} but {name} takes {takes}: choose a case like that.")
    if implementation.dtype not in (None, case.dtype.name):
        raise ValueError(
            f"the case is {case.dtype} but {name} is declared as {implementation.dtype}: choose a "
            f"case in that, or declare {case.dtype}."
        )
    if case.variant != implementation.variant:
        raise ValueError(
            f"the case is of {case.variant.describe()} but {name} is declared as "
            f"{implementation.variant.describe()}: choose a case like that."
        )
    steps, batch, inputs = case.x.shape
    layers, _, hidden = case.h0.shape
    sizes = {"T": steps, "B": batch, "I": inputs, "H": hidden, "L": layers}
    for size, bound in implementation.sizes.items():
        if sizes[size] != bound:
            raise ValueError(
                f"the case has {size} = {sizes[size]} but {name} is bound to {size} = {bound}."
            )


def _unsuited(check: Check, case: Case) -> str | None:
    steps, batch, _ = case.x.shape
    layers, _, hidden = case.h0.shape
    sizes = {"T": steps, "B": batch, "H": hidden, "L": layers}
    for name, wanted in check.sizes.items():
        least = wanted if isinstance(wanted, int) else wanted[0]
        if sizes[name] < least:
            return f"it needs {name} of at least {least}"
    return None


def _run_all(
    runnable: Sequence[Check],
    subject: Subject,
    examples: int,
    seed: int,
    executor: Executor | None,
    progress: Callable[[int], None] | None,
) -> list[Found]:
    jobs = [
        (check, count, seed + part)
        for check in runnable
        for part, count in enumerate(_parts(_share(check, runnable, examples)))
    ]
    asked, ran = sum(count for _, count, _ in jobs), 0

    def tell(count: int) -> None:
        """Of the examples, as the shares of few are more than they are together."""
        nonlocal ran
        before, ran = ran * examples // asked, ran + count
        if progress is not None:
            progress(ran * examples // asked - before)

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


def _joined(found: Sequence[Found]) -> Found:
    return Found(
        found[0].check,
        next((f.failure for f in found if f.failure is not None), None),
        tuple(tensor for f in found for tensor in f.tensors),
        sum(f.examples for f in found),
    )


def _share(check: Check, runnable: Sequence[Check], examples: int) -> int:
    return max(1, round(examples * check.weight / sum(each.weight for each in runnable)))


def _worst(found: Sequence[Found]) -> tuple[TensorError, ...]:
    worst: dict[str, TensorError] = {}
    for each in found:
        for tensor in each.tensors:
            if tensor.name not in worst or _badness(tensor) > _badness(worst[tensor.name]):
                worst[tensor.name] = tensor
    return tuple(sorted(worst.values(), key=lambda tensor: _order(tensor.name)))


def _badness(tensor: TensorError) -> tuple[bool, bool, float]:
    """What is wrong counts by its size, not by a budget that may be next to nothing."""
    if tensor.verdict == "agree":
        return False, False, tensor.used
    return True, bool(tensor.reason), tensor.max_rel if np.isfinite(tensor.max_rel) else 0.0


def _order(name: str) -> tuple[int, int, int, str]:
    """Outputs, then the weights from the first layer up, then the head's, then dx, dh0, dc0."""
    kind, _, layer = name.removeprefix("d").partition("_l")
    if name in OUTPUTS:
        return 0, 0, OUTPUTS.index(name), name
    if layer.isdigit():
        return 1, int(layer), _KINDS.index(kind) if kind in _KINDS else len(_KINDS), name
    return (3, 0, _STATES.index(name), name) if name in _STATES else (2, 0, 0, name)
