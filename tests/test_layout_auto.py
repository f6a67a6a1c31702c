"""A layout that has to be found, or is declared and not that in which the forward is right."""

from dataclasses import replace

import pytest

import manual_lstm as ml
from torch_ref import Implementation, Layout, autograd_vjp
from torch_ref.diagnosis.backward.table import backward_table
from torch_ref.diagnosis.mistakes.planted import planted_loss
from torch_ref.harness.layout_auto import suggestion, with_layout_found

pytestmark = pytest.mark.sampled

ROWS = Layout(gate_order="ifog", transposed=True, matrices="hx", bias="last", weight="W{layer}")


def written_in(layout):
    """A right LSTM whose arrays are arranged like this."""

    def vjp(params, x, h0, c0):
        ours = layout.params_from(params)
        outputs, pullback = ml.vjp(ours, layout.sequence_from(x), h0, c0)

        def back(*upstream):
            gradients = pullback(*upstream)
            weights = {name: gradients[f"d{name}"] for name in ours}
            theirs = layout.params_to(weights)
            return {f"d{name}": value for name, value in theirs.items()} | {"dx": gradients["dx"]}

        return outputs, back

    return vjp


@pytest.mark.parametrize(
    ("declared", "told"),
    [
        ({"bias": "first"}, "its bias is the last row of W"),
        ({"matrices": "xh"}, "W and U are joined as [h, x, 1]"),
        ({"gates": "interleaved"}, "its gates are in blocks of one matrix"),
        ({"bias": "middle", "gate_order": "ifgo"}, "i, f, o, g and its bias is the last row"),
    ],
)
def test_another_reading_of_the_same_shapes_that_is_not_suggested(declared, told):
    """The equations of the forward pass are blamed for a wrong word in the layout."""
    mine = Implementation("mine", vjp=written_in(ROWS), layout=replace(ROWS, **declared))
    said = suggestion(mine)
    assert said.startswith("Its forward is correct, if ")
    assert told in said
    assert suggestion(replace(mine, layout=ROWS)) == ""


def test_a_summed_loss_that_no_order_of_the_gates_explains():
    """From the loss alone, a mean or a sum as it is declared, the order of the gates is found."""
    mean = planted_loss(backward_table(head="linear"))

    def summed(params, x, targets, h0, c0):
        loss, gradients = mean(params, x, targets, h0, c0)
        return loss * targets.size, gradients

    declared = Layout(gate_order="ifog")
    for reduction, loss_and_grads in (("mean", mean), ("sum", summed)):
        mine = Implementation(
            "mine", loss_and_grads=loss_and_grads, layout=declared, reduction=reduction
        )
        assert (
            suggestion(mine) == "Its forward is correct, if its gates are in the order i, f, g, o."
        )


@pytest.mark.parametrize(
    "axes",
    [
        {"sequence": "BTI", "states": "BH"},
        {"states": "BH"},
        {"sequence": "TI", "states": "H"},
    ],
)
def test_axes_other_than_manual_lstms_that_are_not_found(axes):
    """manual_lstm's names, batch first or for one sequence, with layout="auto"."""
    own = Layout("fogi", matrices="xh", transposed=True, **axes)

    def vjp(params, x, h0, c0):
        states = own.state_from(h0), own.state_from(c0)
        (y, _, _), _ = autograd_vjp(own.params_from(params), own.sequence_from(x, "x"), *states)
        return own.sequence_to(y, "y"), lambda dy: {}

    found, sentence = with_layout_found(Implementation("axes", vjp=vjp, layout="auto"))
    assert found.layout == own
    assert "states (" in sentence
