"""The forward pass as data: equations (1) to (8), a variant's, and wrong ones.

`mistakes.py` makes wrong lines of the right ones; `forward_outputs` computes either.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np

from manual_lstm.params import GATES
from torch_ref.diagnosis.backward.table import Steps, steps_of
from torch_ref.diagnosis.forward.losses import ORDERS, RIGHT_LOSS, LossLines, loss_of
from torch_ref.diagnosis.forward.reshaped import as_read, as_returned
from torch_ref.oracles.case import Case
from torch_ref.oracles.equations import Arithmetic, Array
from torch_ref.oracles.variant import STANDARD, Variant

Joined = Literal["", "[W|U] on [h, x]", "[U|W] on [x, h]"]


@dataclass(frozen=True)
class Gate:
    """How a gate comes about.

    Attributes:
        activation: a key of ACTIVATIONS.
        w, u, b: whose blocks of weight_ih, weight_hh and the bias it reads; "" is none.
        bias_factor, plus: the bias is multiplied by the one, and the other added to it.
        transposed: whether its block of weight_hh is.
        peephole: the state that it sees: "", "c[t-1]", "c[t]" or "c[t], not at t=0".
        p: through whose peephole.
    """

    activation: str
    w: str
    u: str
    b: str
    bias_factor: float = 1
    plus: int = 0
    transposed: bool = False
    peephole: str = ""
    p: str = ""


@dataclass(frozen=True)
class Lines:
    """The lines of one forward pass.

    Attributes:
        gates: by name.
        cell, out: of c[t] and h[t], keys of CELLS and OUTS.
        squash: of what the output gate multiplies, "tanh" or "identity".
        state: an activation of c before it is kept, "tanh" or "identity".
        coupled: whether i = 1 - f.
        h, c: what is taken for h[t-1] and c[t-1], keys of BEFORE or OF_THE_LOWEST.
        x: what is taken for x[t], a key of ORDERS.
        joined: a joined matrix multiplies x and h in the wrong order.
        y, h_n, c_n: what is returned as them, keys of RETURNED.
        below: what a layer hands up: "h", "c", "h[t-1]", or "x" of its own. layer: whose weights
            are used, "own" or "lowest". start: whose h0 and c0, "own", "reversed" or for instance
            "h0 of the lowest", "h0 and c0 of the top".
        loss: those from h to the loss.
        reshaped: of arrays the name, and how each is read or returned, as `in_blocks` takes it.
        own, own_layers: the lines of some layers, as for a `Table`.
    """

    gates: Mapping[str, Gate] = field(default_factory=dict)
    cell: str = "f * c[t-1] + i * g"
    out: str = "o * tanh(c[t])"
    squash: str = "tanh"
    state: str = "identity"
    coupled: bool = False
    h: str = "h[t-1]"
    c: str = "c[t-1]"
    x: str = "[t]"
    joined: Joined = ""
    y: str = "h"
    h_n: str = "h"
    c_n: str = "c"
    below: str = "h"
    layer: str = "own"
    start: str = "own"
    loss: LossLines = RIGHT_LOSS
    reshaped: tuple[tuple[str, str], ...] = ()
    own: "Lines | None" = None
    own_layers: Steps = "none"


def forward_lines(variant: Variant = STANDARD) -> Lines:
    """The right lines."""
    seen = {"i": "c[t-1]", "f": "c[t-1]", "o": "c[t]"} if variant.peepholes else {}
    gates = {
        gate: Gate(
            variant.candidate if gate == "g" else "sigmoid",
            gate, gate, gate,
            peephole=seen.get(gate, ""),
        )
        for gate in GATES
    }  # fmt: skip
    state = "tanh" if variant.state == "tanh" else "identity"
    return Lines(gates, squash=variant.output, state=state, coupled=variant.coupled)


Function = Callable[[Arithmetic, Array], Array]
ACTIVATIONS: Mapping[str, Function] = {
    "sigmoid": lambda a, z: a.sigmoid(z),
    "tanh": lambda a, z: a.tanh(z),
    "identity": lambda a, z: z,
    "relu": lambda a, z: np.maximum(z, 0),
    "hard sigmoid": lambda a, z: np.clip(a.rnd(a.rnd(z / 5) + 0.5), 0, 1),
    "sigmoid of sigmoid": lambda a, z: a.sigmoid(a.sigmoid(z)),
    "tanh of tanh": lambda a, z: a.tanh(a.tanh(z)),
    "sigmoid of -z": lambda a, z: a.sigmoid(-z),
    "sigmoid of 2 z": lambda a, z: a.sigmoid(2 * z),
    "tanh of z/2": lambda a, z: a.tanh(z / 2),
    "tanh of 2 z": lambda a, z: a.tanh(2 * z),
    "exp": lambda a, z: a.exp(z),
}


class Now(NamedTuple):
    """What a step has: gates, the state before it, and, once it is there, c."""

    i: Array
    f: Array
    g: Array
    o: Array
    h: Array
    before: Array
    c: Array


def _sum(a: Arithmetic, *terms: Array) -> Array:
    return a.rnd(a.rnd(terms[0]) + a.rnd(terms[1]))


Line = Callable[[Arithmetic, Now], Array]
CELLS: Mapping[str, Line] = {
    "f * c[t-1] + i * g": lambda a, s: _sum(a, s.f * s.before, s.i * s.g),
    "c[t-1] + i * g": lambda a, s: _sum(a, s.before, s.i * s.g),
    "f * c[t-1] + g": lambda a, s: _sum(a, s.f * s.before, s.g),
    "f * c[t-1] + i": lambda a, s: _sum(a, s.f * s.before, s.i),
    "f * c[t-1]": lambda a, s: a.rnd(s.f * s.before),
    "i * g": lambda a, s: a.rnd(s.i * s.g),
    "f * c[t-1] - i * g": lambda a, s: _sum(a, s.f * s.before, -s.i * s.g),
    "f * c[t-1] + (1 - f) * g": lambda a, s: _sum(a, s.f * s.before, a.rnd(1 - s.f) * s.g),
    "f * c[t-1] + (1 - i) * g": lambda a, s: _sum(a, s.f * s.before, a.rnd(1 - s.i) * s.g),
    "(1 - f) * c[t-1] + i * g": lambda a, s: _sum(a, a.rnd(1 - s.f) * s.before, s.i * s.g),
    "(1 - i) * c[t-1] + i * g": lambda a, s: _sum(a, a.rnd(1 - s.i) * s.before, s.i * s.g),
    "f * (c[t-1] + i * g)": lambda a, s: a.rnd(s.f * _sum(a, s.before, s.i * s.g)),
    "f * h[t-1] + i * g": lambda a, s: _sum(a, s.f * s.h, s.i * s.g),
    "f * tanh(c[t-1]) + i * g": lambda a, s: _sum(a, s.f * a.tanh(s.before), s.i * s.g),
    "f * c[t-1] + i + g": lambda a, s: a.rnd(_sum(a, s.f * s.before, s.i) + s.g),
    "f + i * g": lambda a, s: _sum(a, s.f, s.i * s.g),
    "f + c[t-1] + i * g": lambda a, s: a.rnd(_sum(a, s.f, s.before) + a.rnd(s.i * s.g)),
    "i * c[t-1] + i * g": lambda a, s: _sum(a, s.i * s.before, s.i * s.g),
    "o * c[t-1] + i * g": lambda a, s: _sum(a, s.o * s.before, s.i * s.g),
    "g * c[t-1] + i * g": lambda a, s: _sum(a, s.g * s.before, s.i * s.g),
    "f * c[t-1] + f * g": lambda a, s: _sum(a, s.f * s.before, s.f * s.g),
    "f * c[t-1] + o * g": lambda a, s: _sum(a, s.f * s.before, s.o * s.g),
    "f * c[t-1] + i * o": lambda a, s: _sum(a, s.f * s.before, s.i * s.o),
    "f * c[t-1] + i * f": lambda a, s: _sum(a, s.f * s.before, s.i * s.f),
    "f * g + i * g": lambda a, s: _sum(a, s.f * s.g, s.i * s.g),
    "f * g + i * c[t-1]": lambda a, s: _sum(a, s.f * s.g, s.i * s.before),
}
OUTS: Mapping[str, Line] = {
    "o * tanh(c[t])": lambda a, s: a.rnd(s.o * s.c),  # what o multiplies is squashed already
    "tanh(c[t])": lambda a, s: s.c,
    "o": lambda a, s: s.o,
    "i * tanh(c[t])": lambda a, s: a.rnd(s.i * s.c),
    "f * tanh(c[t])": lambda a, s: a.rnd(s.f * s.c),
    "g * tanh(c[t])": lambda a, s: a.rnd(s.g * s.c),
    "(1 - o) * tanh(c[t])": lambda a, s: a.rnd(a.rnd(1 - s.o) * s.c),
    "o + tanh(c[t])": lambda a, s: a.rnd(s.o + s.c),
    "o * tanh(g)": lambda a, s: a.rnd(s.o * a.tanh(s.g)),
    "o * g": lambda a, s: a.rnd(s.o * s.g),
    "o * tanh(c[t-1])": lambda a, s: a.rnd(s.o * a.tanh(s.before)),
}
WHOLE_OUTS: Mapping[str, Line] = {"tanh(o * c[t])": lambda a, s: a.tanh(a.rnd(s.o * s.c))}
# What stands for a state before step t: the state itself, the one at the start, the other one.
BEFORE: Mapping[str, Callable[[int, Array, Array, Array], Array]] = {
    "h[t-1]": lambda t, own, start, other: own,
    "c[t-1]": lambda t, own, start, other: own,
    "its own start at every step": lambda t, own, start, other: start,
    "zero at t=0": lambda t, own, start, other: own if t else np.zeros_like(own),
    "zero": lambda t, own, start, other: np.zeros_like(own),
    "the other state": lambda t, own, start, other: other,
    "the other state after t=0": lambda t, own, start, other: other if t else own,
    "the other state at t=0": lambda t, own, start, other: own if t else other,
}
# That of the lowest layer, before the step or, where the steps are the outer loop, after it.
OF_THE_LOWEST = {"the lowest layer's [t-1]": 0, "the lowest layer's [t]": 1}


def forward_outputs(
    case: Case, lines: Lines, a: Arithmetic, lead: tuple[int, ...] = ()
) -> dict[str, Array]:
    """ "loss" or "y", "h_n", "c_n", and "z" of a case by these lines.

    Args:
        case, a, lead: as for `equations.solve`.

    Raises:
        ValueError: a matrix in the place of another one does not fit.
    """

    def spread(array: Array) -> Array:
        inner = array.shape[1:]
        wide = a.number(array).reshape(len(array), *[1] * len(lead), *inner)
        return np.broadcast_to(wide, (len(array), *lead, *inner))

    case = as_read(case, lines.reshaped)
    w = {name: a.number(value) for name, value in case.params.items()}
    h0, c0 = spread(case.h0), spread(case.c0)
    if lines.start == "reversed":
        h0, c0 = h0[::-1], c0[::-1]
    x, steps = spread(case.x), len(case.x)
    taken, _, layer = lines.start.partition(" of the ")
    if layer:
        only = [0 if layer == "lowest" else -1] * len(h0)
        h0, c0 = h0[only] if "h0" in taken else h0, c0[only] if "c0" in taken else c0
    below = [x[ORDERS[lines.x](t, steps)] for t in range(steps)]
    h_n, c_n, all_z = [], [], []
    lowest: tuple[list[Array], list[Array]] | None = None
    hs: list[Array] = []
    cs: list[Array] = []
    for k in range(len(h0)):
        here = _of_layer(lines, k, len(h0))
        hs, cs, z = _layer(w, below, h0[k], c0[k], k, here, a, lowest)
        lowest = lowest or (hs, cs)
        ends = {"h": hs[-1], "c": cs[-1], "tanh(c)": a.tanh(cs[-1]), "h[0]": hs[1], "c[0]": cs[1]}
        ends |= {"h[T-2]": hs[-2], "c[T-2]": cs[-2]}
        h_n.append(ends[here.h_n])
        c_n.append(ends[here.c_n])
        all_z.append(np.stack(z, axis=-3))
        below = {"h": hs[1:], "c": cs[1:], "x": below, "h[t-1]": hs[:-1]}[here.below]
    found = {"h_n": np.stack(h_n, axis=-3), "c_n": np.stack(c_n, axis=-3)}
    found["z"] = np.stack(all_z, axis=-4)
    if case.targets is None:
        y = {"h": hs[1:], "c": cs[1:], "h[t-1]": hs[:-1], "h[T-1-t]": hs[:0:-1]}[lines.y]
        found["y"] = np.stack(y, axis=-3)
    else:
        found["loss"] = loss_of(w, hs, cs, case, lines.loss, a)
    return as_returned(found, lines.reshaped)


def _of_layer(lines: Lines, k: int, layers: int) -> Lines:
    own = lines.own
    return own if own is not None and k in steps_of(layers, lines.own_layers) else lines


def _layer(
    w: Mapping[str, Array], below: list[Array], h0: Array, c0: Array, k: int, lines: Lines,
    a: Arithmetic, lowest: tuple[list[Array], list[Array]] | None,
) -> tuple[list[Array], list[Array], list[Array]]:  # fmt: skip
    """h and c of every step behind those before the first, and z of every step."""
    own = 0 if lines.layer == "lowest" else k
    blocks = {
        kind: dict(zip(GATES, np.split(w[f"{name}_l{own}"], 4, axis=axis), strict=True))
        for kind, name, axis in (("w", "weight_ih", -2), ("u", "weight_hh", -2), ("b", "bias", -1))
    }
    hs, cs, all_z = [h0], [c0], []
    for t, x_t in enumerate(below):
        h = _before(lines.h, t, hs[-1], h0, cs[-1], lowest and lowest[0])
        c = _before(lines.c, t, cs[-1], c0, hs[-1], lowest and lowest[1])
        z: dict[str, Array] = {}
        active: dict[str, Array] = {}
        c_next = c
        for gate in "fgio":  # i may need f, and o may need c[t]
            line = lines.gates[gate]
            z[gate] = _pre_activation(line, blocks, x_t, h, lines.joined, a)
            if gate == "o":
                s = Now(**active, o=active["i"], h=h, before=c, c=c)
                if "o" in lines.cell:
                    s = s._replace(o=ACTIVATIONS[line.activation](a, z["o"]))
                c_next = ACTIVATIONS[lines.state](a, CELLS[lines.cell](a, s))
            if line.peephole and (t > 0 or "not at t=0" not in line.peephole):
                seen = c if line.peephole == "c[t-1]" else c_next
                weight = w[f"weight_c{line.p or gate}_l{own}"][..., None, :]
                z[gate] = a.rnd(z[gate] + a.rnd(weight * seen))
            active[gate] = ACTIVATIONS[line.activation](a, z[gate])
            if gate == "i" and lines.coupled:
                active["i"] = a.rnd(1 - active["f"])
        whole = lines.out in WHOLE_OUTS
        c_out = c_next if whole else ACTIVATIONS[lines.squash](a, c_next)
        out = WHOLE_OUTS[lines.out] if whole else OUTS[lines.out]
        hs.append(out(a, Now(**active, h=h, before=c, c=c_out)))
        cs.append(c_next)
        all_z.append(np.concatenate([z[gate] for gate in GATES], axis=-1))
    return hs, cs, all_z


def _before(
    line: str, t: int, own: Array, start: Array, other: Array, lowest: list[Array] | None
) -> Array:
    """The state before step t; `lowest` has the lowest layer's, for the others."""
    if line in OF_THE_LOWEST:
        return own if lowest is None else lowest[t + OF_THE_LOWEST[line]]
    return BEFORE[line](t, own, start, other)


def _pre_activation(
    line: Gate, blocks: Mapping[str, Mapping[str, Array]], x: Array, h: Array, joined: Joined,
    a: Arithmetic,
) -> Array:  # fmt: skip
    into = blocks["w"][line.w] if line.w else np.zeros_like(blocks["w"]["i"])
    recurrent = blocks["u"][line.u] if line.u else np.zeros_like(blocks["u"]["i"])
    recurrent = np.swapaxes(recurrent, -1, -2) if line.transposed else recurrent
    if joined:
        matrices = [into, recurrent] if joined == "[W|U] on [h, x]" else [recurrent, into]
        whole = np.concatenate(matrices, axis=-1)
        inputs = [h, x] if joined == "[W|U] on [h, x]" else [x, h]
        z = a.matmul(np.concatenate(inputs, axis=-1), np.swapaxes(whole, -1, -2))
    else:
        z = a.matmul(x, np.swapaxes(into, -1, -2))
        z = a.rnd(z + a.matmul(h, np.swapaxes(recurrent, -1, -2)))
    if line.b:
        z = a.rnd(z + line.bias_factor * blocks["b"][line.b][..., None, :])
    return a.rnd(z + line.plus) if line.plus else z
