"""The hand-written stack: right against every reference, and consistent with itself."""

import tracemalloc
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from agreement import assert_agree, assert_same_bits, truth, with_upstream
from hypothesis import assume, given
from hypothesis import strategies as st

from manual_lstm import init_params, lstm, lstm_backward, lstm_forward, recomputing_vjp, vjp
from torch_ref import autograd_vjp, error_budget, run_case, torch_lstm_vjp
from torch_ref.harness.cases import sized_case
from torch_ref.harness.strategies import cases, upstreams

SIDES = {
    "manual_lstm": vjp,
    "recomputing": recomputing_vjp,
    "the twin": autograd_vjp,
    "nn.LSTM": torch_lstm_vjp,
}


def conclusive_budget(case, sides=1):
    budget = error_budget(case, sides=sides)
    assume(budget.conclusive)
    return budget.allowed


@given(case=cases())
def test_an_output_or_gradient_that_differs_from_the_references(case):
    """Every side is right to rounding, and so are each two of them together."""
    allowed = conclusive_budget(case)
    results = {name: run_case(case, side) for name, side in SIDES.items()}
    expected = truth(case)
    for name, result in results.items():
        assert_agree(result, expected, allowed, name)
    allowed = conclusive_budget(case, sides=2)
    for left, right in (
        ("manual_lstm", "the twin"),
        ("manual_lstm", "nn.LSTM"),
        ("the twin", "nn.LSTM"),
    ):
        assert_agree(results[left], results[right], allowed, f"{left} against {right}")


@given(case=cases(dtypes=("float64",)))
def test_a_gradient_that_the_loop_computes_from_rounded_numbers(case):
    """float32 manual_lstm against the float64 twin of the same numbers, as the diff has it."""
    case = case.astype(np.float32)
    allowed = conclusive_budget(case)
    expected = run_case(case.astype(np.float64), autograd_vjp)
    assert_agree(run_case(case, vjp), expected, allowed, "float32 against float64")


@pytest.mark.parametrize("at_once", [1, 2, 3])
@pytest.mark.parametrize("layers", [1, 2])
def test_a_block_of_steps_that_is_given_anothers_arrays(at_once, layers, monkeypatch):
    """The backward prepares its factors for as many steps at once as a core's cache holds."""
    case = sized_case({"T": 7, "B": 2, "I": 3, "H": 4, "L": layers})
    of_one_step = lstm_forward(case.params, case.x)[1][0].cell[0].nbytes
    monkeypatch.setattr(lstm, "_CACHE", at_once * of_one_step)
    allowed = error_budget(case).allowed
    assert_agree(run_case(case, vjp), truth(case), allowed, f"{at_once} at once")


def test_blocks_of_a_case_that_no_cache_holds(monkeypatch):
    """A block and a rest in each quarter of the steps, as they come about, against one block."""
    case = sized_case({"T": 60, "B": 8, "I": 5, "H": 64, "L": 1})
    cell = lstm_forward(case.params, case.x)[1][0].cell
    assert 1 < lstm._CACHE // cell[0].nbytes < 60 / 4
    in_blocks = run_case(case, vjp)
    monkeypatch.setattr(lstm, "_CACHE", cell.nbytes)
    assert_same_bits(in_blocks, run_case(case, vjp))


@given(case=cases(), segment=st.integers(1, 60))
def test_a_segment_that_is_left_out(case, segment):
    """Recomputed in segments of any length, the last one shorter: right to rounding."""
    allowed = conclusive_budget(case)
    result = run_case(case, partial(recomputing_vjp, segment=segment))
    assert_agree(result, truth(case), allowed, f"segments of {segment}")


@given(case=cases())
def test_a_segment_that_is_computed_otherwise(case):
    """One segment of all T steps is the LSTM itself, to the bit."""
    whole = run_case(case, partial(recomputing_vjp, segment=len(case.x)))
    assert_same_bits(whole, run_case(case, vjp))


def test_a_long_sequence_that_is_stored_after_all():
    """What is held at T = 4,096 in segments of 64 is less than half of what the cache takes."""
    steps, hidden = 4096, 32
    params = init_params(4, hidden, dtype="float64", rng=np.random.default_rng(0))
    x = np.ones((steps, 1, 4))
    dy = np.ones((steps, 1, hidden))

    def peak(side):
        tracemalloc.start()
        try:
            _, pullback = side(params, x)
            pullback(dy, None, None)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    cache = steps * 7 * hidden * 8  # four gates, c, tanh(c) and h
    held = steps * (hidden + 4) * 8  # y and dx
    assert peak(vjp) > cache + held
    assert peak(recomputing_vjp) < held + cache / 8


def test_a_dz_of_all_steps_that_is_held_at_once():
    """The whole backward takes less than half the memory of dz, the largest array it computes."""
    steps, batch, hidden = 400, 32, 64
    params = init_params(4, hidden, dtype="float64", rng=np.random.default_rng(0))
    _, cache = lstm_forward(params, np.ones((steps, batch, 4)))
    dy = np.ones((steps, batch, hidden))
    tracemalloc.start()
    try:
        lstm_backward(dy, None, None, cache)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < steps * batch * 4 * hidden * 8 / 2


@pytest.mark.parametrize("segment", [0, -1, 2.0, "8"])
def test_a_segment_that_is_no_number_of_steps(segment):
    """A sentence names it."""
    params = init_params(2, 2, rng=np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"^segment is .* must be a whole number of at least 1"):
        recomputing_vjp(params, np.zeros((3, 1, 2), "float32"), segment=segment)


def in_chunks(case, bounds):
    """The case as windows that carry their state on, and their gradients back."""
    runs, h, c = [], case.h0, case.c0
    for start, stop in bounds:
        (y, h, c), cache = lstm_forward(case.params, case.x[start:stop], h, c)
        runs.append((start, stop, y, cache))
    results = {"y": np.concatenate([run[2] for run in runs]), "h_n": h, "c_n": c}
    dx, dh, dc = [], case.dh_n, case.dc_n
    total = {f"d{name}": np.zeros_like(value) for name, value in case.params.items()}
    for start, stop, _, cache in reversed(runs):
        gradients = lstm_backward(case.dy[start:stop], dh, dc, cache)
        dh, dc = gradients["dh0"], gradients["dc0"]
        dx.insert(0, gradients["dx"])
        for name in total:
            total[name] += gradients[name]
    return results | {"dx": np.concatenate(dx), "dh0": dh, "dc0": dc} | total


@given(case=cases(), data=st.data())
def test_a_step_that_sees_more_than_its_state(case, data):
    """T steps at once are one step T times, and any two windows with the state carried."""
    allowed = conclusive_budget(case, sides=2)
    steps = len(case.x)
    whole = run_case(case, vjp)
    singly = in_chunks(case, [(t, t + 1) for t in range(steps)])
    assert_agree(singly, whole, allowed, "step by step")
    if steps > 1:
        cut = data.draw(st.integers(1, steps - 1), label="cut")
        halves = in_chunks(case, [(0, cut), (cut, steps)])
        assert_agree(halves, whole, allowed, "two windows")


@given(case=cases())
def test_a_member_of_a_batch_that_touches_another(case):
    """A batch has its members' outputs, and the sum of their weight gradients."""
    allowed = conclusive_budget(case, sides=2)
    members = [
        run_case(
            replace(
                case,
                x=case.x[:, b : b + 1],
                h0=case.h0[:, b : b + 1],
                c0=case.c0[:, b : b + 1],
                dh_n=case.dh_n[:, b : b + 1],
                dc_n=case.dc_n[:, b : b + 1],
                dy=case.dy[:, b : b + 1],
            ),
            vjp,
        )
        for b in range(case.x.shape[1])
    ]
    summed = {
        name: sum(member[name] for member in members)
        if name.removeprefix("d") in case.params
        else np.concatenate([member[name] for member in members], axis=1)
        for name in members[0]
    }
    assert_agree(summed, run_case(case, vjp), allowed, "one by one")


@given(case=cases())
def test_a_gradient_that_comes_from_nowhere(case):
    """Nothing upstream gives gradients of exactly zero."""
    none = with_upstream(case, np.zeros_like(case.dy), 0 * case.dh_n, 0 * case.dc_n)
    for name, value in run_case(none, vjp).items():
        if name.startswith("d"):
            assert not value.any(), name


@given(case=cases())
def test_a_backward_that_uses_up_its_cache(case):
    """A second pullback gives the same bits, another upstream gradient between or not."""
    _, pullback = vjp(case.params, case.x, case.h0, case.c0)
    first = pullback(case.dy, case.dh_n, case.dc_n)
    pullback(-case.dy, None, case.dc_n)
    assert_same_bits(pullback(case.dy, case.dh_n, case.dc_n), first)


def arrays_of(case):
    return {
        **case.params,
        **{name: getattr(case, name) for name in ("x", "h0", "c0", "dh_n", "dc_n", "dy")},
    }


@pytest.mark.parametrize("side", SIDES.values(), ids=SIDES)
@given(case=cases())
def test_an_input_that_is_written_to(side, case):
    """Inputs keep their bits; outputs changed afterwards do not change the gradients."""
    before = {name: value.copy() for name, value in arrays_of(case).items()}
    outputs, pullback = side(case.params, case.x, case.h0, case.c0)
    expected = pullback(case.dy, case.dh_n, case.dc_n)
    expected = {name: value.copy() for name, value in expected.items()}
    assert_same_bits(arrays_of(case), before)
    for output in outputs:
        output[...] = 7
    assert_same_bits(pullback(case.dy, case.dh_n, case.dc_n), expected)


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


LAYOUTS = {
    "read-only": read_only,
    "Fortran order": np.asfortranarray,
    "every other element": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
    "backwards": lambda a: a[..., ::-1].copy()[..., ::-1],
}


@pytest.mark.parametrize("side", SIDES.values(), ids=SIDES)
@pytest.mark.parametrize("layout", LAYOUTS)
@given(case=cases())
def test_an_array_whose_memory_is_laid_out_differently(side, layout, case):
    """Read-only, strided and reversed arrays are accepted and give right results."""
    arrange = LAYOUTS[layout]
    changed = replace(
        case,
        params={name: arrange(value) for name, value in case.params.items()},
        **{name: arrange(getattr(case, name)) for name in ("x", "h0", "c0", "dh_n", "dc_n", "dy")},
    )
    allowed = conclusive_budget(case, sides=2)
    assert_agree(run_case(changed, side), run_case(case, side), allowed, layout)


@pytest.mark.parametrize("side", SIDES.values(), ids=SIDES)
@given(case=cases())
def test_a_result_in_another_precision(side, case):
    """dtype in is dtype out, and each gradient has the shape of its array."""
    results = run_case(case, side)
    assert {name: value.dtype for name, value in results.items()} == dict.fromkeys(
        results, case.dtype
    )
    shapes = {f"d{name}": value.shape for name, value in case.params.items()}
    shapes |= {"dx": case.x.shape, "dh0": case.h0.shape, "dc0": case.c0.shape}
    shapes |= {"y": case.dy.shape, "h_n": case.h0.shape, "c_n": case.c0.shape}
    assert {name: value.shape for name, value in results.items()} == shapes


@pytest.mark.parametrize("side", SIDES.values(), ids=SIDES)
@given(case=cases())
def test_a_missing_state_or_upstream_that_is_not_zero(side, case):
    """None for a state or an upstream gradient is zeros, to the bit."""
    zero = np.zeros_like(case.h0)
    for h0, c0 in ((None, case.c0), (case.h0, None), (None, None)):
        left, pullback_left = side(case.params, case.x, h0, c0)
        right, pullback_right = side(
            case.params, case.x, zero if h0 is None else h0, zero if c0 is None else c0
        )
        assert_same_bits(dict(enumerate(left)), dict(enumerate(right)))
        assert_same_bits(
            pullback_left(case.dy, case.dh_n, case.dc_n),
            pullback_right(case.dy, case.dh_n, case.dc_n),
        )
    given = (case.dy, case.dh_n, case.dc_n)
    for k in range(3):
        _, pullback = side(case.params, case.x, case.h0, case.c0)
        missing = [None if j == k else value for j, value in enumerate(given)]
        zeros = [np.zeros_like(value) if j == k else value for j, value in enumerate(given)]
        assert_same_bits(pullback(*missing), pullback(*zeros))
    assert not any(value.any() for value in pullback(None, None, None).values())


@given(case=cases(), data=st.data())
def test_a_pullback_that_is_not_linear(case, data):
    """The gradients of u + v are those of u plus those of v."""
    layers, batch, hidden = case.h0.shape
    drawn = upstreams(len(case.x), batch, hidden, layers, case.dtype)
    # Multiples of 1/64, whose sum is exact in either dtype.
    u = [np.round(64 * part) / 64 for part in (case.dy, case.dh_n, case.dc_n)]
    v = [np.round(64 * part) / 64 for part in data.draw(drawn, label="v")]
    both = [left + right for left, right in zip(u, v, strict=True)]
    _, pullback = vjp(case.params, case.x, case.h0, case.c0)
    budgets = [conclusive_budget(with_upstream(case, *parts)) for parts in (u, v, both)]
    of_u, of_v = pullback(*u), pullback(*v)
    assert_agree(
        {name: of_u[name] + of_v[name] for name in of_u},
        pullback(*both),
        {name: sum(budget[name] for budget in budgets) for name in of_u},
        "linearity",
    )


@given(case=cases())
def test_a_stack_that_is_not_its_layers(case):
    """A stack gives what its layers give one by one, each fed with the one below: equation (8)."""
    allowed = conclusive_budget(case, sides=2)
    kinds = ("weight_ih", "weight_hh", "bias")
    layers = len(case.h0)
    y, pullbacks, h_n, c_n = case.x, [], [], []
    for k in range(layers):
        params = {f"{kind}_l0": case.params[f"{kind}_l{k}"] for kind in kinds}
        (y, h, c), pullback = vjp(params, y, case.h0[k : k + 1], case.c0[k : k + 1])
        pullbacks.append(pullback)
        h_n.append(h)
        c_n.append(c)
    results = {"y": y, "h_n": np.concatenate(h_n), "c_n": np.concatenate(c_n)}
    d, dh0, dc0 = case.dy, [], []
    for k in reversed(range(layers)):
        gradients = pullbacks[k](d, case.dh_n[k : k + 1], case.dc_n[k : k + 1])
        d = gradients["dx"]
        dh0.insert(0, gradients["dh0"])
        dc0.insert(0, gradients["dc0"])
        results |= {f"d{kind}_l{k}": gradients[f"d{kind}_l0"] for kind in kinds}
    results |= {"dx": d, "dh0": np.concatenate(dh0), "dc0": np.concatenate(dc0)}
    assert_agree(results, run_case(case, vjp), allowed, "layer by layer")
