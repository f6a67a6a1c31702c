"""Losses that are not the mean of -log p[target], each in a model of its own, and named."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from test_diagnosis import named

import manual_lstm as ml
from torch_ref import Implementation, check_implementation, diagnose
from torch_ref.diagnosis.locating.locate import locate_first_wrong
from torch_ref.harness.check_list import Check
from torch_ref.harness.checks import check_clipping, check_improbable_target
from torch_ref.harness.search import search
from torch_ref.harness.subject import subject_of

pytestmark = pytest.mark.sampled

SOFTMAX = "p = np.exp(z - z.max(-1, keepdims=True)); p /= p.sum(-1, keepdims=True)"
SHIFTED = "s = z - z.max(-1, keepdims=True)"
LOSS = "loss = -np.log((p * hot).sum(-1)).mean()"


DLOGITS = "dlogits = (p - hot) / (T * B); of_h = dlogits"


def model(softmax: str = SOFTMAX, loss: str = LOSS, dlogits: str = DLOGITS) -> Callable[..., Any]:
    """The LSTM with a linear head, its softmax, loss and backward as these lines have them."""

    def loss_and_grads(params: Any, x: Any, targets: Any, h0: Any, c0: Any) -> Any:
        lstm = {name: value for name, value in params.items() if not name.endswith("_out")}
        (y, _, _), pullback = ml.vjp(lstm, x, h0, c0)
        z = y @ params["weight_out"].T + params["bias_out"]
        hot = np.eye(z.shape[-1], dtype=z.dtype)[targets]
        steps, batch, _ = z.shape
        names = {"np": np, "z": z, "x": x, "hot": hot, "params": params, "T": steps, "B": batch}
        with np.errstate(all="ignore"):
            for line in (softmax, loss, dlogits):
                exec(line, names)
        of_weights, of_h = names["dlogits"], names["of_h"]
        gradients = pullback(of_h @ params["weight_out"], None, None)
        gradients["dweight_out"] = np.einsum("tbv,tbh->vh", of_weights, y)
        gradients["dbias_out"] = of_weights.sum((0, 1))
        return x.dtype.type(names["loss"]), gradients

    return loss_and_grads


WRONG = [
    ("p = np.exp(z); p /= p.sum(1, keepdims=True)", LOSS, "softmax over the batch"),
    (SOFTMAX.replace("p.sum(-1", "p.sum(1"), LOSS,
     "softmax over the batch, behind the shift by each row's largest"),
    (f"{SHIFTED}; l = s - np.log(np.exp(s).sum(1, keepdims=True)); p = np.exp(l)",
     "loss = -(l * hot).sum(-1).mean()",
     "softmax over the batch, behind the shift by each row's largest"),
    ("p = np.exp(z); p /= p.sum(0, keepdims=True)", LOSS, "softmax over the steps"),
    ("p = np.exp(z); p /= p.sum()", LOSS, "softmax over classes, steps and batch"),
    ("p = np.exp(z); p /= p.sum((1, 2), keepdims=True)", LOSS,
     "softmax over the classes and the batch"),
    (SOFTMAX, LOSS.replace("sum(-1)", "sum(-1) + 1e-8"), "loss.-log(p[target] + 1e-08)"),
    (SOFTMAX, "loss = -np.log(np.clip((p * hot).sum(-1), 1e-7, 1 - 1e-7)).mean()",
     "loss.-log(clip(p[target], 1e-07, 1 - 1e-07))"),
    (SOFTMAX, LOSS.replace("log", "log2"), "loss.-log2 p[target]"),
    (SOFTMAX, f"{LOSS} * 1.7", "loss * 17/10"),
    (SOFTMAX, "loss = -((hot * 0.9 + 0.1 / hot.shape[-1]) * np.log(p)).sum(-1).mean()",
     "loss.smoothed by 1/10"),
    (SOFTMAX.replace("p /= p.sum(-1, keepdims=True)", "p = p / (p.sum(-1, keepdims=True) + 1e-6)"),
     LOSS, "loss.-log(exp(z[target]) / (sum(exp(z)) + 1e-06))"),
    (SOFTMAX, f"{LOSS} + 1e-3 * sum((v ** 2).sum() for v in params.values())",
     "loss.penalty of 1/1000 on every weight and bias"),
]  # fmt: skip


def test_a_model_that_is_none() -> None:
    """The model that the lines are planted into is right without them."""
    assert check_implementation(model(), examples=20).verdict == "agree"


@pytest.mark.parametrize(("softmax", "loss", "identifier"), WRONG)
def test_loss_that_is_only_located(softmax: str, loss: str, identifier: str) -> None:
    """A softmax over other axes, or a loss with something added, is named by its line."""
    assert named(model(softmax, loss), seconds=0) == [f"forward.{identifier}"]


BACK = [
    ("dlogits = of_h = (p - x) / (T * B)", "dlogits.onehot(input)"),
    ("dlogits = of_h = (p - hot.max((0, 1))) / (T * B)", "dlogits.onehot of any step and member"),
    ("dlogits = of_h = (z - hot) / (T * B)", "dlogits.logits for p"),
    ("dlogits = of_h = (np.log(p) - hot) / (T * B)", "dlogits.log p for p"),
    (f"{DLOGITS}; of_h = p / (T * B)", "dy.p for dlogits"),
    (f"{DLOGITS}; of_h = dlogits * p * (1 - p)", "dy.softmax's derivative twice"),
]


@pytest.mark.parametrize(("dlogits", "identifier"), BACK)
def test_gradient_at_the_softmax_that_is_only_located(dlogits: str, identifier: str) -> None:
    """What is taken for p, or for the targets."""
    assert named(model(dlogits=dlogits), seconds=0) == [identifier]


def test_least_probability_that_is_not_told() -> None:
    """In no ordinary case does `max(p, eps)` change a loss: the improbable target tells eps."""
    floor = model(SOFTMAX, LOSS.replace("(p * hot).sum(-1)", "np.maximum((p * hot).sum(-1), 1e-8)"))
    report = check_implementation(floor, examples=40)
    (failure,) = report.failures
    assert failure.check == "check_improbable_target"
    assert "as of log(max(p, 1e-08)) or log(p + 1e-08)" in failure.sentence


@pytest.mark.parametrize("loss", [LOSS, "loss = (p * hot).sum(-1).mean()"])
def test_wrong_loss_that_is_called_clipping(loss: str) -> None:
    """Gradients that are right, and those that are wrong at any size, are not cut off."""
    softmax = SOFTMAX if loss != LOSS else SOFTMAX + "; p = p * 1.5"
    subject = subject_of(Implementation("mine", loss_and_grads=model(softmax, loss)))
    found = search(Check(check_clipping, {"T": (1, 4)}), subject, 4, 0, shrink=False)
    assert found.failure is None or "cut off" not in found.failure.sentence
    assert (found.failure is None) == (loss != LOSS)
    improbable = Check(check_improbable_target, {"T": (1, 4), "L": 1})
    assert search(improbable, subject, 4, 0, shrink=False).failure is not None


def located(dlogits: str) -> str:
    """What is told of a wrong gradient that nothing explains."""
    return diagnose(
        Implementation("mine", loss_and_grads=model(dlogits=dlogits)), seconds=0
    ).located


def test_step_that_is_said_to_be_right_of_one_case() -> None:
    """What is wrong where the target is not the input, as it happens to be in the first case."""
    odd = "dlogits = of_h = (p - hot) * (1 + p * (hot != x)) / (T * B)"
    assert located(odd).startswith("Wrong for a single step (T=1) already: ")


def test_factor_of_the_case_that_is_sent_to_the_sums() -> None:
    """Gradients divided by a norm of their own: by another number in each case."""
    told = located(f"{DLOGITS}; of_h = dlogits = dlogits / np.abs(dlogits).max()")
    assert "a factor that comes of the case" in told, told


@pytest.mark.parametrize("loss", ["np.nan", "np.inf", "-np.inf", "np.nan if T > 2 else 1.0", "0.0"])
def test_loss_that_is_no_number_ends_nothing(loss: str) -> None:
    """Neither a traceback nor wrong usage: it is a loss that is wrong."""
    wrong = model(loss=f"loss = {loss}")
    assert diagnose(Implementation("mine", loss_and_grads=wrong), seconds=0).wrong
    assert check_implementation(wrong, examples=20).verdict == "disagree"


def test_penalty_on_a_sum_that_is_only_located() -> None:
    """A penalty beside a loss that is a sum is no mean's."""
    loss = f"{LOSS} * T * B + 1e-3 * sum((v ** 2).sum() for v in params.values())"
    wrong = model(loss=loss, dlogits="dlogits = of_h = p - hot")
    summed = Implementation("mine", loss_and_grads=wrong, reduction="sum")
    finding = diagnose(summed, seconds=0).finding
    assert finding is not None
    assert "1e-3" in finding.mistakes[0].sentence or "0.001" in finding.mistakes[0].sentence


@pytest.mark.parametrize("loss", [f"{LOSS} * 2", f"{LOSS} * T * B"])
def test_epsilon_that_is_none(loss: str) -> None:
    """A loss that is too large is that of no epsilon."""
    stable = f"{SHIFTED}; p = np.exp(s) / np.exp(s).sum(-1, keepdims=True)"
    logs = "l = s - np.log(np.exp(s).sum(-1, keepdims=True))"
    wrong = model(
        stable, f"{logs}; {loss.replace('-np.log((p * hot).sum(-1))', '-(l * hot).sum(-1)')}"
    )
    single = Implementation("mine", loss_and_grads=wrong, dtype="float32")
    report = check_implementation(single, examples=20)
    told = [f.sentence for f in report.failures if f.check == "check_improbable_target"]
    assert told
    assert "log(max" not in told[0]


@pytest.mark.parametrize("factor", [1.1115, 2.0005, 0.12355])
def test_one_factor_that_is_called_another_in_each_case(factor: float) -> None:
    """In float32, where rounding moves the last digit that is told."""

    def wrong(params: Any, x: Any, h0: Any, c0: Any) -> Any:
        outputs, pullback = ml.vjp(params, x, h0, c0)

        def back(dy: Any, dh_n: Any, dc_n: Any) -> Any:
            found = pullback(dy, dh_n, dc_n)
            weights = {n: g * g.dtype.type(factor) for n, g in found.items() if "weight" in n}
            return {**found, **weights}

        return outputs, back

    mine = Implementation("mine", vjp=wrong, dtype="float32", sizes={"L": 1})
    told = locate_first_wrong(subject_of(mine), 0)
    assert "comes of the case" not in told
    assert "Every element of dweight_ih_l0 and dweight_hh_l0 is" in told
