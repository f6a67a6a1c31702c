"""Optimisers, as plain functions: momentum, exponential average, RMSProp and Adam.

Each is step(params, gradients, state, settings...) -> (params, state). Nothing is changed in
place: new arrays come back, so that the state before a step stays whole whatever happens in it.
The state of the first step is `OptimizerState()`.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from manual_lstm.arrays import FloatArray, Params, check_number

Updated = tuple[dict[str, FloatArray], "OptimizerState"]
Method = Literal["momentum", "average", "rmsprop", "adam"]
METHODS: tuple[Method, ...] = ("momentum", "average", "rmsprop", "adam")


@dataclass(frozen=True)
class OptimizerState:
    """What an optimiser remembers.

    Attributes:
        steps: how many it has made.
        first: the momentum, or the average of the gradients, under the parameters' names.
        second: the average of the squared gradients. Both are empty where there is none.
    """

    steps: int = 0
    first: Mapping[str, FloatArray] = field(default_factory=dict)
    second: Mapping[str, FloatArray] = field(default_factory=dict)


def momentum_step(
    params: Params,
    gradients: Mapping[str, FloatArray],
    state: OptimizerState,
    *,
    learning_rate: float,
    momentum: float = 0.2,
) -> Updated:
    """Classical momentum: v = g + momentum * v_previous, then w = w - learning_rate * v.

    torch.optim.SGD(lr, momentum) with neither dampening nor Nesterov. A momentum of 0 is plain
    gradient descent.

    Args:
        params: name to array. gradients: under "d" + name; others are left alone.
        state: `OptimizerState()`, or what the step before returned.
        learning_rate, momentum: numbers; momentum in [0, 1).

    Returns:
        The new params and state; nothing that was given is changed.

    Raises:
        ValueError: a gradient that is missing, of another shape or dtype, or a setting out of
            range.
    """
    rate, momentum = _check(params, gradients, learning_rate, momentum=momentum)
    new, first = {}, {}
    for name, w in params.items():
        v = gradients["d" + name]
        v = momentum * state.first[name] + v if state.first else v.copy()
        first[name] = v
        new[name] = w - rate * v
    return new, OptimizerState(state.steps + 1, first)


def average_step(
    params: Params,
    gradients: Mapping[str, FloatArray],
    state: OptimizerState,
    *,
    learning_rate: float,
    beta: float = 0.9,
    bias_correction: bool = False,
) -> Updated:
    """Exponential average: m = (1-beta) g + beta m_previous, then w = w - learning_rate * m.

    Args:
        params, gradients, state: as for `momentum_step`.
        learning_rate: a number. beta: in [0, 1).
        bias_correction: divide m by 1 - beta^t, t = 1 at the first step, so that the first
            averages are not drawn to the zero that they start from.

    Returns:
        As `momentum_step`.

    Raises:
        ValueError: as `momentum_step`.
    """
    rate, beta = _check(params, gradients, learning_rate, beta=beta)
    steps = state.steps + 1
    if bias_correction:
        rate /= 1 - beta**steps
    new, first = {}, {}
    for name, w in params.items():
        first[name] = _average(gradients["d" + name], state.first.get(name), beta)
        new[name] = w - rate * first[name]
    return new, OptimizerState(steps, first)


def rmsprop_step(
    params: Params,
    gradients: Mapping[str, FloatArray],
    state: OptimizerState,
    *,
    learning_rate: float,
    beta: float = 0.99,
    eps: float = 1e-8,
) -> Updated:
    """RMSProp: s = (1-beta) g^2 + beta s_previous, then w = w - learning_rate g / (sqrt(s) + eps).

    torch.optim.RMSprop(lr, alpha=beta, eps), neither centred nor with momentum.

    Args:
        params, gradients, state: as for `momentum_step`.
        learning_rate: a number. beta: in [0, 1). eps: at least 0.

    Returns:
        As `momentum_step`.

    Raises:
        ValueError: as `momentum_step`.
    """
    rate, beta, eps = _check(params, gradients, learning_rate, beta=beta, eps=eps)
    new, second = {}, {}
    for name, w in params.items():
        g = gradients["d" + name]
        second[name] = s = _average(g * g, state.second.get(name), beta)
        new[name] = w - rate * (g / (np.sqrt(s) + eps))
    return new, OptimizerState(state.steps + 1, {}, second)


def adam_step(
    params: Params,
    gradients: Mapping[str, FloatArray],
    state: OptimizerState,
    *,
    learning_rate: float,
    beta: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
) -> Updated:
    """Adam: w = w - learning_rate m / (sqrt(s) + eps), m the average of g and s that of g^2.

    Both are bias-corrected, divided by 1 - beta^t. torch.optim.Adam(lr, (beta, beta2), eps).

    Args:
        params, gradients, state: as for `momentum_step`.
        learning_rate: a number. beta, beta2: in [0, 1). eps: at least 0.

    Returns:
        As `momentum_step`.

    Raises:
        ValueError: as `momentum_step`.
    """
    rate, beta, beta2, eps = _check(
        params, gradients, learning_rate, beta=beta, beta2=beta2, eps=eps
    )
    steps = state.steps + 1
    rate /= 1 - beta**steps
    root = math.sqrt(1 - beta2**steps)
    new, first, second = {}, {}, {}
    for name, w in params.items():
        g = gradients["d" + name]
        first[name] = m = _average(g, state.first.get(name), beta)
        second[name] = s = _average(g * g, state.second.get(name), beta2)
        new[name] = w - rate * (m / (np.sqrt(s) / root + eps))
    return new, OptimizerState(steps, first, second)


@dataclass(frozen=True)
class Optimizer:
    """Which of them, and its settings; those that a method does not have are of no effect.

    Attributes:
        method: "momentum", "average", "rmsprop" or "adam".
        learning_rate: a number of at least 0.
        momentum: of "momentum".
        beta: of "average" and "adam" the averages' factor, of "rmsprop" that of the squares.
        beta2: of "adam", the squares' factor.
        bias_correction: of "average".
        eps: of "rmsprop" and "adam".

    Raises:
        ValueError: another method, or a setting out of range.
    """

    method: Method = "adam"
    learning_rate: float = 0.01
    momentum: float = 0.2
    beta: float = 0.9
    beta2: float = 0.999
    bias_correction: bool = False
    eps: float = 1e-8

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(
                f"method is {self.method!r} but must be one of {', '.join(map(repr, METHODS))}."
            )
        names = ("momentum", "beta", "beta2", "eps")
        _check({}, {}, self.learning_rate, **{name: getattr(self, name) for name in names})

    def step(
        self, params: Params, gradients: Mapping[str, FloatArray], state: OptimizerState
    ) -> Updated:
        """One step of the method; see its function."""
        function, names = _STEPS[self.method]
        return function(params, gradients, state, **{name: getattr(self, name) for name in names})


_STEPS: dict[Method, tuple[Callable[..., Updated], tuple[str, ...]]] = {
    "momentum": (momentum_step, ("learning_rate", "momentum")),
    "average": (average_step, ("learning_rate", "beta", "bias_correction")),
    "rmsprop": (rmsprop_step, ("learning_rate", "beta", "eps")),
    "adam": (adam_step, ("learning_rate", "beta", "beta2", "eps")),
}


def averaging_window(beta: float) -> float:
    """Over how many steps an exponential average reaches, 1 / (1 - beta).

    Raises:
        ValueError: beta not in [0, 1).
    """
    _check_factor("beta", beta)
    return 1 / (1 - beta)


def weight_at_window(beta: float) -> float:
    """What a gradient still weighs after the averaging window: beta^(1/(1-beta)) / beta.

    That is in units of the newest gradient's weight. It falls to 1/e as beta nears 1 and is 0.387
    at 0.9.

    Raises:
        ValueError: beta not in (0, 1).
    """
    _check_factor("beta", beta)
    if beta == 0:
        raise ValueError("beta is 0 but must be greater: without an average there is no window.")
    return float(beta ** (averaging_window(beta) - 1))


def _average(value: FloatArray, previous: FloatArray | None, beta: float) -> FloatArray:
    new = (1 - beta) * value
    return new if previous is None else new + beta * previous


def _check(
    params: Params, gradients: Mapping[str, FloatArray], learning_rate: float, **settings: float
) -> list[float]:
    """The settings as Python's floats, which do not widen float32 arrays, in their order."""
    for name, value in {"learning_rate": learning_rate, **settings}.items():
        if name not in ("learning_rate", "eps"):
            _check_factor(name, value)
        elif check_number(name, value) < 0:
            raise ValueError(f"{name} is {value} but must be at least 0.")
    for name, w in params.items():
        if "d" + name not in gradients:
            raise ValueError(f"gradients has no d{name}, the gradient of {name}.")
        d = gradients["d" + name]
        if (d.shape, d.dtype) != (w.shape, w.dtype):
            raise ValueError(
                f"d{name} is {d.dtype} of shape {d.shape} but must be as {name}: {w.dtype} of "
                f"shape {w.shape}."
            )
    return [float(learning_rate), *map(float, settings.values())]


def _check_factor(name: str, value: Any) -> None:
    if not 0 <= check_number(name, value) < 1:
        raise ValueError(f"{name} is {value} but must be at least 0 and less than 1.")
