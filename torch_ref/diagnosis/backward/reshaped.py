"""A reshape where a transpose is needed: the numbers are all there, most of them in other places.

An array is read in memory order with its last axes, or those of steps and sequences, the other way
around. Where one of the two axes is of size 1, that is no mistake.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from manual_lstm.params import GATES
from torch_ref.oracles.equations import Array

Reshape = Callable[[Array], Array]


def _from(axis: int) -> Reshape:
    """What was laid down with `axis` and the next one exchanged is read as if it were not."""
    return lambda y: np.swapaxes(y, axis, axis + 1).reshape(y.shape)


def _to(axis: int) -> Reshape:
    """What is read with `axis` and the next one exchanged was not laid down so."""

    def read(y: Array) -> Array:
        shape = list(y.shape)
        shape[axis : axis + 2 or None] = shape[axis : axis + 2 or None][::-1]
        return np.swapaxes(y.reshape(shape), axis, axis + 1)

    return read


def _rows_to_columns(y: Array) -> Array:
    """(T, B, N) as (T*B, N), which is read as (N, T*B)."""
    flat = y.reshape(*y.shape[:-3], -1, y.shape[-1])
    return _to(-2)(flat).reshape(y.shape)


def _batch_first(reshape: Reshape) -> Reshape:
    return lambda y: np.swapaxes(reshape(np.swapaxes(y, -3, -2)), -3, -2)


# By what is reshaped to what: steps T and sequences B, rows M and columns N, or all of (T, B, N).
RESHAPED: Mapping[str, Reshape] = {
    "(B, T) to (T, B)": _from(-3),
    "(T, B) to (B, T)": _to(-3),
    "(N, M) to (M, N)": _from(-2),
    "(M, N) to (N, M)": _to(-2),
    "(T*B, N) to (N, T*B)": _rows_to_columns,
    "(B*T, N) to (N, B*T)": _batch_first(_rows_to_columns),
}

# Those of steps and sequences, of a matrix, and of all rows of a sequence of matrices.
OF_STEPS = ("(B, T) to (T, B)", "(T, B) to (B, T)")
OF_MATRIX = ("(N, M) to (M, N)", "(M, N) to (N, M)")
OF_ROWS = ("(T*B, N) to (N, T*B)", "(B*T, N) to (N, B*T)")


def as_returned(name: str, value: Array, how: str, order: str) -> Array:
    """A gradient as it is returned reshaped, a weight's as by `in_blocks`."""
    if name.startswith("dweight_"):
        return in_blocks(value, how, order)
    return RESHAPED[how](value)


def in_blocks(matrix: Array, how: str, order: str = "ifgo") -> Array:
    """A matrix (..., 4H, N), or behind "block " in `how` each gate's block of it, reshaped.

    Args:
        order: of the gates in the matrix that is reshaped whole; what is given and returned here
            has the blocks i, f, g, o.
    """
    if how in RESHAPED:
        theirs = [GATES.index(gate) for gate in order]
        found = RESHAPED[how](_in_order(matrix, theirs))
        return _in_order(found, [theirs.index(n) for n in range(len(GATES))])
    reshape = RESHAPED[how.removeprefix("block ")]
    return np.concatenate([reshape(each) for each in np.split(matrix, 4, axis=-2)], axis=-2)


def _in_order(matrix: Array, order: Sequence[int]) -> Array:
    blocks = np.split(matrix, len(order), axis=-2)
    return np.concatenate([blocks[n] for n in order], axis=-2)
