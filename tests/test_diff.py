"""The gradient diff: it agrees with the code as it is, and with no wrong line planted in it."""

import itertools
import sys
from dataclasses import replace

import numpy as np
import pytest
from agreement import assert_same_bits
from hypothesis import assume, given
from planted import MISTAKES, ON_THE_BOUNDED_HEAD, plant

from manual_lstm import alphabet, vjp
from manual_lstm.lstm import _through_time
from torch_ref import character_case, compare_gradients, diff_gradients, error_budget
from torch_ref.compare.diff import diff_arrays
from torch_ref.harness.strategies import cases, model_cases


def case_of(dtype, head="linear"):
    """Two layers, a batch of three, V = H = 5, and a loss whose upstream gradient is not 1."""
    case = character_case(alphabet(5), steps=7, batch=3, layers=2, head=head, dtype=dtype, seed=1)
    return replace(case, dloss=0.75)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("head", ["linear", "bounded"])
def test_a_diff_that_finds_mistakes_in_correct_code(head, dtype):
    """The same cases agree while nothing is planted."""
    assert diff_gradients(case_of(dtype, head)).verdict == "agree"


@pytest.mark.sampled
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("mistake", [*MISTAKES, *ON_THE_BOUNDED_HEAD])
def test_a_mistake_that_the_diff_does_not_see(mistake, dtype, monkeypatch):
    """Each wrong line is a disagreement, in either precision."""
    on_bounded = mistake in ON_THE_BOUNDED_HEAD
    case = case_of(dtype, "bounded" if on_bounded else "linear")
    plant(monkeypatch, *(ON_THE_BOUNDED_HEAD if on_bounded else MISTAKES)[mistake])
    assert diff_gradients(case).verdict == "disagree"


def test_a_planted_line_that_changes_nothing(monkeypatch):
    """The planting refuses a line that is not there, and one that is there twice."""
    for old in ("no such line", "np.empty"):
        with pytest.raises(AssertionError, match=r"occurs (0|[2-9]) times"):
            plant(monkeypatch, _through_time, old, "")
    plant(monkeypatch, _through_time, "dc += np", "dc += np")
    assert diff_gradients(case_of("float64")).verdict == "agree"


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_change_that_was_said_to_show_and_does_not(dtype):
    """Any large element, off by a little more than the report says, in either direction."""
    case = case_of(dtype)
    actual, expected, allowed = diff_arrays(case)
    sharp = diff_gradients(case).sharpness
    unseen = 0
    for name in [name for name in expected if name.startswith("d")]:
        size = np.abs(expected[name])
        for where in np.argwhere(size >= sharp.share * size.max()):
            for change, sign in itertools.product((1.001, 0.99), (-1, 1)):
                wide = actual[name].astype(np.float64)
                wide[tuple(where)] += sign * change * sharp.change * size[tuple(where)]
                only = {name: expected[name]}
                seen = compare_gradients({name: wide}, only, allowed).verdict == "disagree"
                assert seen or change < 1, (name, where)
                unseen += not seen
    assert unseen  # or a smaller change could have been said


def test_a_sharpness_of_what_disagrees_or_is_nowhere_but_zero(monkeypatch):
    """A disagreement is not vouched for, and neither is a gradient that is nothing."""
    zero = replace(case_of("float64"), dloss=0.0)
    silent = replace(zero, dh_n=0 * zero.dh_n, dc_n=0 * zero.dc_n)
    assert diff_gradients(silent).sharpness is None
    plant(monkeypatch, *MISTAKES[next(iter(MISTAKES))])
    assert diff_gradients(case_of("float64")).sharpness is None


def test_a_case_that_leaves_a_path_unused():
    """States and upstream gradients of character_case are nowhere zero, in either precision."""
    wide, narrow = case_of("float64"), case_of("float32")
    for name in ("h0", "c0", "dh_n", "dc_n"):
        value = getattr(wide, name)
        assert value.all()
        assert len(np.unique(value)) == value.size
    assert_same_bits(narrow.params, wide.astype(np.float32).params)
    for name in ("x", "h0", "c0", "dh_n", "dc_n", "targets"):
        expected = getattr(wide.astype(np.float32), name)
        np.testing.assert_array_equal(getattr(narrow, name), expected, strict=True)


@given(case=cases())
def test_a_stack_that_the_diff_rejects(case):
    """Whatever the stack, the diff agrees with the code as it is."""
    assume(error_budget(case).conclusive)
    assert diff_gradients(case).verdict == "agree"


@given(case=model_cases())
def test_a_model_that_the_diff_rejects(case):
    """Whatever the model, the diff agrees with the code as it is."""
    assume(error_budget(case).conclusive)
    assert diff_gradients(case).verdict == "agree"


def test_a_case_that_only_rounding_decides():
    """Weights that amplify rounding beyond any judgement are refused, not passed."""
    case = case_of("float32")
    wild = {name: 1e5 * value for name, value in case.params.items()}
    with pytest.raises(ValueError, match=r"the case cannot be judged in float32.*Use float64"):
        diff_gradients(replace(case, params=wild))


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("side", ["run_manual", "run_twin"])
def test_a_nan_that_passes_as_agreement(side, value, monkeypatch):
    """A NaN or an infinity on either side is a disagreement."""
    module = sys.modules["torch_ref.compare.diff"]
    run = getattr(module, side)

    def spoilt(case):
        results = run(case)
        results["dweight_hh_l0"][3, 1] = value
        return results

    monkeypatch.setattr(module, side, spoilt)
    comparison = diff_gradients(case_of("float64"))
    found = {tensor.name: tensor for tensor in comparison.tensors}["dweight_hh_l0"]
    assert comparison.verdict == "disagree"
    assert (found.verdict, found.worst_index) == ("disagree", (3, 1))


@given(case=cases(dtypes=("float64",)))
def test_a_gradient_that_only_one_side_returns(case):
    """The pullback returns every gradient that the twin has and no other."""
    _, pullback = vjp(case.params, case.x)
    names = [tensor.name for tensor in diff_gradients(case).tensors]
    assert sorted(pullback(case.dy, None, None)) == sorted(n for n in names if n[0] == "d")
