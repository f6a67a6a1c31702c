"""How two arrays differ: absolute, relative, in ULPs and against what is allowed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

Verdict = Literal["agree", "disagree"]
Fault = Literal["", "value", "nan", "infinite", "missing", "unexpected", "shape", "dtype"]
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
        fault: the kind of disagreement in a word; "" where there is none.
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
    fault: Fault = ""


@dataclass(frozen=True)
class Sharpness:
    """How small a mistake would have been seen.

    Attributes:
        change: by so much of itself no gradient element could have been off unseen,
        share: if it is at least such a share of its tensor's largest.
    """

    change: float
    share: float


@dataclass(frozen=True)
class Comparison:
    """The verdict on all tensors, each one's, and which side is right if that was asked.

    Attributes:
        tensors: one entry for each.
        arbitration: the sentence of `arbitrate`, or None.
        sharpness: how small a mistake would have been seen, where they agree and that was asked.
    """

    tensors: tuple[TensorError, ...]
    arbitration: str | None = None
    sharpness: Sharpness | None = None

    @property
    def verdict(self) -> Verdict:
        """ "agree" if there is a tensor and every one agrees."""
        wrong = any(tensor.verdict == "disagree" for tensor in self.tensors)
        return "disagree" if wrong or not self.tensors else "agree"


def compare_gradients(
    actual: Mapping[str, ArrayLike],
    expected: Mapping[str, ArrayLike],
    allowed: Mapping[str, ArrayLike],
    *,
    dtype: DTypeLike | None = None,
) -> Comparison:
    """Compare every expected tensor, element by element.

    Args:
        actual: name to array, the side under test; its dtype is the unit of the ULPs.
        expected: name to array.
        allowed: name to the greatest allowed difference of each element, from `error_budget`.
        dtype: what every actual array must have; None accepts any floating-point one.

    Returns:
        One entry for each name of `expected`, in its order, then those that only `actual` has.
        A tensor that is missing, unexpected, misshapen, empty or of another dtype disagrees, and
        so does an element that is NaN or infinite on either side, unless both sides have the same
        infinity. What is no array of numbers at all is a wrong dtype, not an exception.
    """
    found = [
        compare_tensor(name, actual[name], expected[name], allowed[name], dtype=dtype)
        if name in actual
        else _incomparable(name, np.shape(expected[name]), "missing", "missing")
        for name in expected
    ]
    unexpected = [
        _incomparable(name, _shape(actual[name]), "unexpected", "not expected")
        for name in actual
        if name not in expected
    ]
    return Comparison((*found, *unexpected))


def compare_tensor(
    name: str,
    actual: ArrayLike,
    expected: ArrayLike,
    allowed: ArrayLike,
    *,
    dtype: DTypeLike | None = None,
) -> TensorError:
    """Compare one tensor; see `compare_gradients`."""
    try:
        a, e = np.asarray(actual), np.asarray(expected)
    except (TypeError, ValueError, RuntimeError):  # ragged, or a tensor that will not convert
        kind, shape = type(actual).__name__, _shape(expected)
        return _incomparable(name, shape, "dtype", f"{kind}, expected an array of {shape}")
    if a.shape != e.shape:
        return _incomparable(name, e.shape, "shape", f"shape {a.shape}, expected {e.shape}")
    wanted = None if dtype is None else np.dtype(dtype)
    # Not `a.dtype in (None, wanted)`: to NumPy None is float64.
    if not np.issubdtype(a.dtype, np.floating) or (wanted is not None and a.dtype != wanted):
        kind = "a floating-point one" if wanted is None else str(wanted)
        return _incomparable(name, e.shape, "dtype", f"dtype {a.dtype}, expected {kind}")
    if e.size == 0:
        return _incomparable(name, e.shape, "shape", "no elements")
    limit = np.broadcast_to(np.asarray(allowed, dtype=np.float64), e.shape)
    difference = _difference(a, e)
    used = _share(difference, limit)
    with np.errstate(all="ignore"):
        ulps = difference / np.spacing(np.abs(e).astype(a.dtype)).astype(np.float64)
    worst = tuple(int(k) for k in np.unravel_index(int(np.argmax(used)), e.shape))
    not_finite = ~(np.isfinite(a) & np.isfinite(e)) & (a != e)
    fault: Fault = "" if np.all(difference <= limit) else "value"
    reason = ""
    if not_finite.any():
        worst = tuple(int(k) for k in np.argwhere(not_finite)[0])
        fault = "nan" if np.isnan(a[worst]) or np.isnan(e[worst]) else "infinite"
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
        verdict="disagree" if fault else "agree",
        reason=reason,
        fault=fault,
    )


def budget_shares(actual: ArrayLike, expected: ArrayLike, allowed: ArrayLike) -> Array:
    """Which share of its budget each element uses: |actual - expected| / allowed.

    Args:
        actual, expected: arrays of numbers, of one shape.
        allowed: as for `compare_gradients`, of that shape or broadcast to it.

    Returns:
        float64 of that shape: 0 where both are equal, above 1 where an element is off by more
        than rounding explains, infinite where nothing was allowed, NaN where one of the two is
        not a number.
    """
    a, e = np.asarray(actual), np.asarray(expected)
    limit = np.broadcast_to(np.asarray(allowed, dtype=np.float64), e.shape)
    return _share(_difference(a, e), limit)


def _difference(a: Array, e: Array) -> Array:
    wide = np.result_type(a, e, np.float64)  # float32 would round the difference itself
    with np.errstate(all="ignore"):
        difference = np.abs(a.astype(wide) - e)
        return np.asarray(np.where(a == e, 0, difference).astype(np.float64))


def _share(difference: Array, limit: Array) -> Array:
    # Unequal with nothing allowed is infinitely over, and so is an allowance that is none.
    with np.errstate(all="ignore"):
        used = np.where(difference == 0, 0.0, difference / limit)
        return np.asarray(np.where(limit >= 0, used, np.inf))


def _incomparable(name: str, shape: tuple[int, ...], fault: Fault, reason: str) -> TensorError:
    nan = float("nan")
    return TensorError(
        name, shape, nan, nan, nan, nan, float("inf"), None, "disagree", reason, fault
    )


def _shape(value: ArrayLike) -> tuple[int, ...]:
    try:
        return np.shape(value)
    except (TypeError, ValueError, RuntimeError):
        return ()
