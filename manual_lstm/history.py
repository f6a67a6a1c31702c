"""The history of a training: one line of JSON for each window that is recorded."""

import json
import math
import os
from pathlib import Path
from typing import IO

from manual_lstm.train import Trained


def open_history(path: str | Path, windows: int) -> IO[str]:
    """A history to go on with after `windows` windows; what lies beyond them is cut off.

    A torn last line, which a killed run leaves, is cut off too.

    Raises:
        ValueError: it cannot be written, or is a file that is no history.
    """
    path = Path(path)
    kept: list[str] = []
    if windows and path.exists():
        kept = [json.dumps(entry) + "\n" for entry in _entries(path) if entry["window"] <= windows]
    try:
        path.write_text("".join(kept), encoding="utf-8")
        return path.open("a", encoding="utf-8")
    except OSError as error:
        raise ValueError(f"history {str(path)!r} cannot be written: {error.strerror}.") from None


def write_history(file: IO[str], trained: Trained) -> None:
    """Append a window. A perplexity that overflows is null: JSON has no word for infinity."""
    perplexity = trained.perplexity if math.isfinite(trained.perplexity) else None
    entry = {
        "window": trained.window,
        "loss": trained.loss,
        "perplexity": perplexity,
        "norm": trained.norm,
    }
    file.write(json.dumps(entry) + "\n")
    file.flush()


def sync_history(file: IO[str]) -> None:
    """Have it on the disk, before a checkpoint that counts its windows."""
    file.flush()
    os.fsync(file.fileno())


def read_history(path: str | Path) -> list[Trained]:
    """The windows of a history, in their order; a torn last line is left out.

    Raises:
        ValueError: it is missing, cannot be read, or is not a history.
    """
    return [Trained(int(e["window"]), float(e["loss"]), float(e["norm"])) for e in _entries(path)]


def _entries(path: str | Path) -> list[dict[str, float]]:
    try:
        lines = Path(path).read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ValueError(f"history {str(path)!r} cannot be read: {reason}.") from None
    whole, last = lines[:-1], lines[-1]  # what follows the last line end: nothing, or a torn line
    entries = [entry for line in whole if (entry := _entry(line)) is not None]
    if len(entries) < len(whole):
        number = next(n for n, line in enumerate(whole, 1) if _entry(line) is None)
        raise ValueError(
            f"history {str(path)!r}, line {number}, is not a window's entry: "
            '{"window": 1, "loss": 3.26, "norm": 0.4} is what one must have.'
        )
    if not whole and last:
        raise ValueError(f"history {str(path)!r} has no whole line, so it is none.")
    return entries


def _entry(line: str) -> dict[str, float] | None:
    """A line's window, or None if it holds none."""
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    whole = isinstance(entry, dict) and {"window", "loss", "norm"} <= entry.keys()
    return entry if whole else None
