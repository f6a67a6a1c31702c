"""The twin trains too: one window by autograd and torch.optim, in train_window's form."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from manual_lstm.optim import OptimizerState
from manual_lstm.tasks import Text, one_hot
from manual_lstm.train import (
    Schedule,
    Trained,
    TrainingDiverged,
    TrainState,
    after_window,
    check_finite_weights,
    check_finite_window,
    next_window,
)
from torch_ref.oracles.twin import autograd_model_vjp

# What torch.optim calls the two memories of `OptimizerState`.
_FIRST = {"momentum": "momentum_buffer", "adam": "exp_avg"}
_SECOND = {"rmsprop": "square_avg", "adam": "exp_avg_sq"}


def twin_window(schedule: Schedule, text: Text, state: TrainState) -> tuple[TrainState, Trained]:
    """`manual_lstm.train.train_window` by torch: autograd, torch's clipping, torch.optim.

    The state is the same, so either side goes on from the other's checkpoint. torch.optim has no
    exponential average of the gradients; that is three torch operations here.

    Raises:
        TrainingDiverged: the loss, a gradient or a weight is NaN or infinite.
        ValueError: the text or the state do not go with the schedule.
    """
    number = state.windows + 1
    indices, targets, position, random = next_window(schedule, text, state)
    x = one_hot(indices, schedule.model.num_classes, state.h.dtype)
    try:
        (loss, h, c), pullback = autograd_model_vjp(state.params, x, targets, state.h, state.c)
        every = pullback(1.0)
    except ValueError as error:
        raise TrainingDiverged(f"window {number} cannot be computed: {error}") from None
    leaves = {name: _copy(value).requires_grad_() for name, value in state.params.items()}
    for name, leaf in leaves.items():
        leaf.grad = _copy(every["d" + name])
    gradients = {"d" + name: every["d" + name] for name in leaves}
    norm = _clip(schedule, list(leaves.values()))
    check_finite_window(number, loss, gradients, norm)
    optimizer = _step(schedule, leaves, state.optimizer)
    params = {name: leaf.detach().numpy() for name, leaf in leaves.items()}
    check_finite_weights(number, params)
    after = after_window(schedule, state, params, optimizer, (h, c), position, random)
    return after, Trained(number, loss, norm)


def _copy(array: Any) -> Tensor:
    return torch.from_numpy(np.array(array))


def _clip(schedule: Schedule, leaves: list[Tensor]) -> float:
    """Clip in place; the norm before it."""
    limit = torch.inf if schedule.clip_norm is None else schedule.clip_norm
    norm = float(torch.nn.utils.clip_grad_norm_(leaves, limit))
    if schedule.clip_value is not None:
        torch.nn.utils.clip_grad_value_(leaves, schedule.clip_value)
    return norm


def _step(schedule: Schedule, leaves: dict[str, Tensor], state: OptimizerState) -> OptimizerState:
    """One step of torch.optim from a given memory; the leaves change in place."""
    settings = schedule.optimizer
    rate, method = settings.learning_rate, settings.method
    if method == "average":
        return _average_step(schedule, leaves, state)
    optimizer: torch.optim.Optimizer
    if method == "momentum":
        optimizer = torch.optim.SGD(leaves.values(), rate, settings.momentum)
    elif method == "rmsprop":
        optimizer = torch.optim.RMSprop(leaves.values(), rate, settings.beta, settings.eps)
    else:
        betas = (settings.beta, settings.beta2)
        optimizer = torch.optim.Adam(leaves.values(), rate, betas, settings.eps)
    if state.steps:
        for name, leaf in leaves.items():
            memory = optimizer.state[leaf]
            memory["step"] = torch.tensor(float(state.steps))
            if state.first:
                memory[_FIRST[method]] = _copy(state.first[name])
            if state.second:
                memory[_SECOND[method]] = _copy(state.second[name])
    optimizer.step()

    def memories(names: dict[Any, str]) -> dict[str, Any]:
        key = names.get(method)
        kept = {name: optimizer.state[leaf].get(key) for name, leaf in leaves.items()}
        return {name: value.numpy() for name, value in kept.items() if value is not None}

    return OptimizerState(state.steps + 1, memories(_FIRST), memories(_SECOND))


@torch.no_grad()
def _average_step(
    schedule: Schedule, leaves: dict[str, Tensor], state: OptimizerState
) -> OptimizerState:
    settings, steps, first = schedule.optimizer, state.steps + 1, {}
    corrected = 1 - settings.beta**steps if settings.bias_correction else 1.0
    for name, leaf in leaves.items():
        assert leaf.grad is not None
        previous = _copy(state.first[name]) if state.first else torch.zeros_like(leaf)
        average = previous.mul_(settings.beta).add_(leaf.grad, alpha=1 - settings.beta)
        leaf.sub_(average, alpha=settings.learning_rate / corrected)
        first[name] = average.numpy()
    return OptimizerState(steps, first)
