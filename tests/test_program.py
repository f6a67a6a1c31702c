"""Foreign programs: their results, and every way in which they can fail to give one."""

import os
import pickle
import select
import signal
import stat
import subprocess
import sys
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from exchange_files import assert_same_bits, loss_case

from torch_ref import Case
from torch_ref.compare.diff import run_manual
from torch_ref.harness import program as program_module
from torch_ref.harness.exchange.files import save_result
from torch_ref.harness.program import (
    LAST_LINES,
    MalformedResult,
    ProgramCrashed,
    ProgramTimedOut,
    run_program,
)

LONG = 60.0  # never reached: a test that waits for it has failed


@pytest.fixture
def case() -> Case:
    return loss_case()


@pytest.fixture
def program(tmp_path: Path, case: Case) -> Callable[[str], str]:
    """Writes a shell script; in it $sound is the start of the paths of right results."""
    for form in ("", ".npz", ".safetensors"):
        save_result(run_manual(case), case, tmp_path / f"sound{form}")

    def write(script: str, arguments: str = "{case} {result}") -> str:
        path = tmp_path / "program"
        path.write_text(f"#!/bin/sh\nsound='{tmp_path}/sound'\n{script}\n")
        path.chmod(0o755)
        return f"{path} {arguments}"

    return write


@pytest.mark.parametrize("form", ["", ".npz", ".safetensors"])
def test_the_program_finds_the_case_and_its_result_is_found(
    program: Callable[[str, str], str], case: Case, form: str
) -> None:
    """Folders and both kinds of file, as separate words or after an equals sign."""
    script = f'test -e "${{1#--case=}}" && cp -r $sound{form}{"/*" if not form else ""} "$2"'
    command = program(script, f"--case={{case}}{form} {{result}}{form}")
    assert_same_bits(run_program(command, case, timeout=LONG), run_manual(case))


def test_a_path_with_spaces_stays_one_word(
    program: Callable[[str], str], case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The temporary directory, and with it both paths, may have spaces and quotes."""
    folder = tmp_path / 'it\'s a "folder" {case}'
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    command = program('test $# = 2 && test -f "$1/case.json" && cp $sound/* "$2"')
    assert_same_bits(run_program(command, case, timeout=LONG), run_manual(case))
    assert os.listdir(folder) == []


def test_no_shell_reads_the_command(
    program: Callable[[str, str], str],
    case: Case,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A semicolon, a dollar sign and a pipe are words like any others."""
    command = program(
        """test "$3 $4 $5 $6" = '; touch $(touch x) |' && cp $sound/* "$2" """,
        "{case} {result} ';' touch '$(touch x)' '|'",
    )
    monkeypatch.chdir(tmp_path)
    before = sorted(os.listdir())
    run_program(command, case, timeout=LONG)
    assert sorted(os.listdir()) == before


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("./prog {case}", r"has no {result} but must have a program, {case} and {result}: "),
        ("./prog {result}", r"has no {case} but must have a program, {case} and {result}: "),
        ("", r"command '' has no {case} but must have"),
        ("{case} {result}", r"has no {case} but must have a program"),
        ("./prog '{case} {result}", r"cannot be split into words: No closing quotation\."),
        ("./prog {case} {result} {result}.npz", r"has {result} with two endings"),
        ("./missing {case} {result}", r"'./missing' cannot be run: No such file or directory\."),
        ("./plain {case} {result}", r"program './plain' cannot be run: Permission denied\."),
        ("./text {case} {result}", r"program './text' cannot be run: Exec format error\."),
        ("./prog\0 {case} {result}", r"cannot be run: embedded null byte\."),
    ],
)
def test_a_command_that_cannot_be_run_is_a_sentence(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, sentence: str
) -> None:
    """Wrong usage is a ValueError, told apart from a program that ran and failed."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "plain").write_text("#!/bin/sh\n")
    (tmp_path / "text").write_text("no program")
    (tmp_path / "text").chmod(stat.S_IRWXU)
    with pytest.raises(ValueError, match=sentence):
        run_program(command, case, timeout=LONG)
    with pytest.raises(ValueError, match=r"timeout is nan but must be a number of seconds above"):
        run_program("./prog {case} {result}", case, timeout=float("nan"))


def test_an_exit_status_is_a_crash_even_with_a_sound_result(
    program: Callable[[str], str], case: Case
) -> None:
    """The status and the last lines of standard error, and no more of them, are kept."""
    script = 'cp $sound/* "$2"; for k in $(seq 100); do echo line $k >&2; done; exit 3'
    with pytest.raises(ProgramCrashed) as caught:
        run_program(program(script), case, timeout=LONG)
    crash = caught.value
    assert (crash.exit_status, crash.signal) == (3, None)
    assert crash.stderr == tuple(f"line {k}" for k in range(101 - LAST_LINES, 101))
    assert str(crash).endswith(
        "ended with exit status 3; the last it wrote to standard error is 'line 100'."
    )
    assert str(pickle.loads(pickle.dumps(crash))) == str(crash)


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ("a.js:1|throw new Error(0)|^||Error: one layer|    at f (a.js:1)||Node.js v20", "Error"),
        ('Exception in thread "main" java.lang.IllegalArgumentException: one layer|\tat A.f', "Ex"),
        ("thread 'main' (7) panicked at a.rs:1:2:|one layer|note: run with", "one layer"),
        ("panic: one layer||goroutine 1 [running]:|main.main()|\ta.go:4", "panic: one layer"),
        ("terminate called after 'std::runtime_error'|  what():  one layer", "what():  one layer"),
        ("Traceback|  File 'a.py', line 1|ValueError: one layer", "ValueError: one layer"),
        ("ValueError: of another|one layer", "ValueError"),
    ],
)
def test_what_was_raised_is_told_and_not_the_end_of_the_stack(
    program: Callable[[str], str], case: Case, lines: str, told: str
) -> None:
    """Node ends with its version, Java with a frame, Rust with a note."""
    wrote = "\n".join(lines.split("|"))
    with pytest.raises(ProgramCrashed) as caught:
        run_program(program(f"cat >&2 <<'END'\n{wrote}\nEND\nexit 1"), case, timeout=LONG)
    said = str(caught.value).partition(" standard error is ")[2]
    assert said.strip("\"'").startswith(told), caught.value
    assert "one layer" in said or "another" in said


def test_a_signal_is_named(program: Callable[[str], str], case: Case) -> None:
    """A segmentation fault is not an exit status."""
    with pytest.raises(ProgramCrashed, match=r"was ended by signal SIGSEGV\.$") as caught:
        run_program(program("kill -SEGV $$"), case, timeout=LONG)
    assert (caught.value.exit_status, caught.value.signal) == (None, "SIGSEGV")


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        ("true", r"no usable result: the result has result.json missing\.$"),
        (
            'rm -r "$2"',
            r"no usable result: the result cannot be read: No such file",
        ),
        ('cp $sound/* "$2"; rm "$2/dx.npy" "$2/loss.npy"', r"the result: loss is missing but must"),
        ('cp $sound/* "$2"; cp "$1/x.npy" "$2/dh0.npy"', r"the result: dh0 has shape \(3, 2, 4\)"),
    ],
)
def test_a_missing_or_wrong_result_is_told_apart_from_a_crash(
    program: Callable[[str], str], case: Case, script: str, sentence: str
) -> None:
    """The program ended well; what is wrong with its files is said, with its last words."""
    with pytest.raises(MalformedResult, match=sentence) as caught:
        run_program(program(f"echo hello >&2\n{script}"), case, timeout=LONG)
    assert caught.value.stderr == ("hello",)


@pytest.fixture
def witness(tmp_path: Path) -> Callable[[], bool]:
    """A pipe $sound-pipe; true once every process that had it open for writing is gone."""
    os.mkfifo(tmp_path / "sound-pipe")
    pipe = os.open(tmp_path / "sound-pipe", os.O_RDONLY | os.O_NONBLOCK)

    def everybody_gone() -> bool:
        content = b""
        while select.select([pipe], [], [], 10)[0]:
            chunk = os.read(pipe, 100)
            if not chunk:
                return content == b"here\n"
            content += chunk
        return False

    return everybody_gone


ALIVE = "exec 9>$sound-pipe; echo here >&9; sleep 600 & "


def test_a_time_out_kills_the_program_and_what_it_started(
    program: Callable[[str], str], case: Case, witness: Callable[[], bool]
) -> None:
    """No process of the group survives, even one that ignores SIGTERM."""
    command = program(f"trap '' TERM; {ALIVE} echo waiting >&2; wait")
    with pytest.raises(
        ProgramTimedOut, match=r"after 0\.3 s and was killed; the last it wrote"
    ) as caught:
        run_program(command, case, timeout=0.3)
    assert caught.value.stderr == ("waiting",)
    assert witness()


def test_a_process_left_behind_neither_delays_nor_survives_the_result(
    program: Callable[[str], str], case: Case, witness: Callable[[], bool]
) -> None:
    """A child in the background holds standard error open after the program has ended."""
    command = program(f'{ALIVE} cp $sound/* "$2"')
    assert_same_bits(run_program(command, case, timeout=LONG), run_manual(case))
    assert witness()


@pytest.fixture
def interruptible() -> Iterator[None]:
    """SIGINT raises KeyboardInterrupt, as it does at a terminal."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_kills_the_program_too(
    program: Callable[[str], str], case: Case, witness: Callable[[], bool]
) -> None:
    """It is in a process group of its own, so the terminal's signal does not reach it."""
    with pytest.raises(KeyboardInterrupt):
        run_program(program(f"{ALIVE} kill -INT $PPID; wait"), case, timeout=LONG)
    assert witness()


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_at_the_moment_of_the_start_leaves_no_program_behind(
    program: Callable[[str], str],
    case: Case,
    witness: Callable[[], bool],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The program runs already, but nobody has noted yet that it must be ended."""

    start = program_module._start

    def start_and_interrupt(words: list[str]) -> subprocess.Popen[bytes]:
        process = start(words)
        while not (tmp_path / "sound-started").exists():
            assert process.poll() is None
        signal.raise_signal(signal.SIGINT)
        return process

    monkeypatch.setattr(program_module, "_start", start_and_interrupt)
    with pytest.raises(KeyboardInterrupt):
        run_program(program(f"{ALIVE} touch $sound-started; wait"), case, timeout=LONG)
    assert witness()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_flood_of_output_takes_no_memory(program: Callable[[str], str], case: Case) -> None:
    """Two hundred megabytes without an end of line, on standard error and on standard output."""
    script = (
        'head -c 200000000 /dev/zero >&2; head -c 200000000 /dev/zero; echo "\nend" >&2; exit 1'
    )
    tracemalloc.start()
    try:
        with pytest.raises(ProgramCrashed) as caught:
            run_program(program(script), case, timeout=LONG)
        assert tracemalloc.get_traced_memory()[1] < 2**23
    finally:
        tracemalloc.stop()
    assert caught.value.stderr[-1] == "end"


def test_one_endless_line_does_not_make_an_endless_sentence(
    program: Callable[[str], str], case: Case
) -> None:
    """A progress bar or a dump of numbers may be one line of any length."""
    with pytest.raises(ProgramCrashed, match=r"error is 'x{200}'\.$"):
        run_program(program("printf %10000s | tr ' ' x >&2; exit 1"), case, timeout=LONG)


def test_a_process_that_left_the_group_is_not_waited_for(
    program: Callable[[str], str], case: Case, tmp_path: Path
) -> None:
    """A daemon holds standard error open; the result is there at once all the same."""
    daemon = (
        "import os, time; os.setsid(); print(os.getpid(), flush=True); "
        "time.sleep(20); print('woke', flush=True)"
    )
    script = f"""'{sys.executable}' -S -c "{daemon}" >$sound-pid &"""
    command = program(f'{script} while ! test -s $sound-pid; do :; done; cp $sound/* "$2"')
    assert_same_bits(run_program(command, case, timeout=LONG), run_manual(case))
    said = (tmp_path / "sound-pid").read_text()
    os.kill(int(said.split()[0]), signal.SIGKILL)
    assert "woke" not in said


def test_a_program_that_closes_its_standard_error_is_still_waited_for(
    program: Callable[[str], str], case: Case
) -> None:
    """The end of standard error is not the end of the program."""
    command = program('exec 2>&-; sleep 0.1; cp $sound/* "$2"')
    results = run_program(command, case, timeout=LONG)
    assert np.array_equal(results["dx"], run_manual(case)["dx"])
