"""The comparison of two results, element by element."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from torch_ref import Comparison, compare_gradients
from torch_ref.compare.errors import compare_tensor

numbers = hnp.arrays(
    st.sampled_from([np.float32, np.float64]),
    hnp.array_shapes(max_dims=3, max_side=4),
    elements=st.floats(-1e6, 1e6, width=32),
)


@given(expected=numbers)
def test_equal_arrays_that_disagree(expected):
    """Equal results agree with nothing allowed, and every difference is zero."""
    found = compare_tensor("dx", expected, expected.copy(), 0.0)
    assert found.verdict == "agree"
    assert (found.max_abs, found.max_rel, found.max_ulp, found.used) == (0, 0, 0, 0)
    assert found.shape == expected.shape
    assert (found.name, found.reason) == ("dx", "")


@given(expected=numbers, data=st.data())
def test_a_wrong_element_that_passes_or_is_misplaced(expected, data):
    """One element off by more than is allowed there disagrees, is found, and sizes are right."""
    index = data.draw(st.tuples(*[st.integers(0, n - 1) for n in expected.shape]), label="index")
    actual = expected.copy()
    actual[index] += max(1.0, abs(expected[index]))
    off = abs(float(actual[index]) - float(expected[index]))
    allowed = np.full(expected.shape, 2 * off)
    assert compare_tensor("dx", actual, expected, allowed).verdict == "agree"
    allowed[index] = off / 2
    found = compare_tensor("dx", actual, expected, allowed)
    assert found.verdict == "disagree"
    assert found.worst_index == index
    assert (found.max_abs, found.tolerance, found.used) == (off, off / 2, 2.0)
    largest = float(np.abs(expected).max())
    assert found.max_rel == (off / largest if largest else np.inf)
    assert found.max_ulp == off / float(np.spacing(abs(expected[index])))


def test_a_worst_element_that_is_only_the_largest():
    """The worst is furthest beyond what is allowed there; its difference may be a small one."""
    found = compare_tensor("dx", np.array([5.0, 1.0, 0.0]), np.zeros(3), [10.0, 0.5, 0.0])
    assert (found.worst_index, found.tolerance, found.used) == ((1,), 0.5, 2.0)
    assert (found.max_abs, found.max_rel, found.verdict) == (5.0, np.inf, "disagree")


def test_a_difference_measured_in_the_units_of_the_wrong_precision():
    """A float32 result that is one unit in the last place off a float64 truth is off by 1 ULP."""
    actual = np.nextafter(np.float32(1.5), np.float32(2))[None]
    found = compare_tensor("dx", actual, np.array([1.5]), 1.0)
    assert found.max_ulp == 1.0
    extended = compare_tensor("dx", actual, np.array([1.5], np.longdouble), 1.0)
    assert extended.max_ulp == 1.0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("actual", "expected"),
    [
        (np.nan, 1.0),
        (1.0, np.nan),
        (np.nan, np.nan),
        (np.inf, 1.0),
        (1.0, -np.inf),
        (np.inf, -np.inf),
        (np.nan, np.inf),
    ],
)
@pytest.mark.parametrize("allowed", [0.0, 1e300, np.inf, np.nan])
def test_a_number_that_is_none(actual, expected, allowed, dtype):
    """NaN on either side, or one infinity alone, disagrees whatever is allowed."""
    a, e = np.array([5.0, actual, 5.0], dtype), np.array([5.0, expected, 5.5], dtype)
    found = compare_tensor("dx", a, e, allowed)
    assert found.verdict == "disagree"
    assert found.worst_index == (1,)
    assert found.used == np.inf
    assert found.reason == f"{actual} where {expected:.3g} was expected"


def test_an_infinity_on_both_sides():
    """The same infinity agrees: a loss may be infinite."""
    assert compare_tensor("loss", np.array(np.inf), np.array(np.inf), 0.0).verdict == "agree"


@pytest.mark.parametrize("allowed", [np.nan, -1.0])
def test_a_budget_that_is_no_number(allowed):
    """A difference is never within a budget that is NaN or negative."""
    found = compare_tensor("dx", np.array([1.0, 3.0]), np.ones(2), [9.0, allowed])
    assert (found.verdict, found.used, found.worst_index) == ("disagree", np.inf, (1,))


@pytest.mark.parametrize(
    ("actual", "reason"),
    [
        ({}, "missing"),
        ({"dx": np.ones((3, 2))}, "shape (3, 2), expected (2, 3)"),
        ({"dx": np.ones((1, 2, 3))}, "shape (1, 2, 3), expected (2, 3)"),
        ({"dx": np.float64(1)}, "shape (), expected (2, 3)"),
        ({"dx": np.ones((2, 3), int)}, "dtype int64, expected a floating-point one"),
        ({"dx": np.ones((2, 3), complex)}, "dtype complex128, expected a floating-point one"),
        ({"dx": np.full((2, 3), None)}, "dtype object, expected a floating-point one"),
    ],
)
def test_a_tensor_that_cannot_be_compared(actual, reason):
    """Missing, of another shape (nothing is broadcast) or of no floating-point dtype: disagrees."""
    comparison = compare_gradients(actual, {"dx": np.ones((2, 3))}, {"dx": np.inf})
    (found,) = comparison.tensors
    assert (comparison.verdict, found.verdict, found.reason) == ("disagree", "disagree", reason)
    assert found.worst_index is None
    assert np.isnan(found.max_abs)


def test_a_tensor_that_nobody_asked_for():
    """An unexpected tensor disagrees, and comes after the expected ones."""
    one = np.ones(2)
    comparison = compare_gradients({"extra": one, "dx": one}, {"dx": one}, {"dx": 0.0})
    assert [tensor.name for tensor in comparison.tensors] == ["dx", "extra"]
    assert [tensor.verdict for tensor in comparison.tensors] == ["agree", "disagree"]
    assert comparison.verdict == "disagree"


def test_a_comparison_of_nothing():
    """Nothing compared is no agreement."""
    assert Comparison(()).verdict == "disagree"
    assert compare_gradients({}, {}, {}).verdict == "disagree"


@pytest.mark.parametrize("shape", [(0,), (2, 0, 3)])
def test_an_empty_tensor_that_agrees(shape):
    """An expected tensor without elements shows nothing, and is not taken for agreement."""
    found = compare_tensor("dx", np.ones(shape), np.ones(shape), 0.0)
    assert (found.verdict, found.reason) == ("disagree", "no elements")
