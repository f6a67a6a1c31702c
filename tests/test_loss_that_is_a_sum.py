"""A loss that is a sum over steps and batch: what its mistakes are called."""

from collections.abc import Callable
from typing import Any

import pytest
from test_diagnosis import loss_and_grads

from torch_ref import Implementation, diagnose
from torch_ref.diagnosis.mistakes.catalogue import Mistake

pytestmark = pytest.mark.sampled

Factor = Callable[[int, int], float]


def found(of_gradients: Factor, of_loss: Factor = lambda t, b: t * b) -> Mistake | None:
    """The mistake in manual_lstm's model, its mean multiplied by these, said to be a sum."""

    def summed(params: Any, x: Any, targets: Any, h0: Any, c0: Any) -> Any:
        loss, gradients = loss_and_grads(params, x, targets, h0, c0)
        factor = of_gradients(*targets.shape)
        return loss * of_loss(*targets.shape), {n: g * factor for n, g in gradients.items()}

    summing = Implementation("sum", loss_and_grads=summed, reduction="sum", dtype="float64")
    finding = diagnose(summing, seconds=0).finding
    return None if finding is None else finding.mistakes[0]


# The factor of the mean's gradients, the sentence, the line.
PLANTED: list[tuple[Factor, str, str]] = [
    (lambda t, b: t, "is divided by B: it is that of a mean over the batch, the loss is the sum.",
     "dlogits = p / B - onehot / B"),
    (lambda t, b: t * b * t, "is multiplied by T.", "dlogits = T * p - T * onehot"),
    (lambda t, b: 1, "is divided by T B: it is that of the mean, the loss is the sum.",
     "dlogits = p / (T B) - onehot / (T B)"),
    (lambda t, b: -t * b, "has the wrong sign: it is (onehot - p) where it must be (p - onehot).",
     "dlogits = -p + onehot"),
]  # fmt: skip


@pytest.mark.parametrize(("factor", "words", "line"), PLANTED)
def test_gradient_of_a_sum_that_is_told_as_that_of_a_mean(
    factor: Factor, words: str, line: str
) -> None:
    """One division by B told as two, and a right line that divides by T B."""
    mistake = found(factor)
    assert mistake is not None
    assert mistake.sentence == f"The gradient at the softmax {words}"
    assert (mistake.wrong, mistake.right) == (line, "dlogits = p - onehot")


def test_loss_that_is_a_mean_where_the_sum_is_declared() -> None:
    """A mean said to be divided by T B twice."""
    assert found(lambda t, b: t * b) is None
    mistake = found(lambda t, b: t * b, of_loss=lambda t, b: 1)
    assert mistake is not None
    assert "it is the mean over steps and batch, not a sum" in mistake.sentence
    assert mistake.right == "loss = sum(-log p[target])"


def test_stack_behind_a_loss_that_is_sent_to_the_head() -> None:
    """An upper layer with other weights, for which every equation from (1) to (25) is named."""

    def stacked(params: Any, x: Any, targets: Any, h0: Any, c0: Any) -> Any:
        above = {n: v * 1.1 for n, v in params.items() if n == "weight_ih_l1"}
        return loss_and_grads({**params, **above}, x, targets, h0, c0)

    told = diagnose(stacked, seconds=0).located
    assert "for a stack of two; right for one layer" in told
    assert told.endswith("equation (8), and which weights and states it is given."), told


def test_loss_of_an_unusual_case_that_is_sent_to_the_cell() -> None:
    """A loss that is wrong for one class alone, where the gradients are right."""

    def clipped(params: Any, x: Any, targets: Any, h0: Any, c0: Any) -> Any:
        loss, gradients = loss_and_grads(params, x, targets, h0, c0)
        return max(loss, 0.01), gradients

    told = diagnose(clipped, seconds=0).located
    assert told.endswith("Every gradient is right: look at the loss and its mean, equation (25).")
