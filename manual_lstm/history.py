"""The history of a training: one line of JSON for each window that is recorded."""

import json
import math
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from manual_lstm.train import Trained

# Of a line: one that is longer, as what has no line ends is, is no window's.
_LONGEST = 2**16


def open_history(path: str | Path, windows: int) -> IO[str]:
    """A history to go on with after `windows` windows; what lies beyond them is cut off.

    A torn last line, which a killed run leaves, is cut off too. What is kept is not written again,
    so that a full disk loses none of it.

    Raises:
        ValueError: it cannot be written, or is a file that is no history.
    """
    path = Path(path)
    kept = 0
    if windows and path.is_file():
        for line, trained in _lines(path):
            if trained.window > windows:
                break
            kept += len(line)
    try:
        if kept:
            os.truncate(path, kept)
        return path.open("a" if kept else "w", encoding="utf-8")
    except OSError as error:
        raise ValueError(f"history {str(path)!r} cannot be written: {error.strerror}.") from None


def write_history(file: IO[str], trained: Trained) -> None:
    """Append a window. A perplexity that overflows is null: JSON has no word for infinity.

    Raises:
        ValueError: as `append_line`.
    """
    perplexity = trained.perplexity if math.isfinite(trained.perplexity) else None
    entry = {
        "window": trained.window,
        "loss": trained.loss,
        "perplexity": perplexity,
        "norm": trained.norm,
    }
    append_line(file, entry)


def append_line(file: IO[str], entry: Mapping[str, Any]) -> None:
    """Append `entry` as a line of JSON, and have a reader find it.

    Raises:
        ValueError: it cannot be written; the file is named.
    """
    with _named(file):
        file.write(json.dumps(entry) + "\n")
        file.flush()


def sync_history(file: IO[str]) -> None:
    """Have it on the disk, before a checkpoint that counts its windows.

    Raises:
        ValueError: as `append_line`.
    """
    with _named(file):
        file.flush()
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):  # a pipe or a device has no disk
            os.fsync(file.fileno())


@contextmanager
def recorded(file: IO[str]) -> Iterator[IO[str]]:
    """An open file, closed at the end, where what it still holds may not fit on the disk.

    Raises:
        ValueError: as `append_line`.
    """
    try:
        yield file
    finally:
        with _named(file):
            file.close()


def read_history(path: str | Path) -> list[Trained]:
    """The windows of a history, in their order; a torn last line is left out.

    Raises:
        ValueError: it is missing, cannot be read, or is not a history.
    """
    return [trained for _, trained in _lines(Path(path))]


@contextmanager
def _named(file: IO[str]) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ValueError(f"file {file.name!r} cannot be written: {error.strerror}.") from None


def _lines(path: Path) -> Iterator[tuple[bytes, Trained]]:
    """Each whole line and its window."""
    name, number, line = f"history {str(path)!r}", 0, b""
    try:
        with path.open("rb") as file:
            while (line := file.readline(_LONGEST)).endswith(b"\n"):
                number += 1
                yield line, _window(line, f"{name}, line {number},")
    except OSError as error:
        raise ValueError(f"{name} cannot be read: {error.strerror}.") from None
    if len(line) == _LONGEST:
        raise ValueError(f"{name}, line {number + 1}, has no end and is no window's entry.")
    if line and not number:
        raise ValueError(f"{name} has no whole line, so it is none.")


def _window(line: bytes, where: str) -> Trained:
    """The window that a line is of."""
    try:
        entry = json.loads(line)
        window, loss, norm = (entry[key] for key in ("window", "loss", "norm"))
        if type(window) is int and {type(loss), type(norm)} <= {int, float}:
            return Trained(window, float(loss), float(norm))
    except (ValueError, LookupError, TypeError, OverflowError, RecursionError):
        pass
    raise ValueError(
        f"{where} is not a window's entry: "
        '{"window": 1, "loss": 3.26, "norm": 0.4} is what one must have.'
    )
