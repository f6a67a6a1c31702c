"""What stands in a term of a table, computed: a factor at every step, a block of a weight."""

from collections.abc import Mapping

import numpy as np

from manual_lstm.params import GATES
from torch_ref.diagnosis.backward.quantities import FUNCTIONS, JOINED, Quantities, joined_inputs
from torch_ref.diagnosis.backward.reshaped import RESHAPED, in_blocks
from torch_ref.diagnosis.backward.table import (
    Equation,
    Factor,
    Layer,
    Steps,
    Term,
    Uncut,
    Weight,
    scale_of,
    steps_of,
)
from torch_ref.oracles.equations import Arithmetic, Array


def at_all_steps(factor: Factor, env: Mapping[str, Array], steps: int, a: Arithmetic) -> Array:
    """A factor at every step: (..., T, B, N), or (..., 1, B, N) where it is the same at each."""
    if factor.name == "one":
        return a.number(np.ones((1, 1, 1)))
    array = joined_inputs(env, factor.name) if factor.name in JOINED else env[factor.key]
    before = 1 if factor.name in ("c", "h", "c_lowest", "c_top") else 0
    start = before + factor.shift
    there = not factor.at and not factor.step and 0 <= start <= before
    same_at_each = array.shape[-3] == 1 and (there or steps > 1)
    if there and not same_at_each:
        array = array[..., start : start + steps, :, :]
    elif not same_at_each:
        step = np.arange(steps)[:: -1 if factor.at == "reversed" else 1] + factor.step
        step = np.clip(step, 0, steps - 1) if factor.edge == "clamp" and factor.step else step
        index = (step % steps if factor.step else step) + before + factor.shift
        count = steps + before
        if factor.at in ("last", "first"):
            fixed = count - 1 if factor.at == "last" else before
            index = np.full(steps, fixed + factor.shift)
        outside = (index < 0) | (index >= count)
        index = index % count if factor.edge == "wrap" else np.clip(index, 0, count - 1)
        array = array[..., index, :, :]
        if factor.edge == "zero":
            array[..., outside, :, :] = 0
    return FUNCTIONS[factor.function](a, array) if factor.function else array


def layer_index(layer: Layer, k: int, layers: int) -> int:
    """Which layer is meant where an equation of layer k is computed."""
    return {"own": k, "lowest": 0, "top": layers - 1}[layer]


def block(q: Quantities, weight: Weight, k: int, a: Arithmetic) -> Array:
    if weight.name == "weight_out":
        array = q.weights["weight_out"]
    else:
        k = layer_index(weight.layer, k, len(q.layers))
        whole = q.weights[f"{weight.name}_l{k}"]
        if weight.altered in RESHAPED:
            whole = in_blocks(whole, weight.altered, weight.order)
        hidden = q.sizes.H
        start = GATES.index(weight.block) * hidden
        array = whole[..., start : start + hidden, :]
        if weight.columns:
            array = _columns(q, weight, k, start)
        if weight.bias:
            bias = q.weights[f"bias_l{k}"][..., start : start + hidden, None]
            if weight.bias == "added":
                array = array + bias
            elif weight.bias in ("onto last", "onto first"):
                column = -1 if weight.bias == "onto last" else 0
                array = array.copy()
                array[..., column] += bias[..., 0]
            elif weight.bias == "last":
                array = np.concatenate([array[..., 1:], bias], axis=-1)
            else:
                array = np.concatenate([bias, array[..., :-1]], axis=-1)
    if weight.altered == "summed up":
        array = np.cumsum(array, axis=-1)
        # A replica's rounding is that of the product; in a finite field a sum has to stay in it.
        array = a.rnd(array) if array.dtype.kind == "i" else array
    elif weight.altered.startswith("block "):
        array = RESHAPED[weight.altered.removeprefix("block ")](array)
    elif weight.altered == "row sums":
        rows = array.sum(axis=-1)
        rows = a.rnd(rows) if array.dtype.kind == "i" else rows
        array = rows[..., None] * np.eye(rows.shape[-1], dtype=rows.dtype)
    elif weight.altered.startswith("without"):
        array = array.copy()
        array[..., 0 if weight.altered == "without the first" else -1] = 0
    return np.swapaxes(array, -1, -2) if weight.transposed else array


def _columns(q: Quantities, weight: Weight, k: int, start: int) -> Array:
    """Columns of the joined matrix in the place of those of `weight`."""
    matrices, where = weight.columns.split(" ", 1)
    names = {"W": f"weight_ih_l{k}", "U": f"weight_hh_l{k}"}
    both = [q.weights[names[name]] for name in matrices.split("|")]
    joined = np.concatenate(both, axis=-1)[..., start : start + q.sizes.H, :]
    width = q.weights[f"{weight.name}_l{k}"].shape[-1]
    before = 0 if both[0] is q.weights[f"{weight.name}_l{k}"] else both[0].shape[-1]
    first = {
        "from the first": 0,
        "the last": joined.shape[-1] - width,
        "one early": before - 1,
        "one late": before + 1,
    }[where]
    if first + width > joined.shape[-1]:
        raise ValueError(f"{weight.columns} has no {width} columns there.")
    return np.asarray(joined[..., first : first + width])


def scaled(value: Array, term: Term, q: Quantities, a: Arithmetic) -> Array:
    for scale in term.scale:
        value = a.rnd(value * a.number(scale_of(scale, q.sizes)))
    return value


def kept(value: Array, which: Steps | Uncut) -> Array:
    if which == "every":
        return value
    steps = value.shape[-3]
    kept = np.zeros_like(value)
    chosen = list(steps_of(steps, which))
    kept[..., chosen, :, :] = value[..., chosen, :, :]
    return kept


def clipped(equation: Equation, value: Array, a: Arithmetic) -> Array:
    if equation.clip is None:
        return value
    if np.issubdtype(value.dtype, np.integer):
        return a.rnd(a.tanh(value) * a.number(equation.clip))  # as opaque as any function
    limit = float(equation.clip)
    return np.clip(value, -limit, limit)
