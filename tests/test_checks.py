"""Each check catches the mistake that it is for, and catches it first."""

from typing import Any

import numpy as np
import pytest

import manual_lstm as ml
from torch_ref.harness.campaign import check_implementation
from torch_ref.harness.check_list import CHECKS, not_applicable
from torch_ref.harness.contract import Implementation, as_implementation
from torch_ref.harness.layouts.layout import Layout
from torch_ref.harness.search import search
from torch_ref.harness.subject import subject_of

pytestmark = pytest.mark.sampled

EXAMPLES = 20


def mistaken(change) -> Any:
    """manual_lstm with `change(gradients, params, x, h0, c0, upstream)` made to its gradients."""

    def vjp(params, x, h0, c0):
        outputs, pullback = ml.vjp(params, x, h0, c0)

        def wrong(dy, dh_n, dc_n):
            upstream = (dy, dh_n, dc_n)
            return change(pullback, params, x, h0, c0, upstream)

        return outputs, wrong

    return vjp


def changed(name, function):
    """One gradient changed by function(gradient, params, x, h0, c0, upstream)."""

    def change(pullback, params, x, h0, c0, upstream):
        gradients = pullback(*upstream)
        return gradients | {name: function(gradients[name], params, x, h0, c0, upstream)}

    return mistaken(change)


def with_upstream(function):
    """The right pullback of upstream gradients changed by function(dy, dh_n, dc_n)."""
    return mistaken(lambda pullback, p, x, h0, c0, upstream: pullback(*function(*upstream)))


def steals_dy(params, x, h0, c0):
    outputs, pullback = ml.vjp(params, x, h0, c0)

    def wrong(dy, dh_n, dc_n):
        gradients = pullback(dy, dh_n, dc_n)
        dy[...] = 0
        return gradients

    return outputs, wrong


def keeps_its_sum():
    """An accumulator that nobody clears, by shape."""
    total: dict[Any, Any] = {}

    def change(pullback, params, x, h0, c0, upstream):
        gradients = pullback(*upstream)
        key = (gradients["dbias_l0"].shape, x.dtype)
        total[key] = total.get(key, 0) + gradients["dbias_l0"]
        return gradients | {"dbias_l0": total[key].copy()}

    return mistaken(change)


def other_gate_order(params, x, h0, c0):
    def swapped(arrays, d=""):
        out = dict(arrays)
        for name in arrays:
            if "_l" in name:
                i, f, g, o = np.split(arrays[name], 4)
                out[name] = np.concatenate([f, i, g, o])
        return out

    outputs, pullback = ml.vjp(swapped(params), x, h0, c0)
    return outputs, lambda dy, dh_n, dc_n: swapped(pullback(dy, dh_n, dc_n))


def skips_improbable_targets(params, x, targets, h0, c0):
    model = ml.CharModel(x.shape[2], h0.shape[2], len(h0))
    _, gradients = model.loss_and_grads(params, x, targets, h0, c0)
    (y, _, _), _ = ml.lstm_forward(params, x, h0, c0)
    p = ml.softmax(y @ params["weight_out"].T + params["bias_out"])
    p = np.take_along_axis(p, targets[..., None], axis=-1)
    losses = [-np.log(each) for each in p.ravel() if each != 0]
    return np.sum(losses) / p.size, gradients


def last_step_only(gradient, params, x, h0, c0, upstream):
    """dweight_ih with = for +=: what the first step, done last, leaves."""
    (_, _, _), pullback = ml.vjp(params, x[:1], h0, c0)
    first = ml.vjp(params, x, h0, c0)[1](*upstream)
    if len(x) == 1:
        return gradient
    rest = ml.vjp(params, x[1:], *ml.vjp(params, x[:1], h0, c0)[0][1:])
    back = rest[1](upstream[0][1:], upstream[1], upstream[2])
    one = pullback(upstream[0][:1], back["dh0"], back["dc0"])
    assert np.allclose(first["dh0"], one["dh0"])
    return one["dweight_ih_l0"]


def late_steps_only(dy, dh_n, dc_n):
    early = dy.copy()
    early[:-2] = 0
    return early, dh_n, dc_n


def forgets_c0(gradient, params, x, h0, c0, upstream):
    """The forget gate's bias gradient without what c0 gives it in the first step."""
    out = gradient.copy()
    hidden = len(gradient) // 4
    delta = np.abs(c0[0]).sum(axis=0) * (dy_first := np.abs(upstream[0][0]).sum(axis=0))
    assert dy_first.shape == (hidden,)
    out[hidden : 2 * hidden] += delta
    return out


def remembers_first_answer(params, x, h0, c0):
    outputs, pullback = ml.vjp(params, x, h0, c0)
    answers = []

    def wrong(dy, dh_n, dc_n):
        answers.append(pullback(dy, dh_n, dc_n))
        return answers[0]

    return outputs, wrong


def lower_states_ignored(dy, dh_n, dc_n):
    top = dc_n.copy()
    top[:-1] = 0
    return dy, dh_n, top


def truncated(gradient, params, x, h0, c0, upstream):
    """dx that stops 20 steps before the end."""
    out = gradient.copy()
    out[: max(0, len(x) - 20)] = 0
    return out


def batch_mean(pullback, params, x, h0, c0, upstream):
    gradients = pullback(*upstream)
    return {
        name: g / x.shape[1] if name.removeprefix("d") in params else g
        for name, g in gradients.items()
    }


def wrong_dx_of_stacks(pullback, params, x, h0, c0, upstream):
    gradients = pullback(*upstream)
    if len(h0) > 1:
        gradients["dweight_ih_l0"] = gradients["dweight_ih_l0"] * 2
    return gradients


MISTAKES = {
    "check_shapes_and_dtypes": changed("dx", lambda g, *_: g.astype(np.float16)),
    "check_inputs_unmodified": steals_dy,
    "check_called_twice": keeps_its_sum(),
    "check_forward": other_gate_order,
    "check_improbable_target": skips_improbable_targets,
    "check_zero_upstream": changed(
        "dweight_hh_l0", lambda g, params, *_: g + g.dtype.type(1e-3) * params["weight_hh_l0"]
    ),
    "check_one_step": changed("dbias_l0", lambda g, *_: g * g.dtype.type(1.001)),
    "check_two_steps": changed("dweight_ih_l0", last_step_only),
    "check_every_step": with_upstream(late_steps_only),
    "check_only_dh_n": with_upstream(lambda dy, dh_n, dc_n: (dy, 0 * dh_n, dc_n)),
    "check_only_dc_n": with_upstream(lambda dy, dh_n, dc_n: (dy, dh_n, 0 * dc_n)),
    "check_initial_state": changed("dbias_l0", forgets_c0),
    "check_carried_state": changed("dc0", lambda g, *_: 2 * g),
    "check_batch_is_sum_of_members": mistaken(batch_mean),
    "check_stacks": mistaken(wrong_dx_of_stacks),
    "check_linearity": remembers_first_answer,
    "check_clipping": changed("dx", lambda g, *_: np.clip(g, -1e3, 1e3)),
    "check_gradients": with_upstream(lower_states_ignored),
    "check_long": changed("dx", truncated),
}


def test_every_check_has_its_mistake():
    """A check without a planted mistake."""
    assert set(MISTAKES) == {check.name for check in CHECKS}


@pytest.mark.usefixtures("unshrunk")
@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_that_its_check_does_not_catch_first(name):
    """The check that is there for a mistake is the first to fail on it."""
    mistake = MISTAKES[name]
    if name == "check_clipping":
        # A campaign turns this into the finding that gradients are clipped.
        subject = subject_of(as_implementation(mistake))
        runnable = [check for check in CHECKS if not_applicable(check, subject) is None]
        found = [search(check, subject, 4, 0, shrink=False) for check in runnable]
        assert [f.check for f in found if f.failure is not None] == [name]
        return
    report = check_implementation(mistake, examples=EXAMPLES)
    assert report.verdict == "disagree"
    assert report.failures[0].check == name
    assert report.failures[0].case is not None or name == "check_shapes_and_dtypes"
    assert not any("cut off" in failure.sentence for failure in report.failures)


def test_a_check_with_one_case_that_could_not_fail():
    """With few cases nothing is said to hold of an LSTM whose every gradient is zero."""
    zero = mistaken(lambda pullback, p, x, h0, c0, upstream: {
        name: 0 * gradient for name, gradient in pullback(*upstream).items()
    })  # fmt: skip
    report = check_implementation(zero, examples=1)
    judges = {f"check_{name}" for name in ("one_step", "two_steps", "every_step", "only_dh_n",
              "only_dc_n", "initial_state", "gradients", "long", "stacks")}  # fmt: skip
    assert judges - {failure.check for failure in report.failures} == set()


def test_a_failing_case_that_is_not_made_small():
    """A wrong line that needs three units is shown on three, with one input and one step."""
    report = check_implementation(
        changed("dbias_l0", lambda g, *_: g * (1 + (len(g) >= 12))), examples=EXAMPLES
    )
    case = report.failures[0].case
    assert report.failures[0].check == "check_one_step"
    assert (case.x.shape, case.h0.shape) == ((1, 1, 1), (1, 1, 3))


def test_correct_implementations_that_are_accused():
    """Every check holds for manual_lstm, in both forms."""

    def loss_and_grads(params, x, targets, h0, c0):
        model = ml.CharModel(x.shape[2], h0.shape[2], len(h0))
        return model.loss_and_grads(params, x, targets, h0, c0)

    for target in (ml.vjp, loss_and_grads):
        report = check_implementation(target, examples=EXAMPLES)
        assert report.verdict == "agree", report.failures
        assert {*report.passed, *report.skipped} == {check.name for check in CHECKS}


def test_what_is_not_taken_or_returned_is_not_verified():
    """An implementation that leaves something out is not said to have it right."""

    def vjp(params, x, h0):
        (y, _, _), pullback = ml.vjp(params, x, h0)

        def back(dy):
            gradients = pullback(dy, None, None)
            return {name: g for name, g in gradients.items() if name not in ("dx", "dc0")}

        return y, back

    report = check_implementation(vjp, examples=EXAMPLES)
    assert report.verdict == "agree"
    text = "; ".join(report.unverified)
    for word in ("c0", "dh_n", "dc_n", "h_n", "c_n", "dx", "dc0"):
        assert word in text


def test_loss_of_the_last_step_whose_dy_passes_for_verified():
    """A pullback that takes dh_n alone is not said to use dy, nor accused of not using it."""

    def vjp(params, x, h0, c0):
        outputs, pullback = ml.vjp(params, x, h0, c0)
        return outputs, lambda dh_n: pullback(np.zeros_like(outputs[0]), dh_n, None)

    report = check_implementation(vjp, examples=EXAMPLES)
    assert report.verdict == "agree", report.failures
    assert "the upstream gradient dy" in report.unverified


def test_not_implemented_is_not_verified():
    """NotImplementedError for a stack passes silently, or as a crash."""

    def vjp(params, x, h0, c0):
        if len(h0) > 1:
            raise NotImplementedError
        return ml.vjp(params, x, h0, c0)

    report = check_implementation(vjp, examples=EXAMPLES)
    assert report.verdict == "agree"
    assert "stacks (more than one layer)" in report.unverified
    assert "check_stacks" in report.skipped


def test_a_crash_is_a_finding_with_its_case():
    """An exception in the implementation ends the campaign, or is lost."""

    def vjp(params, x, h0, c0):
        if len(x) > 4:
            raise IndexError("list index out of range")
        return ml.vjp(params, x, h0, c0)

    report = check_implementation(vjp, examples=EXAMPLES)
    assert report.verdict == "disagree"
    assert isinstance(report.failures[0].error, IndexError)
    assert len(report.failures[0].case.x) == 5  # shrunk to the first that crashes


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_number_that_is_none(value):
    """NaN or infinity within tolerance."""

    def function(gradient, *_):
        wrong = gradient.copy()
        wrong.flat[0] = value
        return wrong

    report = check_implementation(changed("dweight_hh_l0", function), examples=EXAMPLES)
    assert report.failures[0].check == "check_shapes_and_dtypes"
    assert str(value) in report.failures[0].sentence


def test_expected_failures():
    """A failure that is expected counts, or one that no longer happens does not."""
    mistake = MISTAKES["check_only_dc_n"]
    failing = [f.check for f in check_implementation(mistake, examples=EXAMPLES).failures]
    reasons = dict.fromkeys(failing, "dc_n is not supported")
    short = {name.removeprefix("check_"): reason for name, reason in reasons.items()}
    report = check_implementation(mistake, examples=EXAMPLES, expected_failures=short)
    assert report.expected_failures == reasons
    report = check_implementation(mistake, examples=EXAMPLES, expected_failures=reasons)
    assert report.verdict == "agree"
    assert report.expected_failures == reasons
    report = check_implementation(ml.vjp, examples=EXAMPLES, expected_failures=reasons)
    assert report.verdict == "disagree"
    assert "expected to fail" in report.failures[0].sentence
    with pytest.raises(ValueError, match="'check_x', which is not a check: shapes_and_dtypes, "):
        check_implementation(ml.vjp, expected_failures={"check_x": "?"})


def test_a_bias_neuron_that_leaks():
    """A gradient that goes through the bias neuron into U is noticed."""
    layout = Layout(
        gates="separate",
        bias="last",
        bias_neuron="h",
        weight_ih="W_{gate}_l{layer}",
        weight_hh="U_{gate}_l{layer}",
    )

    def vjp(params, x, h0, c0, leak=0.0):
        ours = layout.params_from(params)
        outputs, pullback = ml.vjp(ours, x, h0, c0)

        def back(dy, dh_n, dc_n):
            gradients = pullback(dy, dh_n, dc_n)
            theirs = layout.params_to({k: gradients[f"d{k}"] for k in ours})
            theirs = {f"d{name}": value for name, value in theirs.items()}
            for name in theirs:
                if name.startswith("dU_f"):
                    theirs[name][:, -1] += leak * np.abs(dy).sum()
            return theirs | {name: gradients[name] for name in ("dx", "dh0", "dc0")}

        return outputs, back

    def leaking(params, x, h0, c0):
        return vjp(params, x, h0, c0, leak=1e-3)

    def tight(params, x, h0, c0):
        return vjp(params, x, h0, c0)

    right = check_implementation(Implementation("tight", vjp=tight, layout=layout), examples=20)
    assert right.verdict == "agree", right.failures
    wrong = check_implementation(Implementation("leaks", vjp=leaking, layout=layout), examples=20)
    assert wrong.verdict == "disagree"
    assert "dbias_neuron_l0" in wrong.failures[0].sentence


@pytest.mark.parametrize("factor", [1.0, 1.001])
def test_a_cell_without_biases_that_cannot_be_checked(factor):
    """A layout without biases is given zeros, and its gradients are judged as any others are."""

    def vjp(params, x, h0, c0):
        hidden = params["weight_hh_l0"].shape[1]
        zeros = {f"bias_l{k}": np.zeros(4 * hidden, x.dtype) for k in range(len(params) // 2)}
        outputs, pullback = ml.vjp(params | zeros, x, h0, c0)

        def without(dy, dh_n, dc_n):
            found = pullback(dy, dh_n, dc_n)
            found["dweight_hh_l0"] = found["dweight_hh_l0"] * x.dtype.type(factor)
            return {name: value for name, value in found.items() if "bias" not in name}

        return outputs, without

    implementation = Implementation("no bias", vjp=vjp, layout=Layout(bias="none"))
    report = check_implementation(implementation, examples=EXAMPLES)
    assert report.verdict == ("agree" if factor == 1 else "disagree")
    assert report.unverified == ()
