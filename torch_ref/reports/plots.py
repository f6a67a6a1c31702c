"""Plots, with matplotlib: the optional extra `plots`."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from manual_lstm.monitor import GateSizes
from manual_lstm.params import GATES
from manual_lstm.plateau import Level
from manual_lstm.train import Trained
from torch_ref.reports.files import write_whole


def require_matplotlib() -> None:
    """ValueError with what to install where matplotlib is missing."""
    try:
        import matplotlib as _  # noqa: F401
    except ImportError:
        raise ValueError(
            "a plot needs matplotlib, which is not installed: pip install 'manual-lstm[plots]'."
        ) from None


def plot_history(history: Sequence[Trained], levels: Sequence[Level], path: str | Path) -> None:
    """Loss against windows, with the levels as lines; see `plot_losses`."""
    losses = np.array([entry.loss for entry in history])
    windows = np.array([entry.window for entry in history])
    plot_losses({"loss": (windows, losses)}, levels, path)


def plot_losses(
    curves: Mapping[str, tuple[Any, Any]],
    levels: Sequence[Level],
    path: str | Path,
    *,
    title: str = "",
) -> None:
    """Curves of losses, name to (windows, losses), over levels, as a PNG.

    Raises:
        ValueError: matplotlib is missing, or the file cannot be written.
    """
    figure, axes = _figure(9.5, 4.5)
    for name, (windows, losses) in curves.items():
        axes.plot(windows, losses, label=name, linewidth=1.2)
    shown = [level for level in levels if level.kind != "worst"]
    for level in shown:
        axes.axhline(level.loss, linestyle=":", linewidth=0.9, color=_COLOURS[level.kind])
    ends = sorted(shown, key=lambda level: level.loss)
    for level, height in zip(ends, _apart([level.loss for level in ends], axes), strict=True):
        axes.annotate(
            f"{level.name} {level.loss:.4g}",
            (1.01, height),
            xycoords=("axes fraction", "data"),
            fontsize=7,
            va="center",
            color=_COLOURS[level.kind],
        )
    axes.set(xlabel="windows", ylabel="mean cross-entropy (nats)", title=title)
    axes.set_ylim(bottom=0)
    if len(curves) > 1:
        axes.legend(fontsize=8)
    _save(figure, path)


_COLOURS = {"floor": "black", "attractor": "tab:red", "guess": "tab:gray", "worst": "tab:gray"}


def _apart(heights: Sequence[float], axes: Any) -> list[float]:
    """Heights, moved up until labels of this size do not overlap."""
    low, high = axes.get_ylim()
    gap, moved = 0.035 * max(high - min(low, 0.0), 1e-12), list(heights)
    for k in range(1, len(moved)):
        moved[k] = max(moved[k], moved[k - 1] + gap)
    return moved


def plot_gates(sizes: GateSizes, path: str | Path) -> None:
    """The gradient sizes of one window as heat maps: gates by steps, a row for each layer.

    Left before the activation, right after it, in powers of 10.

    Raises:
        ValueError: matplotlib is missing, or the file cannot be written.
    """
    layers, _, steps = sizes.before.shape
    figure, all_axes = _figure(9, 1.2 + 1.6 * layers, layers, 2)
    both = np.stack([sizes.before, sizes.after])
    smallest = both[both > 0].min() if np.any(both > 0) else 1.0
    logs = np.log10(np.maximum(both, smallest))
    image = None
    for layer in range(layers):
        for side, name in enumerate(("before", "after")):
            axes = np.reshape(all_axes, (layers, 2))[layer, side]
            image = axes.imshow(
                logs[side, layer], aspect="auto", vmin=logs.min(), vmax=logs.max(), cmap="viridis"
            )
            axes.set_yticks(range(len(GATES)), GATES)
            axes.set_title(f"layer {layer}, {name} the activation", fontsize=8)
            axes.set_xticks([0, steps - 1] if steps > 1 else [0])
            axes.set_xlabel(f"step, 0 to {steps - 1}", fontsize=8)
    figure.colorbar(image, ax=all_axes, label="log10 of the gradient's size")
    figure.suptitle(f"window {sizes.window}: {sizes.verdict}", fontsize=10)
    _save(figure, path)


_SAME_PLACE = 0.03


def plot_attractors(
    probabilities: Sequence[Sequence[float]], levels: Sequence[Level], path: str | Path
) -> None:
    """Where runs on "ab" have settled: the two probabilities of each, and the closed forms.

    Args:
        probabilities: of each run, the target's at the two steps, in any order.
        levels: the attractors.

    Raises:
        ValueError: matplotlib is missing, or the file cannot be written.
    """
    figure, axes = _figure(5.5, 5)
    found = np.sort(np.asarray(probabilities, float), axis=1)
    axes.plot(found[:, 0], found[:, 1], "o", alpha=0.5, label="runs", markersize=7)
    labelled: list[tuple[float, float]] = []
    for level in levels:
        low, high = sorted(level.probabilities)
        axes.plot(low, high, "+", color="tab:red", markersize=14)
        # To the left where a label is to the right of the same place already.
        taken = any(abs(low - x) + abs(high - y) < _SAME_PLACE for x, y in labelled)
        axes.annotate(
            f"{low:.4f}, {high:.4f}\nloss {level.loss:.4f}",
            (low, high),
            xytext=(-10 if taken else 10, -4),
            textcoords="offset points",
            fontsize=7,
            va="top",
            ha="right" if taken else "left",
        )
        labelled.append((low, high))
    axes.set(
        xlabel="probability of the target, at the worse step",
        ylabel="at the better step",
        title='"ab", bounded head: runs and closed forms',
        xlim=(0.45, 0.95),
        ylim=(0.65, 0.95),
    )
    axes.legend(fontsize=8, loc="lower right")
    _save(figure, path)


def _figure(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Any, Any]:
    require_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns)


def _save(figure: Any, path: str | Path) -> None:
    picture = io.BytesIO()
    figure.savefig(picture, dpi=120, format="png")
    write_whole(picture.getvalue(), path, "plot")
