"""The equations of DERIVATION.md, written once more, step by step, in any arithmetic.

They are the standard cell's, (1) to (26), and those in which a variant differs, (31) to (39) of
docs/variants.md.

In longdouble they are a truth to compare with; in complex128 their imaginary parts are
derivatives (complex_step.py); in a coarser arithmetic that rounds after every operation they show
how far rounding alone moves each result (torch_ref/compare/budget.py). They share no code with
manual_lstm. Arrays, the weights included, may have further axes in front, over which everything is
broadcast.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from torch_ref.oracles.case import Case
from torch_ref.oracles.variant import STANDARD, Variant

Array = NDArray[Any]
STEP_GRADIENTS = ("dz", "dh", "dc")


@dataclass(frozen=True)
class Arithmetic:
    """How numbers are kept, and what happens to a result before it is kept.

    Attributes:
        number: converts an array of float32, float64 or whole numbers, exactly.
        rnd: applied to the result of every elementwise operation.
        sigmoid, tanh: the two activations, their own rounding included.
        exp, log: as they are; `rnd` is applied to their results.
        matmul: (..., M, N) @ (..., N, P), its own rounding included.
        sum_over_steps: the sum over t of left[t]^T @ right[t] for two lists of T arrays
            (..., B, M) and (..., B, P): (..., M, P).
    """

    number: Callable[[Any], Array]
    rnd: Callable[[Array], Array]
    sigmoid: Callable[[Array], Array]
    tanh: Callable[[Array], Array]
    exp: Callable[[Array], Array]
    log: Callable[[Array], Array]
    matmul: Callable[[Array, Array], Array]
    sum_over_steps: Callable[[list[Array], list[Array]], Array]


def unrounded(dtype: Any) -> Arithmetic:
    """The arithmetic of `dtype` as NumPy has it: float64, longdouble or complex128."""
    return Arithmetic(
        number=lambda a: np.asarray(a, dtype),
        rnd=lambda a: a,
        sigmoid=_sigmoid,
        tanh=np.tanh,
        exp=np.exp,
        log=np.log,
        matmul=np.matmul,
        sum_over_steps=sum_over_steps,
    )


def _sigmoid(z: Array) -> Array:
    """1 / (1 + exp(-z)) without overflow, and exact to rounding where the gate is nearly shut."""
    opens = z.real >= 0
    decay = np.exp(np.where(opens, -z, z))
    return np.asarray(np.where(opens, 1, decay) / (1 + decay))


def sum_over_steps(left: list[Array], right: list[Array]) -> Array:
    """left[0]^T @ right[0] + left[1]^T @ right[1] + ..., in that order."""
    total = np.swapaxes(left[0], -1, -2) @ right[0]
    for m, p in zip(left[1:], right[1:], strict=True):
        total += np.swapaxes(m, -1, -2) @ p
    return np.asarray(total)


def activate(activation: str, z: Array, a: Arithmetic) -> Array:
    """tanh or sigmoid of z, or z itself for "linear" and "identity"."""
    if activation == "tanh":
        return a.tanh(z)
    if activation == "sigmoid":
        return a.sigmoid(z)
    return z


def activate_backward(activation: str, y: Array, dy: Array, a: Arithmetic) -> Array:
    """Gradient of z where y = activate(activation, z)."""
    if activation == "tanh":
        return a.rnd(dy * a.rnd(1 - a.rnd(y * y)))
    if activation == "sigmoid":
        return a.rnd(dy * a.rnd(y * a.rnd(1 - y)))
    return dy


@dataclass(frozen=True)
class Step:
    """What one step of one layer leaves: z (..., B, 4H), x (..., B, I), the others (..., B, H).

    h_before and c_before are the states before the step, c the one after it, and c_out what the
    output gate multiplies: tanh(c), or c where the variant has it so.
    """

    z: Array
    x: Array
    h_before: Array
    c_before: Array
    i: Array
    f: Array
    g: Array
    o: Array
    c: Array
    c_out: Array


@dataclass(frozen=True)
class Forward:
    """y (T of (..., B, H)), the last states (L of (..., B, H)), and the steps of each layer."""

    y: list[Array]
    h_n: list[Array]
    c_n: list[Array]
    layers: list[list[Step]]


def solve(
    case: Case, a: Arithmetic, lead: tuple[int, ...] = (), *, steps: bool = False
) -> dict[str, Array]:
    """Outputs and gradients of a case in the arithmetic `a`: all equations, in their order.

    Args:
        case: one case, or several of the same sizes as `stack_cases` makes them one.
        lead: axes to put before those of the case, along which the arithmetic may differ.
        steps: whether the gradients at every step are wanted too.

    Returns:
        "loss" or "y", "h_n", "c_n", every gradient under "d" + name, and "z" (..., L, T, B, 4H),
        the gates before their activation; with `steps` of each layer also "dz_lk"
        (..., T, B, 4H), (15), "dh_lk" and "dc_lk" (..., T, B, H), all that h and c receive, (9)
        and (11). `lead` stands in front of every axis.
    """

    def spread(array: Array) -> Array:
        inner = array.shape[1:]
        wide = a.number(array).reshape(len(array), *[1] * len(lead), *inner)
        return np.broadcast_to(wide, (len(array), *lead, *inner))

    params = {name: a.number(value) for name, value in case.params.items()}
    h0, c0, dh_n, dc_n = (spread(each) for each in (case.h0, case.c0, case.dh_n, case.dc_n))
    forward = lstm_forward(params, spread(case.x), h0, c0, a, case.variant)
    results = {
        "h_n": np.stack(forward.h_n, axis=-3),
        "c_n": np.stack(forward.c_n, axis=-3),
        "z": np.stack([np.stack([s.z for s in k], axis=-3) for k in forward.layers], axis=-4),
    }
    if case.targets is None:
        assert case.dy is not None
        dy = list(spread(case.dy))
        results["y"] = np.stack(forward.y, axis=-3)
    else:
        results["loss"], loss_steps = loss_forward(params, forward.y, case.targets, a)
        dy, head_gradients = loss_backward(params, loss_steps, case.dloss, a)
        results |= head_gradients
    return results | lstm_backward(params, forward, dy, dh_n, dc_n, a, case.variant, steps=steps)


def is_step_gradient(name: str) -> bool:
    """Whether a gradient is that of a layer's z, h or c at every step: "dz_l0", "dh_l0"."""
    kind, _, layer = name.partition("_l")
    return kind in STEP_GRADIENTS and layer.isdigit()


def lstm_forward(
    w: Mapping[str, Array],
    x: Array,
    h0: Array,
    c0: Array,
    a: Arithmetic,
    variant: Variant = STANDARD,
) -> Forward:
    """Equations (1) to (8). w: the weights; x (T, ..., B, I); h0, c0 (L, ..., B, H)."""

    def peephole(z: Array, gate: str, k: int, c: Array) -> Array:
        return a.rnd(z + a.rnd(_row(w[f"weight_c{gate}_l{k}"]) * c))  # (34)

    below = list(x)
    h_n, c_n, layers = [], [], []
    for k in range(len(h0)):
        h, c = h0[k], c0[k]
        into, recurrent = _transposed(w[f"weight_ih_l{k}"]), _transposed(w[f"weight_hh_l{k}"])
        bias = _row(w[f"bias_l{k}"])
        steps, above = [], []
        for x_t in below:
            z = a.rnd(a.matmul(x_t, into) + a.matmul(h, recurrent))  # (1)
            z = a.rnd(z + bias)
            z_i, z_f, z_g, z_o = np.split(z, 4, axis=-1)
            if variant.peepholes:
                z_i, z_f = peephole(z_i, "i", k, c), peephole(z_f, "f", k, c)
            sigmoids = a.sigmoid(np.concatenate([z_i, z_f, z_o], axis=-1))
            i, f, o = np.split(sigmoids, 3, axis=-1)  # (2), (3), (5)
            if variant.coupled:
                i = a.rnd(1 - f)  # (38)
            g = activate(variant.candidate, z_g, a)  # (4), (31)
            c_next = a.rnd(a.rnd(f * c) + a.rnd(i * g))  # (6)
            c_next = activate(variant.state, c_next, a)  # (32)
            if variant.peepholes:
                z_o = peephole(z_o, "o", k, c_next)
                o = a.sigmoid(z_o)
                z = np.concatenate([z_i, z_f, z_g, z_o], axis=-1)
            c_out = activate(variant.output, c_next, a)  # (33)
            steps.append(Step(z, x_t, h, c, i, f, g, o, c_next, c_out))
            h, c = a.rnd(o * c_out), c_next  # (7)
            above.append(h)
        h_n.append(h)
        c_n.append(c)
        layers.append(steps)
        below = above  # (8)
    return Forward(below, h_n, c_n, layers)


def lstm_backward(
    w: Mapping[str, Array],
    forward: Forward,
    dy: list[Array],
    dh_n: Array,
    dc_n: Array,
    a: Arithmetic,
    variant: Variant = STANDARD,
    *,
    steps: bool = False,
) -> dict[str, Array]:
    """(9) to (18). dy: T of (..., B, H); dh_n, dc_n (L, ..., B, H); steps as in `solve`."""

    def peephole_backward(gate: str, k: int, dz: Array) -> Array:
        return a.rnd(dz * _row(w[f"weight_c{gate}_l{k}"]))  # (35), (36)

    gradients: dict[str, Array] = {}
    dh0: list[Array] = []
    dc0: list[Array] = []
    from_above = dy
    for k in reversed(range(len(forward.layers))):
        forward_steps = forward.layers[k]
        dh, dc = dh_n[k], dc_n[k]
        all_dz, all_dh, all_dc, to_below = [], [], [], []
        for t in reversed(range(len(forward_steps))):
            s = forward_steps[t]
            dh = a.rnd(dh + from_above[t])  # (9)
            do = a.rnd(dh * s.c_out)  # (10)
            dz_o = activate_backward("sigmoid", s.o, do, a)  # (15)
            dc = a.rnd(dc + activate_backward(variant.output, s.c_out, a.rnd(dh * s.o), a))  # (11)
            if variant.peepholes:
                dc = a.rnd(dc + peephole_backward("o", k, dz_o))
            all_dh.append(dh)
            all_dc.append(dc)
            dc = activate_backward(variant.state, s.c, dc, a)  # (32)
            di = a.rnd(dc * s.g)  # (12)
            dg = a.rnd(dc * s.i)  # (13)
            df = a.rnd(dc * s.c_before)  # (14)
            if variant.coupled:
                di, df = np.zeros_like(di), a.rnd(df - di)  # (39)
            dz_i = activate_backward("sigmoid", s.i, di, a)  # (15)
            dz_f = activate_backward("sigmoid", s.f, df, a)
            dz_g = activate_backward(variant.candidate, s.g, dg, a)
            dz = np.concatenate([dz_i, dz_f, dz_g, dz_o], axis=-1)
            dc = a.rnd(dc * s.f)  # (16a)
            if variant.peepholes:
                dc = a.rnd(dc + peephole_backward("i", k, dz_i))
                dc = a.rnd(dc + peephole_backward("f", k, dz_f))
            dh = a.matmul(dz, w[f"weight_hh_l{k}"])  # (16b)
            to_below.append(a.matmul(dz, w[f"weight_ih_l{k}"]))  # (17)
            all_dz.append(dz)
        backward_steps = forward_steps[::-1]
        ones = [np.ones_like(s.h_before[..., :1]) for s in backward_steps]
        gradients |= {
            f"dweight_ih_l{k}": a.sum_over_steps(all_dz, [s.x for s in backward_steps]),  # (18a)
            f"dweight_hh_l{k}": a.sum_over_steps(  # (18b)
                all_dz, [s.h_before for s in backward_steps]
            ),
            f"dbias_l{k}": a.sum_over_steps(all_dz, ones)[..., 0],  # (18c)
        }
        if variant.peepholes:
            gradients |= peephole_gradients(k, all_dz, backward_steps, a)
        if steps:
            for name, each in zip(STEP_GRADIENTS, (all_dz, all_dh, all_dc), strict=True):
                gradients[f"{name}_l{k}"] = np.stack(each[::-1], axis=-3)
        dh0.insert(0, dh)
        dc0.insert(0, dc)
        from_above = to_below[::-1]
    gradients["dx"] = np.stack(from_above, axis=-3)
    gradients["dh0"] = np.stack(dh0, axis=-3)
    gradients["dc0"] = np.stack(dc0, axis=-3)
    return gradients


def peephole_gradients(
    k: int, all_dz: list[Array], steps: list[Step], a: Arithmetic
) -> dict[str, Array]:
    """Gradients (..., H) of layer k's peephole weights: (37). all_dz: T of (..., B, 4H)."""
    before, after = [s.c_before for s in steps], [s.c for s in steps]
    ones = [np.ones_like(c[..., :1]) for c in after]
    gradients = {}
    for gate, block, seen in (("i", 0, before), ("f", 1, before), ("o", 3, after)):
        dz = [np.split(each, 4, axis=-1)[block] for each in all_dz]
        products = [a.rnd(dz_t * c) for dz_t, c in zip(dz, seen, strict=True)]
        gradients[f"dweight_c{gate}_l{k}"] = a.sum_over_steps(products, ones)[..., 0]
    return gradients


@dataclass(frozen=True)
class LossStep:
    """What one step leaves of the head and loss: h (..., B, H), p and hot (..., B, V)."""

    h: Array
    p: Array
    hot: Array


def loss_forward(
    w: Mapping[str, Array], y: list[Array], targets: Array, a: Arithmetic
) -> tuple[Array, list[LossStep]]:
    """Head, softmax and mean cross-entropy: equations (19), (23) to (25).

    Args:
        w: with "weight_out" (V, H) and "bias_out" (V,) the linear head; without, the bounded.
        y: T of (..., B, H). targets: (T, ..., B).

    Returns:
        The loss (...), and what each step leaves.
    """
    losses, steps = [], []
    for h, target in zip(y, targets, strict=True):
        logits = h  # (23)
        if "weight_out" in w:
            logits = a.rnd(a.matmul(h, _transposed(w["weight_out"])) + _row(w["bias_out"]))  # (19)
        num_classes = logits.shape[-1]
        hot = a.number(np.eye(num_classes)[target])  # (..., B, V)
        # Shifted by a constant, which is what the real part is: the shift has no derivative.
        shifted = a.rnd(logits - logits.real.max(axis=-1, keepdims=True))
        exponentials = a.rnd(a.exp(shifted))
        total = a.matmul(exponentials, a.number(np.ones((num_classes, 1))))  # (..., B, 1)
        picked = (shifted * hot).sum(axis=-1, keepdims=True)
        losses.append(a.rnd(a.rnd(a.log(total)) - picked))  # (25)
        steps.append(LossStep(h, a.rnd(exponentials / total), hot))  # (24)
    ones = [np.ones_like(each) for each in losses]  # T of (..., B, 1)
    return a.rnd(a.sum_over_steps(losses, ones) / _count(steps))[..., 0, 0], steps


def loss_backward(
    w: Mapping[str, Array], steps: list[LossStep], dloss: float, a: Arithmetic
) -> tuple[list[Array], dict[str, Array]]:
    """Gradients of head and loss: equations (20) to (22) and (26).

    Returns:
        dy (T of (..., B, H)), and the head's own gradients.
    """
    upstream = a.number(dloss) / _count(steps)
    all_dlogits = [a.rnd(a.rnd(step.p - step.hot) * upstream) for step in steps]  # (26)
    if "weight_out" not in w:
        return all_dlogits, {}
    ones = [np.ones_like(step.h[..., :1]) for step in steps]
    return [a.matmul(dlogits, w["weight_out"]) for dlogits in all_dlogits], {  # (20)
        "dweight_out": a.sum_over_steps(all_dlogits, [step.h for step in steps]),  # (21)
        "dbias_out": a.sum_over_steps(all_dlogits, ones)[..., 0],  # (22)
    }


def _count(steps: list[LossStep]) -> int:
    """T B, over which the loss is averaged."""
    return len(steps) * int(steps[0].h.shape[-2])


def _transposed(weight: Array) -> Array:
    return np.swapaxes(weight, -1, -2)


def _row(bias: Array) -> Array:
    """A bias (..., N) to add to (..., B, N)."""
    return bias[..., None, :]
