"""Somebody's code: how it is called, and which exceptions are its own."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_NOTE = "Raised by the implementation under test."


class Ended(RuntimeError):
    """It ended the whole process, or tried to: sys.exit, or what is no Exception."""


@contextmanager
def theirs(seconds: float | None = None) -> Iterator[None]:
    """Around a call of somebody's code: what it raises is noted to be its own.

    Args:
        seconds: after which it is stopped, where this is the main thread, as soon as it is back
            in Python.

    Raises:
        Ended: it called sys.exit, which must not end the check with a status of its own.
        TimeoutError: the time is up.
        Exception: what it raises. Ctrl-C goes through as it is.
    """
    try:
        with _stopped_after(seconds):
            yield
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except SystemExit as error:
        raise _noted(Ended(f"it calls sys.exit({error.code!r})")) from None
    except BaseException as error:
        if isinstance(error, Exception) and _is_printable(error):
            _noted(error)
            raise
        raise _noted(Ended(f"it raises {type(error).__name__}")) from None


def is_theirs(error: BaseException) -> bool:
    """Whether an exception comes from within `theirs`."""
    return _NOTE in getattr(error, "__notes__", ())


@contextmanager
def _stopped_after(seconds: float | None) -> Iterator[None]:
    if seconds is None or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: Any) -> None:
        raise TimeoutError(f"it was still running after {seconds:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _noted(error: BaseException) -> BaseException:
    error.add_note(_NOTE)
    return error


def _is_printable(error: Exception) -> bool:
    try:
        str(error)
    except Exception:
        return False
    return True
