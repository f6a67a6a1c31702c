"""Which of two sides that differ is right."""

import json
import re

import numpy as np
import pytest
from planted import MISTAKES, plant
from typer.testing import CliRunner

from manual_lstm import alphabet
from torch_ref import (
    arbitrate,
    character_case,
    compare_gradients,
    diff_gradients,
    error_budget,
    truth,
)
from torch_ref.cli import app
from torch_ref.compare import diff as diff_module
from torch_ref.compare.diff import run_manual, run_twin
from torch_ref.reports.as_json import comparison_json

SIDES = ("mine", "the twin")


def small_case(dtype=np.float64):
    return character_case(alphabet(4), steps=5, batch=2, dtype=dtype)


def sentence(case, actual, expected):
    allowed = error_budget(case, sides=2).allowed
    comparison = compare_gradients(actual, expected, allowed)
    return arbitrate(case, comparison, actual, expected, SIDES)


def off_by_a_thousandth(results, name):
    return {
        **results,
        name: np.asarray(results[name]) * (1 + np.asarray(1e-3, results[name].dtype)),
    }


NUMBER = r"\d[\d.]*(?:e[+-]\d+)?"


@pytest.mark.parametrize(
    ("wrong", "favoured"), [((0,), "the twin"), ((1,), "mine"), ((0, 1), "neither")]
)
def test_a_sentence_that_sides_with_the_wrong_one(wrong, favoured):
    """Whoever was changed is millions of budgets away, and the other within one."""
    case = small_case()
    sides = [run_manual(case), run_twin(case)]
    for factor, side in enumerate(wrong, start=1):
        for _ in range(factor):
            sides[side] = off_by_a_thousandth(sides[side], "dweight_hh_l0")
    found = sentence(case, *sides)
    pattern = (
        rf"The truth sides with {favoured} in dweight_hh_l0: "
        rf"mine is ({NUMBER}) budgets away, the twin is ({NUMBER}) budgets away\."
    )
    distances = [float(each) for each in re.fullmatch(pattern, found).groups()]
    for side, distance in enumerate(distances):
        assert distance > 1e6 if side in wrong else distance < 1


def test_two_right_sides_of_which_one_is_blamed():
    """On opposite edges of their own budgets both are right, though together they disagree."""
    case = small_case()
    allowed = error_budget(case).allowed
    exact = truth(case)
    low, high = (
        {name: (value + sign * 0.9 * allowed[name]).astype(float) for name, value in exact.items()}
        for sign in (-1, 1)
    )
    found = sentence(case, low, high)
    assert found.startswith("The truth sides with both in ")
    assert all(0 < float(each) < 1 for each in re.findall(rf"is ({NUMBER}) budgets away", found))


def test_an_outcome_that_is_left_out():
    """One side wrong in some tensors, the other in one: both are said, each by its worst tensor."""
    case = small_case()
    mine, twin = run_manual(case), run_twin(case)
    for name in ("dbias_l0", "dh0", "dc0"):
        mine = off_by_a_thousandth(mine, name)
    mine["dh0"] = 1000 * mine["dh0"]
    found = sentence(case, mine, off_by_a_thousandth(twin, "dx"))
    assert found.startswith("The truth sides with the twin in dh0 and 2 other tensors: mine is ")
    assert "; with mine in dx: mine is 0." in found


def test_a_verdict_on_two_sides_that_agree():
    """There is nothing to arbitrate."""
    case = small_case()
    assert sentence(case, run_manual(case), run_twin(case)) is None
    assert diff_gradients(case).arbitration is None


@pytest.mark.parametrize(
    ("broken", "phrase"),
    [
        (lambda a: np.where(a == a.max(), np.nan, a), "mine gives nan where"),
        (lambda a: np.where(a == a.max(), -np.inf, a), "mine gives -inf where"),
        (lambda a: a.T[:-1], "mine gives shape (3, 16), expected (16, 4)"),
        (lambda a: a.astype(np.float32), "mine gives dtype float32, expected float64"),
        (lambda a: [*a.tolist()[:-1], []], "mine gives list, expected an array of (16, 4)"),
    ],
)
def test_a_result_that_is_no_number_and_is_measured_in_budgets(broken, phrase):
    """What cannot be measured is named instead, and the other side is right."""
    case = small_case()
    mine, twin = run_manual(case), run_twin(case)
    mine["dweight_hh_l0"] = broken(mine["dweight_hh_l0"])
    comparison = compare_gradients(mine, twin, error_budget(case).allowed, dtype=case.dtype)
    found = arbitrate(case, comparison, mine, twin, SIDES)
    assert found.startswith(f"The truth sides with the twin in dweight_hh_l0: {phrase}")


def test_a_tensor_that_one_side_lacks_or_nobody_knows():
    """A missing tensor is lacking, and about a name that is no result there is no truth."""
    case = small_case()
    mine, twin = run_manual(case), run_twin(case)
    without = {name: value for name, value in mine.items() if name != "dx"}
    assert "in dx: mine lacks it, the twin is 0." in sentence(case, without, twin)
    narrow = {**twin, "dx": twin["dx"].astype(np.float32)}
    assert re.search(r"with mine in dx: .* gives dtype float32", sentence(case, mine, narrow))
    assert sentence(case, {**mine, "dw": mine["dx"]}, twin) == (
        "The truth cannot side with either: the case has no dw."
    )


def test_a_float64_side_excused_by_the_budget_of_float32():
    """A float64 twin that is right to float32 only is wrong, and the float32 side is right."""
    case = small_case(np.float32)
    twin = run_twin(case.astype(np.float64))
    crude = {name: np.asarray(value).astype(np.float32) for name, value in twin.items()}
    mine = off_by_a_thousandth(run_manual(case), "dx")
    wide = {name: value.astype(np.float64) for name, value in crude.items()}
    assert "neither in dx" in sentence(case, mine, wide)
    assert "the twin in dx" in sentence(case, mine, twin)


def test_a_diff_that_does_not_say_who_is_right(monkeypatch):
    """A wrong line in manual_lstm, and then in the twin, is blamed on it by `manual-lstm diff`."""
    arguments = ["diff", "--steps", "5", "--inputs", "4", "--no-blind-spots", "--json", "-"]
    with pytest.MonkeyPatch.context() as patch:
        plant(patch, *MISTAKES["df takes c[t] for c[t-1]"])
        result = CliRunner().invoke(app, arguments)
        spoken = CliRunner().invoke(app, arguments[:-2])
    assert result.exit_code == spoken.exit_code == 1
    said = json.loads(result.stdout)["arbitration"]
    assert said.startswith("The truth sides with the autograd twin in ")
    assert " ".join(said.split()) in " ".join(spoken.stdout.split())

    right = diff_module.run_twin
    monkeypatch.setattr(
        diff_module, "run_twin", lambda case: off_by_a_thousandth(right(case), "dbias_out")
    )
    comparison = diff_gradients(small_case())
    assert comparison.arbitration.startswith("The truth sides with manual_lstm in dbias_out: ")
    assert comparison_json(comparison, "")["arbitration"] == comparison.arbitration


def test_an_agreement_whose_json_has_an_arbitration():
    """The key is there, and null."""
    result = CliRunner().invoke(
        app, ["diff", "--steps", "3", "--inputs", "3", "--no-blind-spots", "--json", "-"]
    )
    assert result.exit_code == 0
    assert json.loads(result.stdout)["arbitration"] is None
