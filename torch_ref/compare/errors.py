"""How two arrays differ: absolute, relative, in ULPs and against what is allowed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Verdict = Literal["agree", "disagree"]
Array = NDArray[Any]


@dataclass(frozen=True)
class TensorError:
    """What was found for one tensor.

    Attributes:
        name: of the tensor.
        shape: the expected shape.
        max_abs: the greatest |actual - expected|.
        max_rel: max_abs divided by the tensor's largest |expected|.
        max_ulp: the greatest |actual - expected| in units in the last place of the expected
            element, in the dtype of `actual`.
        tolerance: what was allowed at the worst element.
        used: |actual - expected| / allowed at the worst element, the element where it is
            greatest; above 1 is a disagreement.
        worst_index: that element; () for a scalar, None where nothing could be compared.
        verdict: "agree" or "disagree".
        reason: why nothing could be compared, or an element is not a number; otherwise "".
    """

    name: str
    shape: tuple[int, ...]
    max_abs: float
    max_rel: float
    max_ulp: float
    tolerance: float
    used: float
    worst_index: tuple[int, ...] | None
    verdict: Verdict
    reason: str = ""


@dataclass(frozen=True)
class Comparison:
    """The verdict on all tensors, and each one's."""

    tensors: tuple[TensorError, ...]

    @property
    def verdict(self) -> Verdict:
        """ "agree" if there is a tensor and every one agrees."""
        wrong = any(tensor.verdict == "disagree" for tensor in self.tensors)
        return "disagree" if wrong or not self.tensors else "agree"


def compare_gradients(
    actual: Mapping[str, ArrayLike],
    expected: Mapping[str, ArrayLike],
    allowed: Mapping[str, ArrayLike],
) -> Comparison:
    """Compare every expected tensor, element by element.

    Args:
        actual: name to array, the side under test; its dtype is the unit of the ULPs.
        expected: name to array, of the same or a wider dtype.
        allowed: name to the greatest allowed difference of each element, from `error_budget`.

    Returns:
        One entry for each name of `expected`, in its order, then those that only `actual` has.
        A missing, unexpected, misshapen or empty tensor disagrees, and so does an element that is
        NaN or infinite on either side, unless both sides have the same infinity.
    """
    found = [
        compare_tensor(name, actual[name], expected[name], allowed[name])
        if name in actual
        else _incomparable(name, np.shape(expected[name]), "missing")
        for name in expected
    ]
    unexpected = [
        _incomparable(name, np.shape(actual[name]), "not expected")
        for name in actual
        if name not in expected
    ]
    return Comparison((*found, *unexpected))


def compare_tensor(
    name: str, actual: ArrayLike, expected: ArrayLike, allowed: ArrayLike
) -> TensorError:
    """Compare one tensor; see `compare_gradients`."""
    a, e = np.asarray(actual), np.asarray(expected)
    if a.shape != e.shape:
        return _incomparable(name, e.shape, f"shape {a.shape}, expected {e.shape}")
    if not np.issubdtype(a.dtype, np.floating):
        return _incomparable(name, e.shape, f"dtype {a.dtype}, expected a floating-point one")
    if e.size == 0:
        return _incomparable(name, e.shape, "no elements")
    limit = np.broadcast_to(np.asarray(allowed, dtype=np.float64), e.shape)
    with np.errstate(all="ignore"):
        wide = np.result_type(e.dtype, np.float64)  # where float32 numbers have exact differences
        difference = np.abs(a.astype(wide) - e.astype(wide))
        difference = np.where(a == e, 0, difference).astype(np.float64)
        # Unequal with nothing allowed is infinitely over, and so is an allowance that is none.
        used = np.where(difference == 0, 0.0, difference / limit)
        used = np.where(limit >= 0, used, np.inf)
        ulps = difference / np.spacing(np.abs(e).astype(a.dtype)).astype(np.float64)
    worst = tuple(int(k) for k in np.unravel_index(int(np.argmax(used)), e.shape))
    not_finite = ~(np.isfinite(a) & np.isfinite(e)) & (a != e)
    reason = ""
    if not_finite.any():
        worst = tuple(int(k) for k in np.argwhere(not_finite)[0])
        reason = f"{float(a[worst])} where {float(e[worst]):.3g} was expected"
    max_abs = float(np.max(difference))
    largest = float(np.max(np.abs(e)))
    return TensorError(
        name=name,
        shape=e.shape,
        max_abs=max_abs,
        max_rel=max_abs / largest if largest > 0 else (0.0 if max_abs == 0 else float("inf")),
        max_ulp=float(np.max(ulps)),
        tolerance=float(limit[worst]),
        used=float("inf") if reason else float(used[worst]),
        worst_index=worst,
        verdict="agree" if not reason and bool(np.all(difference <= limit)) else "disagree",
        reason=reason,
    )


def _incomparable(name: str, shape: tuple[int, ...], reason: str) -> TensorError:
    nan = float("nan")
    return TensorError(name, shape, nan, nan, nan, nan, float("inf"), None, "disagree", reason)
