"""`manual-lstm diff`: what it prints, what it exits with, what it leaves behind."""

import contextlib
import io
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from bad_texts import BAD_TEXTS, bad_text
from planted import MISTAKES, plant

from torch_ref import load_case
from torch_ref.cli import main

SMALL = ["--steps", "3", "--batch", "2", "--inputs", "4", "--hidden", "3", "--no-blind-spots"]
KEYS = {
    "verdict",
    "tensors",
    "diagnosis",
    "first_wrong",
    "layout",
    "scale",
    "unverified",
    "arbitration",
    "sharpness",
    "blind_spots",
    "reproduce",
}
TENSOR_KEYS = {
    "name",
    "shape",
    "max_abs",
    "max_rel",
    "max_ulp",
    "tolerance",
    "used",
    "worst_index",
    "verdict",
    "reason",
}
NAMES = {"loss", "h_n", "c_n", "dx", "dh0", "dc0", "dweight_ih_l0", "dweight_hh_l0", "dbias_l0"}


@pytest.fixture
def command(monkeypatch, capsys):
    """Run the command in this process: (exit status, standard output, standard error)."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["manual-lstm", *map(str, words)])
        with pytest.raises(SystemExit) as caught:
            main()
        out, err = capsys.readouterr()
        return caught.value.code or 0, out, err

    return run


@pytest.mark.parametrize("head", ["linear", "bounded"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layers", [1, 2])
def test_a_correct_lstm_that_exits_with_failure(command, head, dtype, layers):
    """It agrees: exit status 0, a line for every tensor within 80 columns, nothing on stderr."""
    sizes = ["--steps", 3, "--batch", 2, "--inputs", 4, "--layers", layers]
    words = [*sizes, "--head", head, "--dtype", dtype, "--no-blind-spots"]
    status, out, err = command("diff", *words)
    assert (status, err) == (0, "")
    assert "AGREES. " in out
    names = NAMES | ({"dweight_out", "dbias_out"} if head == "linear" else set())
    lines = out.splitlines()
    for name in names:
        assert any(line.startswith(name) and line.rstrip().endswith(" ok") for line in lines), name
    assert all(len(line) <= 80 for line in lines if not line.startswith("Again:"))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_wrong_line_that_exits_with_success(command, monkeypatch, dtype):
    """A planted mistake exits with 1 and names the tensors that it spoils, and no other."""
    plant(monkeypatch, *MISTAKES["dbias missing"])
    status, out, err = command("diff", *SMALL, "--dtype", dtype)
    assert (status, err) == (1, "")
    assert "DISAGREES. " in out
    wrong = [line.split()[0] for line in out.splitlines() if line.rstrip().endswith("WRONG")]
    assert wrong == ["dbias_l0"]
    status, out, _ = command("diff", *SMALL, "--dtype", dtype, "--json", "-")
    report = json.loads(out)
    assert (status, report["verdict"]) == (1, "disagree")
    assert [t["name"] for t in report["tensors"] if t["verdict"] == "disagree"] == ["dbias_l0"]


def test_a_json_report_with_other_keys(command):
    """`--json -` prints one JSON object and nothing else, with the keys that scripts rely on."""
    status, out, err = command("diff", *SMALL, "--json", "-")
    assert (status, err) == (0, "")
    report = json.loads(out)
    assert report.keys() == KEYS
    assert report["verdict"] == "agree"
    assert {tensor["name"] for tensor in report["tensors"]} == NAMES | {"dweight_out", "dbias_out"}
    for tensor in report["tensors"]:
        assert tensor.keys() == TENSOR_KEYS
        assert tensor["verdict"] == "agree"
        assert 0 <= tensor["max_abs"] < np.inf
        assert 0 < tensor["tolerance"] < np.inf
        assert len(tensor["worst_index"]) == len(tensor["shape"])
    by_name = {tensor["name"]: tensor for tensor in report["tensors"]}
    assert by_name["dweight_ih_l0"]["shape"] == [12, 4]
    assert by_name["loss"]["shape"] == []


def test_a_nan_that_makes_no_json(command, monkeypatch):
    """JSON has no NaN: the number is null, the verdict says that it disagrees."""
    module = sys.modules["torch_ref.compare.diff"]
    run = module.run_manual
    monkeypatch.setattr(module, "run_manual", lambda case: run(case) | {"dx": np.nan * case.x})
    status, out, _ = command("diff", *SMALL, "--json", "-")
    (tensor,) = (t for t in json.loads(out)["tensors"] if t["name"] == "dx")
    assert status == 1
    assert (tensor["verdict"], tensor["max_abs"]) == ("disagree", None)
    status, out, _ = command("diff", *SMALL)
    assert status == 1
    assert any(line.startswith("dx ") and line.endswith("WRONG") for line in out.splitlines())


def test_a_command_line_that_gives_another_result(command, tmp_path):
    """`reproduce` gives the same report again, for an alphabet and for a text."""
    text = tmp_path / "a text.txt"
    text.write_text("to be or not to be", encoding="utf-8")
    for words in (
        [*SMALL, "--seed", 3, "--dtype", "float32"],
        ["--text", text, *SMALL[:2], SMALL[-1]],
    ):
        _, first, _ = command("diff", *words, "--json", "-")
        again = shlex.split(json.loads(first)["reproduce"])
        assert again[0] == "manual-lstm"
        assert command(*again[1:], "--json", "-") == (0, first, "")
        _, table, _ = command("diff", *words)
        assert f"Again:  {json.loads(first)['reproduce']}" in table


def test_a_default_case_that_is_not_told_what_it_cannot_show(command):
    """One sequence, as by default: a mean over the batch is its sum, and the report says so."""
    words = ["diff", "--steps", 3, "--inputs", 3, "--seed", 1]
    status, out, _ = command(*words, "--json", "report.json")
    assert status == 0
    told = " ".join(out.split())
    found = re.search(r"This case could not have seen (\d+) of (\d+) mistakes\.", told)
    assert "It has one sequence (B=1): a mean over the batch is its sum; one layer" in told
    spots = json.loads(Path("report.json").read_text(encoding="utf-8"))["blind_spots"]
    assert len(spots) == int(found[1])
    assert {"dlogits * B", "stack.dx * 0"} <= set(spots)
    assert "df.c[t]" not in spots
    _, out, _ = command("diff", "--steps", 65, "--inputs", 2)
    assert "What this case hides: one sequence (B=1)" in " ".join(out.split())


def test_a_seed_or_an_option_without_effect(command):
    """Every option that says what is computed changes the report."""
    _, first, _ = command("diff", *SMALL, "--json", "-")
    for words in (
        ["--seed", 1],
        ["--dtype", "float32"],
        ["--layers", 2],
        ["--steps", 4],
        ["--batch", 3],
        ["--inputs", 5],
        ["--hidden", 4],
        ["--hidden", 4, "--head", "bounded"],
    ):
        _, other, _ = command("diff", *SMALL, *words, "--json", "-")
        assert json.loads(other)["tensors"] != json.loads(first)["tensors"], words


@pytest.mark.parametrize("kind", BAD_TEXTS)
def test_a_text_that_ends_in_a_traceback(command, tmp_path, kind):
    """A text that cannot be used exits with 2 and one line that names it."""
    path, message = bad_text(tmp_path, kind)
    status, out, err = command("diff", "--text", path, "--json", "-")
    assert (status, out) == (2, "")
    assert err.startswith(f"manual-lstm: text file '{path}' {message}")
    assert err.count("\n") == 1


WRONG_USAGE = {
    "--steps 0": "'--steps'",
    "--steps x": "'--steps'",
    "--batch -1": "'--batch'",
    "--inputs 95": "num_symbols is 95 but must be at most 94",
    "--inputs 0": "'--inputs'",
    "--hidden 0": "'--hidden'",
    "--layers 0": "'--layers'",
    "--seed -1": "'--seed'",
    "--dtype float16": "'--dtype'",
    "--head soft": "'--head'",
    "--head bounded --inputs 4 --hidden 3": "hidden_size is 3 but must be 4",
    "--text x --inputs 4": "--inputs and --text both say what the symbols are",
    "--nonsense": "--nonsense",
    "more": "more",
}


@pytest.mark.parametrize("words", WRONG_USAGE)
def test_wrong_usage_that_is_not_one_line(command, words):
    """Wrong usage exits with 2, with one line that says what was wrong, and without output."""
    status, out, err = command("diff", *words.split(), "--json", "-")
    assert (status, out) == (2, "")
    assert err.startswith("manual-lstm: ")
    assert WRONG_USAGE[words] in err
    assert err.count("\n") == 1


def test_no_command_that_counts_as_success(command):
    """Without a command it shows the help and exits with 2; an unknown one is named."""
    status, out, err = command()
    assert status == 2
    assert "diff" in out
    assert err == ""
    assert command("nonsense") == (2, "", "manual-lstm: No such command 'nonsense'. Try --help.\n")
    near = "manual-lstm: No such command 'chek'. Did you mean 'check'? Try --help.\n"
    assert command("chek") == (2, "", near)
    status, out, _ = command("diff", "--help")
    assert status == 0
    assert "--json" in out


def test_a_window_without_a_head_that_has_one(command, tmp_path):
    """With --head none there are dy and real inputs, for `diff` and for `case`, the same ones."""
    words = [
        "--head",
        "none",
        "--steps",
        3,
        "--batch",
        2,
        "--inputs",
        4,
        "--hidden",
        3,
        "--seed",
        5,
    ]
    status, out, _ = command("diff", *words, "--json", "-", "--no-blind-spots")
    assert status == 0
    report = json.loads(out)
    assert report["tensors"][0]["name"] == "y"
    assert "--head none" in report["reproduce"]
    status, out, _ = command("case", *words, "--out", tmp_path / "case")
    assert status == 0
    assert "T=3 B=2 I=4 H=3 L=1, float64, no head" in out
    case = load_case(tmp_path / "case")
    assert case.targets is None
    assert case.dy is not None
    assert len(np.unique(case.x)) == case.x.size
    status, _, err = command("case", *words[:2], "--text", "mine.txt", "--out", tmp_path / "text")
    assert status == 2
    assert "--text is 'mine.txt' but there is none with --head none" in err


def test_a_terminal_that_cannot_show_a_letter(command, monkeypatch, tmp_path):
    """The report of long work is lost for one letter that ASCII has not."""
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", terminal)
    assert command("case", "--out", tmp_path / "ä", "--steps", 2, "--inputs", 2)[0] == 0
    terminal.flush()
    assert b"\\xe4: T=2 B=1 V=2 H=2 L=1" in terminal.buffer.getvalue()


def test_a_report_that_leaves_something_else_behind(command, tmp_path):
    """`--json FILE` writes the report, replaces an older one, and leaves no other file."""
    path = tmp_path / "report.json"
    path.write_text("older", encoding="utf-8")
    link = tmp_path / "link.json"
    link.symlink_to(path)
    status, out, _ = command("diff", *SMALL, "--json", link)
    assert status == 0
    assert "AGREES" in out
    assert json.loads(path.read_text(encoding="utf-8")).keys() == KEYS
    assert link.is_symlink()
    assert sorted(tmp_path.iterdir()) == [link, path]


def test_a_report_that_cannot_be_written(command, tmp_path):
    """A missing folder, a folder, a full device: exit status 2, one line, nothing left behind."""
    places = [tmp_path / "missing" / "report.json", tmp_path]
    full = Path("/dev/full")
    if full.is_char_device():
        places.append(full)
    before = sorted(tmp_path.iterdir())
    for place in places:
        status, out, err = command("diff", *SMALL, "--json", place)
        assert (status, out) == (2, "")
        assert err.startswith(f"manual-lstm: --json file '{place}' cannot be written: ")
        assert err.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before
    assert full.is_char_device() == (full in places)


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="needs /dev/full")
def test_a_closed_output_that_is_a_traceback():
    """`>&-`: a traceback, with the status of a disagreement."""
    done = subprocess.run(
        [sys.executable, "-m", "torch_ref", "plateau", "--classes", "2", "--loss", "1"],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        preexec_fn=lambda: os.close(1),
    )
    told = "manual-lstm: the output cannot be written: standard output is closed.\n"
    assert (done.returncode, done.stderr) == (2, told)


def test_a_full_output_that_counts_as_a_disagreement(monkeypatch, capsys):
    """Standard output that cannot be written exits with 2, not with 1, and no traceback."""
    message = "manual-lstm: the output cannot be written: No space left on device.\n"
    monkeypatch.setattr(sys, "argv", ["manual-lstm", "diff", *SMALL, "--json", "-"])
    with contextlib.suppress(OSError), open("/dev/full", "w", encoding="utf-8") as full:
        monkeypatch.setattr(sys, "stdout", full)
        with pytest.raises(SystemExit, match="2"):
            main()
        sys.stdout.close()
    assert capsys.readouterr().err == message
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run(
            [sys.executable, "-m", "torch_ref", "diff", *SMALL],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
    assert (done.returncode, done.stderr) == (2, message)


def test_one_symbol_that_cannot_be_compared(command):
    """An alphabet of one symbol agrees, with a loss of exactly 0."""
    for head in ("linear", "bounded"):
        words = ["--inputs", 1, "--head", head, "--no-blind-spots"]
        status, out, _ = command("diff", *words, "--json", "-")
        loss = json.loads(out)["tensors"][0]
        assert (status, loss["name"], loss["max_abs"], loss["max_rel"]) == (0, "loss", 0.0, 0.0)


def test_a_default_that_the_help_loses(command):
    """Brackets in a help text that are taken for markup, and not shown."""
    status, out, _ = command("diff", "--help")
    words = re.sub(r"[│\s]+", " ", out)
    assert status == 0
    assert "or I. [default: 26]" in words
    assert "[default: as many as inputs]" in words
