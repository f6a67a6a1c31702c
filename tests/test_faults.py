"""Results that are not merely inaccurate: each kind is named, and none is an exception."""

import numpy as np
import pytest
import torch

from torch_ref import compare_gradients

EXPECTED = {"dx": np.ones((2, 3))}


def one_bad(value):
    array = np.ones((2, 3))
    array[1, 2] = value
    return array


@pytest.mark.parametrize(
    ("actual", "fault", "reason"),
    [
        (one_bad(1 + 1e-9), "value", ""),
        (one_bad(np.nan), "nan", "nan where 1 was expected"),
        (one_bad(np.inf), "infinite", "inf where 1 was expected"),
        (np.ones((3, 2)), "shape", "shape (3, 2), expected (2, 3)"),
        (np.ones((2, 3), np.float32), "dtype", "dtype float32, expected float64"),
        (np.ones((2, 3), np.int64), "dtype", "dtype int64, expected float64"),
        (np.ones((2, 3), complex), "dtype", "dtype complex128, expected float64"),
        ([[1, 2, 3], [1]], "dtype", "list, expected an array of (2, 3)"),
        (torch.ones(2, 3).requires_grad_(), "dtype", "Tensor, expected an array of (2, 3)"),
        (None, "shape", "shape (), expected (2, 3)"),
        ("1.0", "shape", "shape (), expected (2, 3)"),
    ],
)
def test_a_fault_that_goes_by_another_name(actual, fault, reason):
    """Each kind of wrong result has its word and its sentence, and is never within anything."""
    (found,) = compare_gradients({"dx": actual}, EXPECTED, {"dx": 1e-12}, dtype=np.float64).tensors
    assert (found.verdict, found.fault, found.reason) == ("disagree", fault, reason)
    assert found.used > 1


def test_a_tensor_that_is_missing_or_too_many():
    """Neither a lack nor a surplus passes, even of what is no array."""
    found = compare_gradients({"dw": [[1], [1, 2]]}, EXPECTED, {"dx": 1.0})
    assert [(each.name, each.fault) for each in found.tensors] == [
        ("dx", "missing"),
        ("dw", "unexpected"),
    ]
    assert found.verdict == "disagree"


def test_a_right_result_that_has_a_fault():
    """Right numbers in the dtype that is asked for have none."""
    for dtype in (None, np.float64, "float64"):
        (found,) = compare_gradients(EXPECTED, EXPECTED, {"dx": 0.0}, dtype=dtype).tensors
        assert (found.verdict, found.fault, found.reason) == ("agree", "", "")


def test_float64_results_rounded_to_a_float32_expectation():
    """The comparison is in the wider dtype of the two: nothing is rounded away first."""
    expected = {"dx": np.ones(2, np.float32)}
    actual = {"dx": np.ones(2) + 1e-9}
    assert compare_gradients(actual, expected, {"dx": 1e-10}).verdict == "disagree"
