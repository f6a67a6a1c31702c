"""The monitor: each gate's gradient at each step is the twin's, and the verdict is its numbers."""

import io
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from agreement import assert_agree
from hypothesis import assume, given

from manual_lstm import (
    CharModel,
    Text,
    alphabet,
    cross_entropy,
    cross_entropy_backward,
    linear_backward,
    lstm_forward,
    one_hot,
)
from manual_lstm.monitor import (
    after_activation,
    forward_of,
    gate_sizes,
    judge,
    stack_step_gradients,
    write_gate_sizes,
)
from manual_lstm.train import Schedule, next_window, start, train
from torch_ref import autograd_vjp, error_budget, run_case
from torch_ref.harness.strategies import cases


def with_a_clock(case):
    """The case with an input for each step that is 1 at that step and has no weight yet.

    Its weight's gradient is the gates' gradient at that step: a reference for dz from the twin,
    with an error budget.
    """
    steps, batch, _ = case.x.shape
    clock = np.broadcast_to(np.eye(steps)[:, None], (steps, batch, steps)).astype(case.dtype)
    weight = case.params["weight_ih_l0"]
    params = dict(case.params)
    params["weight_ih_l0"] = np.concatenate(
        [weight, np.zeros((len(weight), steps), case.dtype)], axis=1
    )
    zero = np.zeros_like(case.h0)
    return replace(
        case, params=params, x=np.concatenate([case.x, clock], axis=2), dh_n=zero, dc_n=zero
    )


@given(case=cases(sizes={"B": 1}))
def test_a_gate_gradient_of_another_step_gate_or_layer(case):
    """Before the activation dz[t] is the twin's, in the bottom layer of any stack."""
    timed = with_a_clock(case)
    budget = error_budget(timed)
    assume(budget.conclusive)
    inputs = case.x.shape[2]
    expected = run_case(timed.astype(np.float64), autograd_vjp)["dweight_ih_l0"][:, inputs:]
    _, caches = lstm_forward(case.params, case.x, case.h0, case.c0)
    found = stack_step_gradients(case.dy, caches)[0].dz  # (T, 1, 4, H)
    steps = len(case.x)
    allowed = budget.allowed["dweight_ih_l0"][:, inputs:]
    assert_agree(
        {"dz": found.reshape(steps, -1).T}, {"dz": expected}, {"dz": allowed}, "the monitor"
    )


@given(case=cases())
def test_a_gradient_after_the_activation_that_is_the_one_before(case):
    """(15): the one after, times the activation's slope, is the one before, to four roundings."""
    _, caches = lstm_forward(case.params, case.x, case.h0, case.c0)
    for found, cache in zip(stack_step_gradients(case.dy, caches), caches, strict=True):
        i, f, g, o, *_ = (each.astype(np.longdouble) for each in forward_of(cache))
        slopes = np.stack([i * (1 - i), f * (1 - f), 1 - g * g, o * (1 - o)])
        after = after_activation(found, cache).astype(np.longdouble)
        before = found.dz.transpose(2, 0, 1, 3)
        info = np.finfo(case.dtype)
        # (1 - f) is rounded once, 1 - g*g by one rounding of g*g, and four products are.
        eps = np.longdouble(info.eps)
        slack = np.abs(after) * (6 * eps * slopes + np.stack([0 * i, 0 * f, eps * g * g, 0 * o]))
        assert np.all(np.abs(after * slopes - before) <= slack + 4 * info.tiny)


def trained(windows=200, head="linear", **settings):
    schedule = Schedule(CharModel(3, 3, 2, head), steps=6, batch=2, **settings)
    return schedule, train(schedule, alphabet(3), start(schedule), windows)[0]


def test_a_size_that_is_not_the_norm_over_batch_and_units():
    """The written sizes are those of the arrays, before and after, for every layer and step."""
    schedule, state = trained(3)
    sizes = gate_sizes(schedule, alphabet(3), state)
    assert sizes.before.shape == sizes.after.shape == (2, 4, 6)
    assert (sizes.saturated.shape, sizes.reach.shape) == ((2, 4), (2, 6))
    model = schedule.model
    indices, targets, _, _ = next_window(schedule, alphabet(3), state)
    x = one_hot(indices, 3)
    (logits, _, _), (caches, head) = model.forward(state.params, x, state.h, state.c)
    dlogits = cross_entropy_backward(1.0, cross_entropy(logits, targets)[1])
    dy = linear_backward(dlogits, head)[0]
    layers = stack_step_gradients(dy, caches)
    dz = layers[1].dz[4, :, 2].astype(float).ravel()
    # Six squares, their sum and a root, on either side.
    assert abs(sizes.before[1, 2, 4] - math.hypot(*dz)) <= 16 * np.finfo(float).eps * math.hypot(
        *dz
    )
    # dz = slope * after, and no slope is above 1/4 for a sigmoid or 1 for tanh; a norm of six
    # squares and a root, and the roundings of dz, are off by at most 12 eps.
    steepest = np.array([0.25, 0.25, 1.0, 0.25])[None, :, None]
    assert np.all(sizes.before <= steepest * sizes.after * (1 + 12 * np.finfo(np.float32).eps))
    assert np.all(sizes.before > 0)
    assert np.all(sizes.reach[:, -1] == 1)
    dy[:-1] = 0
    found = stack_step_gradients(dy, caches)[0]
    both = np.stack([found.dh, found.dc], axis=1).astype(float)  # (T, 2, B, H)
    reach = math.hypot(*both[2].ravel()) / math.hypot(*both[-1].ravel())
    # Twelve squares, their sum and a root, on either side, of two norms and their quotient.
    assert abs(sizes.reach[0, 2] - reach) <= 32 * np.finfo(float).eps * reach
    file = io.StringIO()
    write_gate_sizes(file, sizes)
    entry = json.loads(file.getvalue())
    assert entry["window"] == 3
    assert entry["verdict"] == sizes.verdict
    assert [entry["layers"][1]["before"][gate] for gate in "ifgo"] == sizes.before[1].tolist()
    assert [entry["layers"][0]["after"][gate] for gate in "ifgo"] == sizes.after[0].tolist()


def measured(schedule, params_of, text=None):
    text = alphabet(schedule.model.num_classes) if text is None else text
    state = start(schedule)
    return gate_sizes(schedule, text, replace(state, params=params_of(dict(state.params))))


def test_a_gradient_that_vanishes_and_is_called_healthy():
    """A forget gate of e^-9 and no recurrent weight: what is 20 steps back is lost."""

    def shut(params):
        bias = np.zeros(12, np.float32)
        bias[3:6] = -9.0
        return params | {
            "bias_l0": bias,
            "weight_hh_l0": np.zeros((12, 3), np.float32),
            "weight_ih_l0": np.zeros((12, 3), np.float32),
        }

    sizes = measured(Schedule(CharModel(3, 3), steps=20), shut)
    assert sizes.verdict == "vanishing"
    assert sizes.reach[0, 0] < np.finfo(np.float32).eps
    assert "19 steps back" in sizes.reason


def test_a_gradient_that_explodes_and_is_called_healthy():
    """Recurrent weights of 40 around gates that are half open: each step multiplies."""

    def strong(params):
        zero = {name: np.zeros_like(value) for name, value in params.items()}
        candidate = np.zeros((12, 3), np.float32)
        candidate[6:9] = 40 * np.eye(3)
        return zero | {"weight_hh_l0": candidate, "weight_out": np.eye(3, dtype=np.float32)}

    sizes = measured(Schedule(CharModel(3, 3), steps=20), strong)
    assert sizes.verdict == "exploding"
    assert sizes.reach[0, 0] > 1 / np.finfo(np.float32).eps


def test_a_gate_that_is_shut_and_is_called_healthy():
    """Output gates at sigmoid(-9) are saturated at every unit and step, the others at none."""

    def shut(params):
        zero = {name: np.zeros_like(value) for name, value in params.items()}
        zero["bias_l0"][9:] = -9.0
        return zero | {"weight_out": np.eye(3, dtype=np.float32)}

    sizes = measured(Schedule(CharModel(3, 3), steps=4), shut)
    assert sizes.saturated.tolist() == [[0.0, 0.0, 0.0, 1.0]]
    assert sizes.verdict == "saturated"
    assert "gate o of layer 0 is the most saturated, at 100%" in sizes.reason


@pytest.mark.parametrize(
    ("first", "saturated", "verdict"),
    [
        ([1.0, 1.0], 0.5, "healthy"),
        ([1e-8, 1e-6], 0.1, "healthy"),
        ([1e-8, 1e-8], 0.9, "vanishing"),
        ([1e-8, 1e8], 0.9, "exploding"),
        ([1.0, 1.0], 0.51, "saturated"),
    ],
)
def test_a_verdict_that_its_numbers_do_not_carry(first, saturated, verdict):
    """Exploding needs one layer, vanishing all, saturated more than half of one gate."""
    reach = np.ones((2, 3))
    reach[:, 0] = first
    shares = np.zeros((2, 4))
    shares[1, 2] = saturated
    found, reason = judge(reach, shares, 1e-7)
    assert found == verdict
    assert reason.startswith(f"{verdict}: 2 steps back")
    assert f"gate g of layer 1 is the most saturated, at {saturated:.0%}" in reason


def test_a_measurement_that_trains():
    """Looking at the gradients changes no weight, and gives the same numbers again."""
    schedule, state = trained(3)
    before = {name: value.copy() for name, value in state.params.items()}
    first, second = (gate_sizes(schedule, alphabet(3), state) for _ in range(2))
    assert first.before.tobytes() == second.before.tobytes()
    assert all(np.array_equal(before[name], value) for name, value in state.params.items())


def test_a_text_that_the_monitor_is_not_for():
    """The text must have the model's symbols."""
    schedule, state = trained(1)
    with pytest.raises(ValueError, match="text has 2 symbols but must have 3"):
        gate_sizes(schedule, Text(("a", "b"), np.array([0, 1])), state)
