"""Where each element of a tensor stands on a map: rows in groups, columns, and what is pooled."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manual_lstm.params import GATES

Array = NDArray[Any]


@dataclass(frozen=True)
class Arrangement:
    """A tensor's elements as rows and columns.

    Attributes:
        order: (rows, columns, depth), the flat index of each element; what lies behind one
            another in depth shares a place on the map.
        groups: label and number of rows of each block of rows, from the top.
        rows, columns: what is counted along them: "unit", "step".
        depth: what is behind one another, or "".
    """

    order: Array
    groups: tuple[tuple[str, int], ...]
    rows: str
    columns: str
    depth: str = ""


def arranged(name: str, shape: tuple[int, ...]) -> Arrangement:
    """How a result's tensor is drawn.

    Args:
        name: "dweight_ih_l0", "dx", "h_n", ..., or "dz" for gates' gradients (T, B, 4, H).
        shape: of at least one axis, none of them empty.

    Returns:
        Weights: the gates' blocks of rows, by columns. Biases: a row for each gate. Sequences:
        inputs by steps, a block for each member. States: members by units, a block for each
        layer. dz: units by steps, a block for each gate, members pooled. Anything else: as it is.
    """
    index = np.arange(int(np.prod(shape))).reshape(shape)
    kind = name.removeprefix("d").split("_l")[0]
    if name == "dz":
        steps, batch, gates, hidden = shape
        deep = index.transpose(2, 3, 0, 1).reshape(gates * hidden, steps, batch)
        members = "member" if batch > 1 else ""
        return Arrangement(deep, _gates(hidden), "unit", "step", members)
    if kind in ("weight_ih", "weight_hh"):
        columns = "input" if kind == "weight_ih" else "h"
        return _flat(index, _gates(shape[0] // len(GATES)), "unit", columns)
    if kind in ("bias", "bias_hh", "bias_neuron") and len(shape) == 1:
        return _flat(index.reshape(len(GATES), -1), _gates(1), "gate", "unit")
    if kind in ("x", "y", "bias_neuron_x") and len(shape) == 3:
        steps, batch, width = shape
        order = index.transpose(1, 2, 0).reshape(batch * width, steps)
        rows = "unit" if kind == "y" else "input"
        return _flat(order, [(f"b={b}", width) for b in range(batch)], rows, "step")
    if kind in ("h0", "c0", "h_n", "c_n") and len(shape) == 3:
        layers, batch, hidden = shape
        groups = [(f"l={k}", batch) for k in range(layers)]
        return _flat(index.reshape(-1, hidden), groups, "member", "unit")
    if kind == "weight_out":
        return _flat(index, [("", shape[0])], "class", "h")
    if kind == "bias_out":
        return _flat(index[None], [("", 1)], "", "class")
    wide = index.reshape(-1, shape[-1])
    return _flat(wide, [("", len(wide))], "row", "unit" if len(shape) == 1 else "column")


def _flat(order: Array, groups: Sequence[tuple[str, int]], rows: str, columns: str) -> Arrangement:
    return Arrangement(order[:, :, None], tuple(groups), rows, columns)


def _gates(rows: int) -> tuple[tuple[str, int], ...]:
    return tuple((gate, rows) for gate in GATES)
