"""What the tools cost: `diff` in passes of nn.LSTM, `check` per example, and imports."""

import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from tempfile import TemporaryDirectory

import numpy as np

from bench.sides import TORCH, Sizes, by_nn_lstm, work_of
from bench.timing import take_turns
from manual_lstm import vjp
from torch_ref import Case, check_implementation
from torch_ref.compare.diff import diff_gradients, run_manual, run_twin

DIFF_AT = Sizes(50, 32, 64, 128)


@dataclass(frozen=True)
class DiffCost:
    """In units of one forward and backward of nn.LSTM, at `DIFF_AT`.

    Attributes:
        both_sides: manual_lstm and its twin.
        whole: with the comparison and the error budget.
        torch_seconds: the unit.
    """

    dtype: str
    both_sides: float
    whole: float
    torch_seconds: float


def diff_cost(dtype: str, rounds: int) -> DiffCost:
    """The whole of what `manual-lstm diff` computes."""
    work = work_of(DIFF_AT, dtype)
    state = np.zeros((1, DIFF_AT.batch, DIFF_AT.hidden), dtype)
    case = Case(work.params, work.x, state, state, state, state, dy=work.dy)
    wide = case.astype(np.float64)

    def both_sides() -> None:
        run_manual(case)
        run_twin(wide)

    def whole() -> None:
        assert diff_gradients(case).verdict == "agree"

    sides = {TORCH: by_nn_lstm(work), "both sides": both_sides, "whole": whole}
    timing = take_turns(sides, rounds)
    ratios = timing.ratios
    return DiffCost(dtype, ratios["both sides"], ratios["whole"], timing.seconds[TORCH])


def check_cost(examples: int) -> float:
    """Seconds per example of a whole `check` of manual_lstm."""
    began = time.perf_counter()
    assert check_implementation(vjp, examples=examples).verdict == "agree"
    return (time.perf_counter() - began) / examples


def import_cost(rounds: int) -> float:
    """The time of `import manual_lstm` in a fresh interpreter, over that of `import numpy`.

    Both as they are once installed: compiled by the import before.
    """
    names = ("numpy", "manual_lstm")
    with TemporaryDirectory() as folder:
        compiled = {**os.environ, "PYTHONPYCACHEPREFIX": folder}
        compiled.pop("PYTHONDONTWRITEBYTECODE", None)
        for name in names:
            _fresh(name, compiled)
        ratios = []
        for _ in range(rounds):
            alone, ours = (_fresh(name, compiled) for name in names)
            ratios.append(ours / alone)
    return statistics.median(ratios)


def _fresh(module: str, environment: dict[str, str]) -> float:
    code = (
        "import time; began = time.perf_counter(); "
        f"import {module}; print(time.perf_counter() - began)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment
    )
    return float(done.stdout)
