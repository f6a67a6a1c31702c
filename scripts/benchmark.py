"""How fast manual_lstm is, against what a user would pick instead: ratios, measured in one run.

python scripts/benchmark.py --quick
python scripts/benchmark.py --json benchmark.json --plot benchmark.png
"""

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench import costs, growth, memory
from bench.show import draw_grid, print_costs, print_grid, print_growth, print_memory
from bench.sides import MANUAL, TORCH, Sizes, sides_of, work_of
from bench.timing import take_turns
from rich.console import Console
from tolerance import cost as beside_gradcheck

GRID = (
    Sizes(26, 1, 26, 26),
    Sizes(26, 1, 27, 64),
    Sizes(50, 32, 64, 128),
    Sizes(100, 64, 256, 256),
    Sizes(100, 32, 512, 512),
    Sizes(200, 16, 128, 1024),
)
DTYPES = ("float64", "float32")
PARTS = ("grid", "memory", "growth", "costs")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what was asked for; exit status 2 inside a test, where times mean nothing."""
    options = _options(arguments)
    if "PYTEST_CURRENT_TEST" in os.environ:
        sys.stderr.write("benchmark.py measures time, which a test must not: use make bench.\n")
        return 2
    console = Console(stderr=options.json == "-")
    report: dict[str, Any] = {
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "torch_threads": torch.get_num_threads(),
    }
    grid = GRID[:3] if options.quick else GRID
    began = time.perf_counter()
    if "grid" in options.parts:
        report["grid"] = _grid(grid, options.rounds, console)
        report["geometric_mean"] = geometric_mean([line["times"][TORCH] for line in report["grid"]])
        print_grid(console, report["grid"], report["geometric_mean"])
    if "memory" in options.parts:
        report["memory"] = _memory(grid, console)
        report["long_sequence"] = _long(10_000 if options.quick else 100_000)
        print_memory(console, report["memory"], report["long_sequence"])
    if "growth" in options.parts:
        doublings = range(3) if options.quick else range(5)
        found = [asdict(line) for line in growth.grow(doublings, "float32", options.rounds)]
        report["growth"] = found
        print_growth(console, found)
    if "costs" in options.parts:
        rounds = 1 if options.quick else max(3, options.rounds // 3)
        report["diff"] = [asdict(costs.diff_cost(dtype, rounds)) for dtype in DTYPES]
        report["check_seconds_per_example"] = costs.check_cost(50 if options.quick else 200)
        report["import_ratio"] = costs.import_cost(5 if options.quick else 21)
        report["gradcheck"] = [asdict(line) for line in beside_gradcheck.measure(options.quick)]
        print_costs(console, report)
    report["seconds"] = time.perf_counter() - began
    if options.plot and "grid" in report:
        draw_grid(report["grid"], options.plot)
    text = json.dumps(report, indent=2) + "\n"
    if options.json == "-":
        sys.stdout.write(text)
    elif options.json:
        Path(options.json).write_text(text, encoding="utf-8")
    return 0


def geometric_mean(values: Sequence[float]) -> float:
    """The n-th root of the product."""
    return math.exp(sum(map(math.log, values)) / len(values))


def _grid(grid: Sequence[Sizes], rounds: int, console: Console) -> list[dict[str, Any]]:
    lines = []
    for dtype in DTYPES:
        for sizes in grid:
            with console.status(f"{dtype} {sizes}"):
                large = sizes.steps * sizes.batch * sizes.hidden > 10**6
                sides = sides_of(work_of(sizes, dtype))
                timing = take_turns(sides, max(3, rounds // 3) if large else rounds)
            lines.append(
                {
                    "dtype": dtype,
                    "sizes": asdict(sizes),
                    "seconds": timing.seconds,
                    "times": timing.ratios,
                    "low": timing.low,
                    "high": timing.high,
                }
            )
    return lines


def _memory(grid: Sequence[Sizes], console: Console) -> list[dict[str, Any]]:
    lines = []
    for dtype in DTYPES:
        for sizes in grid[2:]:
            with console.status(f"memory, {dtype} {sizes}"):
                peaks = {
                    name: memory.in_own_process(memory.peak_of, name, sizes, dtype)
                    for name in (MANUAL, TORCH)
                }
            lines.append({"dtype": dtype, "sizes": asdict(sizes), "mebibytes": peaks})
    return lines


def _long(steps: int) -> list[dict[str, Any]]:
    return [
        {
            "dtype": dtype,
            "steps": steps,
            "hidden": 64,
            "mebibytes": memory.long_sequence(steps, 64, dtype),
        }
        for dtype in DTYPES
    ]


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--rounds", type=int, default=15, help="a third of it at large sizes")
    parser.add_argument("--quick", action="store_true", help="the three small sizes")
    parser.add_argument("--json", metavar="FILE", help="write the figures here; - is stdout")
    parser.add_argument("--plot", metavar="FILE", help="draw the grid (needs matplotlib)")
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error(f"--rounds is {options.rounds} but must be at least 1")
    return options


if __name__ == "__main__":
    sys.exit(main())
