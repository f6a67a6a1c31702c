"""What the emulated rounding must not leave out: errors that repeat, and errors of a library."""

from dataclasses import replace

import numpy as np
import pytest

from manual_lstm import alphabet
from torch_ref import Case, character_case, error_budget, truth
from torch_ref.compare import budget as module
from torch_ref.compare.budget import (
    error_budgets,
    false_alarm_quantile,
    rounding_arithmetic,
)
from torch_ref.oracles.equations import solve, unrounded

QUANTILE = false_alarm_quantile()


def constant_case(forget, steps=150):
    """One unit, a constant x, and a forget gate that stays at sigmoid(forget)."""
    params = {
        "weight_ih_l0": np.array([[0.3], [0.0], [0.2], [-0.4]]),
        "weight_hh_l0": np.array([[0.1], [0.0], [0.2], [0.3]]),
        "bias_l0": np.array([-4.0, forget, 0.3, 0.1]),
    }
    state = np.full((1, 1, 1), 0.7)
    x, dy = np.full((steps, 1, 1), 0.9), np.zeros((steps, 1, 1))
    return Case(params, x, state, state, state, state, dy=dy)


def greatest_use(case, arithmetic):
    """How much of its budget a correct implementation in `arithmetic` uses."""
    results, exact, allowed = solve(case, arithmetic), truth(case), error_budget(case).allowed
    return max(float(np.max(np.abs(results[n] - exact[n]) / allowed[n])) for n in allowed)


def faithful(direction):
    """float64 whose activations are off by one unit in the last place, always the same way."""
    plain = unrounded(np.float64)

    def off(function):
        return lambda z: np.nextafter(function(z), direction * np.inf)

    return replace(plain, sigmoid=off(plain.sigmoid), tanh=off(plain.tanh))


@pytest.mark.parametrize("direction", [-1, 1])
@pytest.mark.parametrize("forget", [3.0, 8.0, 20.0, 36.0])
def test_a_library_that_is_off_the_same_way_at_every_step(forget, direction):
    """A unit in the last place of each gate, 150 times over, is within the budget."""
    assert greatest_use(constant_case(forget), faithful(direction)) < 1


def test_errors_that_vanish_where_rounding_stagnates(monkeypatch):
    """With errors on a grid as fine as the rounding, most replicas stand still and see nothing.

    f is within a rounding of 1, and f c rounds back to c. The budget is then a matter of luck.
    """
    cases = [constant_case(36.0)]

    def spread_of_budgets():
        found = [float(error_budgets(cases, seed=n)[0].allowed["dc0"].max()) for n in range(6)]
        return max(found) / min(found)

    steady = spread_of_budgets()
    monkeypatch.setattr(module, "_REPEATING_BITS", 43)
    assert spread_of_budgets() > steady


def summed(dtype, value, count):
    """The same term added again and again, in `dtype`."""
    total = dtype(0)
    for _ in range(count):
        total = dtype(total + dtype(value))
    return float(total)


def use_of_a_repeated_sum(values, count):
    """The greatest error of the sums of `count` equal terms, in multiples of their spreads."""
    arithmetic = rounding_arithmetic(24, 32, np.random.default_rng(1))
    one = np.ones((32, 1, 1))
    worst = 0.0
    for value in values:
        terms = [np.full((32, 1, 1), float(value))] * count
        exact = float(value) * count
        spread = module._spread(arithmetic.sum_over_steps(terms, [one] * count) - exact)
        worst = max(worst, abs(summed(np.float32, value, count) - exact) / float(spread.item()))
    return worst


def test_equal_terms_whose_errors_are_taken_for_independent(monkeypatch):
    """A term that is added 800 times rounds the same way each time, as in a batch of one letter."""
    values = np.random.default_rng(0).uniform(0.1, 1, 30).astype(np.float32)
    assert use_of_a_repeated_sum(values, 800) < QUANTILE / 2
    monkeypatch.setattr(module, "_added_in_order", lambda rows, columns, *_: rows @ columns)
    assert use_of_a_repeated_sum(values, 800) > QUANTILE


def test_a_sum_that_is_not_the_sum():
    """Added in order, from either end, it is the product but for roundings: at most one a term."""
    rng = np.random.default_rng(0)
    rows, columns = rng.normal(size=(8, 3, 20)), rng.normal(size=(8, 20, 2))
    found = module._added_in_order(rows, columns, rng.uniform(1, 2, (8, 2)), 24)
    largest = np.abs(rows) @ np.abs(columns)
    assert np.all(np.abs(found - rows @ columns) <= 20 * 2.0**-24 * 2 * largest)
    assert np.all(found != rows @ columns)


def test_sums_of_numbers_whose_squares_underflow():
    """A product a power of two smaller has the same relative errors, also where squares are 0."""
    rng = np.random.default_rng(0)
    a = np.broadcast_to(rng.normal(size=(2, 6)), (32, 2, 6)) * np.array([[1.0], [2.0**-60]])
    b = rng.normal(size=(6, 3))

    def relative_spread(smaller):
        arithmetic = rounding_arithmetic(43, 32, np.random.default_rng(1))
        found = arithmetic.matmul(a * smaller, b) - (a * smaller) @ b
        return module._spread(found) / smaller

    usual = relative_spread(1.0)
    for smaller in (2.0**-200, 2.0**-520, 2.0**-900):
        # Without a spread of their own they would have none at all.
        np.testing.assert_array_equal(relative_spread(smaller) > usual / 2, True)


def test_a_batch_of_cases_whose_budgets_mix():
    """Budgets of many cases at once are those of each by itself, but for float64's own rounding."""
    cases = [
        character_case(alphabet(3), steps=4, batch=2, layers=2, dtype=np.float32, seed=n)
        for n in range(3)
    ]
    for case, together in zip(cases, error_budgets(cases), strict=True):
        alone = error_budget(case)
        for name, allowed in alone.allowed.items():
            assert together.allowed[name].shape == np.shape(truth(case)[name])
            # Replicas resolve a float32 rounding to 2^(24 - 53) of itself.
            off = np.abs(together.allowed[name] - allowed)
            assert np.all(off <= 2.0**-20 * allowed), name
        assert together.conclusive
