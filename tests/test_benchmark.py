"""The benchmark: that what it times is the same LSTM, and that no test times anything."""

import numpy as np
import pytest
from agreement import assert_agree
from bench import memory
from bench.sides import MANUAL, PRODUCTS, TORCH, TWIN, Sizes, sides_of, work_of
from bench.timing import take_turns
from benchmark import geometric_mean, main

from torch_ref import Case, error_budget

SIZES = Sizes(5, 3, 4, 6)


def dx_of_sides(work):
    return {name: run() for name, run in sides_of(work).items() if name != PRODUCTS}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_side_that_computes_something_else(dtype):
    """Two layers or one: every side has the same gradient of x within the budget."""
    work = work_of(SIZES, dtype)
    zero = np.zeros((1, SIZES.batch, SIZES.hidden), dtype)
    case = Case(work.params, work.x, zero, zero, zero, zero, dy=work.dy)
    allowed = {"dx": error_budget(case, sides=2).allowed["dx"]}
    found = dx_of_sides(work)
    assert {MANUAL, TORCH, TWIN} <= set(found)
    for name, dx in found.items():
        assert_agree({"dx": dx}, {"dx": found[MANUAL]}, allowed, name)
        assert dx.dtype == dtype


def test_products_that_are_not_those_of_the_lstm():
    """The products alone are run on arrays of the LSTM's own shapes, and dx has x's."""
    work = work_of(SIZES, "float64")
    assert sides_of(work)[PRODUCTS]().size == work.x.size


class Clock:
    """A clock that only the sides move on."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now

    def takes(self, seconds):
        def run():
            self.now += seconds

        return run


def test_a_ratio_that_is_upside_down(monkeypatch):
    """A side that takes four times as long has the ratio 4, however often it is repeated."""
    clock = Clock()
    monkeypatch.setattr("bench.timing.time", clock)
    timing = take_turns({"first": clock.takes(0.25), "slow": clock.takes(1.0)}, 3)
    assert timing.seconds == {"first": 0.25, "slow": 1.0}
    assert timing.ratios == timing.low == timing.high == {"first": 1.0, "slow": 4.0}


def test_a_mean_that_is_not_geometric():
    """Four times as fast and four times as slow is as fast."""
    assert geometric_mean([0.25, 4.0]) == 1.0


@pytest.mark.thorough
def test_a_peak_that_is_inherited_or_forgotten():
    """A fresh process's peak is its own: this one's memory is not in it, what it allocates is."""
    held = np.ones(2**24)  # 128 MiB
    fresh = memory.in_own_process(memory.peak)
    if fresh is None:
        pytest.skip("this system does not tell a process's peak")
    assert memory.peak() > held.nbytes
    assert memory.in_own_process(allocate) > fresh + held.nbytes // 2


def allocate():
    np.ones(2**24)
    return memory.peak()


@pytest.mark.thorough
def test_a_long_sequence_weighed_with_torch_in_it():
    """The process that recomputes has NumPy and manual_lstm alone, and more steps take more."""
    short, longer = (memory.long_sequence(steps, 8, "float64") for steps in (10, 200_000))
    if short is None or longer is None:
        pytest.skip("this system does not tell a process's peak")
    arrays = 4 * 200_000 * 8 * 8 / 2**20  # x, dy, y and dx
    assert short < arrays + short < longer


def test_a_benchmark_inside_the_tests(capsys):
    """It refuses in a sentence: times taken beside other tests mean nothing."""
    assert main(["--quick"]) == 2
    assert capsys.readouterr().err == (
        "benchmark.py measures time, which a test must not: use make bench.\n"
    )
