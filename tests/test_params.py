"""The weights' initialisation, equation (27), and what is read from them."""

import numpy as np
import pytest
from agreement import assert_same_bits
from hypothesis import given
from hypothesis import strategies as st

from manual_lstm import CharModel, init_params
from manual_lstm.params import GATES, glorot_limit, lstm_sizes
from torch_ref.harness.strategies import parameters

GAIN = {"i": 4.0, "f": 4.0, "g": 1.0, "o": 4.0}


@given(
    sizes=st.tuples(*[st.integers(1, most) for most in (9, 9, 4)]),
    dtype=st.sampled_from(["float32", "float64"]),
    seed=st.integers(0, 99),
)
def test_weights_of_another_shape_or_precision(sizes, dtype, seed):
    """Names, shapes and dtype are those of the sizes, which can be read back."""
    inputs, hidden, layers = sizes
    params = init_params(*sizes, dtype=dtype, rng=np.random.default_rng(seed))
    expected = {}
    for k in range(layers):
        expected[f"weight_ih_l{k}"] = (4 * hidden, inputs if k == 0 else hidden)
        expected[f"weight_hh_l{k}"] = (4 * hidden, hidden)
        expected[f"bias_l{k}"] = (4 * hidden,)
    assert {name: value.shape for name, value in params.items()} == expected
    assert lstm_sizes(params) == (*sizes, np.dtype(dtype))
    assert lstm_sizes({**params, "weight_out": "not looked at"})[:3] == sizes


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_gate_whose_weights_have_another_limit(dtype):
    """Each block fills its own limit: four times Glorot's for i, f and o, once for g.

    Of 64 x 10 uniform numbers the greatest is within 10 % of the limit but for 0.9^640 < 1e-29,
    so a block of another gain, or of another fan-in, cannot pass.
    """
    inputs, hidden = 10, 64
    params = init_params(inputs, hidden, 2, dtype=dtype, rng=np.random.default_rng(0))
    fans = {"weight_ih_l0": inputs, "weight_hh_l0": hidden, "bias_l0": inputs}
    fans |= {"weight_ih_l1": hidden, "weight_hh_l1": hidden, "bias_l1": hidden}
    for name, fan_in in fans.items():
        blocks = zip(GATES, params[name].reshape(4, -1), strict=True)
        for gate, block in blocks:
            limit = GAIN[gate] * np.sqrt(6 / (fan_in + hidden))
            assert np.abs(block).max() <= np.dtype(dtype).type(limit), (name, gate)
            if name.startswith("weight"):
                assert 0.9 * limit < block.max(), (name, gate)
                assert block.min() < -0.9 * limit, (name, gate)
            assert len(np.unique(block)) > block.size * 0.9, (name, gate)


def test_a_limit_that_is_not_glorots():
    """sqrt(6 / (fan_in + fan_out))."""
    assert glorot_limit(2, 4) == 1.0
    assert glorot_limit(20, 4) == 0.5


def test_two_arrays_with_the_same_numbers():
    """No two layers and no two arrays share their draws; a seed gives the same bits again."""
    params = init_params(3, 3, 3, rng=np.random.default_rng(5))
    again = init_params(3, 3, 3, rng=np.random.default_rng(5))
    assert_same_bits(params, again)
    numbers = np.concatenate([value.reshape(-1) for value in params.values()])
    assert len(np.unique(numbers)) == numbers.size


@pytest.mark.parametrize("forget_bias", [0.0, 1.0, -2.5])
def test_a_forget_bias_in_another_gate(forget_bias):
    """The forget gate's bias has the given value in every layer, and nothing else changes."""
    plain = init_params(2, 3, 2, rng=np.random.default_rng(1))
    params = init_params(2, 3, 2, rng=np.random.default_rng(1), forget_bias=forget_bias)
    for name, value in plain.items():
        expected = value.copy()
        if name.startswith("bias"):
            expected[3:6] = forget_bias
        np.testing.assert_array_equal(params[name], expected, strict=True)


def test_an_output_layer_that_the_bounded_head_does_not_have():
    """The linear head adds its weight and bias, within Glorot's limit; the bounded adds nothing."""
    linear = CharModel(5, 40).init_params(dtype="float64", rng=np.random.default_rng(0))
    assert linear["weight_out"].shape == (5, 40)
    assert linear["bias_out"].shape == (5,)
    limit = np.sqrt(6 / 45)
    assert 0.9 * limit < np.abs(linear["weight_out"]).max() <= limit
    assert 0 < np.abs(linear["bias_out"]).max() <= limit
    bounded = CharModel(5, 5, head="bounded").init_params(rng=np.random.default_rng(0))
    assert list(bounded) == ["weight_ih_l0", "weight_hh_l0", "bias_l0"]
    assert {value.dtype for value in bounded.values()} == {np.dtype("float32")}


@given(data=st.data(), dtype=st.sampled_from(["float32", "float64"]))
def test_drawn_weights_that_are_no_stack(data, dtype):
    """The strategy draws what `init_params` returns: names, shapes, dtype, finite numbers."""
    sizes = data.draw(st.tuples(*[st.integers(1, most) for most in (20, 9, 3)]))
    params = data.draw(parameters(*sizes, dtype))
    assert lstm_sizes(params) == (*sizes, np.dtype(dtype))
    like = init_params(*sizes, dtype=dtype, rng=np.random.default_rng(0))
    assert {name: value.shape for name, value in params.items()} == {
        name: value.shape for name, value in like.items()
    }
