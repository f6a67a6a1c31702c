"""A stack of LSTM layers in Rust, judged through the client that `init-client rust` writes."""

import shutil
import subprocess
from pathlib import Path

import pytest
from cpp import SOURCES
from exchange_files import stack_case
from test_cpp_client import judge, problem, wrong

from manual_lstm import alphabet
from torch_ref import Implementation, character_case, check_implementation, diagnose
from torch_ref.harness import clients

pytestmark = pytest.mark.sampled

DEFAULT = Path.home() / ".cargo/bin/rustc"


def compiled(folder: Path, lstm: str | None = None, real: str = "f32") -> Path:
    """The client's program, as it is or with an LSTM in it."""
    found = shutil.which("rustc") or (str(DEFAULT) if DEFAULT.exists() else None)
    if found is None:
        pytest.skip("there is no Rust compiler: rustc was not found")
    clients.write_client("rust", folder)
    program = folder / "my_lstm.rs"
    if lstm is not None:
        (folder / "lstm.rs").write_text(lstm, encoding="utf-8")
        text = program.read_text(encoding="utf-8").replace("type Real = f32", f"type Real = {real}")
        text = text.replace("mod manual_lstm;", "mod lstm;\nmod manual_lstm;")
        text = text.replace("    let _ = (given, targets, result);", "    CALL")
        assert "    CALL" in text
        call = "    let _ = targets;\n    lstm::lstm(given, result);"
        program.write_text(text.replace("    CALL", call), encoding="utf-8")
    done = subprocess.run(
        [found, "--edition", "2021", "-O", "-D", "warnings", "my_lstm.rs"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder / "my_lstm"


def implementation(program: Path, dtype: str) -> Implementation:
    words = f"'{program}' {{case}} {{result}}"
    required = frozenset({"all"})
    return Implementation("rust", command=words, head=None, dtype=dtype, requires=required)


LSTM = (SOURCES / "lstm.rs").read_text(encoding="utf-8")


@pytest.mark.parametrize(("real", "dtype"), [("f32", "float32"), ("f64", "float64")])
def test_a_correct_program_in_rust_that_is_accused(real, dtype, tmp_path):
    """Every gradient of every layer and sequence, in either precision."""
    program = implementation(compiled(tmp_path / "a", LSTM, real), dtype)
    report = check_implementation(program, examples=40)
    assert report.verdict == "agree", report.failures


def test_a_wrong_line_of_rust_that_is_not_named(tmp_path):
    """c[t] where the forget gate needs c[t-1]."""
    right = "dc[j] * cs[t][j] * f"
    assert LSTM.count(right) == 1
    program = compiled(tmp_path / "a", LSTM.replace(right, "dc[j] * cs[t + 1][j] * f"))
    finding = diagnose(implementation(program, "float32")).finding
    assert finding is not None
    assert [mistake.identifier for mistake in finding.mistakes] == ["df.c[t]"]


@pytest.mark.parametrize("head", [None, "linear", "bounded"])
def test_a_skeleton_in_rust_that_does_not_run(head, tmp_path):
    """It answers with zeros of the right shapes: every tensor is compared, and none is right."""
    posed = problem(stack_case() if head is None else character_case(alphabet(4), head=head))
    comparison = judge(compiled(tmp_path / "a"), posed)
    assert wrong(comparison) == set(posed.allowed)
    assert {tensor.reason for tensor in comparison.tensors} == {""}


def test_a_case_in_another_layout_that_rust_takes_for_its_own(tmp_path):
    """The program ends with a sentence."""
    program = compiled(tmp_path / "a")
    (tmp_path / "case").mkdir()
    (tmp_path / "case/case.json").write_text('{"format": "manual-lstm-case", "version": 2}')
    words = [program, tmp_path / "case", tmp_path / "result"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.endswith('/case.json must have "version":1,\n')
