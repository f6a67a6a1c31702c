"""A layout that was declared, and is not the one in which the forward pass is right."""

from dataclasses import replace

import pytest

import manual_lstm as ml
from torch_ref import Implementation, Layout
from torch_ref.harness.layout_auto import suggestion

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
