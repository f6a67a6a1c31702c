"""What the benchmark prints and draws."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.sides import JAX, MANUAL, PRODUCTS, TORCH, TWIN
from torch_ref.reports.plots import require_matplotlib

_OTHERS = (TORCH, TWIN, JAX)


def sizes_in_words(sizes: Mapping[str, int]) -> str:
    """(T, B, I, H)."""
    return "({steps}, {batch}, {inputs}, {hidden})".format(**sizes)


def _in_two_lines(sizes: Mapping[str, int]) -> str:
    return "T={steps} B={batch}\nI={inputs} H={hidden}".format(**sizes)


def _table(*left: str, title: str) -> Table:
    return Table(*left, title=title, title_justify="left", box=None, padding=(0, 2, 0, 0))


def print_grid(console: Console, lines: Sequence[Mapping[str, Any]], mean: float) -> None:
    """Milliseconds of manual_lstm, and how many times as long each other side takes."""
    table = _table("dtype", "(T, B, I, H)", title="forward and backward: times manual_lstm's")
    for name in ("ms", *_OTHERS, "of products"):
        table.add_column(name, justify="right")
    for line in lines:
        seconds, times = line["seconds"], line["times"]
        others = [f"{times[name]:.2f}" if name in times else "-" for name in _OTHERS]
        table.add_row(
            line["dtype"],
            sizes_in_words(line["sizes"]),
            f"{1e3 * seconds[MANUAL]:.2f}",
            *others,
            f"{1 / times[PRODUCTS]:.2f}",
        )
    console.print(table)
    console.print(f"nn.LSTM's time over manual_lstm's, geometric mean: {mean:.2f}")
    console.print("of products: manual_lstm's time over that of its matrix products alone.\n")


def print_memory(
    console: Console, lines: Sequence[Mapping[str, Any]], long: Sequence[Mapping[str, Any]]
) -> None:
    """Peaks in MiB above the arrays that were given."""
    table = _table("dtype", "(T, B, I, H)", title="peak memory, MiB")
    for name in (MANUAL, TORCH):
        table.add_column(name, justify="right")
    for line in lines:
        peaks = line["mebibytes"]
        shown = ["-" if peaks[n] is None else f"{peaks[n]:.0f}" for n in (MANUAL, TORCH)]
        table.add_row(line["dtype"], sizes_in_words(line["sizes"]), *shown)
    console.print(table)
    for line in long:
        peak = "-" if line["mebibytes"] is None else f"{line['mebibytes']:.0f} MiB"
        console.print(
            f"recomputing_vjp, T = {line['steps']:,}, H = {line['hidden']}, {line['dtype']}: "
            f"{peak} in all, the interpreter and the given arrays among it"
        )
    console.print()


def print_growth(console: Console, lines: Sequence[Mapping[str, Any]]) -> None:
    """One line for each size; `times` is against the line before it."""
    table = _table("size", "", title="growth, float32, from (64, 16, 64, 64) and one layer")
    for name in ("ms", "times", "MiB", "times", "nn.LSTM ms"):
        table.add_column(name, justify="right")
    before: Mapping[str, Any] | None = None
    for line in lines:
        same = before is not None and before["axis"] == line["axis"]
        ratios = [
            f"{line[key] / before[key]:.2f}" if same and before is not None else ""
            for key in ("seconds", "mebibytes")
        ]
        table.add_row(
            line["axis"],
            str(line["value"]),
            f"{1e3 * line['seconds']:.2f}",
            ratios[0],
            f"{line['mebibytes']:.2f}",
            ratios[1],
            f"{1e3 * line['torch_seconds']:.2f}",
        )
        before = line
    console.print(table)


def print_costs(console: Console, report: Mapping[str, Any]) -> None:
    """What the tools cost, a line each."""
    for line in report["diff"]:
        console.print(
            f"diff at (50, 32, 64, 128), {line['dtype']}: {line['whole']:.1f} forward-backward "
            f"passes of nn.LSTM ({1e3 * line['torch_seconds']:.1f} ms), "
            f"{line['both_sides']:.1f} without the error budget"
        )
    console.print(f"check: {1e3 * report['check_seconds_per_example']:.1f} ms per example")
    console.print(f"import manual_lstm: {report['import_ratio']:.2f} times import numpy")
    table = _table("", "seconds", "faster than gradcheck", title="nn.LSTM(16, 32), T=10, B=4")
    for line in report["gradcheck"]:
        table.add_row(line["what"], f"{line['seconds']:.4f}", f"{line['times_faster']:.1f}")
    console.print(table)


def draw_grid(lines: Sequence[Mapping[str, Any]], path: str | Path) -> None:
    """Each other side's time over manual_lstm's, as bars on a log axis, as a PNG.

    Raises:
        ValueError: matplotlib is not installed.
    """
    require_matplotlib()
    from matplotlib.figure import Figure

    dtypes = list(dict.fromkeys(line["dtype"] for line in lines))
    figure = Figure(figsize=(9, 3.2 * len(dtypes)), layout="constrained")
    for axes, dtype in zip(
        figure.subplots(len(dtypes), 1, squeeze=False)[:, 0], dtypes, strict=True
    ):
        chosen = [line for line in lines if line["dtype"] == dtype]
        present = [name for name in _OTHERS if name in chosen[0]["times"]]
        for k, name in enumerate(present):
            places = [n + (k - (len(present) - 1) / 2) * 0.25 for n in range(len(chosen))]
            heights = [line["times"][name] for line in chosen]
            bars = axes.bar(places, [height - 1 for height in heights], 0.23, bottom=1, label=name)
            axes.bar_label(bars, [f"{height:.2g}" for height in heights], fontsize=8)
        axes.axhline(1, color="0.3", linewidth=1)
        axes.set_yscale("log")
        axes.margins(y=0.15)
        axes.set_xticks(range(len(chosen)), [_in_two_lines(line["sizes"]) for line in chosen])
        axes.set_ylabel("time / manual_lstm's")
        axes.set_title(f"{dtype}: forward and backward, above 1 manual_lstm is faster")
        axes.legend(frameon=False, ncols=3)
    figure.savefig(path, dpi=110)
