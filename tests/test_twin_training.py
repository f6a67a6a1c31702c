"""The twin's training, and the comparison of two trainings."""

from dataclasses import replace

import numpy as np
import pytest
from agreement import assert_same_bits
from hypothesis import given
from hypothesis import strategies as st

from manual_lstm import CharModel, Text, alphabet
from manual_lstm.optim import METHODS, Optimizer
from manual_lstm.train import Schedule, TrainingDiverged, start, train, train_window
from torch_ref.harness import twin_training
from torch_ref.harness.side_by_side import compare_training
from torch_ref.harness.twin_training import twin_window

pytestmark = pytest.mark.sampled

SETTINGS = [{}, {"clip_norm": 0.1}, {"clip_value": 0.01}, {"carry_state": False}]


@pytest.mark.parametrize("method", METHODS)
@given(
    settings=st.sampled_from(SETTINGS),
    dtype=st.sampled_from(["float32", "float64"]),
    head=st.sampled_from(["linear", "bounded"]),
    layers=st.integers(1, 2),
    corrected=st.booleans(),
    seed=st.integers(0, 99),
)
def test_a_training_that_parts_from_the_twins(
    method, settings, dtype, head, layers, corrected, seed
):
    """Over 5 windows rounding explains every difference, whatever the schedule is."""
    schedule = Schedule(
        CharModel(3, 3, layers, head),
        Optimizer(method, bias_correction=corrected),
        steps=4,
        batch=2,
        **settings,
    )
    text = Text(("a", "b", "c"), np.random.default_rng(seed).integers(0, 3, 17))
    found = list(compare_training(schedule, text, start(schedule, dtype=dtype, seed=seed), 5))
    assert [each.window for each in found] == list(range(1, len(found) + 1))
    assert not any(each.parted for each in found), found[-1]
    assert len(found) == 5 or not found[-1].conclusive
    assert found[0].conclusive


def other(**changes):
    """A side whose optimiser has other settings, from the third window on."""

    def advance(schedule, text, state):
        if state.windows < 2:
            return train_window(schedule, text, state)
        changed = replace(schedule.optimizer, **changes)
        return train_window(replace(schedule, optimizer=changed), text, state)

    return advance


def lost_carry(schedule, text, state):
    """A side that starts its third window from zero."""
    zero = np.zeros_like(state.h)
    return train_window(schedule, text, replace(state, h=zero) if state.windows == 2 else state)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "left",
    [other(learning_rate=0.0100001), other(beta=0.9001), other(eps=1e-6), lost_carry],
    ids=["learning rate", "beta", "eps", "carried state"],
)
def test_a_difference_that_rounding_is_blamed_for(left, dtype):
    """A side that changes in its third window parts there: not before, and not later."""
    schedule = Schedule(CharModel(4, 4), Optimizer("adam", 0.01), steps=8)
    state = start(schedule, dtype=dtype)
    found = list(compare_training(schedule, alphabet(4), state, 9, left=left))
    assert found[-1].parted
    assert found[-1].window == 3
    assert found[-1].worst.used > 1


def test_weights_that_amplify_until_nothing_can_be_said():
    """Weights of 4000 leave float32 no gate that is certain, and that is said: no verdict."""
    schedule = Schedule(CharModel(4, 4), steps=30)
    state = start(schedule)
    state = replace(state, params={name: 4000 * value for name, value in state.params.items()})
    found = list(compare_training(schedule, alphabet(4), state, 20))
    assert not found[-1].conclusive
    assert not any(each.parted for each in found)


@pytest.mark.parametrize("method", METHODS)
def test_a_checkpoint_that_only_its_own_engine_can_go_on_from(method):
    """The state is the same thing on both sides: its names, shapes, dtypes, position and counts."""
    schedule = Schedule(CharModel(3, 3), Optimizer(method, momentum=0.5), steps=4)
    first = start(schedule)
    ours, _ = train_window(schedule, alphabet(3), first)
    twins, _ = twin_window(schedule, alphabet(3), first)
    assert (ours.position, ours.windows, ours.random) == (
        twins.position,
        twins.windows,
        twins.random,
    )
    for left, right in (
        (ours.params, twins.params),
        (ours.optimizer.first, twins.optimizer.first),
        (ours.optimizer.second, twins.optimizer.second),
        ({"h": ours.h, "c": ours.c}, {"h": twins.h, "c": twins.c}),
    ):
        assert left.keys() == right.keys()
        assert {n: (v.shape, v.dtype) for n, v in left.items()} == {
            n: (v.shape, v.dtype) for n, v in right.items()
        }
    before = {name: value.copy() for name, value in ours.params.items()}
    again = [twin_window(schedule, alphabet(3), ours)[0] for _ in range(2)]
    assert_same_bits(again[0].params, again[1].params)
    assert_same_bits(ours.params, before)


@pytest.mark.parametrize("name", ["dweight_hh_l0", "dbias_out"])
def test_a_twin_that_trains_on_with_nan(name, monkeypatch):
    """A NaN in autograd's gradient stops the twin with the window and the gate."""
    true = twin_training.autograd_model_vjp

    def planted(*args):
        outputs, pullback = true(*args)

        def with_nan(dloss):
            found = pullback(dloss)
            found[name][-1] = np.nan
            return found

        return outputs, with_nan

    monkeypatch.setattr(twin_training, "autograd_model_vjp", planted)
    schedule = Schedule(CharModel(2, 2), steps=4)
    words = "gate o, dweight_hh_l0" if "hh" in name else "the output layer's dbias_out"
    with pytest.raises(TrainingDiverged, match=f"window 1: .*{words}"):
        train(schedule, alphabet(2), start(schedule), 9, advance=twin_window)
