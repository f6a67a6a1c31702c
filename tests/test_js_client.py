"""The client in JavaScript: its skeleton, and a small LSTM judged through its files."""

import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from cpp import SOURCES

from torch_ref import Implementation, check_implementation, diagnose, error_budget
from torch_ref.cli import main
from torch_ref.compare.diff import run_twin
from torch_ref.compare.errors import compare_gradients
from torch_ref.harness import clients
from torch_ref.harness.cases import sized_case
from torch_ref.harness.exchange.files import save_case
from torch_ref.harness.program import ProgramCrashed, run_program

SIZES = {"T": 3, "B": 2, "I": 3, "H": 2, "L": 2}


@pytest.fixture(scope="module")
def node() -> str:
    """Node.js; without it these tests are skipped."""
    found = shutil.which("node")
    if found is None:
        pytest.skip("there is no node")
    return found


@pytest.fixture
def client(tmp_path: Path) -> Path:
    """The folder that `manual-lstm init-client js` writes."""
    clients.write_client("js", tmp_path / "client")
    return tmp_path / "client"


def command(node: str, program: Path) -> str:
    return f"'{node}' '{program}' {{case}} {{result}}"


@pytest.mark.parametrize("head", ["none", "linear", "bounded"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_skeleton_whose_result_is_not_whole(
    head: str, dtype: str, node: str, client: Path
) -> None:
    """A tensor that is missing or misshapen, in any form; with zeros every one differs."""
    of_head = {} if head == "none" else {"targets": True, "head": head}
    case = sized_case({**SIZES, "I": 2}, **of_head).astype(np.dtype(dtype).type)
    found = run_program(command(node, client / "my_lstm.js"), case, timeout=60)
    expected = run_twin(case.astype(np.float64))
    assert {name: value.shape for name, value in found.items()} == {
        name: np.shape(value) for name, value in expected.items()
    }
    compared = compare_gradients(found, expected, error_budget(case).allowed)
    assert all(tensor.verdict == "disagree" for tensor in compared.tensors), compared


def implementation(node: str, client: Path, program: Path) -> Implementation:
    os.environ["MANUAL_LSTM_CLIENT"] = str(client)  # each test has it set back
    return Implementation("js", command=command(node, program), head=None, dtype="float64")


def test_an_lstm_in_javascript_that_is_accused(
    node: str, client: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is read or written wrongly."""
    monkeypatch.setenv("MANUAL_LSTM_CLIENT", "")
    report = check_implementation(implementation(node, client, SOURCES / "lstm.js"), examples=4)
    assert report.verdict == "agree", report.failures
    whole = ("dx", "dh0", "dc0", "h_n", "c_n", "dbias_l0")
    assert set(whole) <= {tensor.name for tensor in report.tensors}


def test_a_wrong_line_in_javascript_that_is_not_named(
    node: str, client: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a property of the object still holds of the last step, where the step's own is meant."""
    monkeypatch.setenv("MANUAL_LSTM_CLIENT", "")
    source = (SOURCES / "lstm.js").read_text(encoding="utf-8")
    right, wrong = "dc = dc.map((value, j) => value * f[j]);", "value * steps[T - 1].f[j]"
    assert source.count(right) == 1
    program = tmp_path / "wrong.js"
    program.write_text(source.replace(right, right.replace("value * f[j]", wrong)))
    finding = diagnose(implementation(node, client, program)).finding
    assert finding is not None
    assert [mistake.identifier for mistake in finding.mistakes] == ["dc_carry.f[T-1]"]


@pytest.mark.parametrize(
    ("spoilt", "told"),
    [
        (lambda bytes_: bytes_.replace(b"'<f8'", b"'>f8'"), "must be little-endian"),
        (lambda bytes_: bytes_.replace(b"False", b"True "), "must be little-endian"),
        (lambda bytes_: bytes_[:-8], "bytes of elements, not those of"),
        (lambda bytes_: b"PK" + bytes_[2:], "is not a .npy file of version 1"),
    ],
)
def test_a_file_that_the_client_misreads(
    spoilt: object, told: str, node: str, client: Path, tmp_path: Path
) -> None:
    """Another byte order, another order of the axes, a file that is cut off, or no array at all."""
    case = sized_case(SIZES)
    save_case(case, tmp_path / "case")
    x = tmp_path / "case" / "x.npy"
    x.write_bytes(spoilt(x.read_bytes()))  # type: ignore[operator]
    program = f"'{node}' '{client / 'my_lstm.js'}' '{tmp_path / 'case'}' {{result}} {{case}}"
    with pytest.raises(ProgramCrashed, match=told):
        run_program(program, case, timeout=60)


def test_a_client_that_cannot_be_had_by_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command writes both files and says how the program is run."""
    monkeypatch.setattr(sys, "argv", ["manual-lstm", "init-client", "js", str(tmp_path / "new")])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"manual_lstm.js", "my_lstm.js"}
    assert 'node my_lstm.js {case} {result}" --head none' in capsys.readouterr().out
