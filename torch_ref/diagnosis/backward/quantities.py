"""The forward quantities of a case, and the functions that may be taken of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from manual_lstm.arrays import FloatArray
from manual_lstm.params import GATES
from torch_ref.diagnosis.backward.reshaped import RESHAPED, Reshape
from torch_ref.diagnosis.backward.table import PEEPHOLES, Again, Sizes
from torch_ref.oracles.case import Case
from torch_ref.oracles.equations import Arithmetic, Array, loss_forward, lstm_forward, unrounded
from torch_ref.oracles.variant import STANDARD, Variant

Function = Callable[[Arithmetic, Array], Array]
Env = dict[str, Array]


def _sum_over_steps(left: list[Array], right: list[Array]) -> Array:
    m, p = np.concatenate(left, axis=-2), np.concatenate(right, axis=-2)
    return np.asarray(np.swapaxes(m, -1, -2) @ p)


# With the steps joined a sum over them is one product, which the thousands of tables are glad of.
FLOAT64 = replace(unrounded(np.float64), sum_over_steps=_sum_over_steps)


def _sigmoid_derivative(a: Arithmetic, y: Array) -> Array:
    return a.rnd(y * a.rnd(1 - y))


def _tanh_derivative(a: Arithmetic, y: Array) -> Array:
    return a.rnd(1 - a.rnd(y * y))


def _reciprocal(a: Arithmetic, y: Array) -> Array:
    # In a finite field any other function will do: see identity.py.
    return a.tanh(a.tanh(y)) if y.dtype.kind == "i" else a.rnd(1 / y)


def _class_number(a: Arithmetic, y: Array) -> Array:
    """The number of a one-hot row's class, in the place of each of its elements."""
    weighted = a.rnd(y * a.number(np.arange(y.shape[-1])))
    return np.broadcast_to(a.rnd(weighted.sum(axis=-1, keepdims=True)), y.shape)


def _member(number: int) -> Function:
    def only(a: Arithmetic, y: Array) -> Array:
        kept = np.zeros_like(y)
        kept[..., number, :] = y[..., number, :]
        return kept

    return only


def _but_in(unit: int, there: int | None, elsewhere: int | None) -> Function:
    """A quantity with a number in the place of it in one unit, or in all others; None is itself."""

    def changed(a: Arithmetic, y: Array) -> Array:
        of = [
            np.array(y) if n is None else a.number(np.full(y.shape, n)) for n in (elsewhere, there)
        ]
        of[0][..., unit] = of[1][..., unit]
        return of[0]

    return changed


def _how_many(a: Arithmetic, y: Array) -> Array:
    return a.number(np.full((*y.shape[:-1], 1), y.shape[-1]))


def _reshaped(reshape: Reshape) -> Function:
    return lambda a, y: reshape(y)


FUNCTIONS: Mapping[str, Function] = {
    **{name: _reshaped(reshape) for name, reshape in RESHAPED.items()},
    "y(1-y)": _sigmoid_derivative,
    "1-y^2": _tanh_derivative,
    "(y(1-y))^2": lambda a, y: a.rnd(_sigmoid_derivative(a, y) * _sigmoid_derivative(a, y)),
    "(1-y^2)^2": lambda a, y: a.rnd(_tanh_derivative(a, y) * _tanh_derivative(a, y)),
    "1-y": lambda a, y: a.rnd(1 - y),
    "1+y^2": lambda a, y: a.rnd(1 + a.rnd(y * y)),
    "y(1-y^2)": lambda a, y: a.rnd(y * _tanh_derivative(a, y)),
    "y(1+y)": lambda a, y: a.rnd(y * a.rnd(1 + y)),
    "y^2-1": lambda a, y: a.rnd(a.rnd(y * y) - 1),
    "y^2": lambda a, y: a.rnd(y * y),
    "sigmoid(y)": lambda a, y: a.sigmoid(y),
    "tanh(y)": lambda a, y: a.tanh(y),
    "s(1-s), s = sigmoid(y)": lambda a, y: _sigmoid_derivative(a, a.sigmoid(y)),
    "1-tanh(y)^2": lambda a, y: _tanh_derivative(a, a.tanh(y)),
    "1/y": _reciprocal,
    "(1-y)^2": lambda a, y: a.rnd(a.rnd(1 - y) * a.rnd(1 - y)),
    "1 for each": lambda a, y: np.broadcast_to(a.number(np.ones(1)), y.shape),
    "its class": _class_number,
    "summed over the units": lambda a, y: np.broadcast_to(
        a.rnd(y.sum(axis=-1, keepdims=True)), y.shape
    ),
    "of the next member": lambda a, y: np.roll(y, -1, axis=-2),
    "of the previous member": lambda a, y: np.roll(y, 1, axis=-2),
    "of any member": lambda a, y: np.broadcast_to(y.max(axis=-2, keepdims=True), y.shape),
    "of the first member only": _member(0),
    "of the last member only": _member(-1),
    "of the first member for all": lambda a, y: np.broadcast_to(y[..., :1, :], y.shape),
    "of the last member for all": lambda a, y: np.broadcast_to(y[..., -1:, :], y.shape),
    "1, 0 in the last": _but_in(-1, 0, 1),
    "1, 0 in the first": _but_in(0, 0, 1),
    "y, 0 in the last": _but_in(-1, 0, None),
    "y, 0 in the first": _but_in(0, 0, None),
    "y, 1 in the last": _but_in(-1, 1, None),
    "y, 1 in the first": _but_in(0, 1, None),
    "1, y in the last": _but_in(-1, None, 1),
    "1, y in the first": _but_in(0, None, 1),
    "1 in the last": _but_in(-1, 1, 0),
    "of the next unit": lambda a, y: np.roll(y, -1, axis=-1),
    "of the previous unit": lambda a, y: np.roll(y, 1, axis=-1),
    "of the first unit": lambda a, y: np.broadcast_to(y[..., :1], y.shape),
    "how many": _how_many,
}


# x and h[t-1] side by side in one order or the other, and as much of them as a matrix is wide.
JOINED = (
    "[h[t-1], x[t]][:I]",
    "[h[t-1], x[t]][I:]",
    "[x[t], h[t-1]][:H]",
    "[x[t], h[t-1]][H:]",
)


def joined_inputs(env: Mapping[str, Array], name: str) -> Array:
    """One of JOINED, of a layer's "x" and "h"."""
    x, h = env["x"], env["h"][..., :-1, :, :]
    both = [h, x] if name.startswith("[h") else [x, h]
    width = both[1].shape[-1]
    joined = np.concatenate(both, axis=-1)
    return np.asarray(joined[..., :width] if "[:" in name else joined[..., width:])


def beside_layers(layer: Env, below: Sequence[Env]) -> Env:
    """What of a layer's neighbours may be taken for its own: of the lowest h and c, h[t-1] for x.

    Args:
        layer: its forward quantities. below: those of the layers below it, from the lowest.
    """
    lowest = below[0] if below else layer
    before = below[-1]["h"][..., :-1, :, :] if below else layer["x"]
    return {"h_lowest": lowest["h_out"], "c_lowest": lowest["c"], "x_before": before}


@dataclass(frozen=True)
class Quantities:
    """What the forward pass leaves, and the upstream gradients; in front of T there may be axes.

    Attributes:
        layers: of each layer the gates, "c_out", "x", "z_i", ... (..., T, B, H), "c" and "h"
            (..., T + 1, B, H), the state before the first step at index 0.
        weights: by name. dh_n, dc_n: of each layer (..., 1, B, H).
        loss: "p", "onehot", "onehot_any" of all steps and members, "logits" and "log_p" (..., T, B,
            V), "x_in", the lowest layer's x, and "dloss" (1, 1, 1); or {}.
        dy: (..., T, B, H), or None.
        outputs: "y" or "loss", "h_n", "c_n" and "z".
        variant: the cell.
    """

    layers: Sequence[Mapping[str, Array]]
    weights: Mapping[str, Array]
    dh_n: Sequence[Array]
    dc_n: Sequence[Array]
    sizes: Sizes
    loss: Mapping[str, Array]
    dy: Array | None
    outputs: Mapping[str, Array]
    variant: Variant = STANDARD


def computed_again(q: Quantities, k: int, how: Again, a: Arithmetic) -> dict[str, Array]:
    """The forward quantities of a layer with gates that the backward pass has computed anew.

    Args:
        q: all of them. k: the layer. how: from what, where it is not what they were.
        a: the arithmetic.
    """
    layer = dict(q.layers[k])
    h, x, c = layer["h"], layer["x"], layer["c"][..., :-1, :, :]
    before = h[..., :-1, :, :]
    h_taken, x_taken = before, x
    if how == "h[t]":
        h_taken = h[..., 1:, :, :]
    elif how == "h = 0":
        h_taken = np.zeros_like(before)
    elif how == "h = 0 at t=0":
        h_taken = before.copy()
        h_taken[..., 0, :, :] = 0
    elif how == "c[t-1]":
        h_taken = c
    elif how in ("x[t-1]", "x[t+1]"):
        x_taken = np.roll(x, 1 if how == "x[t-1]" else -1, axis=-3)
    biases = {"no bias": -1, "the bias twice": 1}.get(how, 0)
    hidden = before.shape[-1]
    for n, gate in enumerate(GATES):
        rows = slice(n * hidden, (n + 1) * hidden)
        z = layer[f"z_{gate}"]
        for name, taken, was in (("weight_hh", h_taken, before), ("weight_ih", x_taken, x)):
            if taken is not was:
                block = q.weights[f"{name}_l{k}"][..., None, rows, :]
                z = a.rnd(z + a.matmul(a.rnd(taken - was), np.swapaxes(block, -1, -2)))
        if biases:
            z = a.rnd(z + biases * q.weights[f"bias_l{k}"][..., None, None, rows])
        tanh = gate == "g" and q.variant.candidate == "tanh"
        layer[f"z_{gate}"] = z
        layer[gate] = a.tanh(z) if tanh else a.sigmoid(z)
    if q.variant.coupled:
        layer["i"] = a.rnd(1 - layer["f"])
    return layer


def _logits(weights: Mapping[str, Array], y: Sequence[Array], a: Arithmetic) -> Array:
    h = np.stack(y, axis=-3)  # (..., T, B, H)
    if "weight_out" not in weights:
        return h
    weight = np.swapaxes(weights["weight_out"], -1, -2)[..., None, :, :]
    return a.rnd(a.matmul(h, weight) + weights["bias_out"][..., None, None, :])


def _logarithm_of_softmax(logits: Array, a: Arithmetic) -> Array:
    shifted = a.rnd(logits - logits.max(axis=-1, keepdims=True))
    total = a.rnd(a.rnd(a.exp(shifted)).sum(axis=-1, keepdims=True))
    return a.rnd(shifted - a.rnd(a.log(total)))


def quantities(case: Case, a: Arithmetic = FLOAT64, lead: tuple[int, ...] = ()) -> Quantities:
    """The forward pass of a case; see `equations.solve` for `a` and `lead`."""

    def spread(array: FloatArray) -> Array:
        inner = array.shape[1:]
        wide = a.number(array).reshape(len(array), *[1] * len(lead), *inner)
        return np.broadcast_to(wide, (len(array), *lead, *inner))

    weights = {name: a.number(value) for name, value in case.params.items()}
    h0, c0 = spread(case.h0), spread(case.c0)
    forward = lstm_forward(weights, spread(case.x), h0, c0, a, case.variant)
    layers: list[Env] = []
    for k, steps in enumerate(forward.layers):
        layer = {
            name: np.stack([getattr(s, name) for s in steps], axis=-3)
            for name in ("i", "f", "g", "o", "c_out", "x", "z")
        }
        z = np.split(layer.pop("z"), 4, axis=-1)
        layer |= {f"z_{gate}": block for gate, block in zip(GATES, z, strict=True)}
        layer["c"] = np.stack([c0[k], *(s.c for s in steps)], axis=-3)
        layer["h"] = np.stack([h0[k], *(s.h_before for s in steps[1:]), forward.h_n[k]], axis=-3)
        layer["h_out"] = layer["h"][..., 1:, :, :]
        layer["c_new"] = layer["c"][..., 1:, :, :]
        layer |= beside_layers(layer, layers)
        for name, gate in PEEPHOLES.items() if case.variant.peepholes else ():
            peephole = weights[f"{name}_l{k}"][..., None, None, :]
            layer[f"w_c{gate}"] = np.broadcast_to(peephole, (*lead, *peephole.shape))
        layers.append(layer)
    for layer in layers:
        layer["c_top"] = layers[-1]["c"]
    outputs = {
        "h_n": np.stack(forward.h_n, axis=-3),
        "c_n": np.stack(forward.c_n, axis=-3),
        "z": np.stack([np.stack([s.z for s in k], axis=-3) for k in forward.layers], axis=-4),
    }
    loss: dict[str, Array] = {}
    if case.targets is None:
        outputs["y"] = np.stack(forward.y, axis=-3)
    else:
        outputs["loss"], steps_of_loss = loss_forward(weights, forward.y, case.targets, a)
        loss["p"] = np.stack([s.p for s in steps_of_loss], axis=-3)
        hot = np.stack([s.hot for s in steps_of_loss], axis=-3)
        loss["onehot"] = np.broadcast_to(hot, loss["p"].shape)
        of_any = hot.max(axis=(-3, -2), keepdims=True)
        loss["onehot_any"] = np.broadcast_to(of_any, loss["p"].shape)
        loss["logits"] = _logits(weights, forward.y, a)
        loss["log_p"] = _logarithm_of_softmax(loss["logits"], a)
        loss["x_in"] = layers[0]["x"]
        loss["dloss"] = a.number(np.full((1, 1, 1), case.dloss))
    count, batch = len(case.x), case.x.shape[-2]
    hidden = case.h0.shape[-1]
    weight_out = case.params.get("weight_out")
    classes = hidden if weight_out is None else weight_out.shape[-2]
    sizes = Sizes(count, batch, classes, hidden)
    return Quantities(
        layers,
        weights,
        [d[..., None, :, :] for d in spread(case.dh_n)],
        [d[..., None, :, :] for d in spread(case.dc_n)],
        sizes,
        loss,
        None if case.dy is None else np.moveaxis(spread(case.dy), 0, -3),
        outputs,
        case.variant,
    )
