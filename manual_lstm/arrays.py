"""What every public function asks of its arrays, and the one wording for each refusal."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

FloatArray = NDArray[Any]
Params = Mapping[str, FloatArray]
Gradients = dict[str, FloatArray]

_HINTS = {
    "x": "For one sequence without a batch axis use x[:, None, :].",
    "h0": "For one layer without a layer axis use h0[None].",
    "c0": "For one layer without a layer axis use c0[None].",
    "targets": "For one sequence without a batch axis use targets[:, None].",
}


def float_dtype(value: DTypeLike, name: str = "dtype") -> np.dtype[Any]:
    """The NumPy dtype that `value` names; ValueError unless float32 or float64."""
    try:
        dtype = np.dtype(value)
    except TypeError:
        dtype = np.dtype(object)
    # NumPy takes None for float64.
    if value is None or dtype not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise ValueError(f"{name} is {value!r} but must be float32 or float64.")
    return dtype


def check_count(name: str, value: object) -> int:
    """`value` as a whole number of at least one; ValueError otherwise."""
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} is {value!r} but must be a whole number of at least 1.")
    return int(value)


def check_number(name: str, value: object) -> float:
    """`value` as a float; ValueError unless it is one finite number."""
    if isinstance(value, float | int | np.number | np.ndarray) and np.ndim(value) == 0:
        number = float(value)
        if np.isfinite(number):
            return number
    raise ValueError(f"{name} is {value!r} but must be one finite number.")


def check_array(
    name: str,
    value: ArrayLike,
    axes: str,
    sizes: Mapping[str, int],
    dtype: np.dtype[Any] | None = None,
) -> FloatArray:
    """One floating-point array, checked.

    Args:
        name: what to call it in an error.
        value: the array.
        axes: its axes, for instance "T,B,I". An axis that `sizes` lacks may have any length
            of at least one.
        sizes: the lengths that are known: {"I": 26}.
        dtype: float32 or float64, the dtype of the weights; None accepts either.

    Returns:
        `value` as an array, not copied where it was one.

    Raises:
        ValueError: no array, wrong rank, size or dtype, empty, or not finite.
    """
    array = _as_array(name, value)
    names = axes.split(",")
    lengths = [sizes.get(axis, n) for axis, n in zip(names, array.shape, strict=False)]
    if array.ndim != len(names) or array.shape != tuple(lengths) or array.size == 0:
        raise ValueError(
            f"{name} has shape {array.shape} but must be {_expected(array, name, names, sizes)}"
        )
    _check_dtype(name, array, dtype)
    check_finite(name, array)
    return array


def _expected(array: FloatArray, name: str, names: list[str], sizes: Mapping[str, int]) -> str:
    """What the shape of an array that has another must be."""
    shape = f"({', '.join(names)}{',' if len(names) == 1 else ''})"
    if array.ndim != len(names):
        hint = f" {_HINTS[name]}" if name in _HINTS and array.ndim == len(names) - 1 else ""
        return f"{shape}: {_axes_in_words(len(names))}.{hint}"
    known = ", ".join(f"{axis} = {sizes[axis]}" for axis in names if axis in sizes)
    wrong = any(
        axis in sizes and n != sizes[axis] for axis, n in zip(names, array.shape, strict=True)
    )
    if wrong:
        return f"{shape} with {known}."
    return f"{shape} with at least one of each."


def _axes_in_words(count: int) -> str:
    return {1: "one axis", 2: "two axes", 3: "three axes"}[count]


def _check_dtype(name: str, array: FloatArray, dtype: np.dtype[Any] | None) -> None:
    if dtype is not None and array.dtype != dtype:
        raise ValueError(
            f"{name} is {array.dtype} but the weights are {dtype}: use {name}.astype('{dtype}')."
        )
    if array.dtype not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise ValueError(f"{name} is {array.dtype} but must be float32 or float64.")


def check_finite(name: str, array: FloatArray) -> None:
    """ValueError that names the first element of `array` that is NaN or infinite."""
    # A finite sum of squares means that every element is finite; the reverse may overflow, so look.
    if math.isfinite(np.vdot(array, array)):
        return
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        index = tuple(int(k) for k in bad[0])
        raise ValueError(
            f"{name}{_place(index)} is {array[index]} but every element must be finite "
            f"({len(bad)} of {array.size} are not)."
        )


def check_targets(targets: ArrayLike, num_classes: int, sizes: Mapping[str, int]) -> NDArray[Any]:
    """Targets (T, B), whole numbers from 0 to num_classes - 1; ValueError otherwise."""
    array = _as_indices("targets", targets)
    if array.ndim != 2:
        hint = f" {_HINTS['targets']}" if array.ndim == 1 else ""
        raise ValueError(f"targets has shape {array.shape} but must be (T, B): two axes.{hint}")
    if array.shape != (sizes["T"], sizes["B"]):
        raise ValueError(
            f"targets has shape {array.shape} but must be (T, B) "
            f"with T = {sizes['T']}, B = {sizes['B']}."
        )
    return check_indices("targets", array, num_classes)


def check_indices(name: str, indices: ArrayLike, num_classes: int) -> NDArray[Any]:
    """Whole numbers from 0 to num_classes - 1, of any shape; ValueError otherwise."""
    array = _as_indices(name, indices)
    if array.size and (array.min() < 0 or array.max() >= num_classes):
        wrong = np.argwhere((array < 0) | (array >= num_classes))
        index = tuple(int(k) for k in wrong[0])
        raise ValueError(
            f"{name}{_place(index)} is {array[index]} but must be from 0 to {num_classes - 1}: "
            f"there are {num_classes} classes."
        )
    return array


def _as_indices(name: str, value: ArrayLike) -> NDArray[Any]:
    array = _as_array(name, value)
    if array.dtype.kind not in "iu":
        raise ValueError(
            f"{name} is {array.dtype} but must be whole numbers: class indices, not one-hot rows."
        )
    return array


def _as_array(name: str, value: ArrayLike) -> NDArray[Any]:
    try:
        return np.asarray(value)
    except ValueError:
        raise ValueError(f"{name} has rows of different lengths but must be an array.") from None


def _place(index: tuple[int, ...]) -> str:
    return "[" + ", ".join(map(str, index)) + "]"
