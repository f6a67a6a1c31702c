"""The equations of DERIVATION.md, written once more, step by step, in any arithmetic.

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

Array = NDArray[Any]


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


@dataclass(frozen=True)
class Step:
    """What one step of one layer leaves: z (..., B, 4H), x (..., B, I), the others (..., B, H)."""

    z: Array
    x: Array
    h_before: Array
    c_before: Array
    i: Array
    f: Array
    g: Array
    o: Array
    tanh_c: Array


@dataclass(frozen=True)
class Forward:
    """y (T of (..., B, H)), the last states (L of (..., B, H)), and the steps of each layer."""

    y: list[Array]
    h_n: list[Array]
    c_n: list[Array]
    layers: list[list[Step]]


def solve(case: Case, a: Arithmetic, lead: tuple[int, ...] = ()) -> dict[str, Array]:
    """Outputs and gradients of a case in the arithmetic `a`: all equations, in their order.

    Args:
        case: one case, or several of the same sizes as `stack_cases` makes them one.
        lead: axes to put before those of the case, along which the arithmetic may differ.

    Returns:
        "loss" or "y", "h_n", "c_n", every gradient under "d" + name, and "z" (..., L, T, B, 4H),
        the gates before their activation. `lead` stands in front of every axis.
    """

    def spread(array: Array) -> Array:
        inner = array.shape[1:]
        wide = a.number(array).reshape(len(array), *[1] * len(lead), *inner)
        return np.broadcast_to(wide, (len(array), *lead, *inner))

    params = {name: a.number(value) for name, value in case.params.items()}
    forward = lstm_forward(params, spread(case.x), spread(case.h0), spread(case.c0), a)
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
        results["loss"], steps = loss_forward(params, forward.y, case.targets, a)
        dy, head_gradients = loss_backward(params, steps, case.dloss, a)
        results |= head_gradients
    return results | lstm_backward(params, forward, dy, spread(case.dh_n), spread(case.dc_n), a)


def lstm_forward(w: Mapping[str, Array], x: Array, h0: Array, c0: Array, a: Arithmetic) -> Forward:
    """Equations (1) to (8). w: the weights; x (T, ..., B, I); h0, c0 (L, ..., B, H)."""
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
            sigmoids = a.sigmoid(np.concatenate([z_i, z_f, z_o], axis=-1))
            i, f, o = np.split(sigmoids, 3, axis=-1)  # (2), (3), (5)
            g = a.tanh(z_g)  # (4)
            c_next = a.rnd(a.rnd(f * c) + a.rnd(i * g))  # (6)
            tanh_c = a.tanh(c_next)
            steps.append(Step(z, x_t, h, c, i, f, g, o, tanh_c))
            h, c = a.rnd(o * tanh_c), c_next  # (7)
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
) -> dict[str, Array]:
    """Equations (9) to (18). dy: T of (..., B, H); dh_n, dc_n (L, ..., B, H)."""
    gradients: dict[str, Array] = {}
    dh0: list[Array] = []
    dc0: list[Array] = []
    from_above = dy
    for k in reversed(range(len(forward.layers))):
        steps = forward.layers[k]
        dh, dc = dh_n[k], dc_n[k]
        all_dz, to_below = [], []
        for t in reversed(range(len(steps))):
            s = steps[t]
            dh = a.rnd(dh + from_above[t])  # (9)
            do = a.rnd(dh * s.tanh_c)  # (10)
            slope = a.rnd(1 - a.rnd(s.tanh_c * s.tanh_c))
            dc = a.rnd(dc + a.rnd(a.rnd(dh * s.o) * slope))  # (11)
            di = a.rnd(dc * s.g)  # (12)
            dg = a.rnd(dc * s.i)  # (13)
            df = a.rnd(dc * s.c_before)  # (14)
            dz = np.concatenate(  # (15)
                [
                    a.rnd(di * a.rnd(s.i * a.rnd(1 - s.i))),
                    a.rnd(df * a.rnd(s.f * a.rnd(1 - s.f))),
                    a.rnd(dg * a.rnd(1 - a.rnd(s.g * s.g))),
                    a.rnd(do * a.rnd(s.o * a.rnd(1 - s.o))),
                ],
                axis=-1,
            )
            dc = a.rnd(dc * s.f)  # (16a)
            dh = a.matmul(dz, w[f"weight_hh_l{k}"])  # (16b)
            to_below.append(a.matmul(dz, w[f"weight_ih_l{k}"]))  # (17)
            all_dz.append(dz)
        backward_steps = steps[::-1]
        ones = [np.ones_like(s.h_before[..., :1]) for s in backward_steps]
        gradients |= {
            f"dweight_ih_l{k}": a.sum_over_steps(all_dz, [s.x for s in backward_steps]),  # (18a)
            f"dweight_hh_l{k}": a.sum_over_steps(  # (18b)
                all_dz, [s.h_before for s in backward_steps]
            ),
            f"dbias_l{k}": a.sum_over_steps(all_dz, ones)[..., 0],  # (18c)
        }
        dh0.insert(0, dh)
        dc0.insert(0, dc)
        from_above = to_below[::-1]
    gradients["dx"] = np.stack(from_above, axis=-3)
    gradients["dh0"] = np.stack(dh0, axis=-3)
    gradients["dc0"] = np.stack(dc0, axis=-3)
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
