"""Truncated back-propagation through time: one optimiser step for each window of a text."""

import math
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray

from manual_lstm.arrays import FloatArray, Gradients, check_count
from manual_lstm.clip import clip_grad_norm, clip_grad_value, global_norm
from manual_lstm.model import CharModel
from manual_lstm.optim import Optimizer, OptimizerState
from manual_lstm.params import GATES
from manual_lstm.tasks import Text, one_hot, window

Ending = Literal["finished", "interrupted"]


@dataclass(frozen=True)
class Schedule:
    """What is trained, and how.

    Attributes:
        model: the stack and its head.
        optimizer: and its settings.
        steps: T, the steps of a window: how far back a gradient reaches.
        batch: B, the sequences side by side.
        carry_state: start a window with the h and c that the one before ended with; otherwise
            with zero.
        random_start: each window starts anywhere in the text; otherwise where the last one ended.
        clip_norm, clip_value: the limits of (28) and (29); None does not clip.

    Raises:
        ValueError: a size below 1, a limit not above 0, both limits, or a state that would be
            carried to a window that starts somewhere else.
    """

    model: CharModel
    optimizer: Optimizer = field(default_factory=Optimizer)
    steps: int = 26
    batch: int = 1
    carry_state: bool = True
    random_start: bool = False
    clip_norm: float | None = None
    clip_value: float | None = None

    def __post_init__(self) -> None:
        check_count("steps", self.steps)
        check_count("batch", self.batch)
        for name in ("clip_norm", "clip_value"):
            limit = getattr(self, name)
            if limit is not None and not limit > 0:
                raise ValueError(f"{name} is {limit} but must be greater than 0.")
        if self.clip_norm is not None and self.clip_value is not None:
            raise ValueError("clip_norm and clip_value are both given but must not be: choose one.")
        if self.carry_state and self.random_start:
            raise ValueError(
                "carry_state and random_start are both given but must not be: a state belongs to "
                "the text that follows it."
            )


@dataclass(frozen=True)
class TrainState:
    """Everything that the next window depends on.

    Attributes:
        params: the weights.
        optimizer: what the optimiser remembers.
        h, c: (L, B, H), the states that the last window ended with, or zero.
        position: in the text, where the next window starts.
        windows: how many have been trained on.
        random: the random generator's state, as NumPy's bit generators give and take it.
    """

    params: Mapping[str, FloatArray]
    optimizer: OptimizerState
    h: FloatArray
    c: FloatArray
    position: int
    windows: int
    random: Mapping[str, Any]


@dataclass(frozen=True)
class Trained:
    """What one window gave.

    Attributes:
        window: its number, 1 is the first.
        loss: the mean cross-entropy in nats, before the step.
        norm: of all weights' gradients together, before clipping.
    """

    window: int
    loss: float
    norm: float

    @property
    def perplexity(self) -> float:
        """e^loss: among how many equally likely symbols the model hesitates."""
        return math.exp(self.loss) if self.loss < math.log(np.finfo(float).max) else math.inf


class TrainingDiverged(ValueError):
    """A loss, a gradient or a weight is NaN or infinite."""


def start(
    schedule: Schedule,
    *,
    dtype: DTypeLike = np.float32,
    seed: int = 0,
    forget_bias: float | None = None,
) -> TrainState:
    """The state before the first window.

    Args:
        dtype: float32 or float64.
        seed: of the first weights and of random starts, at least 0.
        forget_bias: as for `init_params`.

    Raises:
        ValueError: another dtype, or a seed below 0.
    """
    if isinstance(seed, bool) or seed < 0:
        raise ValueError(f"seed is {seed} but must be a whole number of at least 0.")
    rng = np.random.default_rng(seed)
    model = schedule.model
    params = model.init_params(dtype=dtype, rng=rng, forget_bias=forget_bias)
    zero = np.zeros((model.num_layers, schedule.batch, model.hidden_size), dtype)
    return TrainState(params, OptimizerState(), zero, zero, 0, 0, rng.bit_generator.state)


def next_window(
    schedule: Schedule, text: Text, state: TrainState
) -> tuple[NDArray[np.int64], NDArray[np.int64], int, Mapping[str, Any]]:
    """The window that a state leads to.

    Returns:
        indices and targets (T, B), where the window after it starts, and the random generator's
        state after it.

    Raises:
        ValueError: the text has other than V symbols.
    """
    if len(text.symbols) != schedule.model.num_classes:
        raise ValueError(
            f"text has {len(text.symbols)} symbols but must have {schedule.model.num_classes}, "
            "as many as the model has classes."
        )
    position, random = state.position, state.random
    if schedule.random_start:
        rng = generator(random)
        position = int(rng.integers(len(text.indices)))
        random = rng.bit_generator.state
    indices, targets = window(text, schedule.steps, schedule.batch, position)
    return indices, targets, (position + schedule.steps) % len(text.indices), random


def generator(random: Mapping[str, Any]) -> np.random.Generator:
    """A random generator in the state that a `TrainState` holds."""
    bits: Any = np.random.PCG64()
    bits.state = dict(random)
    return np.random.Generator(bits)


def train_window(schedule: Schedule, text: Text, state: TrainState) -> tuple[TrainState, Trained]:
    """One window forward and backward, clipping, and one step of the optimiser.

    Args:
        state: of `start`, of the window before, or of a checkpoint. It is not changed.

    Returns:
        The state after the window, and its loss.

    Raises:
        TrainingDiverged: the loss, a gradient or a weight is NaN or infinite.
        ValueError: the text or the state do not go with the schedule.
    """
    indices, targets, position, random = next_window(schedule, text, state)
    number = state.windows + 1
    x = one_hot(indices, schedule.model.num_classes, state.h.dtype)
    # What overflows is found below, where the window and the gate are known.
    with np.errstate(over="ignore", invalid="ignore"):
        try:
            (loss, h, c), pullback = schedule.model.vjp(state.params, x, targets, state.h, state.c)
            every = pullback(1.0, None, None)
        except ValueError as error:
            raise TrainingDiverged(f"window {number} cannot be computed: {error}") from None
        gradients = {"d" + name: every["d" + name] for name in state.params}
        clipped, norm = clip(schedule, gradients)
        check_finite_window(number, loss, gradients, norm)
        params, optimizer = schedule.optimizer.step(state.params, clipped, state.optimizer)
    check_finite_weights(number, params)
    after = after_window(schedule, state, params, optimizer, (h, c), position, random)
    return after, Trained(number, loss, norm)


def clip(schedule: Schedule, gradients: Gradients) -> tuple[Gradients, float]:
    """The gradients clipped as the schedule says, and their joint norm before that."""
    if schedule.clip_norm is not None:
        return clip_grad_norm(gradients, schedule.clip_norm)
    norm = global_norm(gradients)
    if schedule.clip_value is not None:
        return clip_grad_value(gradients, schedule.clip_value), norm
    return gradients, norm


def after_window(
    schedule: Schedule,
    state: TrainState,
    params: Mapping[str, FloatArray],
    optimizer: OptimizerState,
    last: tuple[FloatArray, FloatArray],
    position: int,
    random: Mapping[str, Any],
) -> TrainState:
    """The state after a window whose last h and c are `last`: they are carried or dropped."""
    h, c = last if schedule.carry_state else (np.zeros_like(state.h), np.zeros_like(state.c))
    return TrainState(params, optimizer, h, c, position, state.windows + 1, random)


def check_finite_window(
    number: int, loss: float, gradients: Mapping[str, FloatArray], norm: float
) -> None:
    """TrainingDiverged, with the gate, if a window's loss or a gradient is NaN or infinite."""
    if not math.isfinite(loss):
        raise TrainingDiverged(f"window {number}: the loss is {loss}.")
    if not math.isfinite(norm):
        raise TrainingDiverged(f"window {number}: {_first_bad(gradients)}.")


def check_finite_weights(number: int, params: Mapping[str, FloatArray]) -> None:
    """TrainingDiverged, with the gate, if the optimiser made a weight NaN or infinite."""
    # A finite sum means that every element is finite.
    with np.errstate(over="ignore", invalid="ignore"):
        if all(np.isfinite(w.sum()) for w in params.values()):
            return
    if not all(np.isfinite(w).all() for w in params.values()):
        raise TrainingDiverged(
            f"window {number}: after the optimiser's step {_first_bad(params)}; try a smaller "
            "learning rate or clipping."
        )


def _first_bad(arrays: Mapping[str, FloatArray]) -> str:
    """The first element that is not finite, in words, from the top of the stack down."""
    for name in reversed(list(arrays)):
        bad = np.argwhere(~np.isfinite(arrays[name]))
        if len(bad):
            index = tuple(int(k) for k in bad[0])
            where = f"{name}[{', '.join(map(str, index))}] is {arrays[name][index]}"
            rest = f"{len(bad)} of {arrays[name].size} are not finite"
            if name.endswith("_out"):
                return f"the output layer's {where} ({rest})"
            hidden = len(arrays[name]) // 4
            gates = [GATES[k] for k in sorted({int(row) // hidden for row in bad[:, 0]})]
            layer = name.rsplit("_l", 1)[1]
            word = "gate" if len(gates) == 1 else "gates"
            return f"in layer {layer}, {word} {', '.join(gates)}, {where} ({rest})"
    return "the gradients' norm overflows, though every gradient is finite"


def train(
    schedule: Schedule,
    text: Text,
    state: TrainState,
    windows: int,
    *,
    each: Callable[[TrainState, Trained], None] | None = None,
    save: Callable[[TrainState], None] | None = None,
    save_every: int = 0,
    advance: Callable[[Schedule, Text, TrainState], tuple[TrainState, Trained]] = train_window,
) -> tuple[TrainState, Ending]:
    """Windows, one after the other, until `state.windows` reaches `windows` or Ctrl-C.

    Args:
        windows: at which count to end; the state of a checkpoint counts its own.
        each: called after every window.
        save: called at the start, after every `save_every` windows, at the end, and at Ctrl-C,
            which is looked at between two windows. A second Ctrl-C stops at once.
        save_every: 0 saves at the start and the end alone.
        advance: what makes one window of a state; the twin has its own.

    Returns:
        The last state, and how it ended.

    Raises:
        TrainingDiverged: the loss, a gradient or a weight is NaN or infinite. What was saved
            last is the last good state.
        ValueError: as `train_window`.
    """
    check_count("windows", windows)
    saved = -1

    def keep() -> None:
        nonlocal saved
        if save is not None and saved != state.windows:
            save(state)
            saved = state.windows

    keep()
    with _interruptible() as interrupted:
        while state.windows < windows and not interrupted():
            try:
                state, trained = advance(schedule, text, state)
            except TrainingDiverged as error:
                good = f" The last good checkpoint is that of window {saved}." if save else ""
                raise TrainingDiverged(f"{error}{good}") from None
            if each is not None:
                each(state, trained)
            if save_every and state.windows % save_every == 0:
                keep()
        keep()
        return state, "finished" if state.windows >= windows else "interrupted"


@contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C was pressed, in place of a KeyboardInterrupt in the middle of something."""
    pressed = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield pressed.is_set  # only the main thread may set a handler
        return

    def press(*_: object) -> None:
        if pressed.is_set():
            raise KeyboardInterrupt
        pressed.set()

    before = signal.signal(signal.SIGINT, press)
    try:
        yield pressed.is_set
    finally:
        signal.signal(signal.SIGINT, before)
