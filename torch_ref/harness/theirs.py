"""Somebody's code: how it is called, and which exceptions are its own."""

import atexit
import contextlib
import ctypes
import importlib
import inspect
import os
import signal
import sysconfig
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from torch_ref.harness.answers import MalformedAnswer
from torch_ref.harness.program import MalformedResult, ProgramCrashed, ProgramTimedOut

_NOTE = "Raised by the implementation under test."
_OURS = Path(__file__).resolve().parents[1]
_LIBRARIES = tuple(
    Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib", "stdlib")
)
_THROUGH = tuple(Path(inspect.getfile(module)).resolve() for module in (contextlib, importlib))
_LONGEST = 300
_AGAIN = 0.1  # seconds from one attempt to stop it to the next
# Their own words are a sentence about the implementation.
_SENTENCES = (MalformedAnswer, MalformedResult, ProgramCrashed, ProgramTimedOut)


class Ended(RuntimeError):
    """It ended the whole process, or tried to: sys.exit, os._exit, or what is no Exception."""


_leave = os._exit


class _Exit(BaseException):
    """What os._exit would have done."""


@contextlib.contextmanager
def theirs(seconds: float | None = None) -> Iterator[None]:
    """Around a call of somebody's code: what it raises is noted to be its own.

    Args:
        seconds: after which it is stopped, where this is the main thread, as soon as it is back
            in Python.

    Raises:
        Ended: it called sys.exit or os._exit, which must not end the check with a status of its
            own.
        TimeoutError: the time is up.
        Exception: what it raises. Ctrl-C goes through as it is.
    """
    try:
        with _stopped_after(seconds), _no_end_of_all():
            yield
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except SystemExit as error:
        raise _noted(Ended(f"it calls sys.exit({error.code!r})")) from None
    except _Exit as error:
        raise _noted(Ended(f"it calls os._exit({error.args[0]!r})")) from None
    except BaseException as error:
        if isinstance(error, Exception) and _is_printable(error):
            _noted(error)
            raise
        raise _noted(Ended(f"it raises {type(error).__name__}")) from None


def is_theirs(error: BaseException) -> bool:
    """Whether an exception comes from within `theirs`."""
    return _NOTE in getattr(error, "__notes__", ())


def raised(error: BaseException) -> str:
    """What was raised and where, in one line: "IndexError: list index out of range, at a.py:12".

    The place is the deepest line of somebody's own code, or where all of that is in a library, of
    the library that was called; there is none where the traceback has neither.
    """
    if isinstance(error, _SENTENCES):
        return " ".join(str(error).split()).rstrip(".")[:_LONGEST]
    said = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(":. ")[:_LONGEST]
    at = error.__context__ if isinstance(error, Ended) else error
    frames = traceback.extract_tb(None if at is None else at.__traceback__)
    foreign = [f for f in frames if not _is_ours(f.filename)]
    if not foreign:
        return said
    own = [f for f in foreign if _library(f.filename) is None]
    called = [f for f in foreign if _library(f.filename) == _library(foreign[0].filename)]
    deepest = (own or called)[-1]
    return f"{said}, at {_short(deepest.filename)}:{deepest.lineno}"


def it_raises(error: BaseException) -> str:
    """`raised` as a clause about the implementation, or about its program."""
    return raised(error) if isinstance(error, _SENTENCES) else f"it raises {raised(error)}"


def sentence_of(error: BaseException) -> str:
    """`it_raises` as a sentence of its own."""
    clause = it_raises(error)
    return f"{clause[0].upper()}{clause[1:]}."


def _is_ours(filename: str) -> bool:
    """Whether a frame is of this package, or of what it calls somebody's code through."""
    path = Path(filename).resolve()
    return path.is_relative_to(_OURS) or path in _THROUGH or filename.startswith("<frozen")


def _library(filename: str) -> Path | None:
    """The library that a file is of, its package's folder; None for somebody's own file."""
    path = Path(filename).resolve()
    for root in _LIBRARIES:
        if path.is_relative_to(root):
            return root / path.relative_to(root).parts[0]
    return None


def _short(filename: str) -> str:
    """From the current folder on, where it lies there."""
    path, here = Path(filename).resolve(), Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else filename


# The thread and the process of each call of somebody's code that is going on.
_INSIDE: list[tuple[int, int]] = []
_LOCK = threading.Lock()


def _here() -> tuple[int, int]:
    return threading.get_ident(), os.getpid()


def _refuse(status: int) -> NoReturn:
    """os._exit while somebody's code runs: their thread may not, but a child of theirs may."""
    if _here() in _INSIDE:
        raise _Exit(status)
    _leave(status)


@contextlib.contextmanager
def _no_end_of_all() -> Iterator[None]:
    """Within it os._exit raises, in this thread; where C ends it, `tell_where_ended` tells."""
    here = _here()
    with _LOCK:
        _INSIDE.append(here)
        os._exit = _refuse
    try:
        yield
    finally:
        with _LOCK:
            _INSIDE.remove(here)
            if not _INSIDE:
                os._exit = _leave


def tell_where_ended(tell: Callable[[], None], status: int) -> None:
    """Where somebody's code ends this process by C's exit, call `tell` and end it with `status`.

    Python has no part in that: without a word the status would be theirs, 0 perhaps.
    """

    def at_exit(_: int | None) -> None:
        if _here() in _INSIDE:
            tell()
            _leave(status)

    c = ctypes.CDLL(None)
    called = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(at_exit)
    handle = ctypes.create_string_buffer(1)
    c.__cxa_atexit(called, None, handle)  # what C's atexit itself calls

    def forget(_: Any) -> None:
        c.__cxa_finalize(handle)  # once Python is gone nothing may call it

    atexit.register(forget, called)


class _TimeIsUp(BaseException):
    """Not an Exception: a loop that catches all of these and goes on is to end."""


@contextlib.contextmanager
def _stopped_after(seconds: float | None) -> Iterator[None]:
    # No timer goes further than TIMEOUT_MAX, and only the main thread has one.
    main = threading.current_thread() is threading.main_thread()
    if seconds is None or seconds > threading.TIMEOUT_MAX or not main:
        yield
        return

    over = False  # a run that ends as its time is up has ended

    def stop(*_: Any) -> None:
        if not over:
            raise _TimeIsUp

    before = signal.signal(signal.SIGALRM, stop)
    began = time.perf_counter()
    others, interval = signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN)
    try:
        try:
            yield
        finally:
            over = True
    except _TimeIsUp as up:
        late = TimeoutError(f"it was still running after {seconds:g} s")
        raise late.with_traceback(up.__traceback__) from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if others:  # somebody else's alarm, pytest-timeout's say, goes on
            left = max(others - (time.perf_counter() - began), _AGAIN)
            signal.setitimer(signal.ITIMER_REAL, left, interval)


def _noted(error: BaseException) -> BaseException:
    error.add_note(_NOTE)
    return error


def _is_printable(error: Exception) -> bool:
    try:
        str(error)
    except Exception:
        return False
    return True
