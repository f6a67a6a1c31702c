"""Bad input of the stacks and models: a ValueError that names it, the same on every side."""

import re

import numpy as np
import pytest
from agreement import assert_same_bits

from manual_lstm import CharModel, vjp
from torch_ref import autograd_model_vjp, autograd_vjp, torch_lstm_vjp

# T, B, I, H, L of the good case that each row below spoils
STEPS, BATCH, INPUTS, HIDDEN, LAYERS = 3, 2, 4, 4, 2
GONE = object()


def good():
    """Arguments that every side accepts, by name."""
    rng = np.random.default_rng(0)
    model = CharModel(INPUTS, HIDDEN, LAYERS)
    return {
        **model.init_params(dtype="float64", rng=rng),
        "x": rng.normal(size=(STEPS, BATCH, INPUTS)),
        "h0": rng.normal(size=(LAYERS, BATCH, HIDDEN)),
        "c0": rng.normal(size=(LAYERS, BATCH, HIDDEN)),
        "dy": rng.normal(size=(STEPS, BATCH, HIDDEN)),
        "dh_n": rng.normal(size=(LAYERS, BATCH, HIDDEN)),
        "dc_n": rng.normal(size=(LAYERS, BATCH, HIDDEN)),
        "targets": rng.integers(0, INPUTS, (STEPS, BATCH)),
        "dloss": 1.0,
    }


def split(given):
    names = ("x", "h0", "c0", "dy", "dh_n", "dc_n", "targets", "dloss")
    rest = {name: given[name] for name in names}
    return {name: value for name, value in given.items() if name not in names}, rest


def stack_side(side):
    def run(given):
        params, a = split(given)
        _, pullback = side(params, a["x"], a["h0"], a["c0"])
        return pullback(a["dy"], a["dh_n"], a["dc_n"])

    return run


def model_side(side):
    def run(given):
        params, a = split(given)
        _, pullback = side(params, a["x"], a["targets"], a["h0"], a["c0"])
        return pullback(a["dloss"], a["dh_n"], a["dc_n"])

    return run


STACKS = {
    "manual_lstm": stack_side(vjp),
    "the twin": stack_side(autograd_vjp),
    "nn.LSTM": stack_side(torch_lstm_vjp),
}
MODELS = {
    "CharModel": model_side(CharModel(INPUTS, HIDDEN, LAYERS).vjp),
    "the model's twin": model_side(autograd_model_vjp),
}


def with_nan(value):
    value = value.copy()
    value.reshape(-1)[-1] = np.nan
    return value


def with_inf(value):
    value = value.copy()
    value.reshape(-1)[0] = -np.inf
    return value


@pytest.mark.parametrize("side", [*STACKS, *MODELS])
def test_nested_lists_that_are_refused(side):
    """What reads as an array is one, the weights too: the same bits."""
    given = good()
    lists = {key: value.tolist() for key, value in given.items() if key != "dloss"}
    gradients = (STACKS | MODELS)[side]({**lists, "dloss": 1.0})
    assert_same_bits(gradients, (STACKS | MODELS)[side](given))


# name: argument, how it is spoilt, the sentence
OF_EVERY_SIDE = {
    "x without a batch axis": (
        "x",
        lambda a: a[:, 0],
        "x has shape (3, 4) but must be (T, B, I): three axes. "
        "For one sequence without a batch axis use x[:, None, :].",
    ),
    "x with an axis too many": (
        "x",
        lambda a: a[None],
        "x has shape (1, 3, 2, 4) but must be (T, B, I): three axes.",
    ),
    "x of no rank": ("x", lambda a: 1.0, "x has shape () but must be (T, B, I): three axes."),
    "x with other inputs": (
        "x",
        lambda a: a[:, :, :3],
        "x has shape (3, 2, 3) but must be (T, B, I) with I = 4.",
    ),
    "x of no steps": (
        "x",
        lambda a: a[:0],
        "x has shape (0, 2, 4) but must be (T, B, I) with at least one of each.",
    ),
    "x of no members": (
        "x",
        lambda a: a[:, :0],
        "x has shape (3, 0, 4) but must be (T, B, I) with at least one of each.",
    ),
    "x of another precision": (
        "x",
        lambda a: a.astype("float32"),
        "x is float32 but the weights are float64: use x.astype('float64').",
    ),
    "x of whole numbers": (
        "x",
        lambda a: a.astype(int),
        "x is int64 but the weights are float64: use x.astype('float64').",
    ),
    "x with NaN": ("x", with_nan, "x[2, 1, 3] is nan but every element must be finite (1 of 24"),
    "x with infinity": ("x", with_inf, "x[0, 0, 0] is -inf but every element must be finite"),
    "x of rows that differ in length": (
        "x",
        lambda a: [[[1.0]], [[1.0, 2.0]]],
        "x has rows of different lengths but must be an array.",
    ),
    "h0 without a layer axis": (
        "h0",
        lambda a: a[0],
        "h0 has shape (2, 4) but must be (L, B, H): three axes. "
        "For one layer without a layer axis use h0[None].",
    ),
    "h0 of one layer": (
        "h0",
        lambda a: a[:1],
        "h0 has shape (1, 2, 4) but must be (L, B, H) with L = 2, B = 2, H = 4.",
    ),
    "h0 of another batch": (
        "h0",
        lambda a: a[:, :1],
        "h0 has shape (2, 1, 4) but must be (L, B, H) with L = 2, B = 2, H = 4.",
    ),
    "h0 with NaN": ("h0", with_nan, "h0[1, 1, 3] is nan but every element must be finite"),
    "c0 of other units": (
        "c0",
        lambda a: a[:, :, 1:],
        "c0 has shape (2, 2, 3) but must be (L, B, H) with L = 2, B = 2, H = 4.",
    ),
    "c0 of another precision": (
        "c0",
        lambda a: a.astype("float32"),
        "c0 is float32 but the weights are float64: use c0.astype('float64').",
    ),
    "c0 with infinity": ("c0", with_inf, "c0[0, 0, 0] is -inf but every element must be finite"),
    "dh_n without a layer axis": (
        "dh_n",
        lambda a: a[0],
        "dh_n has shape (2, 4) but must be (L, B, H): three axes.",
    ),
    "dh_n of another precision": (
        "dh_n",
        lambda a: a.astype("float32"),
        "dh_n is float32 but the weights are float64: use dh_n.astype('float64').",
    ),
    "dc_n that could be broadcast": (
        "dc_n",
        lambda a: a[:, :1],
        "dc_n has shape (2, 1, 4) but must be (L, B, H) with L = 2, B = 2, H = 4.",
    ),
    "dc_n with NaN": ("dc_n", with_nan, "dc_n[1, 1, 3] is nan but every element must be finite"),
    "a bias that is missing": (
        "bias_l1",
        lambda a: GONE,
        "params has no bias_l1, which a stack of 2 needs.",
    ),
    "a recurrent weight that is missing": (
        "weight_hh_l0",
        lambda a: GONE,
        "params has no weight_hh_l0, which a stack of 2 needs.",
    ),
    "rows that H does not divide": (
        "weight_ih_l0",
        lambda a: a[:15],
        "weight_ih_l0 has shape (15, 4) but must be (4H, I): "
        "its rows are the blocks i, f, g, o, of H rows each.",
    ),
    "a weight of one axis": (
        "weight_ih_l0",
        lambda a: a[:, 0],
        "weight_ih_l0 has shape (16,) but must be (4H, I): two axes.",
    ),
    "a weight transposed": (
        "weight_hh_l1",
        lambda a: a.T,
        "weight_hh_l1 has shape (4, 16) but must be (4H, H) with 4H = 16, H = 4.",
    ),
    "a second layer that reads other inputs": (
        "weight_ih_l1",
        lambda a: a[:, :2],
        "weight_ih_l1 has shape (16, 2) but must be (4H, H) with 4H = 16, H = 4.",
    ),
    "a bias with two axes": (
        "bias_l0",
        lambda a: a[:, None],
        "bias_l0 has shape (16, 1) but must be (4H,): one axis.",
    ),
    "a bias of another size": (
        "bias_l0",
        lambda a: a[:4],
        "bias_l0 has shape (4,) but must be (4H,) with 4H = 16.",
    ),
    "integer weights": (
        "weight_ih_l0",
        lambda a: a.astype(int),
        "weight_ih_l0 is int64 but must be float32 or float64.",
    ),
    "half-precision weights": (
        "weight_ih_l0",
        lambda a: a.astype("float16"),
        "weight_ih_l0 is float16 but must be float32 or float64.",
    ),
    "weights of two precisions": (
        "weight_hh_l1",
        lambda a: a.astype("float32"),
        "weight_hh_l1 is float32 but the weights are float64: use weight_hh_l1.astype('float64').",
    ),
    "weights with NaN": (
        "weight_hh_l0",
        with_nan,
        "weight_hh_l0[15, 3] is nan but every element must be finite (1 of 64 are not).",
    ),
    "a bias with infinity": (
        "bias_l1",
        with_inf,
        "bias_l1[0] is -inf but every element must be finite (1 of 16 are not).",
    ),
}
OF_STACKS = {
    "dy of another shape": (
        "dy",
        lambda a: a[:2],
        "dy has shape (2, 2, 4) but must be (T, B, H) with T = 3, B = 2, H = 4.",
    ),
    "dy that is one number": (
        "dy",
        lambda a: 1.0,
        "dy has shape () but must be (T, B, H): three axes.",
    ),
    "dy of another precision": (
        "dy",
        lambda a: a.astype("float32"),
        "dy is float32 but the weights are float64: use dy.astype('float64').",
    ),
    "dy with NaN": ("dy", with_nan, "dy[2, 1, 3] is nan but every element must be finite"),
}
OF_MODELS = {
    "targets of one sequence": (
        "targets",
        lambda a: a[:, 0],
        "targets has shape (3,) but must be (T, B): two axes. "
        "For one sequence without a batch axis use targets[:, None].",
    ),
    "one-hot targets": (
        "targets",
        lambda a: np.eye(4)[a],
        "targets is float64 but must be whole numbers: class indices, not one-hot rows.",
    ),
    "targets that are true or false": (
        "targets",
        lambda a: a > 0,
        "targets is bool but must be whole numbers: class indices, not one-hot rows.",
    ),
    "targets of another shape": (
        "targets",
        lambda a: a.T,
        "targets has shape (2, 3) but must be (T, B) with T = 3, B = 2.",
    ),
    "targets above the classes": (
        "targets",
        lambda a: np.where(np.arange(6).reshape(3, 2) == 3, 4, a),
        "targets[1, 1] is 4 but must be from 0 to 3: there are 4 classes.",
    ),
    "targets below zero": (
        "targets",
        lambda a: np.where(np.arange(6).reshape(3, 2) == 4, -1, a),
        "targets[2, 0] is -1 but must be from 0 to 3: there are 4 classes.",
    ),
    "targets of rows that differ in length": (
        "targets",
        lambda a: [[0], [0, 1]],
        "targets has rows of different lengths but must be an array.",
    ),
    "dloss that is NaN": (
        "dloss",
        lambda a: float("nan"),
        "dloss is nan but must be one finite number.",
    ),
    "dloss for each step": (
        "dloss",
        lambda a: np.ones(3),
        "dloss is array([1., 1., 1.]) but must be one finite number.",
    ),
    "dloss that is none": ("dloss", lambda a: None, "dloss is None but must be one finite number."),
    "a head without a bias": (
        "bias_out",
        lambda a: GONE,
        "params has no bias_out, which the linear head needs.",
    ),
    "a head without a weight": (
        "weight_out",
        lambda a: GONE,
        "params has no weight_out, which the linear head needs.",
    ),
    "a head of other units": (
        "weight_out",
        lambda a: a[:, :3],
        "weight_out has shape (4, 3) but must be (V, H) with ",
    ),
    "a head's bias of another size": (
        "bias_out",
        lambda a: a[:1],
        "bias_out has shape (1,) but must be (V,) with V = 4.",
    ),
    "a head of another precision": (
        "weight_out",
        lambda a: a.astype("float32"),
        "weight_out is float32 but the weights are float64: use weight_out.astype('float64').",
    ),
    "a head with NaN": (
        "bias_out",
        with_nan,
        "bias_out[3] is nan but every element must be finite (1 of 4 are not).",
    ),
}


def spoilt(row):
    name, spoil, _ = row
    given = good()
    given[name] = spoil(given[name])
    return {key: value for key, value in given.items() if value is not GONE}


@pytest.mark.parametrize("side", [*STACKS, *MODELS])
def test_good_input_that_is_refused(side):
    """What the rows of the tables spoil is accepted as it is."""
    gradients = (STACKS | MODELS)[side](good())
    assert all(np.isfinite(value).all() for value in gradients.values())


@pytest.mark.parametrize("side", [*STACKS, *MODELS])
@pytest.mark.parametrize("row", OF_EVERY_SIDE)
def test_bad_input_that_is_taken_or_not_named(row, side):
    """Every side refuses it, in the same words."""
    with pytest.raises(ValueError, match=re.escape(OF_EVERY_SIDE[row][2])) as caught:
        (STACKS | MODELS)[side](spoilt(OF_EVERY_SIDE[row]))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("side", STACKS)
@pytest.mark.parametrize("row", OF_STACKS)
def test_a_bad_upstream_gradient(row, side):
    """Every stack refuses a dy that is not y's."""
    with pytest.raises(ValueError, match=re.escape(OF_STACKS[row][2])):
        STACKS[side](spoilt(OF_STACKS[row]))


@pytest.mark.parametrize("side", MODELS)
@pytest.mark.parametrize("row", OF_MODELS)
def test_bad_targets_or_a_bad_head(row, side):
    """Every model refuses targets, a head or a dloss that cannot be."""
    with pytest.raises(ValueError, match=re.escape(OF_MODELS[row][2])):
        MODELS[side](spoilt(OF_MODELS[row]))
