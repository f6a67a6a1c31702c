"""Results that are not merely inaccurate: each kind is named, and none is an exception."""

import numpy as np
import pytest
import torch

from manual_lstm import CharModel, alphabet
from torch_ref import character_case, compare_gradients, run_twice

MODEL = CharModel(3, 3)
EXPECTED = {"dx": np.ones((2, 3))}


def small_case():
    return character_case(alphabet(3), steps=3, batch=2, dtype=np.float64)


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


def broken_vjp(kind):
    """CharModel.vjp with something that only a second call shows."""
    rng = np.random.default_rng(0)
    kept: dict[str, np.ndarray] = {}

    def vjp(params, x, targets, h0, c0):
        outputs, right = MODEL.vjp(params, x, targets, h0, c0)

        def pullback(*upstream):
            gradients = right(*upstream)
            if kind == "accumulates":
                for name, value in gradients.items():
                    kept[name] = kept.get(name, 0) + value
                return dict(kept)
            if kind == "one buffer":
                for name, value in gradients.items():
                    buffer = kept.setdefault(name, np.zeros_like(value))
                    buffer += value
                return kept
            if kind == "random":
                gradients["dbias_l0"] = gradients["dbias_l0"] + 1e-17 * rng.normal(size=12)
            if kind == "last bit":
                gradients["dc0"] = np.nextafter(gradients["dc0"], len(kept))
                kept[str(len(kept))] = x
            if kind == "nan later":
                gradients["dc0"] = gradients["dc0"] * (np.nan if kept else 1)
                kept["called"] = x
            if kind == "x overwritten":
                x[0] = 0
            return gradients

        return outputs, pullback

    return vjp


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        ("accumulates", "dx"),
        ("one buffer", "dx"),
        ("random", "dbias_l0"),
        ("last bit", "dc0"),
        ("nan later", "dc0"),
        ("x overwritten", "dweight_ih_l0"),
    ],
)
def test_an_implementation_that_gives_other_numbers_the_second_time(kind, named):
    """Down to the last bit, in a second pullback or a second call."""
    _, found = run_twice(small_case(), broken_vjp(kind))
    assert found.verdict == "disagree"
    faults = {tensor.name: tensor for tensor in found.tensors if tensor.verdict == "disagree"}
    assert faults[named].fault == "not repeatable"
    assert " in a second " in faults[named].reason
    assert " in the first" in faults[named].reason


def test_a_sound_implementation_that_is_not_repeatable():
    """manual_lstm gives the same bits again, and the results are its own."""
    case = small_case()
    results, found = run_twice(case, MODEL.vjp)
    assert found.verdict == "agree"
    outputs, pullback = MODEL.vjp(case.params, case.x, case.targets, case.h0, case.c0)
    np.testing.assert_array_equal(results["h_n"], outputs[1])
    for name, value in pullback(case.dloss, case.dh_n, case.dc_n).items():
        np.testing.assert_array_equal(results[name], value)


def test_nan_at_every_call():
    """NaN is what is wrong there, and not that it were another number each time."""

    def vjp(*inputs):
        outputs, right = MODEL.vjp(*inputs)
        return outputs, lambda *upstream: {**right(*upstream), "dc0": np.full((1, 2, 3), np.nan)}

    _, found = run_twice(small_case(), vjp)
    assert {each.fault for each in found.tensors if each.name == "dc0"} == {"nan"}
    assert found.verdict == "disagree"


def test_results_that_are_no_arrays_when_run_twice():
    """They are a fault of the second comparison, not an exception."""

    def vjp(*inputs):
        outputs, _ = MODEL.vjp(*inputs)
        return outputs, lambda *upstream: {"dx": [[1.0], [1.0, 2.0]]}

    _, found = run_twice(small_case(), vjp)
    assert found.verdict == "disagree"
