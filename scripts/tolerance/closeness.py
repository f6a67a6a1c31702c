"""Closeness: manual_lstm's distance from the exact values beside torch.nn.LSTM's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tolerance.draw import GROUP, Sizes, draw_plain
from torch_ref import run_case, torch_lstm_vjp, truth
from torch_ref.compare.diff import run_manual


@dataclass(frozen=True)
class Ratios:
    """manual_lstm's error / torch.nn.LSTM's, a case's error being the greatest of its tensors'.

    A tensor's error is max |actual - exact| / max |exact|.
    """

    dtype: str
    cases: int
    manual_median: float
    torch_median: float
    ratio_median: float
    ratio_99_percent: float


def measure_group(task: tuple[int, str]) -> tuple[str, list[tuple[float, float]]]:
    """The two errors for each case of a group."""
    seed, dtype = task
    rng = np.random.default_rng([seed, 3])
    steps, batch, inputs, hidden = (int(rng.integers(1, limit + 1)) for limit in (50, 4, 16, 16))
    sizes = Sizes(steps, batch, inputs, hidden, layers=int(rng.integers(1, 3)), head=None)
    errors = []
    for n in range(GROUP):
        case = draw_plain(sizes, dtype, seed * GROUP + n, (0.5, 2.0))
        exact = truth(case)
        errors.append(
            (
                greatest_error(run_manual(case), exact),
                greatest_error(run_case(case, torch_lstm_vjp), exact),
            )
        )
    return dtype, errors


def total(found: Sequence[tuple[str, list[tuple[float, float]]]]) -> list[Ratios]:
    """One line for each dtype."""
    lines = []
    for dtype in sorted({each for each, _ in found}):
        pairs = np.array([pair for each, pairs in found if each == dtype for pair in pairs])
        ratios = pairs[:, 0] / pairs[:, 1]
        lines.append(
            Ratios(
                dtype,
                len(pairs),
                *(float(each) for each in np.median(pairs, axis=0)),
                float(np.median(ratios)),
                float(np.quantile(ratios, 0.99)),
            )
        )
    return lines


def greatest_error(actual: Mapping[str, Any], exact: Mapping[str, Any]) -> float:
    """The greatest max |actual - exact| / max |exact| of the exact tensors."""
    return max(
        float(np.max(np.abs(actual[name] - value)) / np.max(np.abs(value)))
        for name, value in exact.items()
        if np.any(value)
    )
