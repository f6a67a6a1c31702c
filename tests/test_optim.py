"""Optimisers: torch.optim's twins step by step, and the average by its own formula."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from agreement import assert_same_bits
from balls import Balls, balls, scalar
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from manual_lstm.optim import (
    METHODS,
    Optimizer,
    OptimizerState,
    adam_step,
    average_step,
    averaging_window,
    momentum_step,
    rmsprop_step,
    weight_at_window,
)

SHAPE = (3, 2)
factors = st.floats(0, 0.999)
rates = st.floats(1e-6, 1.0)


@st.composite
def runs(draw):
    """Weights, and the gradients of a few steps: ordinary, small, large and zero ones."""
    dtype = np.dtype(draw(st.sampled_from(["float32", "float64"])))
    ordinary = st.floats(-1e4, 1e4, width=32)
    elements = st.one_of(ordinary, ordinary.map(lambda g: g * 2.0**-40), st.just(0.0))
    drawn = hnp.arrays(np.float64, SHAPE, elements=elements)
    weights = draw(drawn).astype(dtype)
    return weights, [draw(drawn).astype(dtype) for _ in range(draw(st.integers(1, 6)))]


def ours(optimizer, weights, gradients):
    """The weights after each step."""
    params, state, found = {"w": weights}, OptimizerState(), []
    for g in gradients:
        params, state = optimizer.step(params, {"dw": g}, state)
        found.append(params["w"])
    return found


def torchs(make, weights, gradients):
    leaf = torch.from_numpy(weights.copy()).requires_grad_()
    optimizer, found = make([leaf]), []
    for g in gradients:
        leaf.grad = torch.from_numpy(g.copy())
        optimizer.step()
        found.append(leaf.detach().numpy().copy())
    return found


def in_balls(formula, weights, gradients):
    """The weights after each step as balls; formula(g, t, memory) gives the change."""
    w, memory, found = balls(weights, weights.dtype), {}, []
    for t, g in enumerate(gradients, 1):
        w = w - formula(balls(g, g.dtype), t, memory)
        found.append(w)
    return found


def assert_equal_but_for_rounding(left, right, left_ball, right_ball):
    """Each side lies in its own ball around the same exact value."""
    for step, (a, b, ball_a, ball_b) in enumerate(
        zip(left, right, left_ball, right_ball, strict=True)
    ):
        assert a.dtype == b.dtype
        difference = np.abs(a.astype(np.longdouble) - b.astype(np.longdouble))
        allowed = ball_a.radius + ball_b.radius
        assert np.all(difference <= allowed), (step, a, b, allowed)
        assert np.all(np.abs(a.astype(np.longdouble) - ball_a.value) <= ball_a.radius), step


def average(memory, name, value, beta, dtype):
    """(1-beta) value + beta previous."""
    new = scalar(1 - beta, dtype) * value
    if name in memory:
        new = new + scalar(beta, dtype) * memory[name]
    memory[name] = new
    return new


def corrected_rate(rate, beta, t, dtype):
    """rate / (1 - beta^t), where the difference loses what beta^t is close to 1."""
    exact = np.longdouble(beta) ** t
    power = Balls(exact, 2 * np.longdouble(np.finfo(np.float64).eps) * exact, np.float64)
    quotient = balls(rate, np.float64) / (balls(1.0, np.float64) - power)
    return Balls(quotient.value, quotient.radius, dtype) * balls(1.0, dtype)


def lerp(memory, name, value, beta, dtype):
    """torch's own form of the average: previous + w (value - previous) with w = 1-beta, from zero.

    Where w is at least 1/2 it is value - (1 - w)(value - previous), in which 1 - w cancels.
    """
    previous = memory.get(name, balls(np.zeros(SHAPE), dtype))
    if 1 - beta < 0.5:
        new = previous + scalar(1 - beta, dtype) * (value - previous)
    else:
        rest = balls(np.ones(()), dtype) - scalar(1 - beta, dtype)
        new = value - rest * (value - previous)
    memory[name] = new
    return new


@given(run=runs(), rate=rates, momentum=factors)
def test_a_momentum_that_is_not_torchs(run, rate, momentum):
    """SGD with classical momentum is torch.optim.SGD at every step, but for rounding."""
    weights, gradients = run
    dtype = weights.dtype

    def formula(g, t, memory):
        v = scalar(momentum, dtype) * memory["v"] + g if t > 1 else g
        memory["v"] = v
        return scalar(rate, dtype) * v

    found = ours(Optimizer("momentum", rate, momentum=momentum), weights, gradients)
    expected = torchs(lambda w: torch.optim.SGD(w, rate, momentum), weights, gradients)
    ball = in_balls(formula, weights, gradients)
    assert_equal_but_for_rounding(found, expected, ball, ball)


@given(run=runs(), rate=rates, beta=factors, eps=st.sampled_from([1e-8, 1e-3]))
def test_an_rmsprop_that_is_not_torchs(run, rate, beta, eps):
    """RMSProp is torch.optim.RMSprop at every step, but for rounding."""
    weights, gradients = run
    dtype = weights.dtype

    def formula(g, t, memory):
        s = average(memory, "s", g * g, beta, dtype)
        return scalar(rate, dtype) * (g / (s.sqrt() + scalar(eps, dtype)))

    def torchs_formula(g, t, memory):
        s = scalar(beta, dtype) * memory.get("s", balls(np.zeros(SHAPE), dtype))
        s = s + (scalar(1 - beta, dtype) * g) * g
        memory["s"] = s
        return (scalar(rate, dtype) * g) / (s.sqrt() + scalar(eps, dtype))

    found = ours(Optimizer("rmsprop", rate, beta=beta, eps=eps), weights, gradients)
    expected = torchs(lambda w: torch.optim.RMSprop(w, rate, beta, eps), weights, gradients)
    assert_equal_but_for_rounding(
        found,
        expected,
        in_balls(formula, weights, gradients),
        in_balls(torchs_formula, weights, gradients),
    )


ONE_GRADIENT = np.array([[1, 0], [0, 0], [0, 0]], np.float32)


# What is left of the average by then is 1e-6, of which torch's 1 - w keeps two digits.
@example((0 * ONE_GRADIENT, [ONE_GRADIENT, 0 * ONE_GRADIENT]), 1.0, 1e-6, 0.0, 1e-8)
@given(run=runs(), rate=rates, beta=factors, beta2=factors, eps=st.sampled_from([1e-8, 1e-3]))
def test_an_adam_that_is_not_torchs(run, rate, beta, beta2, eps):
    """Adam is torch.optim.Adam at every step, but for rounding."""
    weights, gradients = run
    dtype = weights.dtype

    def formula(g, t, memory):
        m = average(memory, "m", g, beta, dtype)
        s = average(memory, "s", g * g, beta2, dtype)
        root = scalar(math.sqrt(1 - beta2**t), dtype)
        step = scalar(rate / (1 - beta**t), dtype)
        return step * (m / (s.sqrt() / root + scalar(eps, dtype)))

    def torchs_formula(g, t, memory):
        m = lerp(memory, "m", g, beta, dtype)
        s = scalar(beta2, dtype) * memory.get("s", balls(np.zeros(SHAPE), dtype))
        s = s + (scalar(1 - beta2, dtype) * g) * g
        memory["s"] = s
        root = scalar(math.sqrt(1 - beta2**t), dtype)
        step = scalar(rate / (1 - beta**t), dtype)
        return (step * m) / (s.sqrt() / root + scalar(eps, dtype))

    found = ours(Optimizer("adam", rate, beta=beta, beta2=beta2, eps=eps), weights, gradients)
    expected = torchs(lambda w: torch.optim.Adam(w, rate, (beta, beta2), eps), weights, gradients)
    assert_equal_but_for_rounding(
        found,
        expected,
        in_balls(formula, weights, gradients),
        in_balls(torchs_formula, weights, gradients),
    )


@given(run=runs(), rate=rates, beta=factors, corrected=st.booleans())
def test_an_average_that_is_not_its_weighted_sum(run, rate, beta, corrected):
    """m_t is the sum of (1-beta) beta^(t-k) g_k, divided by 1 - beta^t where it is corrected."""
    weights, gradients = run
    dtype = weights.dtype

    def formula(g, t, memory):
        m = average(memory, "m", g, beta, dtype)
        return (corrected_rate(rate, beta, t, dtype) if corrected else scalar(rate, dtype)) * m

    ball = in_balls(formula, weights, gradients)
    settings = Optimizer("average", rate, beta=beta, bias_correction=corrected)
    found = ours(settings, weights, gradients)
    exact, w = [g.astype(np.longdouble) for g in gradients], weights.astype(np.longdouble)
    b = np.longdouble(beta)
    for t, (a, around) in enumerate(zip(found, ball, strict=True), 1):
        m = sum((1 - b) * b ** (t - k) * g for k, g in enumerate(exact[:t], 1))
        w = w - rate * m / (1 - b**t if corrected else 1)
        assert np.all(np.abs(a - w) <= around.radius), t


@pytest.mark.parametrize("corrected", [False, True])
def test_a_first_average_with_the_other_ones_size(corrected):
    """The first step is g with bias correction and (1-beta) g without, exactly for powers of 2."""
    w, g = np.zeros(2, np.float32), np.array([1.0, -4.0], np.float32)
    settings = {"learning_rate": 0.5, "beta": 0.75, "bias_correction": corrected}
    params, state = average_step({"w": w}, {"dw": g}, OptimizerState(), **settings)
    assert (params["w"] / g).tolist() == [-0.5 if corrected else -0.125] * 2
    assert state.steps == 1


@given(run=runs(), method=st.sampled_from(METHODS))
def test_a_step_that_changes_what_it_is_given(run, method):
    """Weights, gradients and the state before keep their bits, so a step can be made again."""
    weights, gradients = run
    params, state = {"w": weights}, OptimizerState()
    optimizer = Optimizer(method)
    for g in gradients:
        before = {"w": params["w"].copy(), "g": g.copy()}
        memory = {**{"first" + k: v.copy() for k, v in state.first.items()}}
        memory |= {"second" + k: v.copy() for k, v in state.second.items()}
        after, new_state = optimizer.step(params, {"dw": g, "dx": g}, state)
        again, _ = optimizer.step(params, {"dw": g, "dx": g}, state)
        assert_same_bits(after, again)
        assert_same_bits({"w": params["w"], "g": g}, before)
        now = {**{"first" + k: v for k, v in state.first.items()}}
        now |= {"second" + k: v for k, v in state.second.items()}
        assert_same_bits(now, memory)
        assert new_state.steps == state.steps + 1
        assert after["w"].dtype == weights.dtype
        params, state = after, new_state


@pytest.mark.parametrize("method", METHODS)
def test_a_numpy_setting_that_widens_float32(method):
    """A setting that is a NumPy float64 leaves float32 weights and memory float32."""
    optimizer = replace(Optimizer(method), learning_rate=np.float64(0.1), beta=np.float64(0.5))
    params, state = {"w": np.ones(2, np.float32)}, OptimizerState()
    for _ in range(2):
        params, state = optimizer.step(params, {"dw": params["w"]}, state)
    arrays = [*params.values(), *state.first.values(), *state.second.values()]
    assert {array.dtype for array in arrays} == {np.dtype(np.float32)}


@given(beta=st.floats(1e-6, 1 - 1e-6))
def test_an_averaging_window_of_another_length(beta):
    """After 1/(1-b) steps the weight is b^(b/(1-b)): above 1/e, falling to it, 0.387 at 0.9.

    ln b > 1 - 1/b, so b ln b / (1-b) > -1; the order survives rounding while the distance to
    1/e, about (1-b)/2e, is above it.
    """
    window = averaging_window(beta)
    assert window == 1 / (1 - beta)
    weight = weight_at_window(beta)
    assert math.exp(-1) < weight < 1
    assert weight_at_window(beta / 2) > weight
    assert f"{weight_at_window(0.9):.3f}" == "0.387"
    assert f"{averaging_window(0.9):.6g}" == "10"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "sgd"}, "method is 'sgd' but must be one of 'momentum', 'average'"),
        ({"learning_rate": -0.1}, r"learning_rate is -0\.1 but must be at least 0"),
        ({"learning_rate": math.nan}, "learning_rate is nan but must be one finite number"),
        ({"momentum": 1.0}, r"momentum is 1\.0 but must be at least 0 and less than 1"),
        ({"beta": 1}, "beta is 1 but must be at least 0 and less than 1"),
        ({"beta2": -0.5}, r"beta2 is -0\.5 but must be at least 0 and less than 1"),
        ({"eps": -1e-8}, "eps is -1e-08 but must be at least 0"),
    ],
)
def test_a_setting_that_is_accepted_but_has_no_meaning(settings, message):
    """Each setting is refused with what came and what was expected."""
    with pytest.raises(ValueError, match=message):
        Optimizer(**settings)


@pytest.mark.parametrize("step", [momentum_step, average_step, rmsprop_step, adam_step])
@pytest.mark.parametrize(
    ("gradients", "message"),
    [
        ({}, "gradients has no dw, the gradient of w"),
        ({"dw": np.ones((2, 1))}, r"dw is float64 of shape \(2, 1\) but must be as w: float64"),
        ({"dw": np.ones(2, np.float32)}, "dw is float32 of shape"),
    ],
)
def test_a_gradient_that_broadcasts(step, gradients, message):
    """A gradient of another shape or precision is refused, never broadcast."""
    with pytest.raises(ValueError, match=message):
        step({"w": np.ones(2)}, gradients, OptimizerState(), learning_rate=0.1)


def test_a_window_of_no_average():
    """weight_at_window(0) would be 0/0."""
    with pytest.raises(ValueError, match="beta is 0 but must be greater"):
        weight_at_window(0)


def test_a_momentum_that_is_the_callers_own_array():
    """An accumulator that is set to zero after the step, and the first step's share with it."""
    w, gradients = {"w": np.ones(2)}, {"dw": np.full(2, 2.0)}
    _, state = momentum_step(w, gradients, OptimizerState(), learning_rate=0.25, momentum=0.5)
    gradients["dw"][:] = 0
    new, _ = momentum_step(w, gradients, state, learning_rate=0.25, momentum=0.5)
    np.testing.assert_array_equal(new["w"], 1 - 0.25 * 0.5 * 2.0)  # halves: nothing rounds
