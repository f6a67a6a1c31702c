"""A program whose LSTM has no head: it is given dy, and what it writes is judged."""

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from exchange_files import loss_case, put, remove, stack_case

from torch_ref import Implementation, check_implementation, diagnose, load_case, save_case
from torch_ref.harness.dump import check_dump

pytestmark = pytest.mark.sampled


def without_head(program: Path, options: str = "", **more: object) -> Implementation:
    command = f"'{program}' {{case}} {{result}} {options}"
    return Implementation("headless", command=command, head=None, dtype="float32", **more)


def test_a_right_program_is_not_accused_and_every_part_of_it_is_asked_for(my_lstm: Path) -> None:
    """A program without a head that is given targets, or whose dy, dh_n or dc_n is not varied."""
    report = check_implementation(without_head(my_lstm), examples=20)
    assert report.verdict == "agree", report.failures
    assert report.unverified == ()
    assert {"check_only_dh_n", "check_only_dc_n", "check_carried_state"} <= set(report.passed)
    assert set(report.skipped) == {"check_improbable_target", "check_linearity"}
    assert {"y", "h_n", "c_n", "dx", "dh0", "dc0"} < {tensor.name for tensor in report.tensors}


def test_what_such_a_program_does_not_take_is_zero_and_is_listed(my_lstm: Path) -> None:
    """dh_n that is handed to a program which says that it takes none, or that passes silently."""
    taken = frozenset({"h0", "c0", "dh_n", "dc_n"})
    # It starts every window from zero: right where it is given nothing else.
    own = without_head(my_lstm, "--mistake state_not_kept", without=taken)
    report = check_implementation(own, examples=20)
    assert report.verdict == "agree", report.failures
    assert set(report.unverified) == {
        "a non-zero h0",
        "a non-zero c0",
        "the upstream gradient dh_n",
        "the upstream gradient dc_n",
    }
    assert "check_initial_state" in report.skipped
    own = without_head(my_lstm, "--mistake state_not_kept")
    assert check_implementation(own, examples=20).verdict == "disagree"


def test_a_program_whose_loss_is_of_the_last_step_is_not_accused(my_lstm: Path) -> None:
    """dy that is handed to a program which says that it takes none, or that passes silently."""
    options = "--mistake dy_not_taken"
    last = without_head(my_lstm, options, without=frozenset({"dy"}))
    report = check_implementation(last, examples=20)
    assert report.verdict == "agree", report.failures
    assert report.unverified == ("the upstream gradient dy",)
    assert check_implementation(without_head(my_lstm, options), examples=20).verdict == "disagree"


NAMED = {
    "forget_uses_new_c": "df.c[t]",
    "no_cell_carry": "dc[1] * 0",
    "no_recurrent_h": "dh[1] * 0",
    "cell_carry_too_early": "dc_carry.dc_carry for dc",
    "no_squash_slope": "dc.no derivative",
    "overwritten_gradient": "weights.first of member B-1",
    "bias_leak": "dx.leak onto last",
    "state_not_kept": "forward.h0 and c0 = 0",
}


@pytest.mark.parametrize("mistake", NAMED)
def test_a_mistake_behind_dy_that_is_located_only_or_taken_for_another(
    my_lstm: Path, mistake: str
) -> None:
    """Each line of the C++ program that is wrong without a head is named, and nothing else."""
    finding = diagnose(without_head(my_lstm, f"--mistake {mistake}"), seconds=0).finding
    assert finding is not None
    assert [each.identifier for each in finding.mistakes] == [NAMED[mistake]]
    assert not finding.alternatives


@pytest.mark.parametrize(
    ("mistake", "wrong"),
    [
        ("none", ""),
        ("cell_carry_too_early", "dweight_ih_l0"),
        ("bias_leak", "dx"),
    ],
)
def test_a_dump_without_a_head(my_lstm: Path, tmp_path: Path, mistake: str, wrong: str) -> None:
    """dy and y in the files: a wrong gradient that is passed, or a right one that is accused."""
    save_case(stack_case(), tmp_path / "case")
    words = [my_lstm, tmp_path / "case", tmp_path / "result", "--mistake", mistake]
    subprocess.run(words, check=True)
    report = check_dump(tmp_path)
    assert report.verdict == ("disagree" if wrong else "agree")
    assert report.unverified == ()
    if wrong:
        assert wrong in report.failures[0].sentence
    for name in ("dx", "c_n"):
        (tmp_path / f"result/{name}.npy").unlink()
    assert check_dump(tmp_path).unverified == ("the output c_n", "the gradient dx")


def test_a_result_of_the_other_kind_is_refused(my_lstm: Path, tmp_path: Path) -> None:
    """A loss where y is asked for, or y where a loss is, is told and not ignored."""
    for case, other, missing in ((stack_case(), "loss", "y"), (loss_case(), "y", "loss")):
        folder = tmp_path / missing
        folder.mkdir()
        save_case(case, folder / "case")
        subprocess.run([my_lstm, folder / "case", folder / "result"], check=True)
        put(f"{other}.npy", np.float32(1))(folder / "result")
        with pytest.raises(ValueError, match=rf"result: {other} is not expected"):
            check_dump(folder)
        remove(f"{other}.npy")(folder / "result")
        remove(f"{missing}.npy")(folder / "result")
        with pytest.raises(ValueError, match=rf"result: {missing} is missing but must be \("):
            check_dump(folder)


def test_the_client_makes_the_folder_of_a_result_and_never_writes_into_a_full_one(
    my_lstm: Path, tmp_path: Path
) -> None:
    """Results of two runs that are mixed, or a second run that replaces the first one's files."""
    save_case(stack_case(), tmp_path / "case")
    words = [my_lstm, tmp_path / "case", tmp_path / "result"]
    subprocess.run(words, check=True)
    before = {p.name: p.read_bytes() for p in (tmp_path / "result").iterdir()}
    done = subprocess.run([*words, "--mistake", "bias_leak"], capture_output=True, check=False)
    assert done.returncode == 1
    assert done.stderr.decode().endswith(
        "result exists already: choose another path or remove it\n"
    )
    assert {p.name: p.read_bytes() for p in (tmp_path / "result").iterdir()} == before
    shutil.rmtree(tmp_path / "result")
    (tmp_path / "result").mkdir()
    subprocess.run(words, check=True)
    assert set(os.listdir(tmp_path / "result")) == set(before)
    assert load_case(tmp_path / "case").targets is None
