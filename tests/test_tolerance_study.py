"""The tolerance study: what it counts is there, and a false alarm would be counted."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from torch_ref import truth
from torch_ref.compare import budget
from torch_ref.compare.errors import budget_shares

pytestmark = pytest.mark.sampled

SCRIPTS = Path(__file__).parent.parent / "scripts"


@pytest.fixture
def study(monkeypatch):
    """The study's package, which is beside its script."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    from tolerance import alarms, closeness, draw, floor, loops, power

    parts = (alarms, closeness, draw, floor, loops, power)
    return {part.__name__.removeprefix("tolerance."): part for part in parts}


def first_group(study, condition):
    return next(
        seed for seed in range(100) if condition(study["draw"].draw_group(seed, "float32")[0].case)
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_correct_implementation_that_is_alarmed(study, dtype):
    """No implementation exceeds its budget in one group with a head and one without."""
    for wanted in (True, False):
        seed = first_group(study, lambda case, w=wanted: (case.targets is None) == w)
        for finding in study["alarms"].measure_group((seed, dtype)):
            assert finding.alarms == 0, finding
            assert finding.cases + finding.refused == study["draw"].GROUP
            assert 0 < finding.used < 1
            assert finding.origin.startswith(f"seed {seed} ")


def test_a_wrong_implementation_that_is_not_alarmed(study, monkeypatch):
    """A loop that forgets its first term is alarmed, but where that term is zero, and counted."""
    seed = first_group(study, lambda case: case.x.shape[2] > 1 and case.h0.shape[2] > 1)
    loops = study["loops"]
    wrong = loops.Style(lambda a, b: a[..., 1:] @ b[..., 1:, :])
    monkeypatch.setitem(loops.STYLES, "wrong", wrong)
    found = {each.name: each for each in study["alarms"].measure_group((seed, "float32"))}
    assert found["wrong"].alarms > found["wrong"].cases // 2 > 0
    assert found["manual_lstm"].alarms == 0
    both = study["alarms"].total([found["wrong"], found["wrong"], found["manual_lstm"]])
    assert [each.alarms for each in both] == [0, 2 * found["wrong"].alarms]


def test_a_result_that_is_no_number_within_its_budget(study):
    """NaN and a missing tensor use more than any budget."""
    use = study["alarms"].greatest_use
    one = {"dx": np.ones(3)}
    assert use(one, one, one) == 0
    assert use({"dx": np.array([1, np.nan, 1])}, one, one) == np.inf
    assert use({}, one, one) == np.inf
    assert use({"dx": np.array([1, 4.0, 1])}, one, one) == 3


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_changed_element_that_is_missed(study, dtype, monkeypatch):
    """Every planted change is seen, and the count is not empty; a change of nothing is missed."""
    found = study["power"].measure_group((0, dtype))
    assert found.missed == 0 < found.elements
    assert found.weakest > 1
    monkeypatch.setitem(study["power"].CHANGE, dtype, 0.0)
    blind = study["power"].measure_group((0, dtype))
    assert blind.missed == blind.elements == found.elements


def test_a_changed_element_that_the_first_replicas_are_too_few_to_see(study, monkeypatch):
    """One case of this group, of 4 times Glorot's limit and T=23, needs the refined budget."""
    assert study["power"].measure_group((1, "float32")).missed == 0
    monkeypatch.setattr(budget, "_loose", lambda *_: ())
    assert study["power"].measure_group((1, "float32")).missed > 0


def test_a_refined_budget_that_is_not_counted(study, monkeypatch):
    """Where the budget of dx alone is refined the study counts it, and what of dx's is used."""
    monkeypatch.setattr(budget, "_loose", lambda *_: ("dx",))
    found = study["alarms"].measure_group((4, "float64"))
    for finding in found:
        assert finding.refined == finding.cases > 0
        assert 0 < finding.used_refined < 1
    both = study["alarms"].total(found * 2)
    assert [each.refined for each in both] == [2 * each.refined for each in sorted_by_name(found)]
    assert [each.used_refined for each in both] == [
        each.used_refined for each in sorted_by_name(found)
    ]


def sorted_by_name(findings):
    return sorted(findings, key=lambda each: each.name)


def test_an_error_ratio_of_an_implementation_that_is_ten_times_worse(study, monkeypatch):
    """The ratio is manual_lstm's error over torch's: with the error ten times larger it shows."""
    closeness = study["closeness"]
    monkeypatch.setattr(closeness, "GROUP", 4)
    right = closeness.run_manual

    def worse(case):
        exact = closeness.truth(case)
        return {n: e + 10 * (np.asarray(right(case)[n]) - e) for n, e in exact.items()}

    (plain,) = closeness.total([closeness.measure_group((1, "float64"))])
    monkeypatch.setattr(closeness, "run_manual", worse)
    (tenfold,) = closeness.total([closeness.measure_group((1, "float64"))])
    assert plain.cases == 4
    assert plain.ratio_median <= plain.ratio_99_percent
    assert round(tenfold.ratio_median / plain.ratio_median) == 10


def test_an_lstm_said_to_round_least_that_is_another_lstm(study, monkeypatch):
    """Without their rounding both are right to float64's last digits; with it, to float32's."""
    floor, draw = study["floor"], study["draw"]
    case = draw.draw_plain(draw.Sizes(7, 2, 3, 4, layers=2, head=None), "float32", 0)
    in_float64 = case.astype(np.float64)
    exact = {name: value for name, value in truth(case).items() if name.startswith("d")}
    for dtype in (np.float32, np.float64):
        allowed = budget.error_budget(in_float64, dtype=dtype).allowed
        for implementation in floor.LEAST_ROUNDED.values():
            found = implementation(case)
            shares = [budget_shares(found[n], e, allowed[n]).max() for n, e in exact.items()]
            assert max(shares) <= 1
            assert max(shares) > 1e-3
        monkeypatch.setattr(floor, "_rounded", lambda a: np.asarray(a))


def test_a_case_in_which_float32_cannot_be_near_that_is_not_counted(study, monkeypatch):
    """In one case of this group not even an LSTM that rounds nothing but its states is near."""
    floor = study["floor"]
    found = floor.measure_group((0, "float32"))
    lines = {line.implementation: line for line in floor.total([found, found])}
    assert set(lines) == set(floor.REAL | floor.LEAST_ROUNDED)
    for line in lines.values():
        assert line.cases == 2 * study["draw"].GROUP
        assert line.beyond == 2
        assert line.median < floor.ASKED["float32"] < line.greatest
    monkeypatch.setitem(floor.ASKED, "float32", 1.0)
    assert {line.beyond for line in floor.total([found])} == {0}


@pytest.mark.thorough
def test_a_study_that_prints_no_figures(tmp_path):
    """The script runs, prints its tables, and writes the same figures as JSON."""
    target = tmp_path / "study.json"
    command = [sys.executable, str(SCRIPTS / "tolerance_study.py"), "--cases", "32"]
    command += ["--parts", "alarms", "--processes", "1", "--json", str(target)]
    root = SCRIPTS.parent
    done = subprocess.run(
        command, cwd=root, env={"PYTHONPATH": str(root)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(target.read_text())
    assert {line["dtype"] for line in report["alarms"]} == {"float32", "float64"}
    assert "manual_lstm" in done.stdout
    assert sum(line["cases"] + line["refused"] for line in report["alarms"]) >= 32
