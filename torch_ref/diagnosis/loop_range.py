"""A backward loop that does not go through every step.

What such a loop makes of a window is what a right one makes of the rest of the window, begun with
the states in its middle; the table's steps cannot say it, as the head's sums lack them too.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from torch_ref.compare.errors import budget_shares
from torch_ref.diagnosis.catalogue import Catalogue, Mistake
from torch_ref.diagnosis.evidence import Evidence, budget_by
from torch_ref.diagnosis.interpreter import gradients
from torch_ref.diagnosis.matching import Finding, half_the_digits, relative
from torch_ref.diagnosis.quantities import quantities
from torch_ref.harness.judge import Subject
from torch_ref.oracles.case import Case
from torch_ref.oracles.equations import Array

_SUMS = ("dweight", "dbias")


def match_loop_range(
    subject: Subject, known: Catalogue, evidence: Sequence[Evidence]
) -> Finding | None:
    """The first steps that are left out everywhere, or the last ones that alone are there.

    Args:
        evidence: cases of several lengths; the gradients of the weights, and of x at the steps
            that are left, are held against those of a window without its first steps.
    """
    wrong = [each for each in evidence if not each.right]
    if not wrong or len({len(each.case.x) for each in evidence}) < 2:
        return None
    # Of a loop through no step at all, or through all of them, nothing is left to be explained.
    for count in range(1, max(len(each.case.x) for each in wrong)):
        left_out = {each.key: min(count, len(each.case.x)) for each in evidence}
        used = _share_used(subject, known, evidence, left_out)
        if used is not None:
            return Finding((_leaves_out(count),), used)
        left_out = {each.key: max(len(each.case.x) - count, 0) for each in evidence}
        used = _share_used(subject, known, evidence, left_out)
        if used is not None:
            return Finding((_only_the_last(count),), used)
    return None


def _share_used(
    subject: Subject, known: Catalogue, evidence: Sequence[Evidence], left_out: dict[bytes, int]
) -> float | None:
    """The greatest share of its budget that an element uses; None if one exceeds it."""
    most, limit = 0.0, half_the_digits(subject)
    for each in evidence:
        names = [name for name in each.actual if name.startswith(_SUMS)]
        first = left_out[each.key]
        if first == len(each.case.x):
            if any(np.any(each.actual[name] != 0) for name in names):
                return None
            continue
        rest = _without_first(each, first)
        found = gradients(known.table, rest.quantities)
        actual = {name: each.actual[name] for name in names}
        if "dx" in each.actual:
            actual["dx"] = each.actual["dx"][first:]
        if any(_relative(each, name, actual[name], found[name]) > limit for name in actual):
            return None  # without the cost of a budget
        allowed = budget_by(subject, known.table, rest)
        for name, value in actual.items():
            shares = budget_shares(value, found[name], allowed[name])
            if not np.all(shares <= 1):
                return None
            most = max(most, float(np.max(shares)))
    return most


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
        lambda table: table,
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
        lambda table: table,
    )
