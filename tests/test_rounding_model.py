"""What the emulated rounding must not leave out: errors that repeat, and errors of a library."""

from dataclasses import replace
from fractions import Fraction
from itertools import accumulate, permutations

import numpy as np
import pytest

from manual_lstm import alphabet
from torch_ref import Case, character_case, error_budget, truth
from torch_ref.compare import rounding as module
from torch_ref.compare.budget import _spread, error_budgets, false_alarm_quantile
from torch_ref.compare.rounding import rounding_arithmetic
from torch_ref.oracles.equations import solve, unrounded

pytestmark = pytest.mark.sampled

QUANTILE = false_alarm_quantile()


def test_a_sum_whose_partial_sums_round_less_than_they_do():
    """The mean square over every order of five products, each partial sum and product rounded."""
    a, b = np.array([[3.0, -1.0, 4.0, 1.0, 5.0]]), np.array([[2.0], [7.0], [1.0], [-8.0], [2.0]])
    products = [int(each) for each in a[0] * b[:, 0]]
    orders = list(permutations(products))
    squares = [total**2 for order in orders for total in list(accumulate(order))[1:]]
    exact = Fraction(sum(squares), len(orders)) + sum(each**2 for each in products)
    found = module._summation_size(a, b, a @ b)
    # sums and products of positive numbers, ten at most, and a root
    assert abs(found[0, 0] ** 2 - float(exact)) <= 10 * np.finfo(float).eps * float(exact)


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
        found = [float(error_budgets(cases, seed=n)[0].allowed["dc0"].max()) for n in range(4)]
        return max(found) / min(found)

    steady = spread_of_budgets()
    monkeypatch.setattr(module, "_REPEATING_BITS", 43)
    assert spread_of_budgets() > steady


def summed(dtype, terms):
    """One term after the other, in `dtype`."""
    total = dtype(0)
    for term in terms:
        total = dtype(total + dtype(term))
    return np.longdouble(total)


def use_of_a_repeated_sum(dtype, values, count, start=0.0):
    """The greatest error of `start` and `count` equal terms, in multiples of the sums' spreads."""
    bits = module.EMULATED_BITS[np.dtype(dtype)]
    arithmetic = rounding_arithmetic(bits, 32, np.random.default_rng(1))
    to_unit_roundoff = 2.0 ** (bits - 1) * float(np.finfo(dtype).eps)
    one = np.ones((32, 1, 1))
    worst = 0.0
    for value in values:
        terms = [np.full((32, 1, 1), float(each)) for each in [start] + [value] * count]
        exact = np.longdouble(start) + np.longdouble(value) * count
        found = arithmetic.sum_over_steps(terms, [one] * (count + 1))
        spread = to_unit_roundoff * _spread(found - float(exact)).item()
        worst = max(worst, float(abs(summed(dtype, [start] + [value] * count) - exact)) / spread)
    return worst


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equal_terms_whose_errors_are_taken_for_independent(monkeypatch, dtype):
    """A term that is added 800 times rounds the same way each time, as in a batch of one letter."""
    values = np.random.default_rng(0).uniform(0.1, 1, 20).astype(dtype)
    assert use_of_a_repeated_sum(dtype, values, 800) < QUANTILE / 2
    monkeypatch.setattr(module, "_error_in_order", lambda *_, tell: 0.0)
    assert use_of_a_repeated_sum(dtype, values, 800) > QUANTILE


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_terms_that_a_coarser_grid_swallows(monkeypatch, dtype):
    """Terms of some units in the last place of the sum are there in float64, and not in 43 bits."""
    terms = np.random.default_rng(0).uniform(10, 90, 20) * np.finfo(dtype).eps
    assert use_of_a_repeated_sum(dtype, terms.astype(dtype), 600, start=1.7) < QUANTILE / 2
    if dtype is np.float64:
        in_order = module._error_in_order
        # Not 43 bits, so emulated: on a grid, a thousand times and more as coarse as float64's.
        monkeypatch.setattr(
            module, "_error_in_order", lambda *a, tell: in_order(*a[:-1], a[-1] - 1)
        )
        assert use_of_a_repeated_sum(dtype, terms, 600, start=1.7) > QUANTILE / 2


def test_errors_in_order_that_are_not_those_of_the_sum():
    """With the precision's own bits the error is what the additions in that order lose."""
    rng = np.random.default_rng(0)
    rows, columns = rng.normal(size=(2, 1, 50)), np.ones((2, 50, 1))
    found = module._error_in_order(rows, columns, np.ones((2, 1)), 43).ravel() / 2.0**10
    for replica, order in enumerate((slice(None, None, -1), slice(None))):
        terms = rows[replica, 0, order]
        lost = np.longdouble(summed(np.float64, terms)) - np.sum(terms, dtype=np.longdouble)
        # longdouble's own sum is exact to fifty of its roundings of the largest partial sum.
        largest = np.abs(np.cumsum(terms)).max()
        assert abs(found[replica] - lost) <= 50 * np.finfo(np.longdouble).eps * largest
        assert found[replica] != 0


@pytest.mark.parametrize("bits", [24, 43])
def test_sums_that_lose_something_else_when_they_are_cut_to_fit_the_cache(monkeypatch, bits):
    """The rows of a sum are apart from each other: one at a time they lose the same, to the bit."""
    rng = np.random.default_rng(0)
    rows, columns = rng.normal(size=(4, 2, 7, 30)), rng.normal(size=(4, 2, 30, 3))
    whole = module._error_in_order(rows, columns, np.ones((4, 3)), bits)
    monkeypatch.setattr(module, "_IN_CACHE", 1)
    cut = module._error_in_order(rows, columns, np.ones((4, 3)), bits)
    np.testing.assert_array_equal(cut, whole)
    assert np.all(whole != 0)


def test_sums_of_numbers_whose_squares_underflow():
    """A product a power of two smaller has the same relative errors, also where squares are 0."""
    rng = np.random.default_rng(0)
    a = np.broadcast_to(rng.normal(size=(2, 6)), (32, 2, 6)) * np.array([[1.0], [2.0**-60]])
    b = rng.normal(size=(6, 3))

    def relative_spread(smaller):
        arithmetic = rounding_arithmetic(43, 32, np.random.default_rng(1))
        found = arithmetic.matmul(a * smaller, b) - (a * smaller) @ b
        return _spread(found) / smaller

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
