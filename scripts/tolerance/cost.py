"""Cost: the gradient diff and all oracles beside torch's gradcheck, on one LSTM."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tolerance.draw import Sizes, draw_plain
from torch_ref import (
    Case,
    compare_gradients,
    complex_step,
    error_budget,
    run_case,
    torch_lstm_vjp,
    truth,
)
from torch_ref.compare.diff import run_manual, run_twin
from torch_ref.oracles.torch_lstm import state_dict_from_params

INPUTS, HIDDEN, STEPS, BATCH = 16, 32, 10, 4  # 6,400 parameters in torch's nn.LSTM


@dataclass(frozen=True)
class Cost:
    """Seconds for one comparison, and how many times faster than gradcheck's slow mode."""

    what: str
    seconds: float
    times_faster: float


def measure(quick: bool) -> list[Cost]:
    """Time everything in this process; the quick one has a quarter of the units."""
    hidden = HIDDEN // 4 if quick else HIDDEN
    case = draw_plain(Sizes(STEPS, BATCH, INPUTS, hidden, 1, None), np.float64, seed=0)
    expected, allowed = run_twin(case), error_budget(case, sides=2).allowed

    def diff() -> None:
        assert compare_gradients(run_manual(case), run_twin(case), allowed).verdict == "agree"

    oracles: dict[str, Callable[[], Any]] = {
        "autograd twin": lambda: run_twin(case),
        "torch.nn.LSTM": lambda: run_case(case, torch_lstm_vjp),
        "extended precision": lambda: truth(case),
        "complex step": lambda: complex_step(case),
    }
    slow = _seconds(lambda: _gradcheck(case), 1)
    seconds = {
        "torch.autograd.gradcheck, slow mode": slow,
        "diff: manual_lstm, twin, comparison": _seconds(diff, 20),
        "error budget": _seconds(lambda: error_budget(case, sides=2), 3),
    }
    seconds |= {name: _seconds(oracle, 3) for name, oracle in oracles.items()}
    seconds["all four oracles"] = sum(seconds[name] for name in oracles)
    for oracle in oracles.values():
        found = oracle()
        assert compare_gradients(found, {n: expected[n] for n in found}, allowed).verdict == "agree"
    return [Cost(name, each, slow / each) for name, each in seconds.items()]


def _gradcheck(case: Case) -> None:
    """The Jacobian of every output for every parameter, as torch itself checks a gradient."""
    module = nn.LSTM(case.x.shape[2], case.h0.shape[2], dtype=torch.float64)
    module.load_state_dict(state_dict_from_params(case.params))
    names = [name for name, _ in module.named_parameters()]
    x, h0, c0 = (torch.from_numpy(value) for value in (case.x, case.h0, case.c0))

    def outputs(*weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        replaced = dict(zip(names, weights, strict=True))
        y, (h_n, c_n) = torch.func.functional_call(module, replaced, (x, (h0, c0)))
        return y, h_n, c_n

    weights = [value.detach().clone().requires_grad_() for _, value in module.named_parameters()]
    assert torch.autograd.gradcheck(outputs, weights, fast_mode=False)


def _seconds(function: Callable[[], Any], repeats: int) -> float:
    """The shortest of several runs: what the machine's other work adds is left out."""
    shortest = float("inf")
    for _ in range(repeats):
        started = time.perf_counter()
        function()
        shortest = min(shortest, time.perf_counter() - started)
    return shortest
