"""Prediction one by one."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from manual_lstm import CharModel, alphabet, one_hot
from manual_lstm.optim import Optimizer
from manual_lstm.predict import predict
from manual_lstm.train import Schedule, start, train
from torch_ref import error_budget
from torch_ref.compare.diff import run_twin
from torch_ref.harness.strategies import model_cases


def model_of(case):
    head = "linear" if "weight_out" in case.params else "bounded"
    return CharModel(case.x.shape[2], case.h0.shape[2], len(case.h0), head)


@given(
    case=model_cases(sizes={"B": 1}, max_classes=4, only_one_hot=True, dtypes=("float64",)),
    prompt=st.integers(1, 3),
    temperature=st.sampled_from([0.0, 0.5, 2.0]),
)
def test_a_prediction_that_is_not_fed_back(case, prompt, temperature):
    """The probabilities, one by one, are the twin's on the whole sequence that was fed."""
    model, classes = model_of(case), case.x.shape[2]
    rng = np.random.default_rng(1)
    given_first = rng.integers(0, classes, prompt)
    state = {"h": case.h0, "c": case.c0}
    drawn = np.random.default_rng(2)
    found = list(
        predict(model, case.params, given_first, 4, temperature=temperature, rng=drawn, **state)
    )
    fed = np.array([*given_first, *(each.index for each in found[:-1])])
    for step, each in enumerate(found):
        # One window up to this step, whose last loss alone is asked for.
        steps = prompt + step
        for target in range(classes):
            targets = np.array([*fed[1:steps], target])[:, None]
            other = np.array([*fed[1:steps], (target + 1) % classes])[:, None]
            left, right = (
                replace(case, x=one_hot(fed[:steps, None], classes, float), targets=chosen)
                for chosen in (targets, other)
            )
            if step == 0 and target == 0:
                assume(error_budget(left).conclusive)
            ours = np.log(each.probabilities[other[-1, 0]] / each.probabilities[target])
            theirs = steps * (run_twin(left)["loss"] - run_twin(right)["loss"])
            allowed = steps * (
                error_budget(left, sides=2).allowed["loss"]
                + error_budget(right, sides=2).allowed["loss"]
            )
            # Two quotients of V additions, and their own quotient and logarithm.
            allowed += (2 * classes + 8) * np.finfo(float).eps * (1 + abs(theirs))
            assert abs(ours - theirs) <= allowed
        if step == 1:
            break


def settled():
    schedule = Schedule(CharModel(5, 5), Optimizer("adam", 0.05), steps=5)
    return schedule.model, train(schedule, alphabet(5), start(schedule), 300)[0]


def test_an_alphabet_that_is_learnt_but_not_continued():
    """After a b it says c d e a b ..., with the probabilities that it is sure of, in float32."""
    model, state = settled()
    found = list(predict(model, state.params, [0, 1], 8))
    assert [each.index for each in found] == [2, 3, 4, 0, 1, 2, 3, 4]
    for each in found:
        assert each.probabilities.dtype == np.float32
        assert each.probabilities[each.index] > 0.9
        assert abs(each.probabilities.sum(dtype=float) - 1) <= 5 * np.finfo(np.float32).eps


def drawn(model, params, count, temperature, seed):
    rng = np.random.default_rng(seed)
    return list(predict(model, params, [0], count, temperature=temperature, rng=rng))


def test_a_temperature_that_does_nothing_or_draws_the_same():
    """Next to 0 it never draws; a high one draws each of 5 symbols equally often, by the seed.

    Of 300 draws at 1/5 the most probable symbol is at least half with less than
    2^300 (1/5)^150 < 1e-14.
    """
    model, state = settled()
    unsure = model.init_params(rng=np.random.default_rng(0))
    greedy = [each.index for each in predict(model, unsure, [0], 50)]
    assert [each.index for each in drawn(model, unsure, 50, 1e-300, 0)] == greedy
    hot = [drawn(model, state.params, 300, 1e9, seed) for seed in (0, 0, 1)]
    assert sum(each.probabilities.argmax() == each.index for each in hot[0]) < 150
    indices = [[each.index for each in run] for run in hot]
    assert indices[0] == indices[1] != indices[2]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prompt": []}, "prompt is empty"),
        ({"prompt": [5]}, r"prompt\[0\] is 5 but must be from 0 to 4"),
        ({"count": 0}, "count is 0 but must be"),
        ({"temperature": -1.0}, r"temperature is -1\.0 but must be at least 0"),
        ({"temperature": np.nan}, "temperature is nan but must be one finite number"),
        ({"temperature": 1.0}, "rng is None but must be given"),
    ],
)
def test_a_prediction_of_nothing(settings, message):
    """Each is refused at the call, with what came and what was expected."""
    model = CharModel(5, 5)
    params = model.init_params(rng=np.random.default_rng(0))
    with pytest.raises(ValueError, match=message):
        predict(model, params, **{"prompt": [0], "count": 1, **settings})
