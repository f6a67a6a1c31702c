"""How large the gradients are, gate by gate and step by step, and whether they vanish."""

from dataclasses import dataclass
from typing import IO, Literal

import numpy as np

from manual_lstm.arrays import FloatArray
from manual_lstm.head import (
    bounded_backward,
    cross_entropy,
    cross_entropy_backward,
    linear_backward,
)
from manual_lstm.history import append_line
from manual_lstm.lstm import LayerCache, StepGradients, empty_step_gradients, layer_backward
from manual_lstm.params import GATES
from manual_lstm.tasks import Text, one_hot
from manual_lstm.train import Schedule, TrainState, next_window

Verdict = Literal["healthy", "vanishing", "exploding", "saturated"]
# A gate counts as saturated where its activation is this much flatter than at its steepest:
# a sigmoid nearer to 0 or 1 than 0.0025, a tanh nearer to -1 or 1 than 0.005.
FLAT = 0.01


@dataclass(frozen=True)
class GateSizes:
    """The gradients of one window. A size is the Euclidean norm over batch and units.

    Attributes:
        window: the number of windows before it.
        before: (L, 4, T), of the gates i, f, g, o before their activation, dz in (15).
        after: (L, 4, T), after it: di, df, dg, do in (10), (12) to (14).
        saturated: (L, 4), the share of units and steps at which the gate is saturated.
        reach: (L, T), how large the gradient of h and c at each step is, of a loss on the last
            step alone, in units of that at the last step. It falls towards t = 0 where gradients
            vanish, and grows where they explode.
        verdict: see `judge`.
        reason: the verdict and the numbers that it rests on, in a sentence.
    """

    window: int
    before: FloatArray
    after: FloatArray
    saturated: FloatArray
    reach: FloatArray
    verdict: Verdict
    reason: str


def gate_sizes(schedule: Schedule, text: Text, state: TrainState) -> GateSizes:
    """The sizes of all gate gradients in the window that comes next. Nothing is trained.

    Raises:
        ValueError: the text or the state do not go with the schedule.
    """
    model = schedule.model
    indices, targets, _, _ = next_window(schedule, text, state)
    x = one_hot(indices, model.num_classes, state.h.dtype)
    (logits, _, _), (caches, head_cache) = model.forward(state.params, x, state.h, state.c)
    dlogits = cross_entropy_backward(1.0, cross_entropy(logits, targets)[1])
    if head_cache is None:
        dy = bounded_backward(dlogits)
    else:
        dy, _ = linear_backward(dlogits, head_cache)
    layers = stack_step_gradients(dy, caches)
    last = np.zeros_like(dy)
    last[-1] = dy[-1]
    from_last = stack_step_gradients(last, caches)

    before = np.stack([_norms(found.dz.transpose(2, 0, 1, 3)) for found in layers])
    after = np.stack([_norms(after_activation(*pair)) for pair in zip(layers, caches, strict=True)])
    saturated = np.stack([_saturated(cache) for cache in caches])
    reach = np.stack([_reach(found) for found in from_last])
    eps = float(np.finfo(state.h.dtype).eps)
    verdict, reason = judge(reach, saturated, eps)
    return GateSizes(state.windows, before, after, saturated, reach, verdict, reason)


def stack_step_gradients(dy: FloatArray, caches: list[LayerCache]) -> list[StepGradients]:
    """What `layer_backward` sees in every layer, nothing coming from beyond the window.

    Args:
        dy: (T, B, H), the upstream gradient of the top layer's output.
        caches: as `lstm_forward` returns them.
    """
    found: list[StepGradients] = []
    for cache in reversed(caches):  # (8)
        zero = np.zeros_like(cache.h[0])
        seen = empty_step_gradients(cache)
        dy = layer_backward(dy, zero, zero, cache, seen)[3]
        found.insert(0, seen)
    return found


def forward_of(cache: LayerCache) -> list[FloatArray]:
    """i, f, g, o after their activation, c[t-1] and tanh(c[t]) of a layer, each (T, B, H)."""
    o, i, f, g, c_before = cache.cell[:-1].swapaxes(0, 1)
    tanh_c = np.tanh(cache.cell[1:, 4])
    return [each.swapaxes(1, 2) for each in (i, f, g, o, c_before, tanh_c)]


def after_activation(found: StepGradients, cache: LayerCache) -> FloatArray:
    """The gradients of i, f, g, o after their activation, (4, T, B, H): (10), (12) to (14)."""
    i, _, g, _, c_before, tanh_c = forward_of(cache)
    dh, dc = found.dh, found.dc
    return np.stack([dc * g, dc * c_before, dc * i, dh * tanh_c])


def judge(reach: FloatArray, saturated: FloatArray, eps: float) -> tuple[Verdict, str]:
    """A plain verdict.

    - exploding: in some layer the gradient of the last step's loss grows, on its way back to the
      window's first step, until beside it the last step's own is lost in rounding: by 1/eps.
    - vanishing: in every layer it shrinks until it is itself lost in rounding: by eps.
    - saturated: some gate is saturated at more than half of its units and steps.
    - healthy: none of these.

    Args:
        reach: (L, T). saturated: (L, 4). eps: of the dtype.

    Returns:
        The first of these that holds, and a sentence with the numbers that it rests on.
    """
    first = reach[:, 0]  # (L,), at the window's first step
    steps = reach.shape[1]
    layer, gate = np.unravel_index(int(np.argmax(saturated)), saturated.shape)
    most = float(saturated[layer, gate])
    tail = f"gate {GATES[gate]} of layer {layer} is the most saturated, at {most:.0%}"
    verdict: Verdict = "healthy"
    if np.any(first > 1 / eps):
        verdict = "exploding"
    elif np.all(first < eps):
        verdict = "vanishing"
    elif most > 0.5:
        verdict = "saturated"
    return verdict, (
        f"{verdict}: {steps - 1} steps back the gradient of the last step is {first.max():.2g} "
        f"times as large ({eps:.1g} is lost in rounding); {tail} of its units and steps."
    )


def write_gate_sizes(file: IO[str], sizes: GateSizes) -> None:
    """Append a window's sizes to a file, one line of JSON.

    Raises:
        ValueError: it cannot be written; the file is named.
    """
    layers = [
        {
            "layer": layer,
            "before": dict(zip(GATES, sizes.before[layer].tolist(), strict=True)),
            "after": dict(zip(GATES, sizes.after[layer].tolist(), strict=True)),
            "saturated": dict(zip(GATES, sizes.saturated[layer].tolist(), strict=True)),
            "reach": sizes.reach[layer].tolist(),
        }
        for layer in range(len(sizes.before))
    ]
    entry = {
        "window": sizes.window,
        "verdict": sizes.verdict,
        "reason": sizes.reason,
        "layers": layers,
    }
    append_line(file, entry)


def _norms(gates: FloatArray) -> FloatArray:
    """(4, T, B, H) to (4, T)."""
    return np.asarray(np.sqrt(np.square(gates.astype(np.float64)).sum(axis=(2, 3))))


def _saturated(cache: LayerCache) -> FloatArray:
    i, f, g, o, *_ = (each.astype(np.float64) for each in forward_of(cache))
    steepness = np.stack([4 * i * (1 - i), 4 * f * (1 - f), 1 - g * g, 4 * o * (1 - o)])
    return np.asarray((steepness < FLAT).mean(axis=(1, 2, 3)))


def _reach(found: StepGradients) -> FloatArray:
    """(T,), the size of h's and c's gradient together, in units of the last step's."""
    both = np.stack([found.dh, found.dc]).astype(np.float64)  # (2, T, B, H)
    sizes = np.sqrt(np.square(both).sum(axis=(0, 2, 3)))
    return np.asarray(sizes / sizes[-1] if sizes[-1] > 0 else np.ones_like(sizes))
