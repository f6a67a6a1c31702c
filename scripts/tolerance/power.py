"""Power: which change of a single element is seen, and the smallest change that is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tolerance.draw import GROUP, Sizes, draw_plain
from torch_ref.compare.budget import error_budgets
from torch_ref.compare.diff import run_manual, run_twin
from torch_ref.compare.sharpness import least_changes

Array = NDArray[Any]
Sides = tuple[Array, Array, Array]  # actual, expected, allowed

# By which factor an element is changed, and how large it is beside its tensor's largest.
CHANGE = {"float64": 1e-9, "float32": 1e-3}
SHARE = {"float64": 1e-3, "float32": 0.1}
STEPS = (1, 2, 5, 10, 20, 50, 100, 200)
HIDDEN = (2, 8, 32)
GAINS = (1.0, 4.0)


@dataclass(frozen=True)
class Planted:
    """Single elements of gradients multiplied by 1 + change, one after the other.

    Attributes:
        cases, refused: judged, and left out as not conclusive.
        elements, missed: changed, and not seen.
        weakest: the smallest |changed - expected| / allowed; above 1 everything is seen.
    """

    dtype: str
    change: float
    share: float
    cases: int
    refused: int
    elements: int
    missed: int
    weakest: float


@dataclass(frozen=True)
class Limit:
    """The relative change of an element from which on it is seen: the median and the greatest."""

    dtype: str
    gain: float
    hidden: int
    steps: int
    conclusive: int
    median: float
    greatest: float


def measure_group(task: tuple[int, str]) -> Planted:
    """Every large enough element of every gradient of a group of cases, changed by itself."""
    seed, dtype = task
    rng = np.random.default_rng([seed, 2])
    head = [None, "linear"][int(rng.integers(2))]
    least = 1 if head is None else 2  # with one class every gradient is 0 but for rounding
    steps, batch, hidden = (int(rng.integers(1, limit + 1)) for limit in (50, 4, 16))
    sizes = Sizes(steps, batch, int(rng.integers(least, 9)), hidden, layers=1, head=head)
    elements = missed = refused = 0
    weakest = float("inf")
    for result in _diffs(sizes, dtype, seed, GROUP, gains=(0.0, 4.0)):
        if result is None:
            refused += 1
            continue
        for actual, expected, allowed in result:
            changed = actual * (1 + actual.dtype.type(CHANGE[dtype]))
            seen = np.abs(changed.astype(np.float64) - expected) / allowed
            large = np.abs(expected) >= SHARE[dtype] * np.abs(expected).max()
            elements += int(large.sum())
            missed += int(np.sum(~(seen[large] > 1)))
            weakest = min(weakest, float(seen[large].min()))
    return Planted(
        dtype, CHANGE[dtype], SHARE[dtype], GROUP - refused, refused, elements, missed, weakest
    )


def total(found: Sequence[Planted]) -> list[Planted]:
    """One line for each dtype."""
    lines = []
    for dtype in sorted({each.dtype for each in found}):
        mine = [each for each in found if each.dtype == dtype]
        counts = [
            sum(getattr(each, name) for each in mine)
            for name in ("cases", "refused", "elements", "missed")
        ]
        weakest = min(each.weakest for each in mine)
        lines.append(Planted(dtype, CHANGE[dtype], SHARE[dtype], *counts, weakest))
    return lines


def limit_tasks(seed: int, *, quick: bool) -> list[tuple[int, str, float, int, int]]:
    """What `measure_limit` is to measure: seed, dtype, gain, hidden, steps; the longest first."""
    steps, hidden = (STEPS[:4], HIDDEN[:2]) if quick else (STEPS, HIDDEN)
    return [
        (seed, dtype, gain, h, t)
        for t in reversed(steps)
        for h in reversed(hidden)
        for gain in GAINS
        for dtype in CHANGE
    ]


def measure_limit(task: tuple[int, str, float, int, int]) -> Limit:
    """The limit of detection over T and H, weights within gain times Glorot's limit."""
    seed, dtype, gain, hidden, steps = task
    sizes = Sizes(steps, batch=2, inputs=hidden, hidden=hidden, layers=1, head=None)
    limits = [np.empty(0)]
    conclusive = 0
    for result in _diffs(sizes, dtype, seed, 4, gains=(gain, gain)):
        if result is None:
            continue
        conclusive += 1
        for actual, expected, allowed in result:
            limits.append(least_changes(actual, expected, allowed, dtype))
    every = np.concatenate(limits)
    median, greatest = (
        (float(np.median(every)), float(every.max())) if len(every) else (np.nan, np.nan)
    )
    return Limit(dtype, gain, hidden, steps, conclusive, median, greatest)


def limit_order(limit: Limit) -> tuple[str, float, int, int]:
    """The order of the table."""
    return limit.dtype, limit.gain, limit.hidden, limit.steps


def plot_limits(limits: Sequence[Limit], path: str) -> None:
    """The limit of detection over T, a curve for each H, as a PNG; needs matplotlib.

    Raises:
        ValueError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ValueError("--plot needs matplotlib: pip install 'manual-lstm[plots]'.") from None
    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.subplots(1, len(CHANGE), squeeze=False)[0]
    for panel, dtype in zip(axes, CHANGE, strict=True):
        for gain in GAINS:
            for hidden in HIDDEN:
                line = [e for e in limits if (e.dtype, e.gain, e.hidden) == (dtype, gain, hidden)]
                style = "-" if gain == GAINS[0] else "--"
                label = f"H={hidden}, {gain:g} x Glorot"
                panel.plot([e.steps for e in line], [e.greatest for e in line], style, label=label)
        title = f"{dtype}: every element >= {SHARE[dtype]:g} of the largest"
        panel.set(xscale="log", yscale="log", title=title, xlabel="T")
        panel.set_ylabel("relative change that is seen")
        panel.axhline(CHANGE[dtype], color="grey", linewidth=0.8)
    axes[-1].legend(fontsize=7)
    figure.savefig(path, dpi=150)


def _diffs(
    sizes: Sizes, dtype: str, seed: int, count: int, *, gains: tuple[float, float]
) -> list[list[Sides] | None]:
    """For each case its gradients that are not all zero; None if it is not conclusive.

    As `diff_gradients` compares them: in float64 both sides round, float32 meets a float64 twin.
    """
    cases = [draw_plain(sizes, dtype, seed * GROUP + n, gains) for n in range(count)]
    budgets = error_budgets(cases, sides=2 if dtype == "float64" else 1)
    found: list[list[Sides] | None] = []
    for case, budget in zip(cases, budgets, strict=True):
        if not budget.conclusive:
            found.append(None)
            continue
        actual, expected = run_manual(case), run_twin(case.astype(np.float64))
        found.append(
            [
                (np.asarray(actual[name]), np.asarray(expected[name]), allowed)
                for name, allowed in budget.allowed.items()
                if name.startswith("d") and np.any(expected[name])
            ]
        )
    return found
