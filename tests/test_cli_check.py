"""`manual-lstm check`: verdicts, exit statuses, and what it leaves behind."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import command_in

import manual_lstm
from torch_ref import load_case, run_case, save_result
from torch_ref.harness.cases import sized_case
from torch_ref.harness.failing import save_failing

MODULES = {
    "right": """
import manual_lstm
vjp = manual_lstm.vjp
""",
    "wrong": """
import manual_lstm
def vjp(params, x, h0, c0):
    outputs, pullback = manual_lstm.vjp(params, x, h0, c0)
    return outputs, lambda dy, dh_n, dc_n: pullback(dy, dh_n, 0 * dc_n)
""",
    "crashes": """
def vjp(params, x, h0, c0):
    raise IndexError("list index out of range")
""",
    "refuses": """
def vjp(params, x, h0, c0):
    raise ValueError("operands could not be broadcast\\ntogether")
""",
    "refuses_back": """
import manual_lstm
def vjp(params, x, h0, c0):
    outputs, _ = manual_lstm.vjp(params, x, h0, c0)
    return outputs, lambda dy, dh_n, dc_n: int("seven")
""",
    "refuses_loss": """
def loss_and_grads(params, x, targets, h0, c0):
    raise ValueError("no targets")
""",
    "square": """
import manual_lstm
def vjp(params, x, h0, c0):
    if x.shape[2] != h0.shape[2]:
        raise ValueError("I must be H")
    return manual_lstm.vjp(params, x, h0, c0)
""",
    "crashes_late": """
import manual_lstm
def vjp(params, x, h0, c0):
    if len(x) > 4:
        raise IndexError("list index out of range")
    return manual_lstm.vjp(params, x, h0, c0)
""",
    "one_layer": """
import manual_lstm
def vjp(params, x, h0, c0):
    if len(h0) > 1:
        raise ValueError("one layer at a time")
    return manual_lstm.vjp(params, x, h0, c0)
""",
    "stack": """
import manual_lstm
def vjp(params, x, h0, c0):
    outputs, pullback = manual_lstm.vjp(params, x, h0, c0)
    def back(dy, dh_n, dc_n):
        [None][len(h0) - 1]
        return pullback(dy, dh_n, 0 * dc_n)
    return outputs, back
""",
    "malformed_late": """
import manual_lstm
def vjp(params, x, h0, c0):
    return manual_lstm.vjp(params, x, h0, c0) if len(x) < 4 else None
""",
    "malformed": """
def vjp(params, x, h0, c0):
    return None
""",
    "broken": "import nowhere_to_be_found\n",
    "raises": "1 / 0\n",
    "magic": "%matplotlib inline\n",
    "module": "import torch\nlstm = torch.nn.LSTM(2, 3)\n",
    "nothing": "vjp = 3\n",
}


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """A function from arguments to (exit status, stdout, stderr), in an empty folder."""
    for name, text in MODULES.items():
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
    return command_in(tmp_path, monkeypatch, capsys)


def test_a_right_lstm(command):
    """Exit status 0, a table, what is not verified, and nothing left behind."""
    status, out, _ = command("check", "right:vjp", "--examples", 40)
    assert status == 0
    assert "AGREES" in out
    assert "dweight_hh_l0" in out
    assert not Path("out").exists()


def test_a_wrong_lstm_and_its_failing_case(command):
    """Exit status 1; the failing case is kept and fails again by itself."""
    status, out, _ = command("check", "wrong:vjp", "--examples", 40)
    assert status == 1
    assert "DISAGREES" in out
    (folder,) = Path("out").iterdir()
    assert f"manual-lstm check wrong:vjp --case {folder}" in out
    assert np.any(load_case(folder).dc_n != 0)
    status, out, _ = command("check", "wrong:vjp", "--case", folder)
    assert status == 1
    status, out, _ = command("check", "right:vjp", "--case", folder)
    assert status == 0


@pytest.mark.parametrize(
    ("target", "status", "words"),
    [
        ("crashes:vjp", 3, "crashes:vjp: IndexError: list index out of range"),
        ("refuses:vjp", 3, "refuses:vjp: ValueError: operands could not be broadcast together"),
        ("refuses_back:vjp", 3, "refuses_back:vjp: ValueError: invalid literal"),
        ("refuses_loss:loss_and_grads", 3, "refuses_loss:loss_and_grads: ValueError: no targets"),
        (
            "broken:vjp",
            2,
            "ModuleNotFoundError: No module named 'nowhere_to_be_found', at broken.p",
        ),
        ("raises:vjp", 2, "imported: ZeroDivisionError: division by zero, at raises.py:1.\n"),
        ("magic:vjp", 2, "imported: SyntaxError: invalid syntax (magic.py, line 1).\n"),
        ("module:lstm", 2, "the implementation is a torch module but must be a callable in NumPy"),
        ("nothing:vjp", 2, "the implementation is int but must be"),
        ("right:other", 2, "target 'right:other': right has no other"),
        ("right", 2, "target is 'right' but must be package.module:object"),
        ("nowhere:vjp", 2, "cannot be imported"),
    ],
)
def test_what_cannot_be_checked(command, target, status, words):
    """One line on standard error, nothing on standard output, the right exit status."""
    found, out, err = command("check", target, "--examples", 20)
    assert found == status
    assert out == ""
    assert words in err
    assert err.count("\n") == 1


def test_a_crash_that_a_script_is_not_told(command):
    """Where not even the plainest case runs there is no JSON and no page."""
    status, out, err = command("check", "crashes:vjp", "--json", "-", "--html", "report.html")
    assert status == 3
    assert err.startswith("manual-lstm: crashes:vjp: IndexError: list index out of range, at ")
    report = json.loads(out)
    assert report["verdict"] == "disagree"
    assert report["crash"].startswith("IndexError: list index out of range, at crashes.py:")
    assert [check["sentence"] for check in report["checks"]] == [f"It raises {report['crash']}."]
    assert report["reproduce"] == "manual-lstm check crashes:vjp --examples 200 --seed 0"
    assert report["crash"] in Path("report.html").read_text(encoding="utf-8")
    status, out, _ = command("check", "right:vjp", "--json", "-", "--examples", 20)
    assert (status, json.loads(out)["crash"]) == (0, None)


def test_a_crash_that_does_not_say_how_it_would_run(command):
    """What is bound to I = H crashes at once, and nobody says that it can be told so."""
    status, _, err = command("check", "square:vjp", "--examples", 20)
    assert status == 3
    assert err.count("\n") == 1
    assert "I must be H, at square.py:5. With I = H it runs: if it is bound to that, --si" in err
    assert command("check", "square:vjp", "--examples", 20, "--sizes", "I=3,H=3")[0] == 0


def test_a_report_that_takes_the_place_of_what_is_checked(command):
    """The module of the target, a link to it, or the program itself is overwritten."""
    source = Path("right.py").read_text(encoding="utf-8")
    Path("link").symlink_to("right.py")
    program = ("--command", "./right.py {case} {result}", "--head", "none")
    for words in (("right:vjp", "--json", "link"), (*program, "--html", "right.py")):
        status, _, err = command("check", *words)
        assert (status, err.count("\n"), "too: choose another." in err) == (2, 1, True)
    assert Path("right.py").read_text(encoding="utf-8") == source


def test_a_report_that_is_lost_with_the_failing_case(command):
    """Where the case cannot be kept the verdict is still told, and how to find the case again."""
    Path("out").write_text("mine", encoding="utf-8")
    status, out, err = command("check", "wrong:vjp", "--examples", 40)
    assert status == 1
    assert "DISAGREES" in out
    assert "Again:  manual-lstm check wrong:vjp --examples 40 --seed 0" in out
    assert err == (
        "manual-lstm: the failing case is not kept: folder 'out' cannot be made: File exists.\n"
    )


def test_two_runs_that_keep_the_same_case(tmp_path, monkeypatch):
    """The slower of two that look before either writes loses its report."""
    case = sized_case({"T": 2, "B": 1, "I": 2, "H": 2, "L": 1})
    first = save_failing(case, tmp_path / "out")
    with monkeypatch.context() as patch:
        looks = iter([False])
        exists = Path.exists
        patch.setattr(Path, "exists", lambda path: next(looks, None) is None and exists(path))
        assert save_failing(case, tmp_path / "out") == first


def test_a_crash_in_the_middle(command):
    """Exit status 3, and the case on which it crashes is kept."""
    status, out, _ = command("check", "crashes_late:vjp", "--examples", 40)
    assert status == 3
    assert "It raises IndexError: list index out of range" in " ".join(out.split())
    assert list(Path("out").iterdir())


def test_a_stack_that_raises(command):
    """What was raised, and where, is not told; or there is no way to say what should be."""
    words = ("check", "one_layer:vjp", "--examples", 20)
    status, out, _ = command(*words)
    text = " ".join(out.split())
    assert status == 0
    assert "it raises ValueError: one layer at a time, at one_layer.py:5." in text
    assert "--require stacks makes what it raises a failure. If not: --sizes L=1 says so." in text
    status, out, _ = command(*words, "--sizes", "L=1")
    assert (status, "raises" in out) == (0, False)
    assert "Again:  manual-lstm check one_layer:vjp --sizes L=1 --examples 20 --seed 0" in out
    status, out, _ = command(*words, "--require", "stacks", "--html", "page.html")
    again = out.split("Again:  manual-lstm ")[1].split()
    assert status == 3
    assert "check_stacks fails: It raises ValueError" in out
    assert again[:4] == ["check", "one_layer:vjp", "--require", "stacks"]
    assert command(*again)[0] == 3
    assert "one layer at a time" in Path("page.html").read_text(encoding="utf-8")


def test_a_stack_that_raises_beside_a_wrong_gradient(command):
    """The mistake is not looked for, or what the stack raises is lost behind it."""
    status, out, _ = command("check", "stack:vjp", "--examples", 40)
    text = " ".join(out.split())
    assert status == 3
    assert "dc_n, the upstream gradient of c_n, is ignored." in text
    assert (
        "check_stacks fails: It raises IndexError: list index out of range, at stack.py:6" in text
    )


def test_an_answer_that_is_none(command):
    """A malformed answer is a failed verdict with a sentence, exit status 1."""
    status, out, _ = command("check", "malformed:vjp", "--examples", 20)
    assert status == 1
    assert "returned NoneType but must return" in " ".join(out.split())


def test_an_answer_that_is_malformed_in_the_middle(command):
    """It disagrees, exit status 1: nothing crashed, and the sentence is the same as at once."""
    status, out, _ = command("check", "malformed_late:vjp", "--examples", 40)
    assert status == 1
    assert "malformed_late:vjp returned NoneType but must return" in " ".join(out.split())
    assert "MalformedAnswer" not in out


def test_json_and_nothing_else(command):
    """--json - prints JSON alone, with the keys of the design."""
    status, out, _ = command("check", "wrong:vjp", "--examples", 40, "--json", "-")
    report = json.loads(out)
    assert status == 1
    assert report["verdict"] == "disagree"
    assert {"tensors", "diagnosis", "first_wrong", "layout", "scale", "unverified"} <= set(report)
    assert report["first_wrong"]["tensor"].startswith("d")
    verdicts = {check["name"]: check["verdict"] for check in report["checks"]}
    assert verdicts["check_only_dc_n"] == "disagree"
    assert verdicts["check_only_dh_n"] == "agree"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "check needs just one of package.module:object, --command and --dump"),
        (("right:vjp", "--command", "a {case} {result}"), "check needs just one of"),
        (("--dump", "nowhere"), "nowhere has no case and none of case.npz, case.safetensors"),
        (
            ("right:vjp", "--layout", "mine"),
            "layout is 'mine' but must be one of",
        ),
        (("--dump", "x", "--layout", "torch"), "--layout is for package.module:object"),
        (("right:vjp", "--case", "nowhere"), "nowhere cannot be read"),
        (("right.py:vjp",), "a module's name and not its file's: right:vjp, from the folder"),
        (("./a/b.py:vjp",), "a module's name and not its file's: a.b:vjp, from the folder"),
        (("/tmp/right.py:vjp",), "a module's name and not its file's: right:vjp, from the folder"),
        (("--command", "./prog"), "has no {case}"),
        (("--command", "./nowhere {case} {result}"), "program './nowhere' cannot be run"),
        (("--command", "a {case} {result}", "--without", "x"), "without is 'x' but must be one of"),
        (("--command", "a {case} {result}", "--without", "dy"), "without is 'dy' but must be one"),
        (("right:vjp", "--examples", "0"), "--examples"),
        (("right:vjp", "--sizes", "H"), "--sizes is 'H' but must be sizes and whole numbers: --s"),
        (("right:vjp", "--sizes", "H=-1"), "--sizes is 'H=-1' but must be sizes and whole"),
        (
            ("right:vjp", "--sizes", "V=3"),
            "sizes is 'V' but must be one of 'T', 'B', 'I', 'H', 'L'",
        ),
        (("right:vjp", "--require", "stack"), "requires is 'stack' but must be one of 'all', "),
        (("--dump", "x", "--sizes", "B=1"), "--sizes is for package.module:object and --command"),
        (("crashes:vjp", "--json", "nowhere/report.json"), "cannot be written"),  # not run
        (("crashes:vjp", "--html", "nowhere/report.html"), "cannot be written"),
    ],
)
def test_wrong_usage(command, arguments, words):
    """Exit status 2 and one line that says what is wrong."""
    status, out, err = command("check", *arguments)
    assert status == 2
    assert words in err
    assert "Traceback" not in err + out


@pytest.mark.parametrize("ending", ["", ".npz", ".safetensors"])
def test_a_dump(command, ending):
    """A case and a result that lie in files are judged; a wrong result disagrees."""
    Path("dump").mkdir()
    assert command("case", "--out", f"dump/case{ending}", "--steps", 4, "--inputs", 5)[0] == 0
    if not ending:
        _, _, err = command("check", "--dump", "dump/case")
        assert "dump/case is itself what one program writes: give the folder above it" in err
    case = load_case(f"dump/case{ending}")
    results = run_case(case, manual_lstm.CharModel(5, 5).vjp)
    save_result(results, case, f"dump/result{ending}")
    status, out, _ = command("check", "--dump", "dump")
    assert status == 0
    assert "AGREES" in out
    shutil.rmtree(f"dump/result{ending}") if not ending else Path(f"dump/result{ending}").unlink()
    save_result(results | {"dbias_l0": results["dbias_l0"] * 1.01}, case, f"dump/result{ending}")
    status, out, _ = command("check", "--dump", "dump")
    assert status == 1
    assert "Wrong: dbias_l0" in out


def test_a_layout_that_is_named_or_found(command):
    """--layout takes a preset or auto; with the wrong one the forward disagrees."""
    module = Path("course.py")
    module.write_text(COURSE, encoding="utf-8")
    assert command("check", "course:vjp", "--layout", "course", "--examples", 40)[0] == 0
    status, out, _ = command("check", "course:vjp", "--layout", "auto", "--examples", 40)
    assert status == 0
    assert "Its layout was found: course" in out


COURSE = """
import manual_lstm
from torch_ref import preset
course = preset("course")
def vjp(params, x, h0, c0):
    ours = course.params_from(params)
    to, of = course.state_to, course.state_from
    (y, h, c), pullback = manual_lstm.vjp(ours, course.sequence_from(x), of(h0), of(c0))
    def back(dy, dh_n, dc_n):
        g = pullback(course.sequence_from(dy), of(dh_n), of(dc_n))
        theirs = course.params_to({name: g["d" + name] for name in ours})
        return {"d" + name: value for name, value in theirs.items()}
    return (course.sequence_to(y), to(h), to(c)), back
"""
PROGRAM = """
import shutil
import signal
import subprocess
import sys
case, result = sys.argv[1:3]
{body}
"""


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ("sys.exit('no memory left')", 3, "no memory left"),
        ("import time; time.sleep(60)", 4, "still running after 0.5 s"),
        ("pass", 1, "left no usable result"),
    ],
)
def test_a_program_that_fails(command, tmp_path, body, status, words):
    """Crash 3, time-out 4, no result 1; each in a sentence."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.format(body=body), encoding="utf-8")
    words_of_command = f"{sys.executable} {program} {{case}} {{result}}"
    timeout = ("--timeout", "0.5") if status == 4 else ()
    found, out, err = command("check", "--command", words_of_command, *timeout)
    assert found == status
    assert words in " ".join((out + err).split())
