"""The commands at their edges: sizes, files and terminals that there are not, words that clash."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import command_in

import manual_lstm
from manual_lstm.checkpoint import load_checkpoint
from torch_ref import Layout, load_case
from torch_ref.harness.campaign import PART
from torch_ref.harness.check_list import CHECKS
from torch_ref.harness.exchange.files import read_case

check_module = sys.modules["torch_ref.cli.check"]

MODULES = {
    "raising": """
def vjp(params, x, h0, c0):
    raise IndexError("\\x1b[2J\\x1b[31mred\\x07 \\u202e")
""",
    "named": """
import manual_lstm
def vjp(params, x, h0, c0):
    outputs, pullback = manual_lstm.vjp(params, x, h0, c0)
    return outputs, lambda *upstream: {"d\\x1b[31mx": 1, **pullback(*upstream)}
""",
    "wrong_and_raising": """
import manual_lstm
def vjp(params, x, h0, c0):
    outputs, pullback = manual_lstm.vjp(params, x, h0, c0)
    def wrong(dy, dh_n, dc_n):
        if max(map(abs, dy.flat)) > 1e5:
            raise ValueError("that is too loud")
        return pullback(dy, dh_n, 0 * dc_n)
    return outputs, wrong
""",
}
TRAIN = ("train", "--inputs", 2, "--steps", 4, "--windows", 3)
SMALL = ("--steps", 2, "--inputs", 2)


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """A function from arguments to (exit status, stdout, stderr), in an empty folder."""
    return command_in(tmp_path, monkeypatch, capsys)


def refused(run, *words):
    """The one line on standard error of a command that ends with exit status 2."""
    status, out, err = run(*words)
    assert (status, out, err.count("\n")) == (2, "", 1), (status, out, err)
    return err.removeprefix("manual-lstm: ").rstrip("\n")


def test_a_crash_in_one_check_that_hides_what_the_others_show(command, tmp_path):
    """What is wrong in ordinary cases is named beside the crash where the upstream is loud."""
    (tmp_path / "mine.py").write_text(MODULES["wrong_and_raising"])
    status, out, _ = command("check", "mine:vjp", "--examples", 40)
    assert status == 3
    assert "dc_n, the upstream gradient of c_n, is ignored." in out
    assert "check_clipping fails: It raises ValueError: that is too loud" in " ".join(out.split())


@pytest.mark.parametrize(
    "words",
    [
        ("diff", "--head", "none", "--steps", 10**12, "--inputs", 10**4, "--hidden", 1),
        ("diff", "--layers", 10**30),
        ("case", "--out", "case", "--steps", 10**30),
        ("train", "--steps", 10**30),
        ("train", "--layers", 10**30),
        ("train", "--hidden", 10**9),
        ("check", "manual_lstm:vjp", "--sizes", "L=1000000000000"),
    ],
)
def test_sizes_that_no_memory_holds(command, words):
    """It is said before anything is made: a stack without end would fill the memory bit by bit."""
    told = refused(command, *words)
    assert told.startswith("there is not enough memory (the weights, x and h alone are ")
    assert told.endswith("): choose smaller sizes.")


def test_more_time_or_cases_than_there_are(command):
    """A timer that goes no further, or a list of all cases, was told as the LSTM's own crash."""
    words = ("check", "manual_lstm:vjp", "--examples")
    assert command(*words, 5, "--timeout", "inf")[0] == 0
    assert command(*words, 5, "--timeout", "1e30")[0] == 0
    assert "less than or equal to 10000000" in refused(command, *words, 10**30)


def test_as_many_processes_as_somebody_mistypes(monkeypatch, command):
    """No more are started than have something to do."""
    asked = []

    def pool(jobs, **_):
        asked.append(jobs)
        raise ValueError("no pool today")

    monkeypatch.setattr(check_module, "ProcessPoolExecutor", pool)
    refused(command, "check", "manual_lstm:vjp", "--jobs", 10**6, "--examples", 200)
    refused(command, "check", "manual_lstm:vjp", "--jobs", 2)
    assert asked == [len(CHECKS) + 200 // PART, 2]


def test_an_output_that_nobody_reads_counts_as_a_disagreement():
    """`| head`: typer's own end has status 1, and says nothing."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as nobody:
        done = subprocess.run(
            [sys.executable, "-m", "torch_ref", "plateau", "--loss", "1"],
            stdout=nobody,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": str(Path(manual_lstm.__file__).parents[1])},
        )
    told = "manual-lstm: the output cannot be written: Broken pipe.\n"
    assert (done.returncode, done.stderr) == (2, told)


@pytest.mark.parametrize(
    ("columns", "header"), [("0", "equation"), ("00", "equation"), ("40", "level")]
)
def test_a_report_that_a_narrow_terminal_loses(command, monkeypatch, columns, header):
    """Of no columns, as where they are not known, nothing is printed; in 40 words are cut off."""
    monkeypatch.setenv("COLUMNS", columns)
    status, out, _ = command("plateau", "--classes", 2, "--loss", "0.3")
    assert status == 0
    assert out.splitlines()[0].split()[-1] == header
    assert "<- the loss" in out
    assert "…" not in out


@pytest.mark.parametrize(
    ("words", "came"),
    [
        (("--steps", "x"), "unable to parse string as an integer, but is 'x'."),
        (("--steps", "-1"), "greater than or equal to 1, but is '-1'."),
        (("--dtype", "half"), "Invalid value for '--dtype': 'half' is not one of"),
    ],
)
def test_a_refusal_that_does_not_say_what_came(command, words, came):
    """Of a line of twenty options the one that is wrong has to be found."""
    assert came in refused(command, "diff", *words)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--momentum", 0.9), "--momentum is for --optimizer momentum, but the optimizer is adam"),
        (("--optimizer", "momentum", "--beta", 0.9), "--beta is for --optimizer average or rms"),
        (("--bias-correction",), "--bias-correction is for --optimizer average, but the optim"),
        (("--save-every", 2), "--save-every is for --checkpoint, which must be given too."),
        (("--compare", "--history", "h"), "--history is for a training: --compare keeps no rec"),
        (("--compare", "--monitor-plot", "p"), "--monitor-plot is for a training: --compare"),
    ],
)
def test_an_option_of_train_that_is_ignored_without_a_word(command, words, told):
    """Somebody waits for a momentum, or a history, that there is not."""
    assert refused(command, *TRAIN, *words).startswith(told)


RESUME = ("train", "--windows", 5, "--resume", "--checkpoint", "c.npz")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--hidden", 3), "--hidden 3 is given but the checkpoint has 2: leave it out with --res"),
        (("--inputs", 3), "--inputs 3 is given but the checkpoint has a text of 2 symbols: leave"),
        (("--text", "t.txt"), "--text 't.txt' is given but the checkpoint has another text: "),
        (("--reset",), "--reset is given but the checkpoint has --carry: leave it out with --res"),
        (("--learning-rate", 0.1), "--learning-rate 0.1 is given but the checkpoint has 0.01: "),
        (("--dtype", "float64"), "--dtype float64 is given but the checkpoint has float32: "),
        (("--head", "bounded"), "--head bounded is given but the checkpoint has linear: leave"),
        (("--clip-norm", 1), "--clip-norm 1.0 is given but the checkpoint has none: leave it out"),
    ],
)
def test_a_resume_that_trains_something_else_than_it_says(command, words, told):
    """Another option beside --resume is ignored without a word."""
    Path("t.txt").write_text("ba", encoding="utf-8")
    assert command(*TRAIN, "--checkpoint", "c.npz")[0] == 0
    assert refused(command, *RESUME, *words).startswith(told)
    assert load_checkpoint("c.npz")[2].windows == 3


def test_a_resume_that_refuses_the_line_that_it_goes_on_from(command):
    """The options of the first run, given again, say nothing else."""
    words = (*TRAIN, "--clip-norm", 1, "--reset", "--seed", 3, "--checkpoint", "c.npz")
    assert command(*words)[0] == 0
    assert command(*words, "--windows", 5, "--resume")[0] == 0
    assert load_checkpoint("c.npz")[2].windows == 5


@pytest.mark.parametrize("environment", [{}, {"FORCE_COLOR": "1", "TERM": "dumb"}])
def test_an_empty_line_where_there_is_no_terminal(command, monkeypatch, environment):
    """A progress bar that is not shown, as on a terminal that only prints, leaves one behind."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert command(*TRAIN)[2] == ""
    assert command(*TRAIN, "--compare")[2] == ""


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="needs /dev/full")
@pytest.mark.parametrize("option", ["--history", "--monitor"])
def test_a_record_on_a_full_disk_that_is_not_named(command, option):
    """Of the files of a run, which one is it that cannot be written?"""
    told = refused(
        command, *TRAIN, "--monitor", "m", option, "/dev/full", *(["--monitor-every", 1])
    )
    assert told == "file '/dev/full' cannot be written: No space left on device."


def test_a_record_that_has_no_disk(command):
    """A checkpoint asks for the history to be on the disk first, which a device refuses."""
    assert command(*TRAIN, "--history", "/dev/null", "--checkpoint", "c.npz")[0] == 0


@pytest.mark.parametrize(
    "words",
    [
        ("diff", *SMALL, "--json"),
        ("diff", *SMALL, "--html"),
        (*TRAIN, "--checkpoint"),
        (*TRAIN, "--monitor-plot"),
        (*TRAIN, "--json"),
        ("plateau", "--loss", 1, "--json"),
    ],
)
@pytest.mark.parametrize(
    ("name", "reason"),
    [("x" * 300, "File name too long"), ("", "No such file or directory"), (".", "Is a directory")],
)
def test_an_output_that_is_not_named_or_called_something_else(command, words, name, reason):
    """Every command refuses the file before any work, in the same words."""
    assert refused(command, *words, name).endswith(f" {name!r} cannot be written: {reason}.")
    assert list(Path().iterdir()) == []


def test_a_case_that_is_written_though_its_report_cannot_be(command):
    """The next try finds that the case exists already."""
    refused(command, "case", *SMALL, "--out", "case", "--json", "nowhere/report.json")
    assert not Path("case").exists()


def test_a_folder_that_cannot_be_read_told_as_an_output(monkeypatch, command):
    """What is wrong with the file of an input is not wrong with standard output."""
    told = f"{'x' * 300} cannot be read: File name too long."
    assert refused(command, "check", "--dump", "x" * 300) == told

    def denied(*_):
        raise PermissionError(errno.EACCES, "Permission denied", "secret.npy")

    monkeypatch.setattr(check_module, "check_dump", denied)
    told = "file 'secret.npy' cannot be used: Permission denied."
    assert refused(command, "check", "--dump", ".") == told


def test_a_checkpoint_that_is_the_current_folder(command):
    """The one before it has no name."""
    told = "checkpoint '.' is a folder or a device but must be a file."
    assert refused(command, "predict", ".") == told


def test_control_characters_that_reach_the_terminal(command):
    """An exception's message, a gradient's name or a path clears the screen or colours it."""
    for name, text in MODULES.items():
        Path(f"{name}.py").write_text(text, encoding="utf-8")
    status, _, err = command("check", "raising:vjp", "--examples", 5)
    assert status == 3
    assert r"IndexError: \x1b[2J\x1b[31mred\x07 \u202e, at raising.py:3" in err
    status, out, _ = command("check", "named:vjp", "--examples", 5)
    assert status == 1
    assert r"d\x1b[31mx is int64" in " ".join(out.split())
    assert r"\x1b[31mx cannot be read" in refused(command, "mistakes", "--case", "\x1b[31mx")


def test_a_report_of_nothing_that_counts_it(command):
    """ "not run", and yet 1 checks and 1 cases."""
    Path("named.py").write_text(MODULES["named"], encoding="utf-8")
    _, out, _ = command("check", "named:vjp", "--examples", 5, "--html", "page.html")
    assert out.startswith("named:vjp\nnot run   0.0 s\n")
    assert "1 checks" not in Path("page.html").read_text(encoding="utf-8")


def test_a_file_whose_name_is_taken_for_markup(command):
    """The command line that gives the same again names another file."""
    Path("a[b].txt").write_text("abab", encoding="utf-8")
    words = ("diff", "--text", "a[b].txt", "--steps", 2, "--no-blind-spots")
    assert "--text 'a[b].txt'" in command(*words)[1]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("check", "manual_lstm:vjp", "--sizes", "H=2,H=3"), "--sizes is 'H=2,H=3' but must have"),
        (("check", "manual_lstm:vjp", "--sizes", "H=2", "--sizes", "H=3"), "--sizes is 'H=2,H=3'"),
        (("mistakes", "--case", "case", "--head", "linear"), "--head is for the list: a case has"),
    ],
)
def test_a_second_word_that_takes_the_place_of_the_first(command, words, told):
    """The last silently wins."""
    command("case", *SMALL, "--out", "case")
    assert refused(command, *words).startswith(told)


def test_a_size_that_is_lost_as_the_option_is_given_twice(command):
    """--sizes H=2 --sizes L=1 binds both, and so do the words to run it again."""
    words = ("--sizes", "H=2", "--sizes", "L=1", "--require", "dx", "--require", "dh0")
    _, out, _ = command("check", "manual_lstm:vjp", *words, "--examples", 20, "--json", "-")
    report = json.loads(out)
    assert "--sizes H=2,L=1 --require dx,dh0" in report["reproduce"]
    shapes = {each["name"]: each["shape"] for each in report["tensors"]}
    assert shapes["dbias_l0"] == [8]
    assert "dbias_l1" not in shapes


def test_a_case_or_a_text_that_the_report_replaces(command):
    """`case --json` onto what it has just written, or read."""
    Path("t.txt").write_text("abab", encoding="utf-8")
    told = "which is the file of --out too: choose another."
    assert told in refused(command, "case", *SMALL, "--out", "c.npz", "--json", "c.npz")
    words = ("--text", "t.txt", "--steps", 2, "--json", "t.txt")
    assert "the file of --text too" in refused(command, "case", *words, "--out", "c.npz")
    assert command("case", *SMALL, "--out", "c.npz", "--json", "r.json")[0] == 0
    assert load_case("c.npz").x.shape == (2, 1, 2)


def test_a_case_in_a_layout_that_holds_other_arrays(command):
    """Somebody who is to read `kernel.npy` can find out neither its name nor its shape."""
    words = ("case", *SMALL, "--hidden", 3)
    command(*words, "--out", "own")
    _, out, _ = command(*words, "--out", "theirs", "--layout", "bias_neuron")
    assert "\n  W_f_l0 (3, 3)\n" in out
    assert "--layout bias_neuron" in out.splitlines()[-1]
    theirs = read_case("theirs")
    layout = Layout.from_json(theirs.layout)
    back = layout.params_from(theirs.case.params)
    own = load_case("own")
    assert {n: a.tolist() for n, a in back.items()} == {
        n: a.tolist() for n, a in own.params.items()
    }
    assert np.array_equal(layout.sequence_from(theirs.case.x), own.x)
    command(*words, "--out", "same", "--layout", "manual_lstm")
    assert Path("same/case.json").read_bytes() == Path("own/case.json").read_bytes()
    assert "must be one of manual_lstm, torch" in refused(
        command, *words, "--out", "x", "--layout", "y"
    )


def test_a_torch_that_is_somebodys_own_file(tmp_path):
    """A traceback where a module of that name is not the library, and the LSTM needs neither."""
    (tmp_path / "torch.py").write_text("x = 1\n", encoding="utf-8")
    (tmp_path / "mine.py").write_text(
        "import torch\nfrom manual_lstm import vjp\n", encoding="utf-8"
    )
    words = [sys.executable, "-m", "torch_ref", "check", "mine:vjp", "--examples", "5"]
    root = str(Path(manual_lstm.__file__).parents[1])
    done = subprocess.run(
        words,
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": root},
    )
    assert done.returncode == 0, done.stderr
    assert "AGREES" in done.stdout
