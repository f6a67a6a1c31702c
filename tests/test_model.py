"""The character model: right against the twin and the truth, for both heads."""

import math
from dataclasses import replace

import numpy as np
import pytest
from agreement import assert_agree, assert_same_bits, truth
from hypothesis import assume, given

from manual_lstm import CharModel, alphabet, one_hot, window
from torch_ref import autograd_model_vjp, error_budget, run_case
from torch_ref.compare.diff import run_manual, run_twin
from torch_ref.harness.strategies import model_cases


def model_of(case):
    head = "linear" if "weight_out" in case.params else "bounded"
    return CharModel(case.x.shape[2], case.h0.shape[2], len(case.h0), head)


@given(case=model_cases())
def test_a_loss_or_gradient_that_differs_from_the_references(case):
    """Manual and twin are right to rounding, and agree with each other."""
    budget = error_budget(case)
    assume(budget.conclusive)
    manual, twin, expected = run_manual(case), run_twin(case), truth(case)
    assert_agree(manual, expected, budget.allowed, "manual_lstm")
    assert_agree(twin, expected, budget.allowed, "the twin")
    assert_agree(manual, twin, error_budget(case, sides=2).allowed, "manual_lstm against the twin")


@given(case=model_cases())
def test_a_model_that_leaves_traces(case):
    """Inputs keep their bits and a second pullback gives the first's; dtype in is dtype out."""
    names = ("x", "h0", "c0", "dh_n", "dc_n", "targets")
    arrays = dict(case.params) | {name: getattr(case, name) for name in names}
    before = {name: value.copy() for name, value in arrays.items()}
    for value in arrays.values():
        value.flags.writeable = False
    (loss, h_n, c_n), pullback = model_of(case).vjp(
        case.params, case.x, case.targets, case.h0, case.c0
    )
    assert isinstance(loss, float)
    first = pullback(case.dloss, case.dh_n, case.dc_n)
    h_n[...] = c_n[...] = 7
    pullback(2.0, None, None)
    assert_same_bits(pullback(case.dloss, case.dh_n, case.dc_n), first)
    assert_same_bits(arrays, before)
    assert {value.dtype for value in first.values()} == {case.dtype}
    assert {"d" + name for name in case.params} | {"dx", "dh0", "dc0"} == first.keys()


@given(case=model_cases())
def test_a_short_form_that_is_another_computation(case):
    """`loss_and_grads` is `vjp` with nothing coming from beyond the window, to the bit."""
    loss, gradients = model_of(case).loss_and_grads(
        case.params, case.x, case.targets, case.h0, case.c0
    )
    (expected, _, _), pullback = model_of(case).vjp(
        case.params, case.x, case.targets, case.h0, case.c0
    )
    assert loss == expected
    zero = np.zeros_like(case.h0)
    assert_same_bits(gradients, pullback(1.0, zero, zero))


@given(case=model_cases())
def test_a_loss_that_is_not_the_mean_over_the_batch(case):
    """The loss and the gradients are the means of the members' own."""
    budget = error_budget(case, sides=2)
    assume(budget.conclusive)
    batch = case.x.shape[1]
    members = []
    for b in range(batch):
        one = slice(b, b + 1)
        member = replace(
            case,
            x=case.x[:, one],
            targets=case.targets[:, one],
            h0=case.h0[:, one],
            c0=case.c0[:, one],
            dh_n=case.dh_n[:, one],
            dc_n=case.dc_n[:, one],
            dloss=case.dloss / batch,
        )
        members.append(run_manual(member))
    results = {"loss": np.asarray(sum(m["loss"] for m in members) / batch, case.dtype)}
    for name in members[0].keys() - {"loss"}:
        parts = [member[name] for member in members]
        of_weight = name.removeprefix("d") in case.params
        results[name] = sum(parts) if of_weight else np.concatenate(parts, axis=1)
    assert_agree(results, run_manual(case), budget.allowed, "member by member")


@pytest.mark.parametrize("head", ["linear", "bounded"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_alphabet_of_one_symbol(head, dtype):
    """There is nothing to predict: the loss is exactly 0, and so are all gradients."""
    model = CharModel(1, 1, 2, head)
    params = model.init_params(dtype=dtype, rng=np.random.default_rng(0))
    indices, targets = window(alphabet(1), 5, 3)
    for loss_and_grads in (model.loss_and_grads, twin_loss_and_grads):
        loss, gradients = loss_and_grads(params, one_hot(indices, 1, dtype), targets)
        assert loss == 0
        assert not any(value.any() for value in gradients.values())


def twin_loss_and_grads(params, x, targets):
    (loss, _, _), pullback = autograd_model_vjp(params, x, targets)
    return loss, pullback(1.0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_model_without_weights_that_knows_something(dtype):
    """Zero weights guess uniformly: ln V, to the one rounding of the logarithm."""
    model = CharModel(7, 3)
    params = model.init_params(dtype=dtype, rng=np.random.default_rng(0))
    params = {name: np.zeros_like(value) for name, value in params.items()}
    loss, _ = model.loss_and_grads(params, np.ones((1, 1, 7), dtype), [[6]])
    assert abs(loss - math.log(7)) <= np.spacing(np.dtype(dtype).type(math.log(7)))


@given(case=model_cases(heads=("linear",)))
def test_targets_in_another_integer_type(case):
    """Any integer type and any memory layout of the targets give the same bits."""
    expected = run_manual(case)
    for targets in (case.targets.astype(np.uint8), np.asfortranarray(case.targets.astype(">i4"))):
        for vjp in (model_of(case).vjp, autograd_model_vjp):
            result = run_case(replace(case, targets=targets), vjp)
            assert_same_bits(result, expected if vjp != autograd_model_vjp else run_twin(case))
