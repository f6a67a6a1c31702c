"""The experiments of scripts/: what trained weights reach, and that a failed one is said to be."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from manual_lstm import bounded_probability_range
from manual_lstm.plateau import lowest_loss

SCRIPTS = Path(__file__).parent.parent / "scripts"


def load(name):
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


reproduce = load("reproduce_plateau")


@pytest.mark.parametrize(
    ("seed", "name"),
    [
        (2, "both units flip at every step"),
        (8, "one unit flips, one keeps its sign"),
        (3, "one unit flips, one keeps its sign and forgets"),
        (4, "both units keep their sign, each right at its own step"),
        (0, "both units keep their sign, both right at the same step"),
    ],
)
def test_a_training_on_ab_that_settles_somewhere_else(seed, name):
    """Five starts settle at five closed forms, each within 0.005, and never pass their heads'."""
    found = reproduce.run(2, "bounded", 600, rate=0.03, seed=seed)
    level, distance = reproduce.nearest(found.end[-2:])
    assert found.settled
    assert level.name == name
    assert distance < reproduce.NEAR
    assert found.end.max() < bounded_probability_range(2)[1]


def test_a_linear_head_that_does_not_cure():
    """26 letters get below 0.01 with the linear head alone, and the row says so."""
    cured = reproduce.run(26, "linear", 300, below=0.005)
    assert reproduce.cured_row("26 letters", cured, 3000).verdict == "reproduced"
    stuck = reproduce.run(26, "bounded", 100)
    assert stuck.losses.min() > lowest_loss(26)
    row = reproduce.cured_row("26 letters", stuck, 3000)
    assert row.verdict == "NOT REPRODUCED"
    assert "never below 0.01" in row.measured


def test_an_early_end_that_is_another_training():
    """A run that ends early has the losses of the one that does not, as far as they go."""
    whole = reproduce.run(2, "linear", 100, rate=0.1)
    early = reproduce.run(2, "linear", 100, rate=0.1, below=0.3)
    assert 0 < len(early.losses) < 100
    assert np.array_equal(early.losses, whole.losses[: len(early.losses)])
    assert early.losses[-1] < 0.3


def test_a_run_that_still_moves_and_counts_as_settled():
    """Settled is a run whose probabilities changed by less than 0.005 in its second half."""
    still = np.array([0.8, 0.7])
    assert reproduce.Run(np.zeros(2), still, still + 0.004).settled
    assert not reproduce.Run(np.zeros(2), still, still + np.array([0, 0.006])).settled
    assert not reproduce.Run(np.zeros(2), still, still * np.nan).settled


def test_a_speed_of_which_nothing_is_printed(capsys):
    """Both precisions have a line with windows per second of either side, and their ratio."""
    assert load("training_speed").main(["--rounds", "2", "--windows", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["float32", "float64"]
    assert all("nn.LSTM" in line and "ratio" in line for line in lines)
