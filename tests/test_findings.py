"""One ratio instead of a hundred wrong elements, and clipped gradients that are recognised."""

import numpy as np
import pytest

import manual_lstm as ml
from torch_ref import Implementation, check_implementation
from torch_ref.harness.findings import Scale
from torch_ref.harness.judge import Clipping
from torch_ref.reports.as_json import check_json

pytestmark = [pytest.mark.sampled, pytest.mark.usefixtures("unshrunk")]

# So near is no other limit; how near it has to be the budgets of what is clipped by it decide.
HALF_THE_DIGITS = float(np.sqrt(np.finfo(np.float64).eps))


def scaled(factor):
    """manual_lstm with every gradient times factor(x)."""

    def vjp(params, x, h0, c0):
        outputs, pullback = ml.vjp(params, x, h0, c0)

        def wrong(dy, dh_n, dc_n):
            right = pullback(dy, dh_n, dc_n)
            return {name: g * g.dtype.type(factor(x)) for name, g in right.items()}

        return outputs, wrong

    return vjp


@pytest.mark.parametrize(
    ("words", "factor"),
    [
        ("-1", lambda x: -1),
        ("T", lambda x: x.shape[0]),
        ("1/T", lambda x: 1 / x.shape[0]),
        ("B", lambda x: x.shape[1]),
        ("1/B", lambda x: 1 / x.shape[1]),
        ("T B", lambda x: x.shape[0] * x.shape[1]),
        ("1/(T B)", lambda x: 1 / (x.shape[0] * x.shape[1])),
        ("V", lambda x: x.shape[2]),
        ("1/V", lambda x: 1 / x.shape[2]),
        ("-1/T", lambda x: -1 / x.shape[0]),
        ("0.75", lambda x: 0.75),
        ("1.001", lambda x: 1.001),
    ],
)
def test_a_common_ratio_that_is_not_found(words, factor):
    """A factor common to all gradients is the finding, in the sizes of the case."""
    report = check_implementation(scaled(factor), examples=20)
    assert report.verdict == "disagree"
    assert report.scale is not None
    assert report.scale.words == words
    assert check_json(report, "")["scale"] == report.scale.ratio


def test_a_ratio_that_is_not_common():
    """One gradient that is right is enough for there to be no common ratio."""

    def vjp(params, x, h0, c0):
        outputs, pullback = ml.vjp(params, x, h0, c0)

        def wrong(dy, dh_n, dc_n):
            right = pullback(dy, dh_n, dc_n)
            return {name: g if name == "dx" else 2 * g for name, g in right.items()}

        return outputs, wrong

    report = check_implementation(vjp, examples=20)
    assert report.verdict == "disagree"
    assert report.scale is None


def summed(params, x, targets, h0, c0):
    """The character model with a loss that is a sum over steps and batch."""
    model = ml.CharModel(x.shape[2], h0.shape[2], len(h0))
    loss, gradients = model.loss_and_grads(params, x, targets, h0, c0)
    count = targets.dtype.type(targets.size)
    return loss * count, {name: g * g.dtype.type(count) for name, g in gradients.items()}


def test_a_summed_loss_that_is_called_wrong():
    """A loss that is a sum is right where it says so, and T times too large where not."""
    said = Implementation("sum", loss_and_grads=summed, reduction="sum")
    assert check_implementation(said, examples=20).verdict == "agree"
    unsaid = check_implementation(summed, examples=20)
    assert unsaid.scale is not None
    assert unsaid.scale.words == "T B"
    assert 'reduction="sum"' in unsaid.scale.sentence


@pytest.mark.parametrize(("words", "may_be"), [("T", True), ("T B", True), ("B", False)])
def test_a_sum_that_nobody_is_told_how_to_declare(words, may_be):
    """T times too large, with one sequence, is a sum over the steps as T B is one over both."""
    assert Scale(6.0, words).sentence.endswith('reduction="sum" says so.') == may_be


def test_a_summed_loss_with_a_wider_budget_than_a_mean():
    """A sum that is off by 1e-12 of itself, some hundred roundings, passes."""

    def off(params, x, targets, h0, c0):
        loss, gradients = summed(params, x, targets, h0, c0)
        return loss * (1 + 1e-12), gradients

    said = Implementation("sum", loss_and_grads=off, reduction="sum", dtype="float64")
    report = check_implementation(said, examples=20)
    assert [each.name for each in report.tensors if each.verdict == "disagree"] == ["loss"]


def clipped(kind, limit, weights_only=False, eps=0.0):
    def vjp(params, x, h0, c0):
        outputs, pullback = ml.vjp(params, x, h0, c0)

        def back(dy, dh_n, dc_n):
            right = pullback(dy, dh_n, dc_n)
            cut = {n: g for n, g in right.items() if not weights_only or n[:3] in ("dwe", "dbi")}
            if kind == "value":
                return right | ml.clip_grad_value(cut, limit)
            return right | ml.clip_grad_norm(cut, limit, eps=eps)[0]

        return outputs, back

    return vjp


@pytest.mark.parametrize("weights_only", [False, True])
@pytest.mark.parametrize("kind", ["value", "norm"])
def test_clipping_that_is_not_recognised(kind, weights_only):
    """Clipped gradients are said to be that, and hold where the truth is clipped like them."""
    report = check_implementation(clipped(kind, 5.0, weights_only), examples=20)
    found = Clipping(kind, 5.0, weights_only, uncertainty=report.clipping.uncertainty)
    assert report.clipping == found
    assert found.uncertainty < HALF_THE_DIGITS
    assert report.verdict == "agree", report.failures


@pytest.mark.parametrize(
    ("limit", "eps"), [(1.0, 1e-6), (5.0, 1e-6), (1 / 3, 1e-6), (np.pi, 0.0), (0.25, 1e-8)]
)
def test_a_limit_that_is_known_to_four_digits(limit, eps):
    """A limit that is no short number, and torch's eps: what is beyond it is called wrong."""
    report = check_implementation(clipped("norm", limit, eps=eps), examples=20)
    assert report.verdict == "agree", report.failures
    assert report.clipping.eps == eps
    assert abs(report.clipping.limit - limit) <= HALF_THE_DIGITS * limit  # agreeing says the rest
    assert report.clipping.uncertainty < HALF_THE_DIGITS


def test_a_loss_whose_clipped_norm_is_known_to_four_digits():
    """Its own weights' gradients do not grow smaller with what the output layer hands on."""

    def vjp(params, x, targets, h0, c0):
        model = ml.CharModel(x.shape[2], h0.shape[2], len(h0))
        loss, gradients = model.loss_and_grads(params, x, targets, h0, c0)
        return loss, ml.clip_grad_norm(gradients, 0.05)[0]

    report = check_implementation(Implementation("mine", loss_and_grads=vjp), examples=20)
    assert report.verdict == "agree", report.failures
    assert (report.clipping.limit, report.clipping.eps) == (0.05, 1e-6)


def test_clipping_of_what_has_no_output_but_the_last():
    """It takes dh_n alone, so a louder dy shows nothing of a limit: clipping "held"."""

    def vjp(params, x, h0, c0):
        (_, h_n, c_n), pullback = ml.vjp(params, x, h0, c0)

        def back(dh_n):
            found = pullback(None, dh_n, None)
            return ml.clip_grad_value(found, 4.0)

        return (None, h_n, c_n), back

    mine = Implementation("mine", vjp=vjp, requires=frozenset({"unclipped"}))
    report = check_implementation(mine, examples=20)
    assert [failure.check for failure in report.failures] == ["check_clipping"]


@pytest.mark.parametrize("word", ["unclipped", "all"])
def test_clipping_that_agrees_though_it_must_not(word):
    """What has to be verified beyond the limit is not."""
    mine = Implementation("mine", vjp=clipped("value", 5.0), requires=frozenset({word}))
    report = check_implementation(mine, examples=20)
    assert [failure.check for failure in report.failures] == ["check_clipping"]
    assert report.failures[0].sentence == report.clipping.sentence
    assert "check_clipping" not in report.passed


def test_clipping_that_is_expected_and_said_to_be_gone():
    """Its check is not left to the clipped truth, which holds."""
    reasons = {"check_clipping": "it clips at 5"}
    report = check_implementation(clipped("value", 5.0), examples=20, expected_failures=reasons)
    assert report.verdict == "agree", report.failures
    assert report.expected_failures == reasons


def test_clipping_that_is_counted_as_verified():
    """An agreement below the limit says nothing of what is beyond it."""
    report = check_implementation(clipped("value", 5.0), examples=20)
    assert "gradients beyond a value of 5: they are clipped" in report.unverified
    assert "check_clipping" not in report.passed


def test_a_limit_without_its_sign_that_is_taken_for_clipping():
    """What is below -0.5 comes out as 0.5."""

    def vjp(params, x, h0, c0):
        outputs, pullback = ml.vjp(params, x, h0, c0)

        def back(dy, dh_n, dc_n):
            right = pullback(dy, dh_n, dc_n)
            return {n: np.where(np.abs(g) > 0.5, g.dtype.type(0.5), g) for n, g in right.items()}

        return outputs, back

    report = check_implementation(vjp, examples=20)
    assert report.clipping is None
    assert report.verdict == "disagree"


@pytest.mark.parametrize("kind", ["value", "norm"])
def test_clipping_that_stops_at_the_first_layer(kind):
    """A limit that ordinary gradients exceed is held against every layer of a stack."""
    report = check_implementation(clipped(kind, 0.05), examples=20)
    assert report.clipping is not None
    assert not report.failures


def test_a_mistake_that_hides_behind_clipping():
    """A wrong gradient is not excused by others that are clipped."""

    def vjp(params, x, h0, c0):
        outputs, pullback = clipped("value", 5.0)(params, x, h0, c0)

        def back(dy, dh_n, dc_n):
            gradients = pullback(dy, dh_n, dc_n)
            return gradients | {"dbias_l0": np.clip(gradients["dbias_l0"] * 0.5, -5, 5)}

        return outputs, back

    report = check_implementation(vjp, examples=20)
    assert report.verdict == "disagree"
