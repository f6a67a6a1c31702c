"""Bad arguments of the other functions: a ValueError with the name, what came, what was due."""

import re

import numpy as np
import pytest
from bad_texts import BAD_TEXTS, bad_text

from manual_lstm import (
    CharModel,
    alphabet,
    bounded_probability_range,
    clip_grad_norm,
    clip_grad_value,
    cross_entropy,
    cross_entropy_backward,
    init_params,
    one_hot,
    read_text,
    softmax,
    vjp,
    window,
)
from torch_ref import Case, Implementation, character_case, state_dict_from_params


def rng():
    return np.random.default_rng(0)


def one(dtype="float64"):
    return {"dx": np.ones(2, dtype)}


ROWS = np.zeros((1, 1, 3))
CALLS = {
    "timeout": (
        lambda: Implementation("mine", vjp=vjp, timeout=-1),
        "timeout is -1 but must be a number of seconds above 0.",
    ),
    "timeout: NaN": (
        lambda: Implementation("mine", vjp=vjp, timeout=float("nan")),
        "timeout is nan but must be a number of seconds above 0.",
    ),
    "no params": (lambda: vjp({}, ROWS), "params has no weight_ih_l0: a stack needs at least one"),
    "init_params: size": (
        lambda: init_params(0, 1, rng=rng()),
        "input_size is 0 but must be a whole number of at least 1.",
    ),
    "init_params: fraction": (
        lambda: init_params(1, 2.0, rng=rng()),
        "hidden_size is 2.0 but must be a whole number of at least 1.",
    ),
    "init_params: true": (
        lambda: init_params(1, 1, True, rng=rng()),
        "num_layers is True but must be a whole number of at least 1.",
    ),
    "init_params: dtype": (
        lambda: init_params(1, 1, dtype="float16", rng=rng()),
        "dtype is 'float16' but must be float32 or float64.",
    ),
    "init_params: no dtype": (
        lambda: init_params(1, 1, dtype="nonsense", rng=rng()),
        "dtype is 'nonsense' but must be float32 or float64.",
    ),
    "init_params: None for a dtype": (
        lambda: init_params(1, 1, dtype=None, rng=rng()),
        "dtype is None but must be float32 or float64.",
    ),
    "init_params: forget bias": (
        lambda: init_params(1, 1, rng=rng(), forget_bias=np.inf),
        "forget_bias is inf but must be finite.",
    ),
    "CharModel: classes": (
        lambda: CharModel(0, 1),
        "num_classes is 0 but must be a whole number of at least 1.",
    ),
    "CharModel: head": (
        lambda: CharModel(2, 2, head="softmax"),
        "head is 'softmax' but must be 'bounded' or 'linear'.",
    ),
    "CharModel: bounded head": (
        lambda: CharModel(3, 4, head="bounded"),
        "hidden_size is 4 but must be 3: the bounded head takes h itself as the logits",
    ),
    "CharModel: another stack": (
        lambda: CharModel(3, 2).vjp(init_params(2, 2, rng=rng()), ROWS, [[0]]),
        "params has (I, H, L) = (2, 2, 1) but the model has (3, 2, 1).",
    ),
    "softmax: whole numbers": (
        lambda: softmax(np.zeros(3, int)),
        "logits is int64 but must be float32 or float64.",
    ),
    "softmax: one number": (
        lambda: softmax(np.float64(1)),
        "logits has shape () but must be (..., V) with at least one of each.",
    ),
    "softmax: no class": (
        lambda: softmax(np.zeros((2, 0))),
        "logits has shape (2, 0) but must be (..., V) with at least one of each.",
    ),
    "softmax: NaN": (
        lambda: softmax(np.array([0.0, np.nan, -np.inf])),
        "logits[1] is nan but every element must be finite",
    ),
    "softmax: infinity": (
        lambda: softmax(np.array([np.inf, 0.0])),
        "logits[0] is inf but every element must be finite",
    ),
    "softmax: nothing possible": (
        lambda: softmax(np.array([[0.0, 0.0], [-np.inf, -np.inf]])),
        "logits has a row with nothing but -inf: one class must be possible.",
    ),
    "cross_entropy: rank": (
        lambda: cross_entropy(np.zeros((2, 3)), [0]),
        "logits has shape (2, 3) but must be (T, B, V): three axes.",
    ),
    "cross_entropy: targets": (
        lambda: cross_entropy(ROWS, [[3]]),
        "targets[0, 0] is 3 but must be from 0 to 2: there are 3 classes.",
    ),
    "cross_entropy_backward: dloss": (
        lambda: cross_entropy_backward(np.inf, cross_entropy(ROWS, [[0]])[1]),
        "dloss is inf but must be one finite number.",
    ),
    "bounded_probability_range: none": (
        lambda: bounded_probability_range(0),
        "num_classes is 0 but must be a whole number of at least 1.",
    ),
    "clip_grad_norm: zero": (
        lambda: clip_grad_norm(one(), 0.0),
        "max_norm is 0.0 but must be greater than 0.",
    ),
    "clip_grad_norm: NaN": (
        lambda: clip_grad_norm(one(), np.nan),
        "max_norm is nan but must be greater than 0.",
    ),
    "clip_grad_norm: whole numbers": (
        lambda: clip_grad_norm(one(int), 1.0),
        "dx is int64 but must be float32 or float64.",
    ),
    "clip_grad_value: negative": (
        lambda: clip_grad_value(one(), -1.0),
        "limit is -1.0 but must be greater than 0.",
    ),
    "clip_grad_value: whole numbers": (
        lambda: clip_grad_value(one(int), 1.0),
        "dx is int64 but must be float32 or float64.",
    ),
    "alphabet: none": (
        lambda: alphabet(0),
        "num_symbols is 0 but must be a whole number of at least 1.",
    ),
    "alphabet: too many": (
        lambda: alphabet(95),
        "num_symbols is 95 but must be at most 94: for a larger alphabet give a text file.",
    ),
    "window: no steps": (
        lambda: window(alphabet(2), 0),
        "steps is 0 but must be a whole number of at least 1.",
    ),
    "window: no members": (
        lambda: window(alphabet(2), 1, 0),
        "batch is 0 but must be a whole number of at least 1.",
    ),
    "one_hot: dtype": (
        lambda: one_hot(np.zeros((1, 1), int), 2, "int64"),
        "dtype is 'int64' but must be float32 or float64.",
    ),
    "one_hot: fractions": (
        lambda: one_hot(np.zeros((1, 1)), 2),
        "indices is float64 but must be whole numbers: class indices, not one-hot rows.",
    ),
    "character_case: seed": (
        lambda: character_case(alphabet(2), seed=-1),
        "seed is -1 but must be a whole number of at least 0.",
    ),
    "character_case: fraction as seed": (
        lambda: character_case(alphabet(2), seed=0.5),
        "seed is 0.5 but must be a whole number of at least 0.",
    ),
    "character_case: steps": (
        lambda: character_case(alphabet(2), steps=0),
        "steps is 0 but must be a whole number of at least 1.",
    ),
    "Case: neither": (
        lambda: Case({}, ROWS, ROWS, ROWS, ROWS, ROWS),
        "a case must have either dy or targets, and not both.",
    ),
    "Case: both": (
        lambda: Case({}, ROWS, ROWS, ROWS, ROWS, ROWS, dy=ROWS, targets=ROWS),
        "a case must have either dy or targets, and not both.",
    ),
    "state_dict: a gap": (
        lambda: state_dict_from_params({"weight_ih_l1": ROWS}),
        "params has no weight_ih_l0, which a stack of 2 needs.",
    ),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_bad_argument_that_is_taken_or_not_named(call):
    """Every public function refuses it, in one sentence."""
    function, message = CALLS[call]
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        function()
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", BAD_TEXTS)
def test_a_text_that_cannot_be_learnt(kind, tmp_path):
    """Missing, a folder, empty, one character, not UTF-8: the file is named."""
    path, message = bad_text(tmp_path, kind)
    with pytest.raises(ValueError, match=re.escape(f"text file {str(path)!r} {message}")):
        read_text(path)
