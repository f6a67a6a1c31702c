"""A backward loop that does not go through every step.

What such a loop makes of a window is what a right one makes of the rest of the window, begun with
the states in its middle; the table's steps cannot say it, as the head's sums lack them too.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from torch_ref.compare.errors import budget_shares
from torch_ref.diagnosis.backward.interpreter import gradients
from torch_ref.diagnosis.backward.quantities import quantities
from torch_ref.diagnosis.evidence import Evidence, budget_by, completed
from torch_ref.diagnosis.matching.single import half_the_digits, relative
from torch_ref.diagnosis.mistakes.catalogue import Catalogue, Mistake
from torch_ref.harness.judge import Subject
from torch_ref.oracles.case import Case
from torch_ref.oracles.equations import Array

# By name what came back, what is foretold, and how far that may be off.
Foretold = tuple[Mapping[str, Array], Mapping[str, Array], Mapping[str, Array]]
_SUMS = ("dweight", "dbias")


@dataclass(frozen=True)
class LoopRange:
    """Which steps a loop goes through.

    Attributes:
        mistake: in words.
        left_out: of so many steps, how many of the first ones it leaves out.
    """

    mistake: Mistake
    left_out: Callable[[int], int]


def match_loop_range(
    subject: Subject, known: Catalogue, evidence: Sequence[Evidence]
) -> tuple[LoopRange, float] | None:
    """The first steps that are left out everywhere, or the last ones that alone are there.

    Args:
        evidence: cases of several lengths; the gradients of the weights, and of x at the steps
            that are left, are held against those of a window without its first steps.

    Returns:
        With the greatest share of its budget that an element uses; None if nothing fits.
    """
    wrong = [each for each in evidence if not each.right]
    if not wrong or len({len(each.case.x) for each in evidence}) < 2:
        return None
    # Of a loop through no step at all, or through all of them, nothing is left to be explained.
    for count in range(1, max(len(each.case.x) for each in wrong)):
        for loop in (
            LoopRange(_leaves_out(count), partial(min, count)),
            LoopRange(_only_the_last(count), partial(_but_the_last, count)),
        ):
            used = _share_used(subject, known, evidence, loop)
            if used is not None:
                return loop, used
    return None


def _but_the_last(count: int, steps: int) -> int:
    return max(steps - count, 0)


def _share_used(
    subject: Subject, known: Catalogue, evidence: Sequence[Evidence], loop: LoopRange
) -> float | None:
    most, limit = 0.0, half_the_digits(subject)
    for each in evidence:
        actual, found, _ = _of_rest(subject, known, each, loop)
        if any(_relative(each, name, actual[name], found[name]) > limit for name in actual):
            return None  # without the cost of a budget
        allowed = foreseen_in_range(subject, known, loop, each)[2]
        for name, value in actual.items():
            shares = budget_shares(value, found[name], allowed[name])
            if not np.all(shares <= 1):
                return None
            most = max(most, float(np.max(shares)))
    return most


def foreseen_in_range(
    subject: Subject, known: Catalogue, loop: LoopRange, evidence: Evidence
) -> Foretold:
    """What such a loop leaves of the gradients, and how far they may be off."""
    actual, found, rest = _of_rest(subject, known, evidence, loop)
    if rest is None:
        return actual, found, found
    allowed = budget_by(subject, known.table, rest)
    return actual, found, {name: allowed[name] for name in actual}


def _of_rest(
    subject: Subject, known: Catalogue, evidence: Evidence, loop: LoopRange
) -> tuple[dict[str, Array], dict[str, Array], Evidence | None]:
    """Gradients that came back, those of the steps that are left, and the case of these."""
    actual = {name: value for name, value in evidence.actual.items() if name.startswith(_SUMS)}
    first = loop.left_out(len(evidence.case.x))
    if first == len(evidence.case.x):
        return actual, {name: np.zeros_like(value) for name, value in actual.items()}, None
    rest = _without_first(evidence, first)
    found = completed(subject, gradients(known.table, rest.quantities))
    if "dx" in evidence.actual:
        actual["dx"] = evidence.actual["dx"][first:]
    return actual, {name: found[name] for name in actual}, rest


def _relative(evidence: Evidence, name: str, actual: Array, found: Array) -> float:
    allowed = evidence.allowed[name][-len(actual) :]  # of dx the last steps
    return float(relative(found.ravel(), actual.ravel(), allowed.ravel()))


def _without_first(evidence: Evidence, count: int) -> Evidence:
    """A case without its first steps, from the states that they led to, in which all is right."""
    case, layers = evidence.case, evidence.quantities.layers

    def cut(array: Any) -> Any:
        return None if array is None else array[count:].copy()

    x = case.x[count:].copy()
    rest: Case = replace(
        case,
        x=x,
        h0=np.stack([layer["h"][count] for layer in layers]),
        c0=np.stack([layer["c"][count] for layer in layers]),
        dy=cut(case.dy),
        targets=cut(case.targets),
        dloss=case.dloss * len(x) / len(case.x),
    )
    return replace(evidence, case=rest, quantities=quantities(rest))


def _leaves_out(count: int) -> Mistake:
    steps = "t=0" if count == 1 else f"the first {count} steps"
    return Mistake(
        f"loop.without the first {count}",
        f"The backward loop leaves out {steps}: every gradient of a weight lacks its share.",
        "(9)",
        f"for t in T-1, ..., {count}",
        "for t in T-1, ..., 0",
    )


def _only_the_last(count: int) -> Mistake:
    steps = "the last step" if count == 1 else f"the last {count} steps"
    return Mistake(
        f"loop.only the last {count}",
        f"The backward loop goes through {steps} only, and the gradients of all weights lack the "
        "others.",
        "(9)",
        f"for t in T-1, ..., T-{count}",
        "for t in T-1, ..., 0",
    )
