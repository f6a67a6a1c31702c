"""What a layout refuses, and in which words."""

from dataclasses import replace

import numpy as np
import pytest

from manual_lstm import init_params
from torch_ref.harness.layouts.layout import Layout
from torch_ref.harness.layouts.presets import BIAS_NEURON, COLUMNS, FLAT, KERAS, ONNX, TORCH, preset


def params(inputs=3, hidden=2, layers=1):
    return init_params(inputs, hidden, layers, rng=np.random.default_rng(0))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"gate_order": "ifg"}, r"gate_order is 'ifg' but must be i, f, g and o in some order"),
        ({"gates": "rows"}, "gates is 'rows' but must be one of 'blocks', 'interleaved'"),
        ({"gates": "separate"}, r"weight_ih is .* but must contain {gate}"),
        ({"weight_hh": "U_{gate}"}, r"weight_hh is 'U_{gate}' but must be a name with no other"),
        ({"weight_hh": "U{layer:02d}"}, r"weight_hh .* no other place than {layer}"),
        ({"weight_hh": "U{"}, r"weight_hh .* no other place than {layer}"),
        ({"weight_hh": ""}, "weight_hh is '' but must be a name"),
        ({"weight_hh": "weight_ih_l{layer}"}, "two arrays named weight_ih_l0"),
        ({"bias_ih": "x"}, "two arrays named x"),
        ({"weight_ih": "W{layer}", "weight_hh": "W1"}, "two arrays named W1"),
        ({"gate_names": ("i", "f", "c", "c")}, "must be a tuple of four different names"),
        ({"transposed": 1}, "transposed is 1 but must be True or False"),
        ({"sequence": "BT"}, "sequence is 'BT' but must be T and I with or without B"),
        ({"sequence": "B:TI"}, "sequence is 'B:TI' .* T: in front for a list"),
        ({"sequence": "T1:I"}, "sequence is 'T1:I' .* T: in front for a list"),
        ({"sequence": 3}, "sequence is 3 but must be"),
        ({"states": "LBB"}, "states is 'LBB' but must be H with or without L and B"),
        ({"bias": "middle"}, "bias is 'middle' but W and U are apart"),
        ({"bias": "concatenated", "gates": "stacked"}, "two biases share one array only where"),
        ({"bias_neuron": "h"}, "there is a bias neuron only where the bias is in W"),
        (
            {"bias": "last", "bias_neuron": "h", "matrices": "xh"},
            "U has a row or column for the neuron only where it is a matrix of its own",
        ),
        (
            {"bias": "last", "bias_neuron": "x", "matrices": "xh"},
            "the neuron does not stand next to x",
        ),
        ({"first_layer": -1}, "first_layer is -1 but must be a whole number"),
        ({"flat": 3}, "flat is 3 but must be names"),
    ],
)
def test_a_layout_that_makes_no_sense_is_refused(fields, message):
    """Each field, and each two that contradict each other, in one sentence."""
    with pytest.raises(ValueError, match=message):
        Layout(**fields)


def test_an_unknown_key_in_json_is_refused():
    """A misspelt key does not silently leave the default in place."""
    with pytest.raises(ValueError, match=r"layout has the key 'gateorder' but must have no other"):
        Layout.from_json({"gateorder": "ifog"})
    assert Layout.from_json({"gate_order": "ifog"}) == Layout(gate_order="ifog")


def test_an_unknown_preset_is_refused():
    """The names that there are stand in the error."""
    with pytest.raises(ValueError, match=r"layout is 'tensorflow' .* keras, onnx"):
        preset("tensorflow")


@pytest.mark.parametrize(
    ("layout", "change", "message"),
    [
        (COLUMNS, {"Wf": None}, "params has no Wf, which this layout needs"),
        (TORCH, {"bias_hh_l0": None}, "params has no bias_hh_l0, which this layout needs"),
        (COLUMNS, {"Wz": (2, 5)}, r"params has Wz but must have no other names .* Wf, Wi, Wc, Wo"),
        (COLUMNS, {"Wf": (2, 4)}, r"the four gates must have one shape but have Wf \(2, 4\)"),
        (COLUMNS, {"bf": (2,)}, r"bf has shape \(2,\) but must be \(H, 1\)"),
        (KERAS, {"kernel": (3, 9)}, r"kernel has shape \(3, 9\) but must be \(N, 4H\)"),
        (KERAS, {"recurrent_kernel": (3, 8)}, r"must hold the columns H for h, with H = 2"),
        (KERAS, {"bias": (12,)}, r"bias_l0 has shape \(12,\)"),
        (ONNX, {"W": (8, 3)}, r"W has shape \(8, 3\) but must be \(1, 4H, N\)"),
        (ONNX, {"B": (1, 12)}, r"B has shape \(1, 12\) but must be \(1, 8H\)"),
        (Layout(matrices="xh"), {"weight_l0": (8, 2)}, "must hold the columns I for x, H for h"),
    ],
)
def test_an_array_that_does_not_belong_is_refused(layout, change, message):
    """Missing, unknown and misshapen arrays are named under their own names."""
    theirs = layout.params_to(params())
    for name, shape in change.items():
        theirs.pop(name, None)
        if shape is not None:
            theirs[name] = np.zeros(shape, np.float32)
    with pytest.raises(ValueError, match=message):
        layout.params_from(theirs)


def test_a_misshapen_gradient_is_refused():
    """With the weights to compare, a transposed gradient is named even where it is square."""
    with pytest.raises(ValueError, match=r"dkernel has shape \(8, 3\) but must be \(3, 8\)"):
        KERAS.gradients_from({"dkernel": np.zeros((8, 3))}, params())
    with pytest.raises(ValueError, match=r"gradients has no dWi, which this layout needs"):
        COLUMNS.gradients_from({"dWf": np.zeros((2, 5))})
    with pytest.raises(ValueError, match="gradients has kernel but must have no other names"):
        KERAS.gradients_from({"kernel": np.zeros((3, 8))})
    with pytest.raises(ValueError, match=r"dx has shape \(3, 2\) but must be \(B, T, I\)"):
        KERAS.gradients_from({"dx": np.zeros((3, 2))})
    with pytest.raises(ValueError, match="dx has 1 features but must have I \\+ 1"):
        replace(BIAS_NEURON, bias_neuron="x").gradients_from({"dx": np.zeros((2, 1, 1))})


def test_a_gradient_that_is_left_out_stays_out():
    """Neither a missing gradient nor None turns into zeros."""
    assert KERAS.gradients_from({"dh0": None, "dx": None}) == {}
    assert list(KERAS.gradients_from({"dbias": np.zeros(8)})) == ["dbias_l0"]
    second_layer = {"dweight_hh_l1": np.zeros((8, 2))}
    assert list(Layout().gradients_from(second_layer)) == ["dweight_hh_l1"]


def test_numbers_that_have_no_place_are_refused():
    """A bias without a place for it, a stack under names for one layer, U's dead column."""
    with pytest.raises(ValueError, match="bias_l0 is not zero but the layout has no bias"):
        Layout(bias="none").params_to(params())
    with pytest.raises(ValueError, match=r"2 layers but the layout's weight_ih is 'kernel'"):
        KERAS.params_to(params(layers=2))
    layout = Layout(bias="last", bias_neuron="h")
    theirs = layout.params_to(params())
    theirs["weight_hh_l0"][3, -1] = 1
    with pytest.raises(ValueError, match="weight_hh_l0 has weights from the bias neuron"):
        layout.params_from(theirs)


def test_a_flat_vector_of_unknown_sizes_is_refused():
    """Its length does not tell I, H and L; a wrong length or order is named."""
    vector = FLAT.params_to(params(layers=2))
    with pytest.raises(ValueError, match="its length does not tell the sizes: pass like=params"):
        FLAT.params_from(vector)
    with pytest.raises(ValueError, match=r"dparameters has shape \(5,\) but must be \(104,\)"):
        FLAT.gradients_from({"dparameters": np.zeros(5)}, params(layers=2))
    with pytest.raises(ValueError, match="bias_l0 is missing"):
        Layout(flat="weight_ih weight_hh").params_to(params())
    with pytest.raises(ValueError, match="gamma is no array of this layout"):
        Layout(flat="weight_ih weight_hh bias_ih gamma").params_to(params())


def test_more_than_the_axes_hold_is_refused():
    """A second sequence or layer does not vanish where the layout has no axis for it."""
    with pytest.raises(ValueError, match=r"x has B = 2 but must have B = 1"):
        Layout(sequence="TI").sequence_to(np.zeros((3, 2, 4)))
    with pytest.raises(ValueError, match=r"h0 has L = 2 but must have L = 1"):
        KERAS.state_to(np.zeros((2, 1, 4)))
    with pytest.raises(ValueError, match=r"x has shape \(3, 2\) but must be \(T, B, I\)"):
        Layout().sequence_to(np.zeros((3, 2)))
    with pytest.raises(ValueError, match=r"y has shape \(3, 2, 2\) but must be \(T, I, 1\)"):
        Layout(sequence="TI1").sequence_from(np.zeros((3, 2, 2)))
    with pytest.raises(ValueError, match="must be a list of T arrays"):
        Layout(sequence="T:BI").sequence_from([np.zeros((1, 2)), np.zeros((2, 2))])
    with pytest.raises(ValueError, match="2 states came but the layout has 1"):
        Layout(joined_state="hc").states_from(1, 2)
    with pytest.raises(ValueError, match="state0 has 3 units but must have 2H"):
        Layout(joined_state="hc").states_from(np.zeros((1, 1, 3)))


@pytest.mark.parametrize(
    ("layout", "single_batch", "single_layer"),
    [
        (Layout(), False, False),
        (KERAS, False, True),
        (replace(KERAS, states="LBH"), False, True),
        (BIAS_NEURON, False, False),
        (Layout(sequence="TI"), True, False),
        (Layout(states="LH1"), True, False),
        (Layout(states="BH"), False, True),
    ],
)
def test_a_limit_on_batch_or_layers_is_known(layout, single_batch, single_layer):
    """A harness must not draw a case that the layout cannot hold."""
    assert (layout.single_batch, layout.single_layer) == (single_batch, single_layer)


@pytest.mark.parametrize(
    ("layout", "phrase"),
    [
        (
            Layout(gate_order="ifog", transposed=True, sequence="BTI"),
            "gates i, f, o, g in blocks of one matrix, transposed, bias single, batch first",
        ),
        (
            COLUMNS,
            "gates f, i, c, o in a matrix each, W and U joined as [h, x], "
            "bias single as a column, sequences (I, B, T), states (H, B)",
        ),
        (
            Layout(bias="last", bias_neuron="xh", sequence="T:I", joined_state="ch", states="H"),
            "gates i, f, g, o in blocks of one matrix, bias as the last column of W (x carries it "
            "and U has it too), sequences a list of T arrays (I,), states (H,), states joined as "
            "[c, h]",
        ),
    ],
)
def test_a_layout_is_described_in_a_phrase(layout, phrase):
    """What people read names each thing that is not as usual."""
    assert layout.describe() == phrase
