"""The complex step: derivatives of the forward pass that no backward pass had a part in."""

from dataclasses import replace

import numpy as np
import pytest
from agreement import assert_agree
from hypothesis import given, settings
from hypothesis import strategies as st

from manual_lstm import alphabet
from torch_ref import (
    Variant,
    character_case,
    compare_gradients,
    complex_step,
    error_budget,
    torch_lstm_vjp,
    truth,
)
from torch_ref.harness.strategies import DTYPES, HEADS
from torch_ref.oracles import complex_step as module
from torch_ref.oracles import equations

# Numbers of ordinary size: where they are drawn so that contributions cancel exactly, forward
# and backward differ by more than the backward's roundings.
SMALL = st.builds(
    character_case,
    st.integers(2, 5).map(alphabet),
    steps=st.integers(1, 4),
    batch=st.integers(1, 3),
    layers=st.integers(1, 3),
    head=st.sampled_from(HEADS),
    dtype=st.sampled_from(DTYPES),
    seed=st.integers(0, 2**16),
)


def small_case(**options):
    return character_case(alphabet(4), steps=3, batch=2, layers=2, dtype=np.float64, **options)


@given(case=SMALL)
@settings(max_examples=20)
def test_a_backward_equation_that_is_not_the_derivative_of_the_forward(case):
    """The exact gradients are those of the forward pass, to float64's rounding."""
    found = complex_step(case)
    assert {value.dtype for value in found.values()} == {np.dtype(np.float64)}
    assert_agree(found, truth(case), error_budget(case, dtype=np.float64).allowed, "complex step")


@pytest.mark.parametrize(
    "variant",
    [Variant(candidate="sigmoid", state="tanh"), Variant(output="identity", coupled=True)],
    ids=str,
)
def test_a_variant_whose_derivative_is_the_standard_cells(variant):
    """The complex step differentiates the cell that the case has."""
    case = replace(small_case(), variant=variant)
    assert_agree(complex_step(case), truth(case), error_budget(case).allowed, "complex step")


def test_a_wrong_equation_that_the_complex_step_shares(monkeypatch):
    """A backward that takes c[t] for c[t-1] is found, so nothing of the backward is used."""
    case = small_case()
    right = complex_step(case)
    backward = equations.lstm_backward

    def wrong(w, forward, *rest, **named):
        steps = [[replace(s, c_before=s.c) for s in layer] for layer in forward.layers]
        return backward(w, replace(forward, layers=steps), *rest, **named)

    monkeypatch.setattr(equations, "lstm_backward", wrong)
    comparison = compare_gradients(complex_step(case), truth(case), error_budget(case).allowed)
    assert comparison.verdict == "disagree"
    for name, value in complex_step(case).items():
        np.testing.assert_array_equal(value, right[name])


def test_an_operation_that_is_not_analytic(monkeypatch):
    """A tanh of the real part alone has no derivative to give, and the comparison says so."""
    blind = replace(module._COMPLEX, tanh=lambda z: np.tanh(z.real) + 0j)
    case = small_case()
    monkeypatch.setattr(module, "_COMPLEX", blind)
    comparison = compare_gradients(complex_step(case), truth(case), error_budget(case).allowed)
    assert comparison.verdict == "disagree"


@pytest.mark.parametrize("at_once", [1, 5000])
def test_directions_that_are_lost_between_two_passes(monkeypatch, at_once):
    """However many elements are perturbed at once, every derivative is there."""
    case = small_case(head="bounded")
    monkeypatch.setattr(module, "_BYTES_AT_ONCE", at_once)
    assert_agree(complex_step(case), truth(case), error_budget(case).allowed, "complex step")


def test_an_upstream_gradient_that_is_left_out():
    """dloss, dh_n and dc_n all count: without any one of them the gradients differ."""
    case = replace(small_case(), dloss=0.7)
    allowed = error_budget(case).allowed
    exact = truth(case)
    assert_agree(complex_step(case), exact, allowed, "complex step")
    for change in ({"dloss": 1.0}, {"dh_n": 0 * case.dh_n}, {"dc_n": 0 * case.dc_n}):
        found = complex_step(replace(case, **change))
        assert compare_gradients(found, exact, allowed).verdict == "disagree", change


def test_a_step_that_leaves_a_trace_in_the_value():
    """Nothing of the perturbation reaches the real parts: h^2 is below every rounding."""
    case = small_case()
    leaves = {**case.params, "x": case.x, "h0": case.h0, "c0": case.c0}
    leaves = {name: np.asarray(value, complex) for name, value in leaves.items()}
    plain = module._forward(case, leaves)
    for name, value in leaves.items():
        perturbed = module._perturbed(name, value, slice(0, 1))
        moved = module._forward(case, {**leaves, name: perturbed})
        for left, right in zip(moved.y, plain.y, strict=True):
            tiny = 8 * np.finfo(np.float64).eps * np.abs(right.real)
            assert np.all(np.abs(left.real - right.real) <= tiny)


def test_upstream_gradients_that_cancel_only_almost():
    """dy and dh_n of the last step, equal and opposite, leave exactly what comes from elsewhere."""
    case = small_case()
    stack = {name: value for name, value in case.params.items() if not name.endswith("_out")}
    dh_n = 0 * case.dh_n
    dh_n[-1] = 0.1 * np.arange(1, 9).reshape(2, 4)
    dy = np.zeros((3, 2, 4))
    dy[-1] = -dh_n[-1]
    case = replace(case, params=stack, targets=None, dy=dy, dh_n=dh_n, dc_n=0 * case.dc_n)
    for name, value in complex_step(case).items():
        assert name[0] != "d" or not value.any(), name


def test_torch_is_the_reference_of_the_reference():
    """torch.nn.LSTM, whose derivative nobody here wrote, has the complex step's gradients."""
    case = character_case(alphabet(3), steps=5, batch=2, dtype=np.float64)
    rng = np.random.default_rng(0)
    stack = {name: value for name, value in case.params.items() if not name.endswith("_out")}
    case = replace(case, params=stack, targets=None, dy=rng.normal(size=(5, 2, 3)))
    outputs, pullback = torch_lstm_vjp(case.params, case.x, case.h0, case.c0)
    actual = dict(zip(("y", "h_n", "c_n"), outputs, strict=True))
    actual |= pullback(case.dy, case.dh_n, case.dc_n)
    assert_agree(actual, complex_step(case), error_budget(case, sides=2).allowed, "nn.LSTM")
