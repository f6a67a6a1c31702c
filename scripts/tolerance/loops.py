"""Correct LSTMs that add up in other orders, for many cases at once in the cases' own dtype.

They are what other people's programs do: one term after the other, from the far end, pairwise,
[W|U|b] as one matrix or a product for each gate, gradients accumulated step by step.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from torch_ref import Case

Array = NDArray[Any]
Dot = Callable[[Array, Array], Array]  # (..., M, K) @ (..., K, N)


@dataclass(frozen=True)
class Style:
    """How a loop adds up.

    Attributes:
        dot: the products.
        joined: [W|U|b] as one matrix, and its gradient as one product over all steps.
        by_step: weight gradients accumulated from the last step to the first.
        through_tanh: sigmoid(z) as 1/2 + 1/2 tanh(z/2) rather than 1/(1 + exp(-z)).
    """

    dot: Dot
    joined: bool = False
    by_step: bool = False
    through_tanh: bool = False


def reverse_dot(a: Array, b: Array) -> Array:
    """One term after the other, the last first."""
    total = a[..., :, -1, None] * b[..., None, -1, :]
    for k in reversed(range(a.shape[-1] - 1)):
        total += a[..., :, k, None] * b[..., None, k, :]
    return total


def pairwise_dot(a: Array, b: Array) -> Array:
    """Neighbours first, then the pairs, as a tree."""
    terms = np.swapaxes(a, -1, -2)[..., :, :, None] * b[..., :, None, :]  # (..., K, M, N)
    while (count := terms.shape[-3]) > 1:
        pairs = terms[..., 0 : count - 1 : 2, :, :] + terms[..., 1:count:2, :, :]
        terms = np.concatenate([pairs, terms[..., count - 1 :, :, :]], -3) if count % 2 else pairs
    return terms[..., 0, :, :]


STYLES = {
    "loop, reversed sums": Style(reverse_dot, by_step=True),
    "loop, pairwise sums": Style(pairwise_dot),
    "loop, joined [W|U|b]": Style(np.matmul, joined=True, through_tanh=True),
    "loop, gate by gate": Style(np.matmul, by_step=True, through_tanh=True),
}


def run_loop(case: Case, style: Style) -> dict[str, Array]:
    """Outputs and gradients of cases stacked by `stack_cases`, axes as there, N in front."""
    w, dot = case.params, style.dot
    below = case.x
    caches = []
    for k in range(len(case.h0)):
        layer = [w[f"{name}_l{k}"] for name in ("weight_ih", "weight_hh", "bias")]
        caches.append(_layer_forward(style, *layer, below, case.h0[k], case.c0[k]))
        below = np.stack([step[6] for step in caches[-1]])
    results: dict[str, Array] = {
        "h_n": np.stack([steps[-1][6] for steps in caches], axis=-3),
        "c_n": np.stack([steps[-1][7] for steps in caches], axis=-3),
    }
    if case.targets is None:
        results["y"] = np.moveaxis(below, 0, -3)
        dy = case.dy
    else:
        dy = _head(case, below, style, results)
    dh0, dc0 = [], []
    for k in reversed(range(len(case.h0))):
        weights = (w[f"weight_ih_l{k}"], w[f"weight_hh_l{k}"])
        dz, dx, dh, dc = _layer_backward(dot, *weights, caches[k], dy, case.dh_n[k], case.dc_n[k])
        x, h = (np.stack([step[place] for step in caches[k]]) for place in (0, 1))
        one = np.ones_like(h[..., :1])
        if style.joined:
            joined = _weight_gradient(dz, np.concatenate([x, h, one], -1), style)
            inputs = x.shape[-1]
            results[f"dweight_ih_l{k}"] = joined[..., :inputs]
            results[f"dweight_hh_l{k}"] = joined[..., inputs:-1]
            results[f"dbias_l{k}"] = joined[..., -1]
        else:
            results[f"dweight_ih_l{k}"] = _weight_gradient(dz, x, style)
            results[f"dweight_hh_l{k}"] = _weight_gradient(dz, h, style)
            results[f"dbias_l{k}"] = _weight_gradient(dz, one, style)[..., 0]
        dh0.insert(0, dh)
        dc0.insert(0, dc)
        dy = dx
    results["dx"] = np.moveaxis(np.asarray(dy), 0, -3)
    results["dh0"], results["dc0"] = np.stack(dh0, axis=-3), np.stack(dc0, axis=-3)
    return results


def _layer_forward(
    style: Style, weight_ih: Array, weight_hh: Array, bias: Array, x: Array, h: Array, c: Array
) -> list[tuple[Array, ...]]:
    """For each step x, h before, c before, the gates, tanh c, then h and c after."""
    into, recurrent = weight_ih.swapaxes(-1, -2), weight_hh.swapaxes(-1, -2)
    row = bias[..., None, :]
    joined = np.concatenate([into, recurrent, row], axis=-2)
    hidden = weight_hh.shape[-1]
    blocks = [slice(k * hidden, (k + 1) * hidden) for k in range(4)]
    steps: list[tuple[Array, ...]] = []
    for x_t in x:
        if style.joined:
            z = style.dot(np.concatenate([x_t, h, np.ones_like(h[..., :1])], axis=-1), joined)
            parts = [z[..., block] for block in blocks]
        else:
            parts = [
                row[..., block]
                + style.dot(h, recurrent[..., block])
                + style.dot(x_t, into[..., block])
                for block in blocks
            ]
        i, f, o = (_sigmoid(parts[k], style) for k in (0, 1, 3))
        g = np.tanh(parts[2])
        c_after = i * g + f * c
        tanh_c = np.tanh(c_after)
        h_after = tanh_c * o
        steps.append((x_t, h, c, np.stack([i, f, g, o]), tanh_c, o, h_after, c_after))
        h, c = h_after, c_after
    return steps


def _layer_backward(
    dot: Dot,
    weight_ih: Array,
    weight_hh: Array,
    steps: list[tuple[Array, ...]],
    dy: Array | None,
    dh: Array,
    dc: Array,
) -> tuple[Array, Array, Array, Array]:
    """dz (T, N, B, 4H), dx (T, N, B, I), dh0 and dc0 (N, B, H)."""
    assert dy is not None
    all_dz, all_dx = [], []
    for (_, _, c_before, (i, f, g, o), tanh_c, *_), dy_t in zip(steps[::-1], dy[::-1], strict=True):
        dh = dy_t + dh
        dc = dc + o * dh * (1 - tanh_c**2)
        dz = np.concatenate(
            [
                i * (1 - i) * g * dc,
                f * (1 - f) * c_before * dc,
                (1 - g**2) * i * dc,
                o * (1 - o) * tanh_c * dh,
            ],
            axis=-1,
        )
        all_dz.append(dz)
        all_dx.append(dot(dz, weight_ih))
        dh, dc = dot(dz, weight_hh), f * dc
    return np.stack(all_dz[::-1]), np.stack(all_dx[::-1]), dh, dc


def _head(case: Case, y: Array, style: Style, results: dict[str, Array]) -> Array:
    w, linear = case.params, "weight_out" in case.params
    assert case.targets is not None
    weight = w["weight_out"] if linear else None
    logits = y if weight is None else style.dot(y, weight.swapaxes(-1, -2)) + w["bias_out"][:, None]
    greatest = logits.max(axis=-1, keepdims=True)
    exponentials = np.exp(logits - greatest)
    total = exponentials.sum(axis=-1, keepdims=True)
    target = case.targets[..., None]
    steps, _, batch, classes = logits.shape
    losses = (np.log(total) + greatest - np.take_along_axis(logits, target, -1))[..., 0]
    results["loss"] = losses.mean(axis=(0, -1), dtype=logits.dtype)
    hot = (target == np.arange(classes)).astype(logits.dtype)
    dlogits = (exponentials / total - hot) / logits.dtype.type(steps * batch)
    if weight is None:
        return dlogits
    results["dweight_out"] = _weight_gradient(dlogits, y, style)
    results["dbias_out"] = _weight_gradient(dlogits, np.ones_like(y[..., :1]), style)[..., 0]
    return style.dot(dlogits, weight)


def _weight_gradient(left: Array, right: Array, style: Style) -> Array:
    """The sum over steps and batch of left^T right: (T, N, B, M), (T, N, B, P) -> (N, M, P)."""
    rows = np.moveaxis(left, 0, -3).swapaxes(-1, -2)  # (N, T, M, B)
    columns = np.moveaxis(right, 0, -3)  # (N, T, B, P)
    if style.by_step:
        total = style.dot(rows[..., -1, :, :], columns[..., -1, :, :])
        for t in reversed(range(left.shape[0] - 1)):
            total += style.dot(rows[..., t, :, :], columns[..., t, :, :])
        return total
    flat = np.moveaxis(left, 0, -3).reshape(left.shape[1], -1, left.shape[-1])
    return style.dot(flat.swapaxes(-1, -2), columns.reshape(right.shape[1], -1, right.shape[-1]))


def _sigmoid(z: Array, style: Style) -> Array:
    if style.through_tanh:
        return np.asarray(0.5 + 0.5 * np.tanh(0.5 * z))
    with np.errstate(over="ignore"):
        return np.asarray(1 / (1 + np.exp(-z)))
