"""Central differences: right within the error that they state, and silent where they cannot be."""

import numpy as np
import pytest

from manual_lstm import CharModel, alphabet, lstm_forward
from torch_ref import character_case, error_budget, truth
from torch_ref.oracles import finite_difference as module
from torch_ref.oracles.finite_difference import finite_differences

MODEL = CharModel(3, 3)


def small_case(dtype=np.float64):
    return character_case(alphabet(3), steps=3, batch=2, dtype=dtype, seed=1)


def forward(*inputs):
    return MODEL.vjp(*inputs)[0]


def differences(case, function=forward, names=None):
    return finite_differences(case, function, error_budget(case).allowed, names)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_error_larger_than_the_stated_one(dtype):
    """Every element is within its error of the exact derivative, and no error is unknown."""
    case = small_case(dtype)
    exact = truth(case)
    found = differences(case)
    assert set(found) == {name for name in exact if name.startswith("d")}
    verdicts = set()
    for name, each in found.items():
        assert np.all(np.abs(each.gradient - exact[name]) <= each.error), name
        assert each.gradient.shape == exact[name].shape
        verdicts |= set(each.verdict.ravel().tolist())
    assert verdicts <= {"confirmed", "rounding"}
    assert "confirmed" in verdicts


def test_a_wrong_gradient_that_the_differences_let_pass():
    """A gradient that is off by a thousandth is outside the error of the differences."""
    case = small_case()
    exact = truth(case)
    for name, each in differences(case, names=["weight_hh_l0", "h0"]).items():
        wrong = exact[name] * (1 + 1e-3)
        large = np.abs(exact[name]) == np.abs(exact[name]).max()
        assert np.all(np.abs(each.gradient - wrong)[large] > each.error[large])


def test_differences_of_the_first_order(monkeypatch):
    """One-sided differences halve their error with the step; the order test sees it."""

    def one_sided(case, function, name, index, step):
        (moved, there), (still, here) = (module._moved(case, name, index, s) for s in (step, 0.0))
        rise = module._objective(moved, function) - module._objective(still, function)
        return float(rise / (there - here))

    monkeypatch.setattr(module, "_central", one_sided)
    found = differences(small_case(), names=["bias_l0"])["dbias_l0"]
    assert "confirmed" not in found.verdict
    assert "unconfirmed" in found.verdict


def in_single_precision(params, x, targets, h0, c0):
    params = {name: value.astype(np.float32) for name, value in params.items()}
    return forward(params, np.float32(x), targets, np.float32(h0), np.float32(c0))


def with_a_kink(params, x, targets, h0, c0):
    loss, h_n, c_n = forward(params, x, targets, h0, c0)
    return loss + abs(float(params["bias_l0"][0] - KINK)), h_n, c_n


KINK = float(small_case().params["bias_l0"][0]) + 1e-9


@pytest.mark.parametrize("function", [in_single_precision, with_a_kink])
def test_a_forward_that_is_not_smooth(function):
    """Steps of float32, and a kink beside the point, are not taken for a derivative."""
    found = differences(small_case(), function, ["bias_l0"])["dbias_l0"]
    assert found.verdict[0] == "unconfirmed"


def test_a_forward_that_is_random():
    """A function that is another at every call has no derivative."""
    rng = np.random.default_rng(0)

    def noisy(*inputs):
        loss, h_n, c_n = forward(*inputs)
        return loss + rng.normal() * 1e-6, h_n, c_n

    found = differences(small_case(), noisy, ["bias_l0"])["dbias_l0"]
    assert set(found.verdict.tolist()) == {"unconfirmed"}


def test_a_function_that_does_not_depend_on_the_element():
    """A constant has the derivative 0, and no order to be seen."""
    case = small_case()
    outputs = forward(case.params, case.x, case.targets, case.h0, case.c0)
    found = differences(case, lambda *inputs: outputs, ["bias_l0"])["dbias_l0"]
    assert set(found.verdict.tolist()) == {"rounding"}
    assert not found.gradient.any()


def test_a_stack_without_a_head():
    """The other form of a forward, y for the loss."""
    case = small_case()
    stack = {name: value for name, value in case.params.items() if not name.endswith("_out")}
    dy = np.random.default_rng(0).normal(size=(3, 2, 3))
    case = module.replace(case, params=stack, targets=None, dy=dy)
    found = differences(case, lambda *inputs: lstm_forward(*inputs)[0], ["c0"])["dc0"]
    assert np.all(np.abs(found.gradient - truth(case)["dc0"]) <= found.error)


def test_a_name_that_the_case_does_not_have():
    """The error says which name, and which there are."""
    with pytest.raises(ValueError, match=r"names has 'weight' but must be among weight_ih_l0"):
        differences(small_case(), names=["weight"])
