"""`manual-lstm check` of code that does what it should not: a sentence, and the right status."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from exchange_files import loss_case, stack_case
from misbehaving import ZOO, line

import manual_lstm
from torch_ref import Implementation, check_implementation, save_case
from torch_ref.cli import main
from torch_ref.harness.theirs import theirs


@pytest.fixture
def check(tmp_path, monkeypatch, capfd):
    """A function from arguments of `manual-lstm check` to (exit status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "zoo.py").write_text(ZOO, encoding="utf-8")
    (tmp_path / "leaving.py").write_text("print('hello')\nraise SystemExit(0)\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["manual-lstm", "check", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        out, err = capfd.readouterr()
        return stopped.value.code or 0, " ".join(out.split()), err

    yield run
    for name in ("zoo", "leaving"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("whole", "the gradients of zoo:whole: dx is int64 but must be floating-point numbers."),
        ("complexes", "dx is complex128 but must be floating-point numbers."),
        ("objects", "dx is object but must be floating-point numbers."),
        ("ragged", "dx is a list of 2 but must be an array of numbers."),
        ("nothing", "zoo:nothing returned no gradient but must return some."),
        ("empty", "zoo:empty returned no gradient but must return some."),
        ("numbered", "gradients has 0 but must have no other names than this layout's:"),
        ("word", "loss is <U1 but must be floating-point numbers."),
        ("two_losses", "loss has shape (2,) but must be one number."),
    ],
)
def test_an_answer_that_is_no_array_of_numbers(check, name, words):
    """It is taken for a crash, for wrong usage, or told in NumPy's words."""
    status, out, err = check(f"zoo:{name}", "--examples", 20)
    assert (status, err) == (1, "")
    assert words in out


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nan", "dweight_ih_l0 has an element that is nan where the truth is finite."),
        ("half", "is float16 but the case is float64: compute in the dtype that comes in. It"),
    ],
)
def test_an_answer_that_is_handed_on_though_it_cannot_be(check, monkeypatch, name, words):
    """A state that is NaN or half as long is given back to the implementation, which raises.

    Or a minute goes into a search for what no set of mistakes can explain.
    """
    module = sys.modules["torch_ref.cli.check"]
    diagnose, seconds = module.diagnose, []

    def noted(*arguments, **options):
        seconds.append(options["seconds"])
        return diagnose(*arguments, **options | {"seconds": 0.0})

    monkeypatch.setattr(module, "diagnose", noted)
    status, out, _ = check(f"zoo:{name}", "--examples", 20)
    assert (status, seconds) == (1, [0.0])
    assert words in out


@pytest.mark.parametrize("name", ["lists", "tensors", "big_endian", "instance.method"])
def test_right_numbers_in_another_dress(check, name):
    """A tensor that wants a gradient, nested lists or big-endian numbers are called wrong."""
    status, out, err = check(f"zoo:{name}", "--examples", 20)
    assert (status, err) == (0, "")
    assert "AGREES" in out


@pytest.mark.parametrize(
    ("name", "signature"),
    [
        ("by_name", "(params, x, *, h0, c0)"),
        ("too_many", "(params, x, h0, c0, training)"),
        ("too_few", "(params)"),
        ("Class", "()"),
        ("Class.method", "(self, params, x, h0, c0)"),
    ],
)
def test_a_callable_with_other_parameters(check, name, signature):
    """It is told what it takes and what it must take, before anything is run."""
    status, out, err = check(f"zoo:{name}")
    assert (status, out) == (2, "")
    hints = {
        "Class": ": it is a class, so give an instance of it, or a method of one",
        "Class.method": ": it is a method, so give that of an instance",
    }
    assert err == (
        f"manual-lstm: zoo:{name} has the parameters {signature} but must take (params, x, h0, c0) "
        f"by position, of which h0 and c0 may be left out{hints.get(name, '')}.\n"
    )


@pytest.mark.parametrize(
    ("target", "status", "words"),
    [
        ("zoo:leaves", 3, f"Ended: it calls sys.exit(0), at zoo.py:{line('sys.exit(0)')}\n"),
        ("zoo:quits", 3, f"Ended: it calls os._exit(0), at zoo.py:{line('os._exit(0)')}\n"),
        ("zoo:mute", 3, f"Ended: it raises Mute, at zoo.py:{line('raise Mute')}\n"),
        ("leaving:vjp", 2, "imported: Ended: it calls sys.exit(0), at leaving.py:2.\n"),
    ],
)
def test_code_that_ends_the_process(check, target, status, words):
    """sys.exit(0) in somebody's code is the check's own status: 0, it agrees."""
    found, out, err = check(target)
    assert (found, out) == (status, "")
    assert err.endswith(words)


def test_code_that_ends_the_process_without_python(tmp_path):
    """C's exit(0) is the check's own status too, and nothing has been said."""
    code = "import ctypes\n\ndef vjp(params, x, h0, c0):\n    ctypes.CDLL(None).exit(0)\n"
    (tmp_path / "of_c.py").write_text(code, encoding="utf-8")
    command = [sys.executable, "-m", "torch_ref", "check", "of_c:vjp"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.endswith("manual-lstm: of_c:vjp: it ends the whole process with exit().\n")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("shortens", "check_inputs_unmodified fails: weight_ih_l0 is changed by the call"),
        ("surplus", "dweight_ih_l7 is returned but is the gradient of nothing in the case."),
        ("with_dropout", "it draws random numbers, and with the same seed gives the same."),
    ],
)
def test_a_fault_that_is_not_seen_or_called_another(check, name, words):
    """Weights cut short in the caller's mapping; our own KeyError called a crash of theirs."""
    status, out, _ = check(f"zoo:{name}", "--examples", 20)
    assert status == 1
    assert words in out


def test_a_module_that_takes_the_reports_with_it(check, tmp_path):
    """os.chdir at import: the report, the page's folder and the failing case land elsewhere."""
    (tmp_path / "away").mkdir()
    code = "import os, zoo\nos.chdir('away')\nvjp = zoo.nan\n"
    (tmp_path / "leaving.py").write_text(code, encoding="utf-8")
    status, out, _ = check("leaving:vjp", "--examples", 5, "--json", "report.json")
    assert status == 1
    assert json.loads((tmp_path / "report.json").read_text())["verdict"] == "disagree"
    kept = out.rpartition(" --case ")[2]
    assert (tmp_path / kept).is_dir()


def test_code_that_ends_the_process_in_the_middle(check):
    """A campaign that stops without a report."""
    status, out, _ = check("zoo:leaves_late", "--examples", 40)
    assert status == 3
    place = f"zoo.py:{line('bye')}"
    assert f"It raises Ended: it calls sys.exit('bye'), at {place}." in out


@pytest.mark.parametrize("jobs", [1, 2])
def test_what_an_implementation_prints_is_no_json(check, capfd, jobs):
    """By print, by the system or by C's buffer, here or in a process of its own."""
    arguments = ("zoo:prints", "--examples", 20, "--json", "-", "--jobs", jobs)
    status, out, err = check(*arguments)
    assert status == 0
    assert json.loads(out)["verdict"] == "agree"
    assert {"by print", "by the system", "by C"} <= set(err.splitlines())


def test_a_run_that_ends_as_its_time_is_up(monkeypatch):
    """The alarm that comes while it is switched off is told as something that the run raised."""
    switch = signal.setitimer

    def late(which, seconds, *interval):
        if seconds == 0:
            signal.raise_signal(signal.SIGALRM)
        return switch(which, seconds, *interval)

    monkeypatch.setattr(signal, "setitimer", late)
    with theirs(60.0):
        pass


def test_calls_in_threads_that_overlap():
    """os._exit stays refused for ever, or is let through while one of them goes on."""
    begun, over = threading.Event(), threading.Event()

    def call():
        with theirs():
            begun.set()
            over.wait(10)

    leave = os._exit
    thread = threading.Thread(target=call)
    with theirs():
        thread.start()
        begun.wait(10)
    assert os._exit is not leave
    over.set()
    thread.join()
    assert os._exit is leave


def test_an_alarm_of_somebody_elses_that_is_lost():
    """pytest-timeout's, say, which is then never given."""
    before = signal.signal(signal.SIGALRM, signal.SIG_IGN)
    signal.setitimer(signal.ITIMER_REAL, 100.0)
    with theirs(60.0):
        pass
    left, _ = signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)
    assert 90 < left <= 100


@pytest.mark.parametrize("name", ["slow", "deaf"])
def test_a_callable_that_does_not_come_back(check, name):
    """--timeout is for programs only, or code that catches every Exception hangs for ever."""
    status, out, err = check(f"zoo:{name}", "--timeout", 0.2)
    assert (status, out) == (4, "")
    place = line({"slow": "sleep(30)", "deaf": "sleep(0.01)"}[name])
    said = f"TimeoutError: it was still running after 0.2 s, at zoo.py:{place}"
    assert err == f"manual-lstm: zoo:{name}: {said}\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("zoo:lists", "--dtype", "float64"), "--dtype is for --command: a callable"),
        (("zoo:lists", "--head", "none"), "--head is for --command"),
        (("zoo:lists", "--jobs", "2"), "--jobs is 2 but zoo:lists cannot be sent to another pro"),
        (("zoo:lists", "--without", "h0"), "--without is for --command"),
        (("--dump", "x", "--case", "x"), "--case is for package.module:object and --command: no"),
        (("--dump", "x", "--jobs", "2"), "--jobs is for package.module:object and --command"),
        (("--dump", "x", "--layout", "torch"), "--layout is for package.module:object and --com"),
    ],
)
def test_an_option_that_is_of_no_use(check, arguments, words):
    """It is passed over, or taken for a crash."""
    status, _, err = check(*arguments)
    assert status == 2
    assert words in err


@pytest.mark.parametrize(
    ("case", "implementation", "words"),
    [
        (loss_case(), {"vjp": None}, "the case has targets and the linear head but mine takes dy"),
        (stack_case(), {}, "the case has dy and no head but mine takes targets and has the linear"),
        (loss_case("bounded"), {}, "the case has targets and the bounded head but mine takes tar"),
        (loss_case(), {"dtype": "float64"}, "the case is float32 but mine is declared as float64"),
        (loss_case(), {"sizes": {"T": 3, "I": 5}}, "the case has I = 4 but mine is bound to I = 5"),
    ],
)
def test_a_case_that_is_not_of_the_implementations_kind(case, implementation, words):
    """It is told as a crash or a wrong result of the implementation."""

    def vjp(params, x, h0, c0):
        raise AssertionError

    form = {"vjp": vjp} if "vjp" in implementation else {"command": "./mine {case} {result}"}
    with pytest.raises(ValueError, match=words):
        check_implementation(Implementation("mine", **{**implementation, **form}), case=case)


def test_a_case_of_another_precision_than_a_program_has(check, tmp_path):
    """`manual-lstm case` writes float64 and a program is taken for float32: both are said."""
    save_case(loss_case(dtype=np.float64), tmp_path / "case")
    status, _, err = check("--command", "./mine {case} {result}", "--case", "case")
    assert status == 2
    assert "the case is float64 but ./mine {case} {result} is declared as float32" in err


def test_a_report_that_is_lost_with_standard_error(check, tmp_path):
    """Where standard error is full the report is not printed, though standard output is not."""
    code = "from torch_ref.cli import main; main()"
    words = [sys.executable, "-c", code, "check", "zoo:whole", "--examples", "20"]
    root = str(Path(manual_lstm.__file__).parents[1])
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run(
            words,
            stdout=subprocess.PIPE,
            stderr=full,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": root},
        )
    assert done.returncode == 1
    assert "DISAGREES." in done.stdout
