"""Memory: the peak of one forward and backward, each in a process of its own."""

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from bench.sides import Sizes, sides_of, work_of

_MIB = 2**20


def in_own_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function returns in a fresh process, which has used no memory yet."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        return executor.submit(function, *arguments).result()


def peak_of(name: str, sizes: Sizes, dtype: str) -> float | None:
    """MiB above what the process had when its arrays were there and the side had run once, small.

    None where the system does not tell a process's peak.
    """
    others = tuple(set(sides_of(work_of(Sizes(2, 1, 2, 2), dtype))) - {name})
    sides_of(work_of(Sizes(2, 1, 2, 2), dtype), without=others)[name]()
    run = sides_of(work_of(sizes, dtype), without=others)[name]
    before = peak()
    run()
    after = peak()
    return None if before is None or after is None else (after - before) / _MIB


def long_sequence(steps: int, hidden: int, dtype: str) -> float | None:
    """The peak in MiB of a process that recomputes T steps, as bench/long.py says."""
    if peak() is None:
        return None
    command = [sys.executable, str(Path(__file__).with_name("long.py"))]
    done = subprocess.run(
        [*command, str(steps), str(hidden), dtype], check=True, capture_output=True, text=True
    )
    return float(done.stdout)


def peak() -> int | None:
    """The most memory that this process has had at once, in bytes, as Linux counts it."""
    # Not getrusage, whose figure a new process inherits from the one that started it.
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    lines = status.read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
