"""The glue that docs/your_lstm.md shows: every block is run, and what it makes is checked."""

import re
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from exchange_files import assert_same_bits, stack_case

import manual_lstm
from torch_ref import Implementation, check_implementation
from torch_ref.compare.diff import run_manual
from torch_ref.harness.layouts.fields import LayoutFields
from torch_ref.harness.program import run_program
from torch_ref.reports.as_json import check_json

pytestmark = pytest.mark.sampled

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "your_lstm.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[1:]
# What each block makes, and what must be among the things that are not verified.
MADE = {
    "course": ("a non-zero c0", "the upstream gradient dc_n"),
    "one_matrix": ("stacks (more than one layer)",),
    "in_rows": ("the upstream gradient dh_n", "stacks (more than one layer)"),
    "in_columns": ("a non-zero c0", "the upstream gradient dh_n"),
    "trainer": ("the gradient dx", "the upstream gradient dc_n"),
    "last_step": ("the upstream gradient dy", "the gradient dx"),
    "classified": ("the upstream gradient dy", "a non-zero h0"),
    "torch_cell": ("stacks (more than one layer)",),
    "one_step": ("stacks (more than one layer)",),
    "steps": ("batches (more than one sequence)", "stacks (more than one layer)"),
    "loss_function": ("batches (more than one sequence)", "the gradient dx"),
    "module": (),
    "keras_style": ("the upstream gradient dh_n", "the gradient dx"),
    "update": ("the gradient dx",),
    "on_the_way": ("stacks (more than one layer)", "the gradient dh0"),
}


@pytest.fixture
def made(monkeypatch):
    """A function from a name to what the block that assigns it makes."""
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "others"))

    def make(name):
        (block,) = [each for each in BLOCKS if re.search(rf"^{name} = ", each, re.MULTILINE)]
        namespace = {}
        exec(compile(block, name, "exec"), namespace)
        return namespace[name]

    yield make
    for module in (
        "course_style",
        "step_class",
        "loss_fun",
        "bias_row",
        "rows",
        "columns",
        "char_trainer",
        "last_step",
        "classifier",
        "torch_cell",
    ):
        sys.modules.pop(module, None)


@pytest.mark.parametrize("name", MADE)
def test_glue_in_the_docs_that_accuses_a_correct_lstm(name, made):
    """A correct LSTM of another style is accused, or what it cannot do passes silently."""
    report = check_implementation(made(name), examples=20)
    assert report.verdict == "agree", report.failures
    assert not [what for what in report.unverified if "dweight_" in what or "dbias_" in what]
    for phrase in MADE[name]:
        assert any(told.startswith(phrase) for told in report.unverified), phrase


@pytest.mark.parametrize("name", MADE)
def test_glue_in_the_docs_that_is_longer_than_it_says(name):
    """More than ten lines of glue; blank lines and imports are not counted."""
    (block,) = [each for each in BLOCKS if re.search(rf"^{name} = ", each, re.MULTILINE)]
    lines = [line for line in block.splitlines() if line.strip()]
    assert sum(not line.startswith(("import ", "from ")) for line in lines) <= 10


SPOILT = {
    "course": ("course_style.py", "dc * prev_c * f", "dc * next_c * f"),
    "in_rows": ("rows.py", "dc * i\n        dz", "dh * i\n        dz"),
    "one_step": ("course_style.py", "dc * f, x.T @ da", "dc, x.T @ da"),
    "steps": ("step_class.py", "ds * s_before * f", "ds * tanh_s * f"),
    "last_step": ("last_step.py", "dc = dc * f", "dc = dc * f; dh = dh + self.Wy.T @ dy"),
    "classified": ("classifier.py", "dh * tc * o * (1 - o)", "dh * tc * o * (1 - i)"),
    "torch_cell": ("torch_cell.py", "dc * f, dz.T @ x", "dc, dz.T @ x"),
    "loss_function": ("loss_fun.py", "dy[targets[t]] -= 1", "dy[targets[t]] += 1"),
}


@pytest.mark.parametrize("name", SPOILT)
def test_a_wrong_line_in_an_lstm_of_another_style(name, made, tmp_path, monkeypatch):
    """The same glue on the same LSTM with one wrong line must disagree."""
    file, right, wrong = SPOILT[name]
    source = (ROOT / "tests" / "others" / file).read_text(encoding="utf-8")
    assert source.count(right) == 1
    (tmp_path / file).write_text(source.replace(right, wrong), encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    report = check_implementation(made(name), examples=20)
    assert report.verdict == "disagree"


@pytest.mark.parametrize("by", ["json.dumps", "save_result("])
def test_a_program_in_the_docs_that_leaves_no_right_result(by, tmp_path):
    """A page that shows a file too few, or a function that refuses the folder of a result."""
    (block,) = [each for each in BLOCKS if by in each and "sys.argv" in each]
    (tmp_path / "program.py").write_text(block, encoding="utf-8")
    command = f"{sys.executable} '{tmp_path / 'program.py'}' {{case}} {{result}}"
    case = stack_case()
    assert_same_bits(run_program(command, case, timeout=60), run_manual(case))


def test_an_lstm_whose_layout_is_found(made):
    """layout="auto" finds the course style, and says so."""
    from dataclasses import replace

    report = check_implementation(replace(made("course"), layout="auto"), examples=20)
    assert report.verdict == "agree"
    assert "course" in report.layout


def test_a_field_of_a_layout_that_the_docs_leave_out():
    """The table has a row for every field, and none that there is not."""
    table = PAGE.partition("## Every field of a layout")[2].partition("\n\nWhat is no layout")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    told = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert sorted(told) == sorted(field.name for field in fields(LayoutFields))


def test_a_key_of_the_report_that_the_docs_leave_out():
    """The section on the JSON names every key of a report and of a tensor."""
    section = PAGE.partition("## The report for a script")[2].partition("\n## ")[0]
    told = set(re.findall(r"`(\w+)`", section))
    report = check_json(check_implementation(manual_lstm.vjp, examples=1), "")
    assert {*report, *report["tensors"][0], *report["checks"][0]} <= told


def test_one_initial_state_that_cannot_be_checked():
    """The size that the docs say to declare is refused, or drawn otherwise."""

    def vjp(params, x, h0, c0):
        assert h0.shape[1] == x.shape[1] == 1
        return manual_lstm.vjp(params, x, h0, c0)

    report = check_implementation(Implementation("one", vjp=vjp, sizes={"B": 1}), examples=20)
    assert report.verdict == "agree"
    assert not [failure for failure in report.failures if failure.error]


def test_a_name_that_is_taken_for_an_arrangement():
    """layout="auto" hands over manual_lstm's names: a forward that has others raises each time."""

    def vjp(params, x):
        return params["W"] @ x, None

    told = r"Given weight_ih_l0, weight_hh_l0, bias_l0 it raises KeyError: 'W', at .*test_your_lstm"
    with pytest.raises(ValueError, match=told):
        check_implementation(Implementation("named", vjp=vjp, layout="auto"), examples=1)
