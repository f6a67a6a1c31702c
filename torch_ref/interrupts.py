"""Ctrl-C while something that takes seconds is imported."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def leaving_at_once() -> Iterator[None]:
    """Ctrl-C is one line and the end, for as long as nothing is begun yet.

    An exception could be caught, or turned into another, by what is being imported.
    """
    waiting = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if waiting:  # else a shell, or whoever started this, has it ignored
        signal.signal(signal.SIGINT, _leave)
    try:
        yield
    finally:
        if waiting:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def _leave(*_: Any) -> None:
    sys.stderr.write("manual-lstm: interrupted.\n")
    sys.stderr.flush()
    os._exit(128 + signal.SIGINT)
