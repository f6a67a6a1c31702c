"""A check that is given one case or two sees what it is for: the first is no case of zeros."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from test_checks import changed, keeps_its_sum, mistaken, steals_dy, with_upstream

import manual_lstm as ml
from torch_ref.harness.campaign import check_implementation
from torch_ref.harness.check_list import CHECKS
from torch_ref.harness.contract import Implementation, as_implementation
from torch_ref.harness.search import full_cases, search
from torch_ref.harness.subject import subject_of

CHECK = {check.name: check for check in CHECKS}


def decays_weights() -> Any:
    """The gradients, and the weights a little smaller than they came."""

    def change(pullback: Any, params: Any, *rest: Any) -> Any:
        params["weight_hh_l0"] *= params["weight_hh_l0"].dtype.type(0.99)
        return pullback(*rest[-1])

    return mistaken(change)


def every_other_call() -> Any:
    """dweight_hh twice what it is in every second call."""
    calls: list[None] = []

    def doubled(gradient: Any, *rest: Any) -> Any:
        calls.append(None)
        return gradient * gradient.dtype.type(1 + len(calls) % 2)

    return changed("dweight_hh_l0", doubled)


def second_layer_wrong(params: Any, x: Any, h0: Any, c0: Any) -> Any:
    """A factor in the second of at least two layers."""
    outputs, pullback = ml.vjp(params, x, h0, c0)

    def wrong(dy: Any, dh_n: Any, dc_n: Any) -> Any:
        gradients = pullback(dy, dh_n, dc_n)
        if len(h0) > 1:
            gradients["dweight_hh_l1"] = gradients["dweight_hh_l1"] * x.dtype.type(1.01)
        return gradients

    return outputs, wrong


def members_mixed() -> Any:
    return changed("dh0", lambda gradient, *_: gradient[:, ::-1].copy())


def half_precision_within() -> Any:
    return changed("dweight_ih_l0", lambda g, p, x, *_: g.astype(np.float32).astype(x.dtype))


def without_dc_n() -> Any:
    return with_upstream(lambda dy, dh_n, dc_n: (dy, dh_n, 0 * dc_n))


SEEN_BY = {
    "check_inputs_unmodified": [decays_weights, lambda: steals_dy],
    "check_called_twice": [keeps_its_sum, every_other_call],
    "check_only_dc_n": [without_dc_n],
    "check_stacks": [lambda: second_layer_wrong],
    "check_gradients": [
        members_mixed,
        half_precision_within,
        without_dc_n,
        lambda: second_layer_wrong,
    ],
}


@pytest.mark.parametrize(
    ("name", "make"), [(name, make) for name, makers in SEEN_BY.items() for make in makers]
)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_single_case_that_shows_nothing(name: str, make: Callable[[], Any], seed: int) -> None:
    """A fault passes the very check for it, as that one's only case is of zeros."""
    subject = subject_of(as_implementation(make()))
    assert search(CHECK[name], subject, 1, seed, shrink=False).failure is not None


def test_a_number_of_steps_that_few_cases_never_have() -> None:
    """Ten cases for all the checks have none of T=4, where something is no number."""

    def nan_at_four(gradient: Any, params: Any, x: Any, *_: Any) -> Any:
        return gradient * x.dtype.type(np.nan if len(x) == 4 else 1)

    report = check_implementation(changed("dx", nan_at_four), examples=10)
    assert report.verdict == "disagree"


def test_a_failing_case_that_stays_large() -> None:
    """What is wrong in every case is shown in the smallest, also where one was asked for."""
    wrong = as_implementation(changed("dbias_l0", lambda g, p, x, *_: g + x.dtype.type(1)))
    found = search(CHECK["check_gradients"], subject_of(wrong), 1, 0, shrink=True)
    assert found.failure is not None
    assert found.failure.case is not None
    assert found.failure.case.x.shape == found.failure.case.h0.shape == (1, 1, 1)


def test_a_precision_that_no_case_has() -> None:
    """A wrong gradient in float32 only, with a single example for all the checks."""

    def twice(gradient: Any, params: Any, x: Any, *rest: Any) -> Any:
        return gradient * gradient.dtype.type(1 + (x.dtype == np.float32 and len(x) > 1))

    report = check_implementation(changed("dweight_hh_l0", twice), examples=1)
    assert "check_gradients" in {failure.check for failure in report.failures}


def test_a_gradient_that_is_not_always_returned() -> None:
    """Left out at T=2, where the gradients of two windows are added up: no crash of its own."""

    def without(pullback: Any, params: Any, x: Any, h0: Any, c0: Any, upstream: Any) -> Any:
        found = pullback(*upstream)
        return {name: found[name] for name in found if len(x) != 2 or name != "dweight_ih_l0"}

    report = check_implementation(mistaken(without), examples=20)
    assert report.verdict == "disagree"
    assert not [failure.sentence for failure in report.failures if failure.error is not None]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_a_first_case_that_the_check_is_not_for(check: Any) -> None:
    """It has the sizes of the check and of the implementation, its dtypes, and no zero."""
    bound = Implementation("bound", vjp=ml.vjp, sizes={"I": 7, "H": 6})
    for subject in map(subject_of, (bound, as_implementation(ml.vjp))):
        dtypes = [case.dtype.name for case in full_cases(check, subject, 0)]
        assert dtypes == [*subject.abilities.dtypes]
        for case in full_cases(check, subject, 0):
            steps, batch, inputs = case.x.shape
            layers, _, hidden = case.h0.shape
            sizes = {"T": steps, "B": batch, "I": inputs, "H": hidden, "L": layers}
            allowed = {"B": (2, 3), "L": (2, 3), **check.sizes, **subject.implementation.sizes}
            for size, wanted in allowed.items():
                least, most = (wanted, wanted) if isinstance(wanted, int) else wanted
                assert least <= sizes[size] <= most, size
            arrays = [*case.params.values(), case.x, case.h0, case.c0, case.dh_n, case.dc_n]
            assert all(np.all(array != 0) for array in (*arrays, case.dy))


def test_an_interrupt_that_passes_for_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while Hypothesis begins is an AssertionError of its own, and was told as theirs."""

    def pressed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("hypothesis.core.ConjectureRunner", pressed)
    subject = subject_of(as_implementation(ml.vjp))
    with pytest.raises(KeyboardInterrupt):
        search(CHECKS[0], subject, 50, 0, shrink=False)
