"""Ctrl-C, whenever it comes: one line, exit status 130, and nothing left behind."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

import manual_lstm

# The command, which says when its imports are done: on a busy machine they take long.
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(manual_lstm.__file__).parents[1])}
STARTED = "from torch_ref.cli import main; print('started', flush=True); main()"


def interrupted(words, seconds, folder):
    """(status, stdout, stderr) of a command that is sent Ctrl-C after so many seconds each time."""
    process = subprocess.Popen(
        [sys.executable, "-c", STARTED, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env=ENVIRONMENT,
        start_new_session=True,
        # A shell in the background leaves Ctrl-C ignored in what it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        for each in seconds:
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=each)
            os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, out, err


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_an_interrupt_that_hangs_or_prints_a_traceback(jobs, tmp_path):
    """Ctrl-C ends a campaign with one line and exit status 130, and leaves nothing: no process,
    no file of its own or of Hypothesis.
    """
    words = ["check", "manual_lstm:vjp", "--examples", "100000", "--jobs", jobs, "--json", "-"]
    assert interrupted(words, [3], tmp_path) == (130, "", "manual-lstm: interrupted.\n")
    assert list(tmp_path.iterdir()) == []


def test_an_impatient_interrupt_that_hangs(tmp_path):
    """Ctrl-C twice, with processes at work."""
    words = ["check", "manual_lstm:vjp", "--examples", "100000", "--jobs", "2"]
    assert interrupted(words, [4, 0.3], tmp_path)[0] in (130, -signal.SIGINT)


PRESSED_IN_A_CALLBACK = """
import gc
import os
import signal

import manual_lstm

calls = 0


def press(*_):
    gc.callbacks.remove(press)
    os.kill(os.getpid(), signal.SIGINT)


def vjp(*case):
    global calls
    calls += 1
    if calls == 20:
        gc.callbacks.append(press)
        gc.collect()
    return manual_lstm.vjp(*case)
"""


def test_an_interrupt_that_comes_in_a_callback_of_the_garbage_collector(tmp_path):
    """Ctrl-C that Python drops, after which the campaign goes on to its end."""
    (tmp_path / "pressed.py").write_text(PRESSED_IN_A_CALLBACK, encoding="utf-8")
    words = ["check", "pressed:vjp", "--examples", "100000"]
    done = subprocess.run(
        [sys.executable, "-c", STARTED, *words],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=ENVIRONMENT,
        timeout=60,
        check=False,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    told = "manual-lstm: interrupted.\n"
    assert (done.returncode, done.stdout, done.stderr) == (130, "started\n", told)


SLOW_TORCH = """
print("importing", flush=True)
import time
try:
    time.sleep(60)
except BaseException:
    raise ImportError("somebody's own idea of what went wrong")
"""


@pytest.mark.parametrize(
    "how", [["-m", "torch_ref"], ["-c", "import torch_ref.__main__ as m; m.run()"]]
)
@pytest.mark.parametrize(
    "words",
    [("diff",), ("train", "--compare"), ("train", "--engine", "torch", "--history", "h.jsonl")],
)
def test_an_interrupt_while_torch_is_imported(how, words, tmp_path):
    """A traceback, and the status of an error, in the first seconds of a command."""
    (tmp_path / "torch.py").write_text(SLOW_TORCH, encoding="utf-8")
    paths = [str(tmp_path), str(Path(manual_lstm.__file__).parents[1])]
    process = subprocess.Popen(
        [sys.executable, *how, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": os.pathsep.join(paths)},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "importing\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert (process.returncode, out, err) == (130, "", "manual-lstm: interrupted.\n")
    assert [file.name for file in tmp_path.iterdir()] == ["torch.py"]
