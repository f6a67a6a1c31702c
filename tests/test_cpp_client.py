"""A single-precision LSTM in C++, the bias neuron in its matrices, judged through its files."""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from cpp import HEADER, SOURCES, compile_program
from exchange_files import arrays_of, assert_same_bits, stack_case
from hypothesis import given
from hypothesis import strategies as st

from manual_lstm import alphabet
from manual_lstm.model import Head
from torch_ref import (
    Case,
    Comparison,
    Implementation,
    character_case,
    compare_gradients,
    diagnose,
    error_budget,
)
from torch_ref.cli import main
from torch_ref.compare.diff import run_twin
from torch_ref.harness import clients
from torch_ref.harness.exchange.files import load_case, load_result, save_case
from torch_ref.harness.program import ProgramCrashed, run_program
from torch_ref.oracles.case import Results

pytestmark = pytest.mark.sampled


@pytest.fixture(scope="session")
def skeleton(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `manual-lstm init-client` writes, compiled as it is."""
    folder = tmp_path_factory.mktemp("skeleton") / "new folder"
    clients.write_client("cpp", folder)
    return compile_program([folder / "my_lstm.cpp"], folder / "my_lstm")


@dataclass(frozen=True)
class Problem:
    """A float32 case, the float64 twin's results, and what rounding allows."""

    case: Case
    expected: Results
    allowed: Mapping[str, np.ndarray]


def problem(case: Case) -> Problem:
    return Problem(case, run_twin(case.astype(np.float64)), error_budget(case).allowed)


def judge(program: Path, posed: Problem, mistake: str = "") -> Comparison:
    option = mistake and f"--mistake {mistake}"
    actual = run_program(f"'{program}' {{case}} {{result}} {option}", posed.case, timeout=60)
    return compare_gradients(actual, posed.expected, posed.allowed)


def wrong(comparison: Comparison) -> set[str]:
    return {tensor.name for tensor in comparison.tensors if tensor.verdict == "disagree"}


@given(
    symbols=st.integers(1, 12),
    steps=st.integers(1, 30),
    batch=st.integers(1, 3),
    layers=st.integers(1, 3),
    hidden=st.none() | st.integers(1, 9),
    seed=st.integers(0, 2**32),
)
def test_a_correct_program_agrees(
    my_lstm: Path,
    symbols: int,
    steps: int,
    batch: int,
    layers: int,
    hidden: int | None,
    seed: int,
) -> None:
    """Every tensor of every size is there and within the budget; hidden None: the bounded head."""
    case = character_case(
        alphabet(symbols),
        steps=steps,
        batch=batch,
        hidden=hidden,
        layers=layers,
        head="bounded" if hidden is None else "linear",
        seed=seed,
    )
    posed = problem(case)
    comparison = judge(my_lstm, posed)
    assert not wrong(comparison), comparison
    assert {tensor.name for tensor in comparison.tensors} == set(posed.allowed)


FORWARD = {"loss", "h_n", "c_n"}
HEAD = {"dweight_out", "dbias_out"}
LAYER_0 = {"dweight_ih_l0", "dweight_hh_l0", "dbias_l0"}
LAYER_1 = {"dweight_ih_l1", "dweight_hh_l1", "dbias_l1"}
INPUTS = {"dx", "dh0", "dc0"}

# What each mistake makes wrong in one layer over one step, and in two layers over six.
MISTAKES = {
    "none": (set(), set()),
    "target_minus_predicted": (LAYER_0 | HEAD | INPUTS, LAYER_0 | LAYER_1 | HEAD | INPUTS),
    "forget_uses_new_c": (LAYER_0 | {"dx", "dh0"}, LAYER_0 | LAYER_1 | INPUTS),
    "no_cell_carry": (LAYER_0 | INPUTS, LAYER_0 | LAYER_1 | INPUTS),
    "no_recurrent_h": (LAYER_0 | INPUTS, LAYER_0 | LAYER_1 | INPUTS),
    "cell_carry_too_early": ({"dc0"}, LAYER_0 | LAYER_1 | INPUTS),
    "no_squash_slope": (LAYER_0 | INPUTS, LAYER_0 | LAYER_1 | INPUTS),
    "overwritten_gradient": (LAYER_0 | HEAD, LAYER_0 | LAYER_1 | HEAD),
    "bias_leak": ({"dx"}, LAYER_0 | INPUTS),
    "state_not_kept": (
        FORWARD | LAYER_0 | HEAD | INPUTS,
        FORWARD | LAYER_0 | LAYER_1 | HEAD | INPUTS,
    ),
    "loss_not_averaged": (set(), {"loss"}),
    "dy_not_taken": (LAYER_0 | INPUTS, LAYER_0 | LAYER_1 | INPUTS),
    "zero_skipped": (set(), set()),  # no probability of these cases rounds to 0
}


@cache
def one_and_two_layers(head: Head) -> tuple[Problem, Problem]:
    one = character_case(alphabet(5), steps=1, batch=2, head=head)
    return problem(one), problem(character_case(alphabet(5), steps=6, batch=2, layers=2, head=head))


@pytest.mark.parametrize("head", ["bounded", "linear"])
@pytest.mark.parametrize("mistake", MISTAKES)
def test_each_mistake_is_seen_in_the_tensors_that_it_makes_wrong_and_no_others(
    my_lstm: Path, mistake: str, head: Head
) -> None:
    """Planted in the C++ program, on one step of one layer and on six steps of two."""
    without = HEAD if head == "bounded" else set()
    for posed, expected in zip(one_and_two_layers(head), MISTAKES[mistake], strict=True):
        assert wrong(judge(my_lstm, posed, mistake)) == expected - without


def test_a_target_left_out_of_the_loss_is_seen_where_its_probability_rounds_to_zero(
    my_lstm: Path,
) -> None:
    """The error of an impossible letter is finite and large, and skipping it hides the worst."""
    case = character_case(alphabet(3), steps=4)
    case.params["bias_out"][...] = np.array([150, 0, -20], np.float32)
    posed = problem(case)
    assert wrong(judge(my_lstm, posed)) == set()
    assert wrong(judge(my_lstm, posed, "zero_skipped")) == {"loss"}


def test_every_mistake_of_the_program_is_in_the_table() -> None:
    """A mistake that is added to lstm.cpp must get its row."""
    names = (SOURCES / "lstm.cpp").read_text().split("mistakes = {")[1].split("};")[0]
    assert names.split('"')[1::2] == list(MISTAKES)
    assert set(MISTAKES) == {*NAMED, "none", "zero_skipped"}


# What a diagnosis names each by: one edit of one line.
NAMED = {
    "target_minus_predicted": "dlogits * -1",
    "forget_uses_new_c": "df.c[t]",
    "no_cell_carry": "dc[1] * 0",
    "no_recurrent_h": "dh[1] * 0",
    "cell_carry_too_early": "dc_carry.dc_carry for dc",
    "no_squash_slope": "dc.no derivative",
    "overwritten_gradient": "every weight.first, last of member B-1",
    "bias_leak": "dx.leak onto last",
    "dy_not_taken": "dy * 0",
}
BOUNDED = {"overwritten_gradient": "weights.first of member B-1"}
# One wrong line of the forward pass: the state, and the loss alone.
NAMED |= {"state_not_kept": "forward.h0 and c0 = 0", "loss_not_averaged": "forward.loss * T"}


@pytest.mark.parametrize(
    ("head", "mistake"), [*(("linear", m) for m in NAMED), *(("bounded", m) for m in BOUNDED)]
)
def test_each_mistake_of_the_program_is_named(my_lstm: Path, head: Head, mistake: str) -> None:
    """A mistake of a real single-precision program that is located only, or taken for two."""
    command = f"'{my_lstm}' {{case}} {{result}} --mistake {mistake}"
    program = Implementation(mistake, command=command, head=head, dtype="float32")
    finding = diagnose(program, seconds=0).finding
    assert finding is not None
    named = (BOUNDED if head == "bounded" else NAMED)[mistake]
    assert [each.identifier for each in finding.mistakes] == [named]
    assert not finding.alternatives


@pytest.mark.parametrize("kind", ["layout", "version", "array", "fortran", "shape"])
def test_the_header_refuses_what_it_would_misread(my_lstm: Path, tmp_path: Path, kind: str) -> None:
    """Another layout or version, a missing or short array, Fortran order: a sentence."""
    save_case(character_case(alphabet(3), steps=2), tmp_path / "case")
    document = json.loads((tmp_path / "case/case.json").read_text())
    x = np.load(tmp_path / "case/x.npy")
    expected = f"{tmp_path}/case/case.json must have "
    match kind:
        case "layout":
            document["layout"] = {"gates": "ifog"}
            expected += '"layout":{}'
        case "version":
            document["version"] = 12
            expected += '"version":1,'
        case "array":
            (tmp_path / "case/x.npy").unlink()
            expected = f"{tmp_path}/case/x.npy cannot be opened"
        case "fortran":
            np.save(tmp_path / "case/x.npy", np.asfortranarray(x.repeat(2, axis=1)))
            expected = f"{tmp_path}/case/x.npy is in Fortran order"
        case "shape":
            np.save(tmp_path / "case/bias_l0.npy", np.zeros(11, np.float32))
            expected = "index out of range"
    (tmp_path / "case/case.json").write_text(json.dumps(document))
    (tmp_path / "result").mkdir()
    words = [str(my_lstm), str(tmp_path / "case"), str(tmp_path / "result")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, f"my_lstm: {expected}\n")
    assert os.listdir(tmp_path / "result") == []


def test_a_program_that_refuses_its_arguments_is_a_crash_with_its_own_words(my_lstm: Path) -> None:
    """What the program says on standard error reaches whoever started it."""
    with pytest.raises(ProgramCrashed, match=r"no mistake is called typo'\.$"):
        judge(my_lstm, one_and_two_layers("linear")[0], "typo")


@pytest.mark.parametrize(
    "case",
    [
        character_case(alphabet(3), steps=2, batch=2, layers=2, hidden=4),
        character_case(alphabet(3), steps=2, head="bounded"),
        stack_case(),
    ],
    ids=["linear", "bounded", "stack"],
)
def test_the_skeleton_runs_as_it_is_and_every_tensor_disagrees(skeleton: Path, case: Case) -> None:
    """Zeros of the right shapes are a clear verdict, not a crash and not a pass."""
    posed = problem(case)
    comparison = judge(skeleton, posed)
    assert wrong(comparison) == set(posed.allowed)
    assert {tensor.reason for tensor in comparison.tensors} == {""}


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Runs `manual-lstm` in this process; its exit status."""

    def run(*words: str) -> int:
        monkeypatch.setattr(sys, "argv", ["manual-lstm", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0)

    return run


def test_a_client_is_written_once_and_never_over_another_file(
    command: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The header is the very one that these tests compile, and what exists stays."""
    folder = tmp_path / "a/b"
    assert command("init-client", "cpp", str(folder)) == 0
    assert capsys.readouterr().out.splitlines()[-1].strip() == (
        'manual-lstm check --command "./my_lstm {case} {result}" --head none  # no loss: given dy'
    )
    assert sorted(os.listdir(folder)) == ["manual_lstm.hpp", "my_lstm.cpp"]
    for name in os.listdir(folder):
        assert (folder / name).read_bytes() == (HEADER / name).read_bytes()
    (folder / "manual_lstm.hpp").unlink()
    (folder / "my_lstm.cpp").unlink()
    (folder / "my_lstm.cpp").symlink_to("mine")
    for content in (None, "mine"):
        if content is not None:
            (folder / "mine").write_text(content)
        assert command("init-client", "cpp", str(folder)) == 2
        assert "my_lstm.cpp exists already: choose another folder" in capsys.readouterr().err
        assert set(os.listdir(folder)) <= {"my_lstm.cpp", "mine"}
    assert (folder / "mine").read_text() == "mine"
    assert command("init-client", "cobol", str(folder)) == 2
    assert command("init-client", "rust", "/dev/null/a") == 2
    assert "/dev/null/a cannot be written: Not a directory." in capsys.readouterr().err


def test_a_client_that_does_not_fit_on_the_disk_is_not_there_by_half(
    command: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file does not fit: no part of any of them is left behind."""
    sizes = {name: (HEADER / name).stat().st_size for name in ("my_lstm.cpp", "manual_lstm.hpp")}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (max(sizes.values()) - 1, hard))
        assert command("init-client", "cpp", str(tmp_path)) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "cannot be written: File too large." in capsys.readouterr().err
    assert os.listdir(tmp_path) == []


def test_a_written_case_is_the_one_that_diff_compares_on(
    command: Callable[..., int],
    my_lstm: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Written by the command, computed by the C++ program, read back: it agrees."""
    options = "--steps 4 --inputs 3 --hidden 5 --layers 2 --batch 2 --dtype float32 --seed 7"
    path, result = tmp_path / "case", tmp_path / "result"
    assert command("case", "--out", str(path), *options.split()) == 0
    result.mkdir()
    subprocess.run([str(my_lstm), str(path), str(result)], check=True)
    case = load_case(path)
    expected = character_case(alphabet(3), steps=4, hidden=5, layers=2, batch=2, seed=7)
    assert_same_bits(arrays_of(case), arrays_of(expected))
    posed = problem(case)
    found = compare_gradients(load_result(result, case), posed.expected, posed.allowed)
    assert found.verdict == "agree"

    again = capsys.readouterr().out.replace("\n", " ").split("Again: ")[1].split()
    again[again.index(str(path))] = f"{path}-2"
    assert command(*again[1:]) == 0
    assert_same_bits(arrays_of(load_case(f"{path}-2")), arrays_of(expected))


@pytest.mark.parametrize(
    ("out", "form", "written"),
    [
        ("case", None, "case"),
        ("case.npz", None, "case.npz"),
        ("case", "npz", "case.npz"),
        ("case.1", "safetensors", "case.1.safetensors"),
        ("case.npz", "npz", "case.npz"),
        ("case", "npy", "case"),
        ("case.npz", "npy", None),
        ("case.npz", "safetensors", None),
    ],
)
def test_the_form_and_the_ending_never_contradict_each_other(
    command: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    out: str,
    form: str | None,
    written: str | None,
) -> None:
    """A file is read as what its ending says, so it must be written as that, and only once."""
    words = ["case", "--out", str(tmp_path / out), "--steps", "2", "--inputs", "2"]
    words += [] if form is None else ["--form", form]
    if written is None:
        assert command(*words) == 2
        assert f"ends in .npz but --form is {form}." in capsys.readouterr().err
        assert os.listdir(tmp_path) == []
        return
    assert command(*words, "--json", "-") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["path"] == str(tmp_path / written)
    assert f"--out {tmp_path / written} " in report["reproduce"]
    assert load_case(tmp_path / written).x.shape == (2, 1, 2)
    assert command(*words) == 2
    assert f"{written} exists already" in capsys.readouterr().err
