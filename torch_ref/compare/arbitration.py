"""Which of two sides that differ is right: both against the exact values."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from torch_ref.compare.budget import error_budget
from torch_ref.compare.errors import Comparison, TensorError, compare_gradients
from torch_ref.oracles.case import Case
from torch_ref.oracles.truth import truth


def arbitrate(
    case: Case,
    comparison: Comparison,
    actual: Mapping[str, Any],
    expected: Mapping[str, Any],
    sides: tuple[str, str],
) -> str | None:
    """Say with whom the exact values side where two sides disagree.

    Each side is compared with the truth in its own precision, so that a float64 side is not
    excused by the float32 one's budget. A side is right in a tensor if it is within that.

    Args:
        case: what both sides were given.
        comparison: of the two.
        actual, expected: their results, name to array.
        sides: what to call them: ("manual_lstm", "the autograd twin").

    Returns:
        A sentence with a clause for each outcome that occurs (one side right, the other, both,
        neither), each naming its worst tensor; None where the two agree.
    """
    differing = [tensor.name for tensor in comparison.tensors if tensor.verdict == "disagree"]
    if not differing:
        return None
    exact = truth(case)
    own = _from_truth(case, actual, exact, case.dtype)
    others_dtype = max((np.asarray(each).dtype for each in expected.values()), key=_precision)
    others = _from_truth(case, expected, exact, others_dtype)
    judged = [(own[name], others[name]) for name in differing if name in exact]
    if not judged:
        return f"The truth cannot side with either: the case has no {', '.join(differing)}."
    clauses = []
    for verdicts, favoured in (
        (("disagree", "agree"), sides[1]),
        (("agree", "disagree"), sides[0]),
        (("disagree", "disagree"), "neither"),
        (("agree", "agree"), "both"),
    ):
        pairs = [pair for pair in judged if (pair[0].verdict, pair[1].verdict) == verdicts]
        if pairs:
            clauses.append(_clause(favoured, pairs, sides))
    return f"The truth sides {'; '.join(clauses)}."


def _from_truth(
    case: Case, results: Mapping[str, Any], exact: Mapping[str, Any], dtype: Any
) -> dict[str, TensorError]:
    allowed = error_budget(case, dtype=dtype).allowed
    found = compare_gradients(results, exact, allowed, dtype=dtype)
    return {tensor.name: tensor for tensor in found.tensors}


def _clause(
    favoured: str, pairs: list[tuple[TensorError, TensorError]], sides: tuple[str, str]
) -> str:
    worst = max(pairs, key=lambda pair: max(pair[0].used, pair[1].used))
    more = len(pairs) - 1
    others = f" and {more} other tensor{'s' * (more > 1)}" if more else ""
    own, other = (_distance(*each) for each in zip(sides, worst, strict=True))
    return f"with {favoured} in {worst[0].name}{others}: {own}, {other}"


def _distance(side: str, error: TensorError) -> str:
    if error.fault in ("", "value"):
        return f"{side} is {error.used:.2g} budgets away"
    return f"{side} lacks it" if error.fault == "missing" else f"{side} gives {error.reason}"


def _precision(dtype: np.dtype[Any]) -> int:
    return dtype.itemsize if dtype in (np.dtype(np.float32), np.dtype(np.float64)) else 0
