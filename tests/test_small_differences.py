"""Differences as small as another precision's rounding, which no mistake of the catalogue makes."""

from dataclasses import replace
from typing import Any

import pytest
from planted import plant
from test_neighbours import stacked

import manual_lstm as ml
from manual_lstm.lstm import _through_time
from torch_ref import Implementation, diagnose
from torch_ref.diagnosis.backward.table import backward_table
from torch_ref.diagnosis.mistakes.planted import planted_vjp
from torch_ref.harness.cases import sized_case

pytestmark = pytest.mark.sampled

OF_FLOAT32 = "No difference exceeds what rounding to float32 can make"
# The line, what stands in its place, and what is told beside.
SMALL = [
    ("dU += dz.T @ h", "dU += dz.T @ h.astype(np.float32)", "in dweight_hh_l0"),
    ("_l{k}\": dW,", "_l{k}\": dW.astype(np.float32).astype(float),",
     "dweight_ih_l0 and dweight_ih_l1 hold float32 numbers only."),
    ("c_next = f * c + i * g", "c_next = f * c + i * g + 1e-9", "The forward pass is wrong"),
    ("np.concatenate([di, df, dg, do], axis=1)",
     "np.concatenate([di, df, dg, do], axis=1).astype(np.float32)", "dz of layer 0 at t=0"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "beside"), SMALL)
def test_value_in_float32_for_which_lines_are_sought(old: str, new: str, beside: str) -> None:
    """A cast, or a small number that is added, of which only the place is told, after a minute."""
    found = diagnose(Implementation("cast", vjp=stacked((old, new)), dtype="float64"), seconds=600)
    assert found.finding is None
    assert OF_FLOAT32 in found.located
    assert beside in found.located, found.located
    assert found.seconds < 60


@pytest.mark.parametrize("factor", ["1.00001"])
def test_wrong_line_that_is_called_rounding(factor: str) -> None:
    """A factor that float32 can tell from 1, passed for one of its roundings."""
    lines = ("db += dz.sum(axis=0)", f"db += dz.sum(axis=0) * {factor}")
    assert OF_FLOAT32 not in diagnose(stacked(lines), seconds=0).located


@pytest.mark.thorough
def test_mistake_in_float32_that_is_called_rounding() -> None:
    """What is wrong in single precision alone, held against that precision's own rounding."""
    line = ("dx[t] = dz @ W", "dx[t] = dz @ W * np.float32(1.00001)")
    single = Implementation("single", vjp=stacked(line), dtype="float32")
    assert OF_FLOAT32 not in diagnose(single, seconds=0).located


def test_wrong_dz_beside_right_gradients_that_is_called_rounding() -> None:
    """What is returned of a step, wrong by a factor of two, while nothing else is wrong."""
    table = backward_table()

    def vjp(params: Any, x: Any, h0: Any, c0: Any) -> Any:
        outputs, pullback = planted_vjp(table, steps=True)(params, x, h0, c0)

        def back(dy: Any, dh_n: Any, dc_n: Any) -> Any:
            found = pullback(dy, dh_n, dc_n)
            return {n: v * (2 if n.startswith("dz") else 1) for n, v in found.items()}

        return outputs, back

    told = diagnose(Implementation("steps", vjp=vjp, dtype="float64"), seconds=0)
    assert told.wrong
    assert OF_FLOAT32 not in told.located, told.located


def test_results_of_too_few_digits_that_are_taken_for_a_mistake() -> None:
    """Of a mistake without effect, as a mean over one sequence, which explains as much."""

    def vjp(params: Any, x: Any, h0: Any, c0: Any) -> Any:
        outputs, pullback = ml.vjp(params, x, h0, c0)

        def back(*upstream: Any) -> Any:
            gradients = pullback(*upstream)
            return {name: value * (1 + 2**-47.9) for name, value in gradients.items()}

        return outputs, back

    sizes = {"L": 1, "B": 1}
    found = diagnose(Implementation("digits", vjp=vjp, dtype="float64", sizes=sizes), seconds=0)
    assert found.wrong
    assert found.finding is None
    assert "with all their digits" in found.located


@pytest.mark.thorough
def test_a_case_in_float32_that_no_mistake_explains(monkeypatch: pytest.MonkeyPatch) -> None:
    """The case that failed, judged by float64's budget, or near by its digits alone."""
    plant(monkeypatch, _through_time, "dc = of_dc[0]", "dc = np.clip(of_dc[0], -0.5, 0.5)")
    case = sized_case({"T": 2, "B": 1, "I": 4, "H": 4, "L": 1}, dtype="float32")
    louder = replace(case, dc_n=8 * case.dc_n)
    (found,) = diagnose(ml.vjp, case=louder).finding.mistakes
    assert "clipped to [-0.5, 0.5]" in found.sentence
