"""Run somebody else's program on a case: files in, files out, whatever goes wrong in a sentence.

POSIX only: a program and all that it starts are one process group, which is killed at the end.
"""

import os
import re
import selectors
import shlex
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manual_lstm.model import Head
from torch_ref.harness.exchange.archive import ENDINGS
from torch_ref.harness.exchange.files import load_result, save_case
from torch_ref.oracles.case import Case, Results

LAST_LINES = 20
_TAIL_BYTES = 2**16
_PIPE_BYTES = 2**20  # what a pipe can hold
_POLL_SECONDS = 0.02
# Where the stack follows what was raised, the last line is not the one that tells.
_RAISED = re.compile(r"\b\w*(Error|Exception)\b.*: |^panic: |^what\(\): ")
_PANICKED = re.compile(r" panicked at .*:$")
_PLACEHOLDER = re.compile(rf"\{{(case|result)\}}({'|'.join(map(re.escape, ENDINGS))})?")


@dataclass(eq=False)
class ProgramCrashed(Exception):
    """The program ended, but not with exit status 0.

    Attributes:
        command: as it was given.
        exit_status: None if a signal ended it.
        signal: its name, "SIGSEGV"; None if it ended by itself.
        stderr: the last lines, at most LAST_LINES, of what it wrote to standard error.
    """

    command: str
    exit_status: int | None
    signal: str | None
    stderr: tuple[str, ...]

    def __str__(self) -> str:
        if self.signal is not None:
            return f"{self.command!r} was ended by signal {self.signal}{_last(self.stderr)}."
        return f"{self.command!r} ended with exit status {self.exit_status}{_last(self.stderr)}."


@dataclass(eq=False)
class ProgramTimedOut(Exception):
    """The program was still running after `timeout` seconds and was killed."""

    command: str
    timeout: float
    stderr: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"{self.command!r} was still running after {self.timeout:g} s and was killed"
            f"{_last(self.stderr)}."
        )


@dataclass(eq=False)
class MalformedResult(Exception):
    """The program ended well but its result is missing or not as it must be; `reason` says how."""

    command: str
    reason: str
    stderr: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.command!r} left no usable result: {self.reason}"


def run_program(
    command: str,
    case: Case,
    *,
    timeout: float,
    layout_json: Mapping[str, Any] | None = None,
    variant_json: Mapping[str, Any] | None = None,
    sizes: Mapping[str, int] | None = None,
    head: Head | None = None,
) -> Results:
    """What a program makes of a case; see torch_ref/harness/exchange/files.py for the files.

    Args:
        command: "./prog {case} {result}", split as a shell would but run without one, in the
            current folder. {case} becomes the path of a folder that holds the case, {result} that
            of an empty folder; {case}.npz, {result}.npz, .safetensors and .json become such files.
            Standard input is empty, standard output is thrown away.
        timeout: in seconds.
        layout_json, variant_json, sizes, head: as for `save_case`.

    Returns:
        As `load_result`.

    Raises:
        ValueError: the command has no {case} or {result}, or cannot be run; the case cannot be
            written.
        ProgramCrashed, ProgramTimedOut, MalformedResult: what they say.
    """
    words = _split(command)
    if not timeout > 0:
        raise ValueError(f"timeout is {timeout} but must be a number of seconds above 0.")
    with tempfile.TemporaryDirectory(prefix="manual-lstm-", ignore_cleanup_errors=True) as folder:
        paths = _paths(words, Path(folder))
        save_case(
            case,
            paths["case"],
            layout_json=layout_json,
            variant_json=variant_json,
            sizes=sizes,
            head=head,
        )
        if not paths["result"].suffix:
            paths["result"].mkdir()
        filled = [_PLACEHOLDER.sub(lambda found: str(paths[found[1]]), word) for word in words]
        stderr = _run(command, filled, timeout)
        try:
            return load_result(paths["result"], case)
        except ValueError as error:
            reason = str(error).replace(f"{paths['result']}", "the result")
            raise MalformedResult(command, reason, stderr) from None


def _split(command: str) -> list[str]:
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise ValueError(f"command {command!r} cannot be split into words: {error}.") from None
    for name in ("case", "result"):
        if not any(f"{{{name}}}" in word for word in words[1:]):
            raise ValueError(
                f"command {command!r} has no {{{name}}} but must have a program, {{case}} and "
                "{result}: './prog {case} {result}'."
            )
    return words


def _paths(words: list[str], folder: Path) -> dict[str, Path]:
    """Where the case and the result are; the same placeholder has the same ending everywhere."""
    paths: dict[str, Path] = {}
    for name, ending in (pair for word in words for pair in _PLACEHOLDER.findall(word)):
        path = folder / f"{name}{ending}"
        if paths.setdefault(name, path) != path:
            raise ValueError(f"the command has {{{name}}} with two endings but must have one.")
    return paths


def _run(command: str, words: list[str], timeout: float) -> tuple[str, ...]:
    deadline = time.monotonic() + timeout
    tail = bytearray()
    with ExitStack() as stack:
        with _interrupts_wait():
            process = _start(words)
            stack.enter_context(process)
            stack.callback(_end, process, tail)
        in_time = _wait(process, deadline, tail)
    stderr = tuple(tail.decode(errors="replace").splitlines()[-LAST_LINES:])
    if not in_time:
        raise ProgramTimedOut(command, timeout, stderr)
    if process.returncode < 0:
        raise ProgramCrashed(command, None, _signal_name(-process.returncode), stderr)
    if process.returncode > 0:
        raise ProgramCrashed(command, process.returncode, None, stderr)
    return stderr


@contextmanager
def _interrupts_wait() -> Iterator[None]:
    """Ctrl-C takes effect at the end of the block, not between a start and the duty to end it."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    pending: list[int] = []
    signal.signal(signal.SIGINT, lambda number, frame: pending.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if pending:
            signal.raise_signal(signal.SIGINT)


def _start(words: list[str]) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ValueError(f"program {words[0]!r} cannot be run: {reason}.") from None


def _wait(process: subprocess.Popen[bytes], deadline: float, tail: bytearray) -> bool:
    """Keep the end of standard error while the program runs; False when the time is up."""
    assert process.stderr is not None
    stderr = process.stderr.fileno()
    with selectors.DefaultSelector() as selector:
        selector.register(stderr, selectors.EVENT_READ)
        while process.poll() is None:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            pause = min(left, _POLL_SECONDS)
            if not selector.get_map():  # it ends, or goes on without standard error
                with suppress(subprocess.TimeoutExpired):
                    process.wait(pause)
            elif selector.select(pause) and not _keep(os.read(stderr, _TAIL_BYTES), tail):
                selector.unregister(stderr)
    return True


def _end(process: subprocess.Popen[bytes], tail: bytearray) -> None:
    """Kill the whole group and keep what the pipe still holds.

    A process that has left the group may hold the pipe open: no waiting for its end.
    """
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert process.stderr is not None
    stderr = process.stderr.fileno()
    os.set_blocking(stderr, False)
    with suppress(BlockingIOError):
        for _ in range(_PIPE_BYTES // _TAIL_BYTES):
            if not _keep(os.read(stderr, _TAIL_BYTES), tail):
                break


def _keep(chunk: bytes, tail: bytearray) -> bool:
    tail += chunk
    del tail[:-_TAIL_BYTES]
    return bool(chunk)


def _last(stderr: tuple[str, ...]) -> str:
    said = [line.strip() for line in stderr if line.strip()]
    if not said:
        return ""
    panics = [said[k + 1] for k in range(len(said) - 1) if _PANICKED.search(said[k])]
    telling = (panics or [line for line in said if _RAISED.search(line)] or said)[-1]
    which = "the last it wrote to" if telling == said[-1] else "what it raised, on"
    return f"; {which} standard error is {telling[:200]!r}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)
