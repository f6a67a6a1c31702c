"""Layouts: every number where the layout says, both ways, and nothing lost."""

from dataclasses import replace
from itertools import permutations

import native_lstms as native
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from manual_lstm import init_params
from torch_ref import Case, autograd_vjp, compare_gradients, error_budget, run_case
from torch_ref.harness.layouts.arrange import unequal_parts
from torch_ref.harness.layouts.layout import Layout
from torch_ref.harness.layouts.presets import (
    BIAS_NEURON,
    COLUMNS,
    COURSE,
    FLAT,
    KERAS,
    ONNX,
    PRESETS,
    TORCH,
    preset,
)

GATES = "ifgo"
FAR_FROM_X = {("xh", "last"), ("hx", "first")}
SEQUENCES = ["".join(p) for axes in ("TBI", "TI", "TI1") for p in permutations(axes)]
STATES = ["".join(p) for axes in ("LBH", "BH", "LH", "H", "LH1", "H1") for p in permutations(axes)]


@st.composite
def layouts(draw):
    """Any layout that makes sense, with a place for the layer in its names."""
    gates = draw(st.sampled_from(["blocks", "interleaved", "stacked", "separate"]))
    place = "_{gate}" if gates == "separate" else ""
    matrices = draw(st.sampled_from(["split", "xh", "hx"]))
    biases = ["none", "single", "pair", "first", "last"]
    biases += ["middle"] if matrices != "split" else []
    biases += ["concatenated"] if gates in ("blocks", "interleaved") else []
    bias = draw(st.sampled_from(biases))
    neurons = [""]
    if bias in ("first", "middle", "last") and (matrices, bias) not in FAR_FROM_X:
        neurons += ["x", "h", "xh"] if matrices == "split" else ["x"]
    choices = {
        "gate_order": st.permutations(GATES).map("".join),
        "transposed": st.booleans(),
        "bias_shape": st.sampled_from(["vector", "column", "row"]),
        "bias_neuron": st.sampled_from(neurons),
        "leading_axis": st.booleans(),
        "sequence": st.sampled_from([*SEQUENCES, "T:BI", "T:IB", "T:I"]),
        "states": st.sampled_from([*STATES, "L:BH", "L:HB", "L:H"]),
        "joined_state": st.sampled_from(["", "hc", "ch"]),
        "first_layer": st.integers(0, 1),
        "gate_names": st.sampled_from([("i", "f", "g", "o"), ("in", "forget", "cell", "out")]),
    }
    names = {
        name: f"{name}{place}.{{layer}}"
        for name in ("weight_ih", "weight_hh", "weight", "bias_ih", "bias_hh")
    }
    fields = {name: draw(choice) for name, choice in choices.items()}
    layout = Layout(gates=gates, matrices=matrices, bias=bias, **fields, **names)
    if draw(st.booleans()):
        used = ["weight_ih", "weight_hh"] if layout.matrices == "split" else ["weight"]
        used += {"single": ["bias_ih"], "concatenated": ["bias_ih"]}.get(layout.bias, [])
        used += ["bias_ih", "bias_hh"] if layout.bias == "pair" else []
        order = draw(st.permutations(used))
        layout = replace(layout, flat=draw(st.sampled_from([" ", "; "])).join(order))
    return layout


sizes = st.fixed_dictionaries(
    {"inputs": st.integers(1, 3), "hidden": st.integers(1, 3), "layers": st.integers(1, 3)}
)


def drawn_params(layout, inputs, hidden, layers, dtype=np.float32):
    params = init_params(inputs, hidden, layers, dtype=dtype, rng=np.random.default_rng(0))
    if layout.bias == "none":
        params |= {name: np.zeros_like(params[name]) for name in params if "bias" in name}
    return params


def drawn_case(seed=0, steps=3, batch=2, inputs=3, hidden=4, layers=1):
    rng = np.random.default_rng(seed)
    states = {
        name: rng.uniform(-1, 1, (layers, batch, hidden)) for name in ("h0", "c0", "dh_n", "dc_n")
    }
    return Case(
        init_params(inputs, hidden, layers, dtype=np.float64, rng=rng),
        rng.uniform(-1, 1, (steps, batch, inputs)),
        dy=rng.uniform(-1, 1, (steps, batch, hidden)),
        **states,
    )


def same_bits(left, right):
    return left.keys() == right.keys() and all(
        left[name].dtype == right[name].dtype
        and left[name].shape == right[name].shape
        and left[name].tobytes() == right[name].tobytes()
        for name in left
    )


def columns_of(layout, role, inputs, hidden):
    """The columns of a matrix by counting: letters as in `weight_at`."""
    own = {"weight_ih": "w", "weight_hh": "u", "weight": layout.matrices.translate(XH)}[role]
    width = {"w": inputs, "u": hidden}
    columns = [f"{letter}{n}" for letter in own for n in range(width[letter])]
    neuron = "z0" if role == "weight_hh" else "b0"
    if layout.bias in ("first", "middle", "last") and (neuron == "b0" or "h" in layout.bias_neuron):
        middle = len([c for c in columns if c[0] == own[0]])
        columns.insert({"first": 0, "middle": middle, "last": len(columns)}[layout.bias], neuron)
    return columns


XH = str.maketrans("xh", "wu")


def weight_at(layout, theirs, kind, gate, unit, column, layer, inputs, hidden):
    """One of their weights, found by counting: "w", "u", "b", or "z" for U's bias neuron."""
    called = layout.gate_names[GATES.index(gate)]
    position = layout.gate_order.index(gate)

    def array(role):
        name = getattr(layout, role).format(layer=layer + layout.first_layer, gate=called)
        return theirs[name][0] if layout.leading_axis else theirs[name]

    row = {
        "blocks": position * hidden + unit,
        "interleaved": 4 * unit + position,
        "stacked": position * hidden + unit,
        "separate": unit,
    }[layout.gates]
    if kind == "b" and layout.bias in ("single", "pair"):
        second = array("bias_hh").ravel()[row] if layout.bias == "pair" else 0
        return array("bias_ih").ravel()[row] + second
    if kind == "b" and layout.bias == "concatenated":
        both = array("bias_ih").ravel()
        return both[row] + both[4 * hidden + row]
    role = "weight_hh" if kind in "uz" else "weight_ih"
    role = role if layout.matrices == "split" else "weight"
    matrix = array(role)
    if layout.gates == "stacked":
        matrix, row = matrix[position], unit
    at = columns_of(layout, role, inputs, hidden).index(f"{kind}{column}")
    return matrix[at, row] if layout.transposed else matrix[row, at]


@settings(deadline=None)
@given(layout=layouts(), size=sizes)
def test_a_weight_in_the_wrong_place_is_noticed(layout, size):
    """A gate, a column or an axis mixed up moves a weight away from where counting finds it."""
    params = drawn_params(layout, **size)
    inputs, hidden, layers = size["inputs"], size["hidden"], size["layers"]
    theirs = replace(layout, flat="").params_to(params)
    for layer in range(layers):
        below = inputs if layer == 0 else hidden
        kinds = [("w", "weight_ih", below), ("u", "weight_hh", hidden), ("b", "bias", 1)]
        for kind, name, width in kinds:
            ours = params[f"{name}_l{layer}"].reshape(4, hidden, width)
            for k, unit, column in np.ndindex(ours.shape):
                if kind != "b" or layout.bias != "none":
                    at = (kind, GATES[k], unit, column, layer, below, hidden)
                    assert weight_at(layout, theirs, *at) == ours[k, unit, column]
                if kind == "b" and "h" in layout.bias_neuron:
                    at = ("z", GATES[k], unit, column, layer, below, hidden)
                    assert weight_at(layout, theirs, *at) == 0


@settings(deadline=None)
@given(layout=layouts(), size=sizes, dtype=st.sampled_from([np.float32, np.float64]))
def test_a_round_trip_that_changes_a_bit_is_noticed(layout, size, dtype):
    """Weights come back bit by bit, as do gradients, the second of two biases under its name."""
    params = drawn_params(layout, **size, dtype=dtype)
    theirs = layout.params_to(params)
    assert all(value.flags.c_contiguous for value in theirs.values())
    like = params if layout.flat else None
    assert same_bits(layout.params_from(theirs, like), params)
    assert same_bits(layout.params_from(theirs, params), params)

    found = layout.gradients_from({f"d{name}": value for name, value in theirs.items()}, like)
    expected = {f"d{name}": value for name, value in params.items()}
    for layer in range(size["layers"]):
        name = f"dbias_l{layer}"
        if layout.bias in ("pair", "concatenated"):
            expected[name], expected[f"dbias_hh_l{layer}"] = unequal_parts(expected[name])
        if "h" in layout.bias_neuron:
            expected[f"dbias_neuron_l{layer}"] = np.zeros_like(expected[name])
        if layout.bias == "none":
            del expected[name]
    assert same_bits(found, expected)


@settings(deadline=None)
@given(layout=layouts(), lengths=st.tuples(*[st.integers(1, 3)] * 4))
def test_a_sequence_or_state_in_the_wrong_axes_is_noticed(layout, lengths):
    """An axis that is swapped, dropped or added changes where counting finds an element."""
    steps, batch, inputs, layers = lengths
    batch = batch if set("B") <= set(layout.sequence) & set(layout.states) else 1
    layers = layers if "L" in layout.states else 1
    x = np.arange(float(steps * batch * inputs)).reshape(steps, batch, inputs)
    h = np.arange(float(layers * batch * inputs)).reshape(layers, batch, inputs)
    c = h + h.size
    for array, ours, axes, there in (
        (x, "TBI", layout.sequence, layout.sequence_to(x)),
        (h, "LBH", layout.states, layout.state_to(h)),
        (x[..., 0], "TB", layout.sequence.replace("I", ""), layout.targets_to(x[..., 0])),
    ):
        assert isinstance(there, list) == (":" in axes)
        for index in np.ndindex(array.shape):
            at = dict(zip(ours, index, strict=True)) | {"1": 0}
            element = there
            for letter in axes.replace(":", ""):
                element = element[at[letter]]
            assert element.shape == ()
            assert element == array[index]
    assert same_bits({"x": layout.sequence_from(layout.sequence_to(x))}, {"x": x})
    assert same_bits({"h": layout.state_from(layout.state_to(h))}, {"h": h})
    states = layout.states_to(h, c)
    assert len(states) == (1 if layout.joined_state else 2)
    assert same_bits(dict(zip("hc", layout.states_from(*states), strict=True)), {"h": h, "c": c})
    if layout.joined_state:
        gradients = layout.gradients_from({"dstate0": states[0]})
        assert same_bits(gradients, {"dh0": h, "dc0": c})
        first = layout.states_to(h, c)[0]
        flat = np.concatenate([h, c] if layout.joined_state == "hc" else [c, h], axis=-1)
        assert same_bits({"s": layout.state_from(first)}, {"s": flat})


@settings(deadline=None)
@given(layout=layouts())
def test_a_field_lost_in_json_is_noticed(layout):
    """A layout comes back from JSON as it went."""
    assert Layout.from_json(layout.to_json()) == layout


def compare(layout, vjp, case, **options):
    """A native LSTM against the twin, in our arrangement."""
    outputs, backward = vjp(
        layout.params_to(case.params), layout.input_to(case.x), *layout.states_to(case.h0, case.c0)
    )
    actual = {"y": layout.sequence_from(outputs[0])}
    actual["h_n"], actual["c_n"] = layout.states_from(*outputs[1:])
    reference, allowed = run_case(case, autograd_vjp), error_budget(case, sides=2).allowed
    if backward is None:
        reference = {name: reference[name] for name in actual}
    else:
        upstream = layout.sequence_to(case.dy), *layout.states_to(case.dh_n, case.dc_n)
        actual |= layout.gradients_from(backward(*upstream, **options), case.params)
        reference, allowed = layout.complete(reference), layout.complete(allowed)
    return compare_gradients(actual, reference, allowed)


def disagreeing(comparison):
    return {tensor.name for tensor in comparison.tensors if tensor.verdict == "disagree"}


NATIVE = {
    "course": (COURSE, native.course, 1),
    "columns": (COLUMNS, native.columns, 1),
    "keras": (KERAS, native.keras, 1),
    "onnx": (ONNX, native.onnx, 1),
    "bias_neuron": (BIAS_NEURON, native.bias_neuron, 2),
    "bias neuron in U": (replace(BIAS_NEURON, bias_neuron="h"), native.bias_neuron, 2),
}


@pytest.mark.parametrize("style", NATIVE)
@pytest.mark.parametrize("inputs", [3, 4])
def test_a_preset_that_is_not_its_style_is_noticed(style, inputs):
    """A style's own LSTM, fed through its preset, agrees with the twin; H = I included."""
    layout, vjp, layers = NATIVE[style]
    comparison = compare(layout, vjp, drawn_case(inputs=inputs, layers=layers))
    assert disagreeing(comparison) == set()


def test_a_torch_preset_that_is_not_torchs_is_noticed():
    """torch.nn.LSTM takes the preset's arrays under their names and agrees with the twin."""
    case = drawn_case(layers=2)
    module = torch.nn.LSTM(3, 4, 2, dtype=torch.float64)
    theirs = TORCH.params_to(case.params)
    module.load_state_dict({name: torch.from_numpy(value) for name, value in theirs.items()})
    states = torch.from_numpy(case.h0), torch.from_numpy(case.c0)
    y, (h_n, c_n) = module(torch.from_numpy(case.x), states)
    upstream = [torch.from_numpy(each) for each in (case.dy, case.dh_n, case.dc_n)]
    torch.autograd.backward([y, h_n, c_n], upstream)
    found = {f"d{name}": value.grad.numpy() for name, value in module.named_parameters()}
    reference = {n: v for n, v in run_case(case, autograd_vjp).items() if n[:2] in ("dw", "db")}
    comparison = compare_gradients(
        TORCH.gradients_from(found),
        TORCH.complete(reference),
        TORCH.complete(error_budget(case, sides=2).allowed),
    )
    assert disagreeing(comparison) == set()
    assert "dbias_hh_l1" in {tensor.name for tensor in comparison.tensors}


@pytest.mark.parametrize("order", ["".join(p) for p in permutations(GATES) if "".join(p) != "ifog"])
def test_a_swapped_gate_order_is_noticed(order):
    """The course's LSTM with its gates in any other order disagrees in its outputs."""
    comparison = compare(COURSE, lambda *a: native.course(*a, order=order), drawn_case())
    assert "y" in disagreeing(comparison)


def test_a_gradient_that_leaks_through_the_bias_neuron_is_noticed():
    """The neuron's column of dU must be exactly zero, and it alone is wrong."""
    layout = replace(BIAS_NEURON, bias_neuron="h")
    comparison = compare(layout, native.bias_neuron, drawn_case(layers=2), leak=True)
    assert disagreeing(comparison) == {"dbias_neuron_l0", "dbias_neuron_l1"}


@pytest.mark.parametrize(
    ("matrices", "bias"), [("split", "first"), ("xh", "middle"), ("hx", "middle")]
)
def test_a_leak_into_the_inputs_gradient_is_noticed(matrices, bias):
    """The neuron's feature of dx is kept apart, on the side where the neuron stands."""
    layout = Layout(matrices=matrices, bias=bias, bias_neuron="x")
    x = np.arange(1.0, 13.0).reshape(2, 2, 3)
    carried = layout.input_to(x)
    side = 3 if (matrices, bias) == ("xh", "middle") else 0
    assert (carried[..., side] == 1).all()
    found = layout.gradients_from({"dx": carried})
    assert same_bits(found, {"dx": x, "dbias_neuron_x": np.ones((2, 2, 1))})
    reference = layout.complete({"dx": x})
    comparison = compare_gradients(found, reference, layout.complete({"dx": np.zeros_like(x)}))
    assert disagreeing(comparison) == {"dbias_neuron_x"}


def test_parts_that_do_not_add_up_are_noticed():
    """Odd subnormal numbers and signed zeros survive the split of a bias."""
    tiny = np.finfo(np.float32).smallest_subnormal
    array = np.array([tiny, -3 * tiny, 0.0, -0.0, 0.1, -7e37], np.float32)
    first, second = unequal_parts(array)
    assert (first + second).tobytes() == array.tobytes()
    assert (np.abs(second) <= np.abs(array)).all()


def test_a_flat_vector_in_another_order_is_noticed():
    """All layers' matrices, then all layers' biases, each row by row."""
    params = init_params(3, 2, 2, dtype=np.float64, rng=np.random.default_rng(0))
    vector = FLAT.params_to(params)["parameters"]
    weights = [params[f"weight_{w}_l{k}"].ravel() for k in range(2) for w in ("ih", "hh")]
    assert vector[:-32].tobytes() == np.concatenate(weights).tobytes()
    biases = vector[-32:].reshape(2, 2, 8).sum(axis=1)  # (layer, 4H)
    assert biases.tobytes() == np.stack([params["bias_l0"], params["bias_l1"]]).tobytes()
    named = Layout(flat="bias_l0 weight_hh weight_ih").params_to(drawn_params(Layout(), 3, 2, 1))
    assert named["params"][:8].tobytes() == drawn_params(Layout(), 3, 2, 1)["bias_l0"].tobytes()


@pytest.mark.parametrize("name", PRESETS)
def test_a_head_or_peephole_that_is_lost_is_noticed(name):
    """The head's weights go along, and a variant's peepholes as they are."""
    layout = preset(name)
    params = init_params(3, 4, rng=np.random.default_rng(0))
    rng = np.random.default_rng(1)
    params |= {"weight_ci_l0": rng.normal(size=4), "bias_out": rng.normal(size=5)}
    params["weight_out"] = rng.normal(size=(5, 4))
    if layout.flat:
        layout = replace(layout, flat=layout.flat + "; weight_out bias_out weight_ci_l0")
    theirs = layout.params_to(params)
    if not layout.flat:
        assert theirs[layout.weight_out].shape == ((4, 5) if layout.transposed else (5, 4))
    found = layout.params_from(theirs, params)
    assert {k: v.tobytes() for k, v in found.items()} == {
        k: v.astype(found[k].dtype).tobytes() for k, v in params.items()
    }
