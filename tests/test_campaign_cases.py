"""What the cases of a campaign can tell, all of them together."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from test_diagnosis import loss_and_grads

import manual_lstm
from torch_ref import Case, check_implementation, error_budget
from torch_ref.diagnosis.backward.interpreter import gradients, solved
from torch_ref.diagnosis.backward.quantities import quantities
from torch_ref.diagnosis.mistakes.catalogue import Mistake, catalogue
from torch_ref.harness.cases import sized_case
from torch_ref.harness.check_list import CHECKS


def given_to(form: str, examples: int) -> list[Case]:
    """Every case that a campaign gives to an implementation of this form."""
    given: list[Case] = []

    def vjp(params: Any, x: Any, h0: Any, c0: Any) -> Any:
        outputs, pullback = manual_lstm.vjp(params, x, h0, c0)

        def back(dy: Any, dh_n: Any, dc_n: Any) -> Any:
            given.append(Case(params, x, h0, c0, dh_n, dc_n, dy=dy))
            return pullback(dy, dh_n, dc_n)

        return outputs, back

    def with_loss(params: Any, x: Any, targets: Any, h0: Any, c0: Any) -> Any:
        given.append(Case(params, x, h0, c0, 0 * h0, 0 * c0, targets=targets))
        return loss_and_grads(params, x, targets, h0, c0)

    report = check_implementation(vjp if form == "vjp" else with_loss, examples=examples)
    assert report.verdict == "agree", report.failures
    return given


def unseen(mistakes: Sequence[Mistake], head: str | None, case: Case) -> list[Mistake]:
    """Those of the mistakes with which every gradient of the case is within its budget."""
    right = catalogue(head=head).table
    forward = quantities(case.astype(np.float64))
    beside = solved(right, forward)
    expected = gradients(right, forward, beside=beside)
    allowed = error_budget(case).allowed
    hidden = []
    for mistake in mistakes:
        try:
            with np.errstate(all="ignore"):
                found = gradients(mistake.edit(right), forward, beside=beside)
        except ValueError:  # the wrong line cannot even be run on these shapes
            continue
        if all(
            value.shape == expected[name].shape
            and np.all(np.abs(value - expected[name]) <= allowed[name])
            for name, value in found.items()
        ):
            hidden.append(mistake)
    return hidden


@pytest.mark.thorough
@pytest.mark.parametrize(("form", "head"), [("vjp", None), ("loss", "linear")])
def test_no_mistake_passes_every_case_of_a_campaign(form: str, head: str | None) -> None:
    """A mistake of the catalogue with which all checks of half a default campaign would hold."""
    left: list[Mistake] = list(catalogue(head=head).mistakes)
    for case in given_to(form, 100):
        if not left:
            break
        left = unseen(left, head, case)
    assert not [mistake.identifier for mistake in left]


def test_progress_that_is_not_told_of_one_case() -> None:
    """With a case of one's own nothing is heard until all of the checks are done, or a bar of all
    checks never fills, as those that the case does not suit are left out.
    """
    told: list[int] = []
    case = sized_case({"T": 3, "B": 1, "I": 2, "H": 2, "L": 1})
    report = check_implementation(manual_lstm.vjp, case=case, progress=told.append)
    assert told == [len(report.skipped)] + [1] * len(report.passed)
    assert sum(told) == len(CHECKS) > len(told) > 2


@pytest.mark.parametrize("examples", [7, 30])
def test_progress_that_goes_beyond_the_end(examples: int) -> None:
    """24/20 cases: the shares of few examples are more than they are, or fewer."""
    told: list[int] = []
    check_implementation(manual_lstm.vjp, examples=examples, progress=told.append)
    assert sum(told) == examples


def test_a_worst_case_that_is_only_the_most_precise() -> None:
    """dx off by half in float32, and at T=1 by a millionth in float64, more of its budget."""

    def vjp(params: Any, x: Any, h0: Any, c0: Any) -> Any:
        outputs, pullback = manual_lstm.vjp(params, x, h0, c0)
        off = 1e-6 * (len(x) == 1) if x.dtype == np.float64 else 0.5

        def back(dy: Any, dh_n: Any, dc_n: Any) -> Any:
            gradients = pullback(dy, dh_n, dc_n)
            return gradients | {"dx": gradients["dx"] * x.dtype.type(1 + off)}

        return outputs, back

    tensors = {tensor.name: tensor for tensor in check_implementation(vjp, examples=10).tensors}
    assert tensors["dx"].max_rel == pytest.approx(0.5, rel=1e-5)
