"""Every gate's gradient at every step, read from outside an implementation."""

import native_lstms
import numpy as np
import pytest
from agreement import assert_agree, truth
from planted import MISTAKES, plant

import manual_lstm
from manual_lstm.lstm import empty_step_gradients, layer_backward, layer_forward
from torch_ref import Implementation, error_budget, preset, run_case
from torch_ref.diagnosis.backward.table import backward_table
from torch_ref.diagnosis.diagnose import as_subject
from torch_ref.diagnosis.elements import Elements
from torch_ref.diagnosis.mistakes.catalogue import catalogue
from torch_ref.diagnosis.mistakes.planted import planted_loss, planted_vjp
from torch_ref.diagnosis.step_gradients import (
    MOST_INPUTS,
    in_words,
    one_input_a_step,
    own_inputs,
    read_steps,
    subject_step_errors,
)
from torch_ref.harness.cases import sized_case
from torch_ref.oracles.variant import STANDARD

SIZES = {"T": 6, "B": 2, "I": 3, "H": 4, "L": 1}


def mistaken(identifier, head=None):
    """A table with one mistake of the catalogue in it."""
    known = catalogue(head=head)
    (found,) = [each for each in known.mistakes if each.identifier == identifier]
    return found.edit(known.table)


def read(implementation, case=None):
    """What is read from an implementation: one layer's errors."""
    (found,) = subject_step_errors(as_subject(implementation), case or sized_case(SIZES))[1]
    return found


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_dz_of_another_step_gate_or_member(dtype):
    """What is read is, bit for bit, the dz that manual_lstm's own backward has at each step."""
    case = one_input_a_step(sized_case(SIZES, dtype=dtype))
    names = ("weight_ih_l0", "weight_hh_l0", "bias_l0")
    _, cache = layer_forward(*(case.params[name] for name in names), case.x, case.h0[0], case.c0[0])
    seen = empty_step_gradients(cache)
    layer_backward(case.dy, case.dh_n[0], case.dc_n[0], cache, seen)
    found = read(manual_lstm.vjp, case)
    assert np.array_equal(found.actual, seen.dz)
    assert found.actual.shape == (6, 2, 4, 4)
    assert not found.wrong.any()


@pytest.mark.parametrize("sizes", [{}, {"B": 1}, {"L": 3}, {"I": 9}])
def test_inputs_of_its_own_that_change_the_case(sizes):
    """Every gate keeps its argument: what does not depend on the inputs' number stays.

    The product of the weights and x is rounded once, as the budget allows every product to be.
    """
    case = sized_case(SIZES | sizes)
    given = one_input_a_step(case)
    kept = [name for name in truth(case) if name not in ("dx", "dweight_ih_l0")]
    before, after = truth(case), truth(given)
    assert_agree(
        {name: after[name] for name in kept},
        {name: before[name] for name in kept},
        error_budget(case).allowed,
        "with inputs of its own",
    )


# identifier: the step at which dz is first wrong of 6, walking backward, and the gates there
FIRST_WRONG = {
    "df.c[t]": (5, "f"),
    "do.o": (5, "o"),
    "dc_n * -1": (5, "ifg"),
    "dc_carry.without f": (4, "ifg"),
    "dh_carry[3] * -1": (4, "ifgo"),
    "dc_carry[0] is left out at the last step": (4, "ifg"),
    "dh0 * 2": (None, ""),
}


@pytest.mark.parametrize("identifier", FIRST_WRONG)
def test_a_first_wrong_step_that_is_another(identifier):
    """A mistake shows from the step and in the gates at which it first acts, and not before."""
    found = read(planted_vjp(mistaken(identifier)))
    step, gates = FIRST_WRONG[identifier]
    if step is None:
        assert not found.wrong.any()
        assert found.sentence == "Every gate's gradient is right at every step."
        return
    assert not found.wrong[step + 1 :].any()
    assert [gate for gate, off in zip("ifgo", found.wrong[step], strict=True) if off] == [*gates]
    assert f"t={step}" in found.sentence
    assert ("right at t=5; first wrong at t=4" in found.sentence) == (step == 4)


def test_a_wrong_sum_that_is_taken_for_a_wrong_dz(monkeypatch):
    """Where dx shows that every dz is right the sum is named, and not a step."""
    plant(monkeypatch, *MISTAKES["dweight_ih from the first step only"])
    found = read(manual_lstm.vjp)
    assert found.only_the_sum
    assert found.wrong[1:].all()
    assert "what is wrong is their sum over the steps" in found.sentence
    monkeypatch.undo()
    assert not read(manual_lstm.vjp).only_the_sum


def test_a_dz_that_is_not_a_number_and_passes():
    """One NaN is wrong at its step, in its gate, and nowhere else."""

    def vjp(params, x, h0, c0):
        outputs, pullback = manual_lstm.vjp(params, x, h0, c0)

        def spoilt(dy, dh_n, dc_n):
            gradients = pullback(dy, dh_n, dc_n)
            if gradients["dweight_ih_l0"].shape == (16, 12):
                gradients["dweight_ih_l0"][4 + 1, 2 * 2 + 1] = np.nan
            return gradients

        return outputs, spoilt

    wrong = read(vjp).wrong
    assert wrong[2].tolist() == [False, True, False, False]
    assert wrong.sum() == 1


@pytest.mark.parametrize("style", ["course", "columns", "bias_neuron"])
def test_a_dz_of_an_lstm_in_another_arrangement(style):
    """Every layout's own weights and gates are read as manual_lstm's are."""
    implementation = Implementation(style, vjp=getattr(native_lstms, style), layout=preset(style))
    found = read(implementation)
    assert found.source == "dweight_ih_l0"
    assert not found.wrong.any()
    assert np.abs(found.expected).min() > 0


def test_a_character_model_whose_steps_cannot_be_told_apart():
    """With as many classes as steps and members the loss form is read like the other."""
    case = sized_case(SIZES | {"I": 12, "H": 12}, targets=True)
    wrong = planted_loss(mistaken("dlogits.not the first", "linear"))
    found = read(Implementation("mine", loss_and_grads=wrong), case)
    assert found.wrong.any(axis=1).tolist() == [True, *[False] * 5]


def test_a_character_model_without_a_head_that_is_not_read():
    """The bounded head, whose classes are its units, is read too."""
    case = sized_case(SIZES | {"I": 12}, targets=True, head="bounded")
    right = planted_loss(backward_table(STANDARD, "bounded"))
    found = read(Implementation("mine", loss_and_grads=right, head="bounded"), case)
    assert (found.actual.shape, found.wrong.any()) == ((6, 2, 4, 12), False)


@pytest.mark.parametrize(
    ("sizes", "inputs", "expected"),
    [
        ({"T": 6, "B": 2}, None, (6, 2, 12)),
        ({"T": 6, "B": 2}, 20, (6, 2, 20)),
        ({"T": 6, "B": 2}, 7, (6, 1, 7)),
        ({"T": 6, "B": 2}, 4, (4, 1, 4)),
        ({"T": 6, "B": 2}, 1, (1, 1, 1)),
        ({"T": 50, "B": 3}, None, (50, 1, 50)),
        ({"T": 100, "B": 3}, None, (MOST_INPUTS, 1, MOST_INPUTS)),
        ({"T": 1, "B": 100}, 200, (1, MOST_INPUTS, 200)),
    ],
)
def test_more_steps_than_there_are_inputs(sizes, inputs, expected):
    """Where inputs are few the case is cut, members first; each that is left has its own."""
    case = one_input_a_step(sized_case(SIZES | sizes | {"L": 2}), inputs)
    assert case.x.shape == expected
    assert case.dy.shape[:2] == case.x.shape[:2]
    assert case.h0.shape[:2] == (2, expected[1])
    assert len(set(own_inputs(case.x).ravel().tolist())) == expected[0] * expected[1]


def test_inputs_that_are_shared_and_are_read_all_the_same():
    """Two steps with one input, or an input that is no unit vector, are not read."""
    x = np.eye(6)[:, None, :]
    assert own_inputs(x).ravel().tolist() == [0, 1, 2, 3, 4, 5]
    assert own_inputs(x[[0, 1, 1]]) is None
    assert own_inputs(2 * x) is None
    assert own_inputs(np.zeros_like(x)) is None
    case = sized_case(SIZES)
    results = run_case(case, manual_lstm.vjp)
    assert read_steps(Elements(case, results, truth(case), error_budget(case).allowed)) == ()


def test_a_dz_that_is_returned_and_not_used():
    """Where results hold dz_lk of several layers, each is read as it is, and named in words."""
    case = sized_case(SIZES | {"L": 2})
    rng = np.random.default_rng(0)
    right = {f"dz_l{k}": rng.uniform(1, 2, (6, 2, 16)) for k in range(2)}
    wrong = {name: value.copy() for name, value in right.items()}
    wrong["dz_l1"][3, 1, 2 * 4 + 1] += 1
    allowed = {name: np.full((6, 2, 16), 1e-9) for name in right}
    first, second = read_steps(Elements(case, wrong, right, allowed))
    assert (first.source, first.layer, first.wrong.any()) == ("dz_l0", 0, False)
    assert np.argwhere(second.wrong).tolist() == [[3, 2]]
    assert in_words([first, second]) == (
        "Layer 0: Every gate's gradient is right at every step. Layer 1: Walking backward, right "
        "at t=5 back to t=4; first wrong at t=3, in g, not in i, f and o."
    )


def test_an_implementation_that_refuses_and_is_shown_all_the_same():
    """One that returns no dweight_ih_l0, or is bound to another size, has no steps to show."""

    def without(params, x, h0, c0):
        outputs, pullback = manual_lstm.vjp(params, x, h0, c0)

        def fewer(dy, dh_n, dc_n):
            found = pullback(dy, dh_n, dc_n)
            return {name: value for name, value in found.items() if name != "dweight_ih_l0"}

        return outputs, fewer

    assert subject_step_errors(as_subject(without), sized_case(SIZES))[1] == ()
    bound = Implementation("bound", vjp=manual_lstm.vjp, sizes={"I": 3})
    given, (found,) = subject_step_errors(as_subject(bound), sized_case(SIZES))
    assert given.x.shape == (3, 1, 3)
    assert found.actual.shape == (3, 1, 4, 4)
    assert not found.wrong.any()
