"""What raises for a stack or a batch: a gap that is told, or a mistake, and how one says which."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import manual_lstm as ml
from torch_ref import Implementation, check_implementation, diagnose, preset
from torch_ref.cli import main
from torch_ref.harness.abilities import find_abilities
from torch_ref.harness.contract import as_implementation

pytestmark = pytest.mark.sampled


def one_layer(params, x, h0, c0):
    """Written for one layer; the shapes of two do not go together."""
    hidden = params["weight_hh_l0"].shape[1]
    h0.reshape(1, -1, hidden) @ params["weight_hh_l0"].T
    if len(h0) > 1:
        raise ValueError("operands could not be broadcast\ntogether")
    return ml.vjp(params, x, h0, c0)


def one_layer_of_loops(params, x, h0, c0):
    """Written for one layer; it goes through all the names that it is given."""
    found = {"d" + name: np.zeros_like(params[name]) for name in params}
    return one_layer({name: params[name] for name in params if "d" + name in found}, x, h0, c0)


def one_sequence(params, x, h0, c0):
    """Written for one sequence: its backward alone finds more of them too many."""
    outputs, pullback = ml.vjp(params, x, h0, c0)

    def back(dy, dh_n, dc_n):
        dy.reshape(len(dy), -1) + np.zeros(dy.shape[2])
        return pullback(dy, dh_n, dc_n)

    return outputs, back


def asks_for_names(params, x, h0, c0):
    """A stack whose list of caches has one place."""
    caches = [None]
    for k in range(len(h0)):
        caches[k] = params[f"weight_ih_l{k}"]
    return ml.vjp(params, x, h0, c0)


def looks_for_names(params, x, h0, c0):
    """A stack that counts its layers by asking whether there is one more."""
    layers = 0
    while f"weight_ih_l{layers}" in params:
        layers += 1
    [None][layers - 1]
    return ml.vjp(params, x, h0, c0)


def wrong_backward(params, x, h0, c0):
    """A stack of which the backward pass alone raises."""
    params = {name: params[name] for name in params}
    outputs, pullback = ml.vjp(params, x, h0, c0)

    def back(dy, dh_n, dc_n):
        [None][len(h0) - 1]
        return pullback(dy, dh_n, dc_n)

    return outputs, back


def square(params, x, h0, c0):
    """A stack whose upper layers' weights are thought to have I columns."""
    weights = {name: params[name] for name in params}
    for name in weights:
        if name.startswith("weight_ih"):
            x[0] @ weights[name].T
    return ml.vjp(weights, x, h0, c0)


def abilities(function, **fields):
    return find_abilities(as_implementation(Implementation("mine", vjp=function, **fields)))


def line(function, text):
    """Where `text` stands in a function of this file, as a report has it."""
    with open(__file__, encoding="utf-8") as file:
        lines = file.read().splitlines()
    first = function.__code__.co_firstlineno
    return next(k for k, each in enumerate(lines, 1) if k > first and text in each)


@pytest.mark.parametrize("function", [one_layer, one_layer_of_loops])
def test_a_gap_that_does_not_say_what_was_raised(function):
    """What is written for one layer is no mistake, but one is told what two of them raise."""
    report = check_implementation(function, examples=20)
    assert report.verdict == "agree", report.failures
    (told,) = report.unverified
    said = "it raises ValueError: operands could not be broadcast together, at "
    assert told.startswith(f"stacks (more than one layer): {said}")
    assert told.endswith(f"test_abilities.py:{line(one_layer, 'raise ValueError')}")
    assert report.skipped["check_stacks"].startswith(f"it needs L of at least 2: {said}")
    (note,) = report.notes
    assert "--require stacks" in note
    assert "--sizes L=1" in note


def test_a_batch_whose_forward_happens_to_fit_is_no_mistake():
    """NumPy's broadcasting makes a forward pass of one sequence right for two by accident."""
    report = check_implementation(one_sequence, examples=20)
    assert report.verdict == "agree", report.failures
    assert report.unverified[0].startswith("batches (more than one sequence): it raises ValueError")


@pytest.mark.parametrize(
    ("function", "why", "where"),
    [
        (asks_for_names, "it asks for weight_ih_l1", "caches[k] ="),
        (looks_for_names, "it asks for weight_ih_l1", "[layers - 1]"),
        (wrong_backward, "its forward pass of one is right", "[len(h0) - 1]"),
        (square, "with I = H it works", "x[0] @"),
    ],
)
def test_a_stack_that_is_half_done_passes_as_a_gap(function, why, where):
    """A mistake that raises for the second layer is a crash, with its case, not a gap."""
    report = check_implementation(function, examples=20)
    assert [failure.check for failure in report.failures] == ["check_stacks"]
    (failure,) = report.failures
    assert failure.case.num_layers > 1
    assert isinstance(failure.error, IndexError | ValueError)
    assert failure.sentence.endswith(f"test_abilities.py:{line(function, where)}.")
    assert f"as {why}." in report.notes[0]
    assert ("if it is bound to that: --sizes I=3,H=3" in report.notes[0]) == (function is square)
    assert "--sizes L=1" in report.notes[0]
    bound = Implementation("mine", vjp=function, sizes={"L": 1})
    assert check_implementation(bound, examples=20).verdict == "agree"


@pytest.mark.parametrize("required", ["stacks", "all"])
def test_a_required_stack_that_raises(required):
    """In CI a stack that no longer runs is not verified and the check passes."""
    said = Implementation("mine", vjp=one_layer, requires=frozenset({required}))
    report = check_implementation(said, examples=20)
    assert report.failures[0].check == "check_stacks"
    assert isinstance(report.failures[0].error, ValueError)


def test_a_required_gradient_that_is_not_returned():
    """A result that is required is left out, and the check passes."""

    def vjp(params, x, h0, c0):
        outputs, pullback = ml.vjp(params, x, h0, c0)

        def back(*upstream):
            gradients = pullback(*upstream)
            del gradients["dx"]
            return gradients

        return outputs, back

    for required, failing in (("dx", True), ("all", True), ("dh0", False)):
        said = Implementation("mine", vjp=vjp, requires=frozenset({required}))
        report = check_implementation(said, examples=20)
        assert bool(report.failures) == failing
        if failing:
            assert (
                "is required to have but has not: the gradient dx." in report.failures[0].sentence
            )


def test_a_refused_stack_that_is_required():
    """NotImplementedError excuses what is required."""

    def vjp(params, x, h0, c0):
        if len(h0) > 1:
            raise NotImplementedError
        return ml.vjp(params, x, h0, c0)

    said = Implementation("mine", vjp=vjp, requires=frozenset({"stacks"}))
    assert "stacks (more than" in check_implementation(said, examples=20).failures[0].sentence
    assert find_abilities(as_implementation(vjp)).notes == ()


def test_a_precision_that_raises_is_said_to_be_another():
    """Where float32 raises, what it raised is not told."""

    def vjp(params, x, h0, c0):
        if x.dtype == np.float32:
            raise TypeError("no float")
        return ml.vjp(params, x, h0, c0)

    (told,) = abilities(vjp).unverified
    assert told.startswith("float32: it raises TypeError: no float, at ")


def test_a_result_that_is_widened_is_no_mistake_in_float32():
    """One accumulator made by np.zeros(shape) is float64: float32 is then not asked for."""

    def widened(params, x, h0, c0):
        outputs, pullback = ml.vjp(params, x, h0, c0)
        return outputs, lambda *upstream: {
            name: value.astype(np.float64) if name == "dx" else value
            for name, value in pullback(*upstream).items()
        }

    found = find_abilities(as_implementation(widened))
    assert found.dtypes == ("float64",)
    assert "float32: it computes in float64" in found.unverified


@pytest.mark.parametrize("declared", [None, "float64"])
def test_one_sum_in_float32_that_passes_for_arithmetic_in_float32(declared):
    """An accumulator of another dtype, beside outputs that have all digits of float64."""

    def vjp(params, x, h0, c0):
        outputs, pullback = ml.vjp(params, x, h0, c0)

        def back(*upstream):
            gradients = pullback(*upstream)
            return {**gradients, "dbias_l0": gradients["dbias_l0"].astype(np.float32)}

        return outputs, back

    report = check_implementation(Implementation("mine", vjp=vjp, dtype=declared), examples=2)
    assert "float64" in report.dtypes
    assert "dbias_l0 is float32 but the case is float64" in report.failures[0].sentence


def test_a_bound_stack_is_verified():
    """A stack that is bound to three layers is run, and listed as not verified all the same."""
    found = abilities(ml.vjp, sizes={"L": 3, "B": 2})
    assert (found.stacks, found.batches, found.unverified) == (True, True, ())


@pytest.mark.parametrize("sizes", [{"H": 4}, {"I": 4}, {"I": 4, "H": 4}])
def test_a_bounded_head_that_is_given_other_sizes_than_its_own(sizes):
    """H alone is bound, and I, which is V and so H, is drawn."""

    def loss_and_grads(params, x, targets, h0, c0):
        model = ml.CharModel(4, 4, len(h0), "bounded")
        return model.loss_and_grads(params, x, targets, h0, c0)

    bound = Implementation("mine", loss_and_grads=loss_and_grads, head="bounded", sizes=sizes)
    assert check_implementation(bound, examples=5).verdict == "agree"
    with pytest.raises(ValueError, match="I = 3 and H = 4 but with the bounded head they must be"):
        replace(bound, sizes={"I": 3, "H": 4})


def test_a_layout_for_one_layer_has_no_crash_to_tell():
    """That a layout has no place for a second layer is told as something that was raised."""
    layout = preset("columns")
    found = find_abilities(Implementation("mine", vjp=in_columns(layout), layout=layout))
    assert found.lacking["stacks"] == "stacks (more than one layer)"
    assert found.notes == ()


def in_columns(layout):
    def vjp(params, x, h0):
        c0 = np.zeros((1, *layout.state_from(h0).shape[1:]))
        ours = layout.params_from(params)
        (y, _, _), pullback = ml.vjp(ours, layout.sequence_from(x), layout.state_from(h0), c0)

        def back(dy):
            found = pullback(layout.sequence_from(dy), None, None)
            theirs = layout.params_to({name: found["d" + name] for name in ours})
            return {"d" + name: value for name, value in theirs.items()}

        return layout.sequence_to(y), back

    return vjp


def test_a_check_of_which_no_case_was_run_holds():
    """NotImplementedError for every case of a check counts as a check that holds."""

    def vjp(params, x, h0, c0):
        if len(x) > 6:
            raise NotImplementedError
        return ml.vjp(params, x, h0, c0)

    report = check_implementation(vjp, examples=20)
    assert report.verdict == "agree"
    assert "check_long" not in report.passed
    assert "check_long: none of its cases could be run and judged" in report.unverified
    assert "check_long" in report.skipped


def test_an_upper_bound_of_a_checks_steps_is_no_demand():
    """An LSTM that is bound to T=26 is refused by nearly every check."""
    bound = Implementation("mine", vjp=ml.vjp, sizes={"T": 26, "B": 1, "I": 4, "H": 4, "L": 1})
    report = check_implementation(bound, examples=14)
    assert report.verdict == "agree"
    assert {"check_one_step", "check_two_steps", "check_carried_state"} <= set(report.skipped)
    assert {"check_forward", "check_every_step", "check_only_dh_n"} <= set(report.passed)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"requires": frozenset({"stack"})}, "requires is 'stack' but must be one of 'all', 'stac"),
        ({"sizes": {"L": 0}}, "sizes L is 0 but must be a whole number of at least 1."),
    ],
)
def test_a_declaration_that_is_misspelt(fields, words):
    """It is never heard of again, and nothing is required."""
    with pytest.raises(ValueError, match=words):
        Implementation("mine", vjp=ml.vjp, **fields)


COMPILED = """
import json, os, sys
case, result, program, *options = sys.argv[1:]
with open(case + "/case.json", encoding="utf-8") as file:
    sizes = json.load(file)["sizes"]
if sizes != {"T": 5, "B": 1, "I": 4, "H": 3, "L": 1, "V": 4}:
    sys.exit(f"compiled for other sizes than {sizes}")
os.execv(program, [program, case, result, *options])
"""


def test_an_lstm_without_gradients_of_weights_that_is_accused():
    """dx alone is returned: that no sum over the batch can be judged is no failure."""

    def vjp(params, x, h0, c0):
        outputs, pullback = ml.vjp(params, x, h0, c0)
        return outputs, lambda *upstream: {"dx": pullback(*upstream)["dx"]}

    report = check_implementation(vjp, examples=20)
    assert report.verdict == "agree", report.failures
    assert report.skipped["check_batch_is_sum_of_members"] == "it needs the gradient of a weight"
    assert "the gradient dweight_hh_l0" in report.unverified


def test_a_program_for_one_size_that_is_asked_for_another(my_lstm, tmp_path, monkeypatch, capsys):
    """One that is compiled for its sizes cannot be checked at all, or is found to crash."""
    monkeypatch.chdir(tmp_path)
    Path("compiled.py").write_text(COMPILED, encoding="utf-8")
    command = f"{sys.executable} -S compiled.py {{case}} {{result}} {my_lstm}"
    sizes = "T=5, B=1, I=4, H=3, L=1"
    words = ("--command", command, "--sizes", sizes, "--examples", "20")
    monkeypatch.setattr(sys, "argv", ["manual-lstm", "check", *words])
    with pytest.raises(SystemExit) as stopped:
        main()
    out = " ".join(capsys.readouterr().out.split())
    assert (stopped.value.code or 0, "compiled for" in out) == (0, False)
    assert f"--sizes '{sizes}'" in out


def test_a_diagnosis_that_asks_for_other_sizes():
    """A mistake is not named, as the sizes on which it is sought are not those that it is for."""
    sizes = {"T": 5, "B": 1, "I": 4, "H": 3, "L": 1}

    def vjp(params, x, h0, c0):
        if (*x.shape, *h0.shape) != (5, 1, 4, 1, 1, 3):
            raise AssertionError
        outputs, pullback = ml.vjp(params, x, h0, c0)
        return outputs, lambda dy, dh_n, dc_n: pullback(dy, dh_n, 0 * dc_n)

    found = diagnose(Implementation("mine", vjp=vjp, sizes=sizes), seconds=0)
    assert found.finding is not None
    assert [mistake.identifier for mistake in found.finding.mistakes] == ["dc_n * 0"]


def test_a_net_with_one_output_whose_lower_layers_are_accused():
    """What takes the gradient of the last y alone has no dh_n of the layers below the top."""

    def last_step(params, x):
        (y, _, _), pullback = ml.vjp(params, x)

        def back(dh_n):
            dy = np.zeros_like(y)
            dy[-1] = dh_n[-1]
            return pullback(dy, None, None)

        return y, back

    report = check_implementation(last_step, examples=30)
    assert report.verdict == "agree"
    assert "the upstream gradient dh_n of the layers below the top" in report.unverified
    assert "stacks (more than one layer)" not in report.unverified


def test_lower_layers_that_are_lost_though_their_states_come_back():
    """h_n of every layer is returned: what goes back to each must count."""

    def drops(params, x, h0, c0):
        outputs, pullback = ml.vjp(params, x, h0, c0)

        def back(dh_n, dc_n):
            top = np.where(np.arange(len(dh_n))[:, None, None] == len(dh_n) - 1, dh_n, 0)
            return pullback(None, top.astype(dh_n.dtype), dc_n)

        return outputs, back

    report = check_implementation(drops, examples=40)
    assert report.verdict == "disagree"
