"""How good the error budget is: false alarms, power, closeness, floor and cost, measured.

python scripts/tolerance_study.py --quick
python scripts/tolerance_study.py --json tolerance.json --plot tolerance.png
"""

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from tolerance import alarms, closeness, cost, floor, power
from tolerance.draw import GROUP

PARTS = ("alarms", "power", "closeness", "floor", "cost")
DTYPES = ("float32", "float64")


def main() -> int:
    """Measure what was asked for; exit status 1 if a correct implementation was alarmed."""
    options = _options()
    started = time.perf_counter()
    report: dict[str, Any] = {"seed": options.seed, "cases": options.cases}
    console = Console(stderr=options.json == "-")
    for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[threads] = "1"  # each process, which is a fresh one, has one core
    fresh = multiprocessing.get_context("spawn")
    with fresh.Pool(options.processes, torch.set_num_threads, (1,)) as pool:

        def measure(
            name: str, function: Callable[[Any], Any], tasks: Sequence[Any]
        ) -> Iterator[Any]:
            done = pool.imap_unordered(function, tasks, chunksize=1)
            yield from track(done, name, total=len(tasks), console=Console(stderr=True))

        if "alarms" in options.parts:
            found = measure("alarms", alarms.measure_group, _tasks(options, options.cases))
            lines = alarms.total([line for group in found for line in group])
            report["alarms"] = [asdict(line) for line in lines]
            console.print(_alarm_table(lines))
            worst = max(lines, key=lambda line: line.used)
            console.print(f"The most was used by {worst.name}, {worst.dtype}, {worst.origin}.\n")
        if "power" in options.parts:
            tasks = _tasks(options, options.cases // 25)
            planted = power.total(list(measure("power", power.measure_group, tasks)))
            report["power"] = [asdict(line) for line in planted]
            console.print(_table("a changed element", report["power"]))
            tasks = power.limit_tasks(options.seed, quick=options.quick)
            limits = sorted(measure("limits", power.measure_limit, tasks), key=power.limit_order)
            report["limits"] = [asdict(line) for line in limits]
            console.print(_table("the smallest change that is seen", report["limits"]))
            if options.plot:
                power.plot_limits(limits, options.plot)
        if "closeness" in options.parts:
            tasks = _tasks(options, options.cases // 50)
            ratios = closeness.total(list(measure("closeness", closeness.measure_group, tasks)))
            report["closeness"] = [asdict(line) for line in ratios]
            console.print(_table("manual_lstm's error / torch.nn.LSTM's", report["closeness"]))
        if "floor" in options.parts:
            tasks = _tasks(options, options.cases // 10)
            floors = floor.total(list(measure("floor", floor.measure_group, tasks)))
            report["floor"] = [asdict(line) for line in floors]
            console.print(_table("errors of gradients, relative to the largest", report["floor"]))
        if "cost" in options.parts:
            report["cost"] = [asdict(line) for line in pool.apply(cost.measure, (options.quick,))]
            console.print(_table("one LSTM, T=10, B=4: seconds", report["cost"]))
    report["seconds"] = time.perf_counter() - started
    if options.json == "-":
        sys.stdout.write(json.dumps(report, indent=2) + "\n")
    elif options.json:
        Path(options.json).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 1 if any(line["alarms"] for line in report.get("alarms", [])) else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=100_000, help="for the false alarms")
    parser.add_argument("--quick", action="store_true", help="a hundredth of everything")
    parser.add_argument("--seed", type=int, default=0, help="of the first group of cases")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--json", metavar="FILE", help="write the figures here; - is stdout")
    parser.add_argument("--plot", metavar="FILE", help="draw the limits of detection here, a PNG")
    options = parser.parse_args()
    if options.quick:
        options.cases //= 100
    return options


def _tasks(options: argparse.Namespace, cases: int) -> list[tuple[int, str]]:
    groups = max(1, -(-cases // (GROUP * len(DTYPES))))
    return [(options.seed + n, dtype) for n in range(groups) for dtype in DTYPES]


def _alarm_table(lines: Sequence[alarms.Finding]) -> Table:
    return _table(
        "correct implementations against the exact values",
        [
            {
                "dtype": line.dtype,
                "implementation": line.name,
                "cases": line.cases,
                "refused": line.refused,
                "alarms": line.alarms,
                "used": f"{line.used:.0%}",
                "refined": line.refined,
                "used there": f"{line.used_refined:.0%}",
            }
            for line in lines
        ],
    )


def _table(title: str, rows: Sequence[dict[str, Any]]) -> Table:
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1, 0, 0))
    for header in rows[0]:
        table.add_column(header)
    for row in rows:
        table.add_row(*(f"{v:.3g}" if isinstance(v, float) else str(v) for v in row.values()))
    return table


if __name__ == "__main__":
    sys.exit(main())
