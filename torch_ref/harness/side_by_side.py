"""Two trainings side by side: the first window at which rounding no longer explains the difference.

The same schedule is run a few more times in the equations' own words, once without rounding and
`2 * REPLICAS` times on grids of its own, as torch_ref/compare/budget.py does for a single case.
How far the replicas have spread after n windows is how far rounding alone moves the weights.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from manual_lstm.clip import TORCH_EPS
from manual_lstm.optim import Optimizer
from manual_lstm.tasks import Text, one_hot
from manual_lstm.train import Schedule, Trained, TrainState, next_window, train_window
from torch_ref.compare.budget import REPLICAS, _spread, false_alarm_quantile
from torch_ref.compare.errors import TensorError, compare_gradients
from torch_ref.compare.rounding import EMULATED_BITS, rounding_arithmetic
from torch_ref.harness.twin_training import twin_window
from torch_ref.oracles.case import Case
from torch_ref.oracles.equations import Arithmetic, Array, solve, unrounded

Advance = Callable[[Schedule, Text, TrainState], tuple[TrainState, Trained]]
Arrays = dict[str, Array]


@dataclass(frozen=True)
class SideBySide:
    """One window of both sides.

    Attributes:
        window: its number.
        left, right: what each side made of it.
        worst: of the loss, the weights and the states after the window, that which uses most of
            what rounding explains.
        parted: whether it uses more than that.
        conclusive: whether the window can be judged: from where a gate's argument is uncertain by
            one or more, rounding alone decides what comes out.
    """

    window: int
    left: Trained
    right: Trained
    worst: TensorError
    parted: bool
    conclusive: bool


def compare_training(
    schedule: Schedule,
    text: Text,
    state: TrainState,
    windows: int,
    *,
    left: Advance = train_window,
    right: Advance = twin_window,
    seed: int = 0,
) -> Iterator[SideBySide]:
    """Run two sides from one state and compare them after each window.

    Args:
        windows: at most so many; it ends before, with the window at which the sides part or that
            cannot be judged.
        left, right: train_window and the twin's, or others of their form.
        seed: of the replicas' grids.

    Raises:
        TrainingDiverged: on either side.
        ValueError: the text or the state do not go with the schedule.
    """
    dtype = np.dtype(state.h.dtype)
    bits = EMULATED_BITS[dtype]
    replicas = 2 * REPLICAS
    rounding = rounding_arithmetic(bits, replicas, np.random.default_rng(seed))
    scale = np.sqrt(2) * false_alarm_quantile() * 2.0 ** (bits - 1) * float(np.finfo(dtype).eps)
    exactly, rounded = _Run(state, 1), _Run(state, replicas)
    states = [state, state]
    for _ in range(windows):
        indices, targets, _, _ = next_window(schedule, text, states[0])
        x = one_hot(indices, schedule.model.num_classes, np.float64)
        exact = exactly.advance(schedule, x, targets, unrounded(np.float64))
        spread = rounded.advance(schedule, x, targets, rounding)
        allowed = {
            name: scale * _spread(spread[name] - value) + float(np.finfo(dtype).tiny)
            for name, value in exact.items()
        }
        # One side's uncertainty, as in error_budget.
        conclusive = bool(allowed.pop("z").max() / np.sqrt(2) < 1)
        (states[0], first), (states[1], second) = (
            side(schedule, text, each) for side, each in zip((left, right), states, strict=True)
        )
        found = compare_gradients(
            _results(states[0], first),
            _results(states[1], second),
            allowed,
        )
        worst = max(found.tensors, key=lambda tensor: tensor.used)
        parted = conclusive and found.verdict == "disagree"
        yield SideBySide(first.window, first, second, worst, parted, conclusive)
        if parted or not conclusive:
            return


def _results(state: TrainState, trained: Trained) -> dict[str, Any]:
    loss = np.asarray(trained.loss, state.h.dtype)
    return {"loss": loss, **state.params, "h": state.h, "c": state.c}


class _Run:
    """N copies of a training in a given arithmetic: every array has an axis N in front."""

    def __init__(self, state: TrainState, copies: int) -> None:
        def spread(array: Any) -> Array:
            return np.repeat(np.asarray(array, np.float64)[None], copies, axis=0)

        self.copies, self.steps = copies, state.optimizer.steps
        self.params = {name: spread(value) for name, value in state.params.items()}
        self.first = {name: spread(value) for name, value in state.optimizer.first.items()}
        self.second = {name: spread(value) for name, value in state.optimizer.second.items()}
        self.h, self.c = spread(state.h), spread(state.c)  # (N, L, B, H)

    def advance(self, schedule: Schedule, x: Array, targets: Array, a: Arithmetic) -> Arrays:
        """One window; the loss, weights and states after it, and z, (N, ...) each."""

        def wide(array: Array) -> Array:
            return np.repeat(array[:, None], self.copies, axis=1)

        h0, c0 = np.moveaxis(self.h, 0, 1), np.moveaxis(self.c, 0, 1)  # (L, N, B, H)
        zero = np.zeros_like(h0)
        case = Case(self.params, wide(x), h0, c0, zero, zero, targets=wide(targets))
        found = solve(case, a)
        gradients = {name: found["d" + name] for name in self.params}
        gradients = _clip(schedule, gradients, a)
        self.steps += 1
        self.params = {
            name: a.rnd(self.params[name] - self._change(name, g, schedule.optimizer, a))
            for name, g in gradients.items()
        }
        if schedule.carry_state:
            self.h, self.c = found["h_n"], found["c_n"]
        loss, z = found["loss"], found["z"]
        return {"loss": loss, **self.params, "h": self.h, "c": self.c, "z": z}

    def _change(self, name: str, g: Array, settings: Optimizer, a: Arithmetic) -> Array:
        """What the optimiser takes off a weight, every operation rounded."""
        rate, beta, steps = settings.learning_rate, settings.beta, self.steps
        if settings.method == "momentum":
            previous = self.first.get(name)
            v = g if previous is None else a.rnd(a.rnd(settings.momentum * previous) + g)
            self.first[name] = v
            return a.rnd(rate * v)
        if settings.method == "average":
            self.first[name] = m = _average(self.first.get(name), g, beta, a)
            return a.rnd(rate / (1 - beta**steps if settings.bias_correction else 1) * m)
        square = a.rnd(g * g)
        if settings.method == "rmsprop":
            self.second[name] = s = _average(self.second.get(name), square, beta, a)
            root = a.rnd(a.rnd(np.sqrt(s)) + settings.eps)
            return a.rnd(rate * a.rnd(g / root))
        self.first[name] = m = _average(self.first.get(name), g, beta, a)
        self.second[name] = s = _average(self.second.get(name), square, settings.beta2, a)
        corrected = a.rnd(a.rnd(np.sqrt(s)) / np.sqrt(1 - settings.beta2**steps))
        root = a.rnd(corrected + settings.eps)
        return a.rnd(rate / (1 - beta**steps) * a.rnd(m / root))


def _average(previous: Array | None, value: Array, beta: float, a: Arithmetic) -> Array:
    new = a.rnd((1 - beta) * value)
    return new if previous is None else a.rnd(new + a.rnd(beta * previous))


def _clip(schedule: Schedule, gradients: Arrays, a: Arithmetic) -> Arrays:
    if schedule.clip_value is not None:
        limit = schedule.clip_value
        return {name: np.clip(g, -limit, limit) for name, g in gradients.items()}
    if schedule.clip_norm is None:
        return gradients
    copies = len(next(iter(gradients.values())))
    squares = sum(np.square(g).reshape(copies, -1).sum(axis=1) for g in gradients.values())
    norm = a.rnd(np.sqrt(np.asarray(squares))[:, None])  # (N, 1)
    factor = a.rnd(np.minimum(1.0, schedule.clip_norm / (norm + TORCH_EPS)))
    return {
        name: a.rnd(g * factor.reshape(copies, *[1] * (g.ndim - 1)))
        for name, g in gradients.items()
    }
