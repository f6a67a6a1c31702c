"""The strategies: what they draw, and what a failing case shrinks to."""

import numpy as np
import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

from manual_lstm.params import lstm_sizes
from torch_ref.harness import strategies
from torch_ref.harness.strategies import (
    DTYPES,
    MAGNITUDES,
    cases,
    model_cases,
    parameters,
    upstreams,
)

SHRINK = settings(max_examples=200, database=None, derandomize=True)
SEARCH = settings(SHRINK, max_examples=500, phases=[Phase.generate])
SIZES = {"max_steps": 5, "max_batch": 3, "max_hidden": 4, "max_layers": 2}


def arrays_of(case):
    names = ("x", "h0", "c0", "dh_n", "dc_n", "dy")
    rest = {name: getattr(case, name) for name in names if getattr(case, name) is not None}
    return dict(case.params) | rest


@given(case=st.one_of(cases(max_inputs=6, **SIZES), model_cases(max_classes=6, **SIZES)))
def test_a_case_that_is_not_what_was_asked_for(case):
    """Sizes are within the limits and fit together, numbers are finite and of one dtype."""
    inputs, hidden, layers, dtype = lstm_sizes(case.params)
    steps, batch, _ = case.x.shape
    assert steps <= 5
    assert batch <= 3
    assert inputs <= 6
    assert hidden <= 4
    assert layers <= 2
    assert case.x.shape[2] == inputs
    for name in ("h0", "c0", "dh_n", "dc_n"):
        assert getattr(case, name).shape == (layers, batch, hidden)
    if case.targets is None:
        assert case.dy.shape == (steps, batch, hidden)
    else:
        assert case.targets.shape == (steps, batch)
        assert 0 <= case.targets.min() <= case.targets.max() < inputs
        assert ("weight_out" in case.params) or hidden == inputs
    for value in arrays_of(case).values():
        assert value.dtype == dtype
        assert np.isfinite(value).all()


@pytest.mark.sampled
@pytest.mark.parametrize("strategy", [cases(), model_cases()], ids=["cases", "model_cases"])
def test_a_failing_case_that_does_not_shrink(strategy):
    """The simplest case has one of everything and zeros only; what matters stays."""
    simplest = find(strategy, lambda case: True, settings=SHRINK)
    assert simplest.x.shape == simplest.h0.shape == (1, 1, 1)
    assert simplest.dtype == DTYPES[0]
    arrays = arrays_of(simplest)
    if simplest.targets is not None:
        assert arrays.pop("x") == 1  # one-hot
    assert not any(value.any() for value in arrays.values())

    found = find(strategy, lambda case: len(case.x) > 2 and case.dc_n.any(), settings=SHRINK)
    assert (found.x.shape, found.h0.shape) == ((3, 1, 1), (1, 1, 1))
    others = {k: v for k, v in arrays_of(found).items() if k not in ("dc_n", "x")}
    assert not any(value.any() for value in others.values())
    # An odd number of sixteenths: five significant bits at most.
    assert (16 * found.dc_n.item()) % 2 == 1


def wild(case):
    """The greatest recurrent weight, in multiples of Glorot's limit."""
    weight = case.params["weight_hh_l0"]
    return np.abs(weight).max() / np.sqrt(3 / weight.shape[1])


@pytest.mark.parametrize(
    "wanted",
    [
        lambda case: case.dtype == np.float64 and len(case.h0) == 3,
        lambda case: case.x.shape[0] == 12 and case.x.shape[1] == 4,
        lambda case: all(value.all() for value in arrays_of(case).values()),
        lambda case: wild(case) > 10,
        lambda case: 2 < wild(case) < 5,
        lambda case: 0 < wild(case) < 2.0**-19,
        lambda case: np.any(case.h0 * 16 % 1 != 0),
        lambda case: not case.dy.any() and case.dh_n.any(),
        lambda case: not case.params["bias_l0"].any() and case.params["weight_hh_l0"].any(),
        lambda case: np.abs(case.c0).max() > 1,
    ],
)
def test_a_kind_of_case_that_is_never_drawn(wanted):
    """Each kind turns up within 500 cases."""
    find(cases(), wanted, settings=SEARCH)


@pytest.mark.parametrize(
    "wanted",
    [
        lambda case: "weight_out" in case.params,
        lambda case: "weight_out" not in case.params,
        lambda case: case.x.shape[2] > 3 and case.x.shape[2] != case.h0.shape[2],
        lambda case: len(np.unique(case.targets)) > 3,
        lambda case: not np.isin(case.x, [0, 1]).all(),
        lambda case: case.dloss < 0,
        lambda case: case.dloss == 0,
    ],
)
def test_a_kind_of_model_that_is_never_drawn(wanted):
    """Each kind turns up within 500 cases."""
    find(model_cases(), wanted, settings=SEARCH)


def test_an_element_that_depends_on_the_sizes():
    """A case that shrinks keeps the numbers it has left."""
    numbers = strategies._numbers(lambda strategy: 1, "float64")
    small, large = numbers("x", (3, 2, 4), 1.0), numbers("x", (6, 3, 8), 1.0)
    np.testing.assert_array_equal(large[:3, :2, :4], small)
    assert len(np.unique(large)) == large.size
    assert not np.array_equal(numbers("h0", (3, 2, 4), 1.0), small)


@given(data=st.data(), magnitude=st.sampled_from(MAGNITUDES))
def test_weights_of_another_magnitude(data, magnitude):
    """Only the magnitudes that are asked for are drawn, to the limit's two bits."""
    params = data.draw(parameters(4, 5, 2, "float64", magnitudes=(magnitude,)))
    for name, fan_in in (("weight_ih_l0", 4), ("weight_hh_l0", 5), ("weight_hh_l1", 5)):
        limit = magnitude * np.sqrt(6 / (fan_in + 5))
        assert np.abs(params[name]).max() <= limit * 1.25
    assert params["weight_ih_l1"].shape == (20, 5)


@given(data=st.data(), dtype=st.sampled_from(DTYPES))
def test_upstream_gradients_of_another_shape(data, dtype):
    """dy is (T, B, H), dh_n and dc_n are (L, B, H), all of the dtype and within (-1, 1)."""
    drawn = data.draw(upstreams(6, 2, 5, 3, dtype))
    assert [part.shape for part in drawn] == [(6, 2, 5), (3, 2, 5), (3, 2, 5)]
    for part in drawn:
        assert part.dtype == dtype
        assert np.abs(part).max() < 1


@pytest.mark.parametrize("strategy", [cases, model_cases])
def test_a_dtype_that_cannot_be_drawn(strategy):
    """Other dtypes are refused."""
    with pytest.raises(ValueError, match="dtype is 'float16' but must be float32 or float64"):
        find(strategy(dtypes=("float16",)), lambda case: True, settings=SEARCH)
