"""Arrays from one arrangement of axes or gates into another, and back. No arithmetic."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[Any]


def axes_to(name: str, value: ArrayLike, ours: str, theirs: str) -> Array | list[Array]:
    """An array of our axes in theirs.

    Args:
        name: what to call it in an error.
        value: the array, one axis for each letter of `ours`.
        ours: "TBI".
        theirs: some of those letters in any order. A letter that is missing stands for an axis
            of length 1 that is dropped, "1" for a new axis of length 1, and ":" after the first
            letter makes a list along that axis: "BTI", "TI1", "T:BI".

    Returns:
        A C-contiguous copy, or a list of them.

    Raises:
        ValueError: another rank, or a dropped axis that is longer than 1.
    """
    array = np.asarray(value)
    if array.ndim != len(ours):
        raise ValueError(f"{name} has shape {array.shape} but must be {in_words(ours)}.")
    letters = theirs.replace(":", "")
    for letter, length in zip(ours, array.shape, strict=True):
        if letter not in letters and length != 1:
            raise ValueError(
                f"{name} has {letter} = {length} but must have {letter} = 1: "
                f"the layout's {in_words(theirs)} has no axis for it."
            )
    kept = [letter for letter in letters if letter != "1"]
    dropped = [ours.index(letter) for letter in ours if letter not in kept]
    order = [ours.index(letter) for letter in kept]
    moved = array.transpose(order + dropped).reshape([array.shape[axis] for axis in order])
    moved = np.expand_dims(moved, [k for k, letter in enumerate(letters) if letter == "1"])
    if ":" in theirs:
        return [copy(part) for part in moved]
    return copy(moved)


def axes_from(name: str, value: Any, ours: str, theirs: str) -> Array:
    """The inverse of `axes_to`: an array, or a list of them, of their axes in ours."""
    letters = theirs.replace(":", "")
    if ":" in theirs and len({np.shape(part) for part in value}) != 1:
        raise ValueError(
            f"{name} has parts of the shapes {sorted({np.shape(part) for part in value})} "
            f"but must be {in_words(theirs)}."
        )
    array = np.asarray(value)
    added = tuple(k for k, letter in enumerate(letters) if letter == "1")
    if array.ndim != len(letters) or any(array.shape[axis] != 1 for axis in added):
        raise ValueError(f"{name} has shape {array.shape} but must be {in_words(theirs)}.")
    kept = [letter for letter in letters if letter != "1"]
    array = array.squeeze(added)
    array = array.transpose([kept.index(letter) for letter in ours if letter in kept])
    return copy(np.expand_dims(array, [k for k, letter in enumerate(ours) if letter not in kept]))


def in_words(axes: str) -> str:
    """ "TBI" as (T, B, I), and "T:BI" as a list of T arrays (B, I)."""
    if ":" in axes:
        first, rest = axes.split(":")
        return f"a list of {first} arrays {in_words(rest)}"
    return f"({', '.join(axes)}{',' if len(axes) == 1 else ''})"


def pack_gates(blocks: Array, gates: str, transposed: bool) -> list[Array]:
    """One matrix, or one per gate, of four blocks in their order.

    Args:
        blocks: (4, H, N).
        gates: "blocks" (4H, N), "interleaved" (4H, N) with row 4 j + k for gate k of unit j,
            "stacked" (4, H, N), or "separate", four times (H, N).
        transposed: the last two axes the other way round.
    """
    columns = blocks.shape[-1]
    if gates == "separate":
        parts = list(blocks)
    elif gates == "stacked":
        parts = [blocks]
    elif gates == "blocks":
        parts = [blocks.reshape(-1, columns)]
    else:
        parts = [blocks.swapaxes(0, 1).reshape(-1, columns)]
    return [part.swapaxes(-1, -2) if transposed else part for part in parts]


def unpack_gates(parts: Sequence[Array], gates: str, transposed: bool) -> Array:
    """The inverse of `pack_gates`: (4, H, N). The parts' shapes must be right."""
    parts = [part.swapaxes(-1, -2) if transposed else part for part in parts]
    columns = parts[0].shape[-1]
    if gates == "separate":
        return np.stack(parts)
    if gates == "interleaved":
        return parts[0].reshape(-1, 4, columns).swapaxes(0, 1)
    return parts[0].reshape(4, -1, columns)


# Of a bias in two parts. Unequal ones, or one that is added twice could not be told from both.
FIRST_PART = 0.75


def unequal_parts(array: Array) -> tuple[Array, Array]:
    """Three quarters of an array and the rest, whose sum is `array`, bit by bit."""
    first = array * array.dtype.type(FIRST_PART)
    # The difference is exact, as `first` is between a half and the whole; of zeros the sign counts.
    return first, np.where(array == 0, array, array - first)


def copy(array: Array) -> Array:
    """A C-contiguous copy."""
    return np.array(array, order="C")
