"""Who notices which mistake: every one of the catalogue through our checks and others'.

python scripts/kill_matrix.py --sample 40 --pairs 20 --correct 20
python scripts/kill_matrix.py --jobs 2 --json kill.json --resume

Exit status 1: ours did not see a mistake, did not name a single one, named another, or alarmed
a correct LSTM; 130: interrupted, and what was done so far is printed.
"""

import argparse
import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from kill.matrix import COLUMNS, Record, Task, measure, prepare, table, tasks, times
from rich.console import Console
from rich.progress import track
from rich.table import Table

SAVE_EVERY = 30.0  # seconds


def main() -> int:
    """Run what was asked for and print it; interrupted, what was done so far."""
    options = _options()
    for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[threads] = "1"  # of the processes that it starts: one core each
    records = [each for each in _load(options.json) if not each.problem] if options.resume else []
    wanted = tasks(options.seed, options.sample, options.pairs, options.correct)
    done = {record.key for record in records}
    rest = [task for task in wanted if task.key not in done]
    saved = time.perf_counter()
    interrupted = False
    try:
        work = partial(measure, examples=options.examples, one_in=options.one_in)
        found = _run(work, rest, options.jobs)
        for record in track(found, "kill matrix", len(rest), console=Console(stderr=True)):
            records.append(record)
            if options.json and time.perf_counter() - saved > SAVE_EVERY:
                _save(options.json, options.seed, records)
                saved = time.perf_counter()
    except KeyboardInterrupt:
        interrupted = True
    if options.json:
        _save(options.json, options.seed, records)
    _print(records, f" (interrupted: {len(records)} of {len(wanted)})" if interrupted else "")
    if interrupted:
        return 130
    return 1 if any(record.problem for record in records) else 0


def _run(work: Callable[[Task], Record], rest: Sequence[Task], jobs: int) -> Iterator[Record]:
    if jobs == 1:
        yield from map(work, rest)
        return
    with multiprocessing.get_context("spawn").Pool(jobs, prepare) as pool:
        yield from pool.imap_unordered(work, rest)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sample", type=int, help="single mistakes of each form; default all")
    parser.add_argument("--pairs", type=int, default=1000, help="the first of the fixed pairs")
    parser.add_argument("--correct", type=int, default=1000, help="correct LSTMs")
    parser.add_argument("--examples", type=int, default=2, help="cases for each of our checks")
    parser.add_argument("--one-in", type=int, default=1, help="diagnose all, check one in so many")
    parser.add_argument("--seed", type=int, default=0, help="of the sample, pairs and correct ones")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes")
    parser.add_argument("--json", metavar="FILE", help="write everything here, every half minute")
    parser.add_argument(
        "--resume", action="store_true", help="go on with the --json file; what failed is run again"
    )
    options = parser.parse_args()
    if options.resume and not options.json:
        parser.error("--resume needs --json FILE, which it goes on with.")
    return options


def _load(path: str) -> list[Record]:
    file = Path(path)
    if not file.exists():
        return []
    return [Record(**each) for each in json.loads(file.read_text(encoding="utf-8"))["records"]]


def _save(path: str, seed: int, records: Sequence[Record]) -> None:
    rows = table(records)
    text = json.dumps(
        {"seed": seed, "table": rows, "records": [asdict(record) for record in records]}, indent=1
    )
    part = Path(f"{path}.part")
    part.write_text(text + "\n", encoding="utf-8")
    part.replace(path)


def _print(records: Sequence[Record], remark: str) -> None:
    console = Console(width=80, highlight=False, soft_wrap=True)
    header, *rows = table(records)
    shown = Table(box=None, padding=(0, 1, 0, 0))
    shown.add_column(header[0])
    for name in header[1:]:
        shown.add_column(name, justify="right")
    for row in rows:
        shown.add_row(*row)
    console.print(f"Noticed of all that were planted; of the correct ones, alarmed{remark}.\n")
    console.print(shown)
    console.print("\nProcessor time of a diagnosis:")
    for column in COLUMNS:
        console.print(f"  {column}: {times([r.seconds for r in records if r.column == column])}")
    for record in records:
        if record.problem:
            found = " and ".join(record.found) or record.detail or "nothing"
            console.print(f"{record.problem}: {record.column}, {record.name}: {found}")


if __name__ == "__main__":
    for end in (signal.SIGINT, signal.SIGTERM):  # the first is ignored in a shell's background
        signal.signal(end, signal.default_int_handler)
    sys.exit(main())
