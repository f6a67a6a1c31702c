"""Heads, softmax and cross-entropy at the edges of the number range."""

import math
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from manual_lstm import (
    CharModel,
    bounded_probability_range,
    cross_entropy,
    cross_entropy_backward,
    softmax,
)
from torch_ref.harness.strategies import model_cases

DTYPES = ("float32", "float64")

# Roundings of a probability beside the V - 1 additions: two of exp, the difference, the quotient.
PROBABILITY = 4


def rounding(operations, dtype):
    """The relative error of so many operations, each off by at most one unit in the last place."""
    eps = float(np.finfo(dtype).eps)
    return operations * eps / (1 - operations * eps)


@st.composite
def logits(draw, largest=1e4, most_classes=40):
    """(..., V), with classes that cannot be among them but never nothing else."""
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    shape = (draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.integers(1, most_classes)))
    elements = st.floats(-largest, largest, width=8 * dtype.itemsize)
    array = draw(hnp.arrays(dtype, shape, elements=elements))
    impossible = draw(hnp.arrays(bool, shape, elements=st.booleans()))
    impossible[..., draw(st.integers(0, shape[-1] - 1))] = False
    return np.where(impossible, dtype.type(-np.inf), array)


@given(logits=logits())
def test_a_probability_that_is_none(logits):
    """Each is in [0, 1], 0 where the logit is -inf, and the exact sum is off by V roundings."""
    p = softmax(logits)
    assert p.dtype == logits.dtype
    assert p.shape == logits.shape
    assert np.all((p >= 0) & (p <= 1))
    assert not p[np.isneginf(logits)].any()
    classes = p.shape[-1]
    # V - 1 additions and one division round; a quotient may also be flushed to 0.
    allowed = rounding(classes, p.dtype) + classes * float(np.finfo(p.dtype).tiny)
    for row in p.reshape(-1, classes):
        assert abs(sum(map(Fraction, map(float, row))) - 1) <= allowed


@given(
    logits=hnp.arrays(np.int64, (2, 3, 5), elements=st.integers(-(2**20), 2**20)),
    shift=st.integers(-(2**30), 2**30),
)
def test_a_softmax_that_sees_the_level_of_its_logits(logits, shift):
    """Logits and shift of 1/1024ths have an exact sum, so the probabilities keep their bits."""
    moved = softmax((logits + shift) / 1024)
    assert moved.tobytes() == softmax(logits / 1024).tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_exponential_that_overflows(dtype):
    """Logits of 1e4 and -inf give the certain probabilities, and no warning."""
    p = softmax(np.array([[1e4, -1e4, -np.inf], [-1e4, -np.inf, -1e4]], dtype))
    assert p.tolist() == [[1.0, 0.0, 0.0], [0.5, 0.0, 0.5]]
    largest = np.finfo(dtype).max
    assert softmax(np.array([largest, -largest], dtype)).tolist() == [1.0, 0.0]


@pytest.mark.parametrize("classes", [1, 2, 3, 26, 56, 1000])
def test_a_floor_of_the_bounded_head_that_is_not_its_floor(classes):
    """The range is e^-1/(e^-1+(V-1)e) to e/(e+(V-1)e^-1), and logits of -1 and 1 reach it."""
    with localcontext(prec=40):
        e, others = Decimal(1).exp(), classes - 1
        low, high = 1 / e / (1 / e + others * e), e / (e + others / e)
    found = bounded_probability_range(classes)
    # Rounded are exp, a product, a sum and a quotient.
    for value, expected in zip(found, (low, high), strict=True):
        assert abs(Decimal(value) - expected) <= expected * Decimal(rounding(4, "float64"))
    assert bounded_probability_range(1) == (1.0, 1.0)

    lowest, highest = np.ones(classes), -np.ones(classes)
    lowest[0], highest[0] = -1.0, 1.0
    for logits, bound in ((lowest, found[0]), (highest, found[1])):
        allowed = rounding(PROBABILITY + classes + 4, "float64")
        assert abs(softmax(logits)[0] - bound) <= bound * allowed


@given(case=model_cases(heads=("bounded",)))
def test_a_bounded_head_that_leaves_its_bounds(case):
    """No weights and no state give a probability outside the range."""
    model = CharModel(case.x.shape[2], case.h0.shape[2], len(case.h0), "bounded")
    low, high = bounded_probability_range(model.num_classes)
    # The probability's roundings, the bound's, and those of the logarithm and the mean.
    slack = rounding(PROBABILITY + model.num_classes + 4 + 1 + case.targets.size, case.dtype)
    steps, batch, _ = case.x.shape
    for symbol in range(model.num_classes):
        targets = np.full((steps, batch), symbol)
        (loss, _, _), _ = model.vjp(case.params, case.x, targets, case.h0, case.c0)
        # -log is monotonic, so the mean of the losses lies between those of the bounds.
        assert -math.log(high * (1 + slack)) - slack <= loss <= -math.log(low * (1 - slack)) + slack


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_loss_that_skips_a_probability_of_zero(dtype):
    """A target whose probability rounds to 0 counts with its true loss, -inf with infinity."""
    logits = np.array([[[0.0, 1000.0]]], dtype)
    assert softmax(logits)[0, 0, 0] == 0
    loss, _ = cross_entropy(logits, np.array([[0]]))
    assert loss == 1000.0
    loss, cache = cross_entropy(np.array([[[-np.inf, 0.0]], [[0.0, 0.0]]], dtype), [[0], [0]])
    assert loss == np.inf
    assert np.isfinite(cross_entropy_backward(1.0, cache)).all()


@given(dtype=st.sampled_from(DTYPES), level=st.floats(width=32).filter(np.isfinite))
def test_a_loss_over_one_class(dtype, level):
    """One class has probability 1, so loss and gradient are exactly 0."""
    loss, cache = cross_entropy(np.full((3, 2, 1), level, dtype), np.zeros((3, 2), int))
    assert loss == 0
    assert not cross_entropy_backward(1.0, cache).any()


@given(
    dtype=st.sampled_from(DTYPES),
    classes=st.integers(1, 300),
    level=st.floats(-1e4, 1e4, width=32),
    steps=st.integers(1, 9),
)
def test_a_loss_of_guessing_that_is_not_ln_of_the_classes(dtype, classes, level, steps):
    """Equal logits give ln V, off by the logarithm, the mean's additions and its division."""
    loss, _ = cross_entropy(np.full((steps, 1, classes), level, dtype), np.zeros((steps, 1), int))
    assert abs(loss - math.log(classes)) <= math.log(classes) * rounding(steps + 2, dtype)


@given(logits=logits(largest=30.0), data=st.data())
def test_a_gradient_of_the_logits_that_does_not_sum_to_zero(logits, data):
    """Each row of dlogits sums to dloss (sum p - 1) / (T B): zero but for the roundings."""
    steps, batch, classes = logits.shape
    targets = data.draw(hnp.arrays(np.int64, (steps, batch), elements=st.integers(0, classes - 1)))
    _, cache = cross_entropy(logits, targets)
    dlogits = cross_entropy_backward(0.5, cache)
    share = 0.5 / (steps * batch)
    # Each of V elements, at most `share` in size, rounds in its division, subtraction, product.
    allowed = share * (rounding(classes, logits.dtype) + rounding(3 * classes, logits.dtype))
    for row in dlogits.reshape(-1, classes):
        assert abs(math.fsum(map(float, row))) <= allowed
    hit = np.take_along_axis(dlogits, targets[:, :, None], axis=-1)
    assert np.all(hit <= 0)
    assert np.count_nonzero(dlogits < 0) == np.count_nonzero(hit < 0)
