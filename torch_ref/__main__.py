"""The command `manual-lstm`, also as `python -m torch_ref`."""

import os
import signal
import sys
from typing import Any


def run() -> None:
    """Import the command, which takes seconds, and run it; Ctrl-C is one line from the start."""
    waiting = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if waiting:  # else a shell, or whoever started this, has it ignored
        signal.signal(signal.SIGINT, _leave)
    from torch_ref.cli import main

    if waiting:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    main()


def _leave(*_: Any) -> None:
    """Nothing is begun yet. An exception could be caught, or turned into another, by an import."""
    sys.stderr.write("manual-lstm: interrupted.\n")
    sys.stderr.flush()
    os._exit(128 + signal.SIGINT)


if __name__ == "__main__":
    run()
