"""The error budget: no correct implementation exceeds it, and little that is wrong stays below."""

from dataclasses import replace

import numpy as np
import pytest
from agreement import assert_agree, assert_same_bits, truth
from hypothesis import assume, given
from hypothesis import strategies as st

from manual_lstm import alphabet
from torch_ref import character_case, error_budget
from torch_ref.compare import budget as module
from torch_ref.compare.budget import (
    MORE_REPLICAS,
    REPLICAS,
    WANTED,
    ErrorBudget,
    error_budgets,
    false_alarm_quantile,
)
from torch_ref.compare.diff import run_manual
from torch_ref.compare.errors import compare_tensor
from torch_ref.compare.rounding import rounding_arithmetic
from torch_ref.harness.cases import sized_case
from torch_ref.harness.strategies import DTYPES, HEADS, cases, model_cases
from torch_ref.oracles.equations import Arithmetic, solve

ALL = st.one_of(cases(), model_cases())


def conclusive_budget(case, **options):
    budget = error_budget(case, **options)
    assume(budget.conclusive)
    return budget.allowed


def backwards_arithmetic(dtype):
    """Every sum from its far end, one term after the other; sigmoids from exp."""

    def sigmoid(z):
        with np.errstate(over="ignore"):
            return 1 / (1 + np.exp(-z))

    def matmul(a, b):
        return sum(a[..., k : k + 1] * b[..., k : k + 1, :] for k in reversed(range(a.shape[-1])))

    def sum_over_steps(left, right):
        members = [
            np.swapaxes(m[..., b : b + 1, :], -1, -2) * p[..., b : b + 1, :]
            for m, p in zip(left[::-1], right[::-1], strict=True)
            for b in range(m.shape[-2])
        ]
        return sum(members[::-1])

    return Arithmetic(
        number=lambda a: np.asarray(a, dtype),
        rnd=lambda a: a,
        sigmoid=sigmoid,
        tanh=np.tanh,
        exp=np.exp,
        log=np.log,
        matmul=matmul,
        sum_over_steps=sum_over_steps,
    )


@given(case=ALL)
def test_a_correct_loop_that_adds_in_another_order(case):
    """A loop that shares no code with manual_lstm, its sums the other way round, is right."""
    results = solve(case, backwards_arithmetic(case.dtype.type))
    del results["z"]
    assert {value.dtype for value in results.values()} == {case.dtype}
    assert_agree(results, truth(case), conclusive_budget(case), "sums from the far end")


def permuted(case, order):
    """The case with each layer's hidden units in another order, and how to undo it."""
    hidden = len(order)
    rows = (np.arange(4)[:, None] * hidden + order).reshape(-1)
    params = {}
    for name, value in case.params.items():
        if name == "bias_out":
            params[name] = value
        elif name == "weight_out":
            params[name] = value[:, order]
        else:
            columns = order if not name.startswith("weight_ih_l0") else slice(None)
            params[name] = value[rows][:, columns] if value.ndim == 2 else value[rows]
    turned = {name: getattr(case, name)[..., order] for name in ("h0", "c0", "dh_n", "dc_n")}
    dy = None if case.dy is None else case.dy[..., order]
    return replace(case, params=params, dy=dy, **turned)


@given(case=st.one_of(cases(), model_cases(heads=("linear",))), data=st.data())
def test_a_correct_stack_whose_units_are_in_another_order(case, data):
    """Units have no order: permuting them permutes the results, but for the sums' rounding."""
    order = np.array(data.draw(st.permutations(range(case.h0.shape[2])), label="order"))
    back = np.argsort(order)
    results = run_manual(permuted(case, order))
    wrapped = replace(
        case,
        params={k.removeprefix("d"): v for k, v in results.items() if k[1:] in case.params},
        dy=results.get("y"),
        **{name: results["d" + name] for name in ("h0", "c0")},
        dh_n=results["h_n"],
        dc_n=results["c_n"],
    )
    undone = permuted(wrapped, back)
    results |= {"d" + name: value for name, value in undone.params.items()}
    results |= {"dh0": undone.h0, "dc0": undone.c0, "h_n": undone.dh_n, "c_n": undone.dc_n}
    if case.dy is not None:
        results["y"] = undone.dy
    assert_agree(results, truth(case), conclusive_budget(case), "units permuted")


# dtype: how large an element must be beside its tensor's largest, and the factor it is off by
POWER = {"float64": (1e-3, 1 + 1e-9), "float32": (1e-1, 1 + 1e-3)}


@given(
    case=st.builds(
        character_case,
        st.integers(3, 8).map(alphabet),
        steps=st.integers(1, 12),
        batch=st.integers(1, 4),
        layers=st.integers(1, 3),
        head=st.sampled_from(HEADS),
        dtype=st.sampled_from(DTYPES),
        seed=st.integers(0, 2**16),
    ),
    data=st.data(),
)
def test_a_small_error_of_one_element_that_is_within_the_budget(case, data):
    """An element off by 1e-9 of itself in float64, by 1e-3 in float32, is noticed.

    The numbers are those of ordinary cases: where terms are drawn so that they cancel, or gates
    so that they flip with the last bit, a correct implementation is off by more.
    """
    least, factor = POWER[str(case.dtype)]
    allowed = conclusive_budget(case)
    expected = truth(case)
    pick = data.draw(st.integers(0, 2**16), label="pick")
    for name, value in expected.items():
        size = np.abs(value)
        places = np.argwhere((size >= least * size.max()) & (size > np.finfo(case.dtype).tiny))
        if len(places):
            place = tuple(places[pick % len(places)])
            changed = np.array(value)
            changed[place] *= factor
            found = compare_tensor(name, changed, value, allowed[name])
            assert found.verdict == "disagree", (name, found)


@given(case=ALL, seed=st.integers(0, 9))
def test_a_budget_that_changes_from_run_to_run(case, seed):
    """A seed gives the same bits; another seed does not."""
    budget = error_budget(case, seed=seed)
    assert_same_bits(error_budget(case, seed=seed).allowed, budget.allowed)
    other = error_budget(case, seed=seed + 1)
    assume(budget.pre_activation > 0)
    assert other.pre_activation != budget.pre_activation


@given(case=ALL)
def test_a_budget_for_what_is_exactly_zero(case):
    """Where nothing is upstream the gradient is zero, and no rounding is granted."""
    zero = 0 * case.h0
    dy = None if case.dy is None else 0 * case.dy
    case = replace(case, dh_n=zero, dc_n=zero, dloss=0.0, dy=dy)
    tiny = np.finfo(case.dtype).tiny
    for name, allowed in error_budget(case).allowed.items():
        assert np.all(allowed >= tiny)
        if name.startswith("d"):
            assert np.all(allowed == tiny), name


@pytest.mark.parametrize("head", ["linear", "bounded"])
def test_a_budget_that_does_not_grow_with_what_rounds(head):
    """Two sides have the square root of two; float32 has what its unit roundoff is larger by."""
    case = character_case(alphabet(4), steps=5, head=head, dtype=np.float64)
    one, two = error_budget(case).allowed, error_budget(case, sides=2).allowed
    coarse = error_budget(case, dtype=np.float32).allowed
    ratio = np.finfo(np.float32).eps / np.finfo(np.float64).eps
    for name, allowed in one.items():
        tiny = np.finfo(np.float64).tiny
        assert np.all(np.abs(two[name] - np.sqrt(2) * allowed) <= 2 * np.spacing(two[name]) + tiny)
        # Two emulations of the same spread, by two bit widths: of one order of magnitude.
        assert 0.1 * ratio < np.median(coarse[name] / allowed) < 10 * ratio


def test_a_quantile_below_students():
    """The bound is above the tables' two-sided 0.1 % points of Student's t, and tightens."""
    for degrees, quantile in ((5, 6.869), (16, 4.015), (30, 3.646)):
        assert false_alarm_quantile(degrees, 1e-3) > quantile
    assert false_alarm_quantile(16, 1e-12) > false_alarm_quantile(32, 1e-12)
    assert false_alarm_quantile(16, 1e-12) > false_alarm_quantile(16, 1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_replicas_that_are_drawn_for_nothing(dtype):
    """Only a gradient that is looser than wanted is refined, and only where that can mend it."""
    change, share = WANTED[np.dtype(dtype)]
    gain = false_alarm_quantile(REPLICAS) / false_alarm_quantile(MORE_REPLICAS)
    exact = np.array([[-2.0, 2 * share, share]])  # the last one is small, and nothing wanted of it

    def loose(name, allowed, uncertain=0.0):
        budget = ErrorBudget({name: change * np.array(allowed)}, uncertain)
        return module._loose(budget, {name: exact}, 0, np.dtype(dtype))

    assert loose("dx", [1.01, 0.99 * share, 0]) == ("dx",)
    assert loose("dx", [0.99, 1.01 * share, 0]) == ("dx",)
    assert loose("dx", [0.99, 0.99 * share, 9]) == ()
    assert loose("dx", [1.01, 3.99 * gain * share, 0]) == ("dx",)
    assert loose("dx", [1.01, 4.01 * gain * share, 0]) == ()
    assert loose("y", [1.01, 0.99 * share, 0]) == ()
    assert loose("dx", [1.01, 0.99 * share, 0], uncertain=1.0) == ()
    exact *= 0
    assert loose("dx", [1.01, 0.99 * share, 0]) == ()


def test_a_refined_budget_of_another_case_or_gradient(monkeypatch):
    """In a batch of three the second's dx and no other is measured anew, as it would be alone."""
    three = [
        character_case(alphabet(3), steps=4, batch=2, dtype=np.float32, seed=n) for n in range(3)
    ]
    first = error_budgets(three)
    monkeypatch.setattr(module, "_loose", lambda _, exact, n, __: ("dx",) * (n == 1))
    together = error_budgets(three)
    monkeypatch.setattr(module, "_loose", lambda *_: ("dx",))
    alone = error_budget(three[1])
    assert [each.refined for each in together] == [(), ("dx",), ()]
    for n, (before, after) in enumerate(zip(first, together, strict=True)):
        for name, allowed in before.allowed.items():
            assert np.array_equal(allowed, after.allowed[name]) == ((n, name) != (1, "dx")), name
    # Replicas resolve a float32 rounding to 2^(24 - 53) of itself.
    off = np.abs(together[1].allowed["dx"] - alone.allowed["dx"])
    assert np.all(off <= 2.0**-20 * alone.allowed["dx"])
    # Budgets of one spread are as their quantiles are; of two spreads' ratio 1 is the median.
    ratio = np.median(together[1].allowed["dx"] / first[1].allowed["dx"])
    gain = false_alarm_quantile(REPLICAS) / false_alarm_quantile(MORE_REPLICAS)
    assert abs(np.log(ratio * gain)) < np.log(gain) / 2


def test_replicas_that_do_not_fit_in_memory_at_once(monkeypatch):
    """Drawn a few at a time they make the same spread, of them all."""
    case = character_case(alphabet(4), steps=5, batch=2, dtype=np.float64)
    monkeypatch.setattr(module, "_loose", lambda budget, *_: tuple(budget.allowed))
    counts = []

    def counting(bits, replicas, rng, tell):
        counts.append(replicas)
        return rounding_arithmetic(bits, replicas, rng)

    monkeypatch.setattr(module, "rounding_arithmetic", counting)
    at_once = error_budget(case).allowed
    monkeypatch.setattr(module, "_GATES_AT_ONCE", 1)
    in_turn = error_budget(case).allowed
    rounds = [each // 2 for each in (REPLICAS, MORE_REPLICAS)]
    assert counts == [2 * REPLICAS, 2 * MORE_REPLICAS, *[4] * sum(rounds)]
    off = [np.ravel(np.log(in_turn[name] / allowed)) for name, allowed in at_once.items()]
    # The logarithm of a spread of n replicas is uncertain by 1/sqrt(2 n): nearer to that of all
    # the replicas than to that of a single round of two.
    most, fewest = 1 / np.sqrt(2 * MORE_REPLICAS), 1 / np.sqrt(2 * 2)
    assert np.sqrt(np.mean(np.square(np.concatenate(off)))) < np.sqrt(most * fewest)


@pytest.mark.parametrize("head", [None, *HEADS])
@pytest.mark.parametrize("more", [False, True])
def test_progress_that_stands_still_or_goes_back(head, more, monkeypatch):
    """What is told goes up to all replicas, by more than one step, also where more are needed."""
    monkeypatch.setattr(module, "_GATES_AT_ONCE", 1)
    monkeypatch.setattr(module, "_loose", lambda *_: ("dx",) * more)
    sizes = {"T": 3, "B": 2, "I": 3, "H": 3, "L": 2}
    case = sized_case(sizes, targets=head is not None, head=head)
    told: list[tuple[float, int]] = []
    error_budget(case, progress=lambda done, count: told.append((done, count)))
    done = [each for each, _ in told]
    assert done == sorted(done)
    assert len({*done}) > REPLICAS
    assert (REPLICAS, REPLICAS) in told
    every = REPLICAS + MORE_REPLICAS * more
    assert told[-1] == (every, every)


@pytest.mark.parametrize("bits", [11, 24, 43])
def test_an_emulated_rounding_of_another_size(bits):
    """Each rounding is at most half a unit in the last of `bits` bits, and comes near to it."""
    rng = np.random.default_rng(0)
    numbers = rng.uniform(-10, 10, (8, 1, 1000))
    arithmetic = rounding_arithmetic(bits, 8, rng)
    off = (arithmetic.rnd(numbers) - numbers) / np.abs(numbers)
    largest = 2.0**-bits
    # float64 itself rounds in the scaling and the unscaling.
    assert 0.5 * largest < np.abs(off).max() <= largest + 4 * np.finfo(np.float64).eps
    # The mean of n errors below u in size is off from 0 by less than u 6 / sqrt(3 n).
    assert abs(off.mean()) < largest * 6 / np.sqrt(3 * off.size)


def test_errors_that_cancel_in_every_replica():
    """Equal operands round alike in the first half; in the second never, not even side by side.

    Otherwise gates of two members of a batch, shut and of opposite effect, would cancel exactly.
    """
    rng = np.random.default_rng(0)
    numbers = np.broadcast_to(rng.uniform(-10, 10, (1, 1, 50)), (8, 3, 50))
    arithmetic = rounding_arithmetic(24, 8, rng)
    first, second = arithmetic.rnd(numbers), arithmetic.rnd(numbers)
    same, fresh = slice(None, 4), slice(4, None)
    np.testing.assert_array_equal(first[same], second[same])
    np.testing.assert_array_equal(first[same, 0], first[same, 1])
    for left, right in ((first[fresh], second[fresh]), (first[fresh, 0], first[fresh, 1])):
        assert np.mean(left == right) < 0.5
    assert np.mean(first[0, 0] == first[1, 0]) < 0.5
