"""Whether two tables are the same mathematics, decided exactly.

A table is a polynomial in the forward quantities. At random points of a finite field two different
polynomials of degree d have the same value with a probability of at most d / PRIME for each
element of each gradient (Schwartz and Zippel), and equal ones always do: no tolerance is needed.
tanh and sigmoid stand for arbitrary functions there, as nothing but their names is used.
"""

import hashlib
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np

from manual_lstm.params import GATES
from torch_ref.diagnosis.backward.interpreter import Solved, gradients, solved
from torch_ref.diagnosis.backward.quantities import Quantities, beside_layers
from torch_ref.diagnosis.backward.table import PEEPHOLES, Sizes, Table
from torch_ref.oracles.equations import Arithmetic, Array
from torch_ref.oracles.variant import Variant

PRIME = 2**29 - 3  # so that a sum of 31 products fits in 63 bits
# Of different sizes, so that 1/T is not 1/B, but for H and V, which matrices may mix up; large
# enough that a step or a member before another is not also the one after it.
_SIZES = Sizes(T=4, B=3, V=5, H=5)
_LAYERS = 2
_INPUTS = 7  # not H, which a matrix in the wrong place does not always admit


def signature(table: Table, variant: Variant, loss: bool, linear: bool) -> bytes:
    """The same for two tables if and only if they give the same gradients on every case of T > 1.

    Args:
        table: to be evaluated. variant: its cell.
        loss: whether the loss is its own, and dh_n and dc_n are zero. linear: whether that loss has
            the linear head.
    """
    return signer(table, variant, loss, linear, not loss)(table)


def signer(
    right: Table, variant: Variant, loss: bool, linear: bool, beyond: bool, layers: int = _LAYERS
) -> Callable[[Table], bytes]:
    """`signature` of many tables that have most of their equations in common with `right`.

    Args:
        beyond: whether dh_n and dc_n may be other than zero. layers: of the stack.
    """

    @cache
    def beside(inputs: int) -> tuple[Quantities, Solved]:
        points = field_points(variant, loss, linear, beyond, inputs, layers)
        return points, solved(right, points, FIELD)

    def found(table: Table, inputs: int) -> dict[str, Array]:
        points, others = beside(inputs)
        return gradients(table, points, FIELD, beside=others)

    bounded = loss and not linear  # there I is V, which is H

    def sign(table: Table) -> bytes:
        digest = hashlib.sha256()
        try:
            values = found(table, _SIZES.H if bounded else _INPUTS)
        except ValueError:
            digest.update(b"I = H")
            values = found(table, _SIZES.H)
        for name in sorted(values):
            digest.update(f"{name} {values[name].shape}".encode())
            digest.update(np.ascontiguousarray(values[name], np.int64).tobytes())
        return digest.digest()

    return sign


def _number(value: Any) -> Array:
    if isinstance(value, Fraction):
        return np.asarray(value.numerator * pow(value.denominator, -1, PRIME) % PRIME)
    return np.asarray(value, np.int64)


def _power(exponent: int, plus: int, y: Array) -> Array:
    result = np.ones_like(y)
    for _ in range(exponent):
        result = result * y % PRIME
    return np.asarray((result + plus) % PRIME)


def _sum_over_steps(left: list[Array], right: list[Array]) -> Array:
    m, p = np.concatenate(left, axis=-2), np.concatenate(right, axis=-2)
    return _matmul(np.swapaxes(m, -1, -2), p)  # at most T B = 12 products


def _matmul(m: Array, p: Array) -> Array:
    return np.asarray(np.matmul(m, p) % PRIME)


FIELD = Arithmetic(
    number=_number,
    rnd=lambda y: np.asarray(y % PRIME),
    sigmoid=lambda y: _power(5, 101, y),
    tanh=lambda y: _power(3, 11, y),
    exp=lambda y: _power(7, 13, y),
    log=lambda y: _power(7, 17, y),
    matmul=_matmul,
    sum_over_steps=_sum_over_steps,
)


@cache
def field_points(
    variant: Variant, loss: bool, linear: bool, beyond: bool, inputs: int, count: int = _LAYERS
) -> Quantities:
    """Random quantities between which the relations hold that the cell's have."""
    rng = np.random.default_rng(0)
    steps, batch, classes, hidden = _SIZES

    def draw(*shape: int) -> Array:
        return rng.integers(1, PRIME, shape)

    weights: dict[str, Array] = {"weight_out": draw(classes, hidden)} if linear else {}
    layers: list[dict[str, Array]] = []
    for k in range(count):
        weights[f"weight_ih_l{k}"] = draw(4 * hidden, hidden if k else inputs)
        weights[f"weight_hh_l{k}"] = draw(4 * hidden, hidden)
        weights[f"bias_l{k}"] = draw(4 * hidden)
        layer = {f"z_{gate}": draw(steps, batch, hidden) for gate in GATES}
        for gate in GATES:
            tanh = gate == "g" and variant.candidate == "tanh"
            activation = FIELD.tanh if tanh else FIELD.sigmoid
            layer[gate] = activation(layer[f"z_{gate}"])
        if variant.coupled:
            layer["i"] = (1 - layer["f"]) % PRIME
        c = [draw(batch, hidden)]
        for t in range(steps):
            after = (layer["f"][t] * c[-1] % PRIME + layer["i"][t] * layer["g"][t]) % PRIME
            c.append(FIELD.tanh(after) if variant.state == "tanh" else after)
        layer["c"] = np.stack(c)
        out = layer["c"][1:]
        layer["c_out"] = FIELD.tanh(out) if variant.output == "tanh" else out
        h = layer["o"] * layer["c_out"] % PRIME
        layer["h"] = np.concatenate([draw(1, batch, hidden), h])
        layer["h_out"], layer["c_new"] = layer["h"][1:], layer["c"][1:]
        layer["x"] = layers[-1]["h"][1:] if layers else draw(steps, batch, inputs)
        layer |= beside_layers(layer, layers)
        if variant.peepholes:
            layer |= {f"w_c{gate}": draw(1, 1, hidden) for gate in PEEPHOLES.values()}
        layers.append(layer)
    for layer in layers:
        layer["c_top"] = layers[-1]["c"]
    dh_n, dc_n = (draw(count, 1, batch, hidden) * beyond for _ in range(2))
    of_loss = {
        "p": draw(steps, batch, classes),
        "onehot": draw(steps, batch, classes),
        "onehot_any": np.broadcast_to(draw(1, 1, classes), (steps, batch, classes)),
        "logits": draw(steps, batch, classes),
        "log_p": draw(steps, batch, classes),
        "x_in": layers[0]["x"],
        "dloss": draw(1, 1, 1),
    }
    return Quantities(
        layers,
        weights,
        list(dh_n),
        list(dc_n),
        _SIZES,
        of_loss if loss else {},
        None if loss else draw(steps, batch, hidden),
        {},
        variant,
    )
