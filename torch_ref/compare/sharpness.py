"""How small a mistake a comparison would have shown."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import DTypeLike

from torch_ref.compare.budget import WANTED
from torch_ref.compare.errors import Array, Sharpness


def least_changes(actual: Array, expected: Array, allowed: Array, dtype: DTypeLike) -> Array:
    """By how much of itself each large element of a gradient had to change to be seen for certain.

    An element that is off by e is seen where a change exceeds e and its budget, whatever the
    change's sign. Large is what has the share of its tensor's largest that `WANTED` names: a
    thousandth in float64, a tenth in float32.

    Args:
        actual, expected, allowed: one tensor, as for `compare_gradients`; not all of it zero.
        dtype: float32 or float64, the arithmetic under test.

    Returns:
        An entry for each of the large elements.
    """
    _, share = WANTED[np.dtype(dtype)]
    size = np.abs(expected)
    large = size >= share * size.max()
    needed = allowed + np.abs(np.asarray(actual, np.float64) - expected)
    return np.asarray(needed[large] / size[large])


def sharpness(
    actual: Mapping[str, Array],
    expected: Mapping[str, Array],
    allowed: Mapping[str, Array],
    *,
    dtype: DTypeLike,
) -> Sharpness | None:
    """How small a mistake in one element of a gradient would have been seen.

    Args:
        actual, expected, allowed, dtype: as for `compare_gradients`, which agrees.

    Returns:
        The greatest of `least_changes`, and for which elements; None where every gradient is zero.
    """
    changes = [
        float(least_changes(actual[name], exact, allowed[name], dtype).max())
        for name, exact in expected.items()
        if name.startswith("d") and np.any(exact)
    ]
    return Sharpness(max(changes), WANTED[np.dtype(dtype)][1]) if changes else None
