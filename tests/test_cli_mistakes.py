"""`manual-lstm mistakes`, and what `check` and `diff` print of a diagnosis and of blind spots."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from torch_ref import save_case
from torch_ref.cli import app
from torch_ref.diagnosis.evidence import SIZES
from torch_ref.harness.cases import sized_case

MODULE = """
from torch_ref.diagnosis.mistakes.catalogue import catalogue
from torch_ref.diagnosis.mistakes.planted import planted_vjp

known = catalogue()
edits = {each.identifier: each.edit for each in known.mistakes}
vjp = planted_vjp(edits["df.c[t]"](known.table))
transposed = planted_vjp(edits["weight_ih.transposed"](known.table))


def short(params, x, h0, c0):
    outputs, pullback = vjp(params, x, h0, c0)
    return outputs, lambda *upstream: short_dx(pullback(*upstream))


def short_dx(gradients):
    return {**gradients, "dx": gradients["dx"][:1]}
"""


def run(*words: str) -> Any:
    """The command with these words; its exit status and what it printed."""
    return CliRunner().invoke(app, list(words))


@pytest.fixture
def wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The target of an implementation whose forget gate reads c[t]."""
    (tmp_path / "wrong_lstm.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "wrong_lstm:vjp"


def test_check_prints_the_line_and_not_a_list_of_checks(wrong: str) -> None:
    """A report that leaves it to the reader to find the line that every failing check points at."""
    result = run("check", wrong, "--examples", "20", "--json", "report.json")
    assert result.exit_code == 1
    assert "The forget gate's gradient uses c[t] where it needs c[t-1]." in result.stdout
    assert "df = dc * c[t]\n        ->  df = dc * c[t-1]" in result.stdout
    assert "Fails too" not in result.stdout
    (found,) = json.loads(Path("report.json").read_text())["diagnosis"]
    assert (found["mistake"], found["equation"]) == ("df.c[t]", "(14)")
    assert 0 <= found["residual"] <= 1


def test_gradient_that_cannot_be_read_is_named_all_the_same(wrong: str) -> None:
    """A transposed gradient of which the report says that its shape is wrong, and no line."""
    result = run("check", wrong.replace("vjp", "transposed"), "--examples", "20")
    assert result.exit_code == 1
    printed = " ".join(result.stdout.split())
    assert "The gradient of weight_ih has each gate's block transposed." in printed
    assert "dweight_ih_l0 has shape (8, 3) but must be (12, 2)." in printed


def test_other_shape_that_passes_for_explained(wrong: str) -> None:
    """A mistake that is said to explain everything, beside a dx of another shape."""
    result = run("check", wrong.replace("vjp", "short"), "--examples", "20")
    assert result.exit_code == 1
    printed = " ".join(result.stdout.split())
    assert "The forget gate's gradient uses c[t] where it needs c[t-1]." in printed
    assert "Beside that, dx: shape (1," in printed


def test_check_of_a_users_case_says_what_it_cannot_see(wrong: str) -> None:
    """A poor case of the user's that passes for a test of everything."""
    save_case(sized_case({"T": 1, "B": 1, "I": 2, "H": 2, "L": 1}), "poor")
    result = run("check", "manual_lstm:vjp", "--case", "poor", "--json", "report.json")
    assert result.exit_code == 0
    assert "a single step (T=1)" in " ".join(result.stdout.split())
    assert "dc_carry.without f" not in json.loads(Path("report.json").read_text())["blind_spots"]
    assert "stack.dx * 0" in json.loads(Path("report.json").read_text())["blind_spots"]


def test_mistakes_lists_the_whole_catalogue() -> None:
    """A list without the sentence, or one that is shorter than what a diagnosis can name."""
    result = run("mistakes", "--json", "-")
    assert result.exit_code == 0
    listed = json.loads(result.stdout)["mistakes"]
    assert len(listed) >= 150
    entry = next(each for each in listed if each["mistake"] == "df.c[t]")
    assert entry["wrong"] == "df = dc * c[t]"
    assert entry["right"] == "df = dc * c[t-1]"
    assert "df.c[t]" in run("mistakes").stdout


@pytest.mark.parametrize("steps", [1, 4])
def test_mistakes_of_a_case_are_those_that_it_cannot_show(steps: int, tmp_path: Path) -> None:
    """A case of one step and one of several that are said to see the same."""
    save_case(sized_case({**SIZES[1], "T": steps}), tmp_path / "case")
    result = run("mistakes", "--case", str(tmp_path / "case"), "--json", "-")
    report = json.loads(result.stdout)
    blind = {each["mistake"] for each in report["blind_spots"]}
    assert result.exit_code == (1 if blind else 0)
    assert ("weight_hh.last" in blind) == (steps == 1)
    assert "df.c[t]" in report["seen"]
