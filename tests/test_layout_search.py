"""The search for a layout: what it finds, what it cannot tell apart, and when nothing fits."""

from dataclasses import replace
from functools import cache
from itertools import permutations
from typing import NamedTuple

import native_lstms as native
import numpy as np
import pytest

from manual_lstm import init_params
from torch_ref import Case, autograd_vjp, error_budget, run_case
from torch_ref.harness.layouts.layout import Layout
from torch_ref.harness.layouts.names import layouts_with_shapes
from torch_ref.harness.layouts.presets import (
    BASIC_LSTM_CELL,
    BIAS_NEURON,
    COLUMNS,
    COURSE,
    FLAX,
    PRESETS,
)
from torch_ref.harness.layouts.search import find_layout

pytestmark = pytest.mark.sampled

ORDERS = ["".join(order) for order in permutations("ifgo")]


class Solved(NamedTuple):
    case: Case
    truth: dict
    allowed: dict


@cache
def drawn_case(inputs=3, hidden=4, layers=1, steps=3, batch=2, seed=0):
    rng = np.random.default_rng(seed)

    def draw(*shape):
        return rng.uniform(-1, 1, shape)

    params = init_params(inputs, hidden, layers, dtype=np.float64, rng=rng)
    states = [draw(layers, batch, hidden) for _ in range(4)]
    case = Case(params, draw(steps, batch, inputs), *states, dy=draw(steps, batch, hidden))
    return Solved(case, run_case(case, autograd_vjp), error_budget(case, sides=2).allowed)


def find(forward, solved, base=None, outputs=("y", "h_n", "c_n"), **options):
    case, truth, allowed = solved
    expected = {name: truth[name] for name in outputs}
    inputs = case.params, case.x, case.h0, case.c0
    return find_layout(forward, *inputs, expected, allowed, base, **options)


def course(order="ifgo", arrange=lambda params: params, **changes):
    """The course's forward with another order of the gates, on arrays turned into its own."""

    def forward(params, x, h0, c0):
        outputs, _ = native.course(arrange(params), x, h0, c0, order=order)
        return outputs

    return forward


@pytest.mark.parametrize("order", ORDERS)
def test_a_gate_order_that_is_not_found_is_noticed(order):
    """Each of the 24 orders is found and nothing else fits, though H = I."""
    finding = find(course(order), drawn_case(4), COURSE)
    assert finding.fits == (replace(COURSE, gate_order=order),)
    assert finding.layout == finding.fits[0]
    assert not finding.ambiguous


def joined(order, at, transposed):
    """Wx, Wh and b out of one matrix that holds x, h and the bias in this order."""

    def arrange(params):
        matrix = params["weight"] if transposed else params["weight"].T
        hidden = matrix.shape[1] // 4
        inputs = len(matrix) - hidden - 1
        sizes = {"x": inputs, "h": hidden, "1": 1}
        ends = np.cumsum([sizes[letter] for letter in at])
        parts = dict(zip(at, np.split(matrix, ends[:-1]), strict=True))
        return {"Wx": parts["x"], "Wh": parts["h"], "b": parts["1"][0]}

    return course(order, arrange)


def turned(name, change):
    """The course's arrays, each after a change."""
    return course("ifgo", lambda params: {key: change(key, value) for key, value in params.items()})


NAMES = {"weight_ih": "Wx", "weight_hh": "Wh", "bias_ih": "b", "weight": "weight", "bias_hh": "b2"}
BASE = Layout(sequence="BTI", states="BH", **NAMES)
ARRANGEMENTS = {
    "transposed": (turned("transposed", lambda _, v: v), {"transposed": True}),
    "not transposed": (turned("not", lambda _, v: v.T), {}),
    "interleaved": (
        turned(
            "interleaved",
            lambda _, v: v.T.reshape(*v.T.shape[:-1], -1, 4).swapaxes(-1, -2).reshape(v.T.shape),
        ),
        {"gates": "interleaved"},
    ),
    "stacked": (
        turned("stacked", lambda _, v: np.concatenate(list(v)).T),
        {"gates": "stacked"},
    ),
    "[x, h, 1]": (joined("ifgo", "xh1", False), {"matrices": "xh", "bias": "last"}),
    "[h, 1, x] transposed": (
        joined("ogif", "h1x", True),
        {"matrices": "hx", "bias": "middle", "transposed": True, "gate_order": "ogif"},
    ),
    "[1, x, h] transposed": (
        joined("ifgo", "1xh", True),
        {"matrices": "xh", "bias": "first", "transposed": True},
    ),
    "two biases": (
        course("ifgo", lambda p: {"Wx": p["Wx"].T, "Wh": p["Wh"].T, "b": p["b"] + p["b2"]}),
        {"bias": "pair"},
    ),
}


@pytest.mark.parametrize("style", ARRANGEMENTS)
@pytest.mark.parametrize("inputs", [3, 4])
def test_an_arrangement_that_is_not_found_is_noticed(style, inputs):
    """Transposition, joining, the bias' place, interleaving: found, and nothing else fits."""
    forward, fields = ARRANGEMENTS[style]
    finding = find(forward, drawn_case(inputs), BASE)
    assert finding.fits == (replace(BASE, **fields),)


@pytest.mark.parametrize("name", ["course", "columns", "keras", "onnx"])
def test_names_and_shapes_that_lead_astray_are_noticed(name):
    """From names and shapes alone, without a layout, each style is found among few candidates."""
    style, solved = PRESETS[name], drawn_case(4)

    def forward(*arrays):
        return getattr(native, name)(*arrays)[0]

    theirs = style.params_to(solved.case.params)
    base = Layout(sequence=style.sequence, states=style.states)
    finding = find(forward, solved, base, shapes={key: v.shape for key, v in theirs.items()})
    assert len(finding.fits) == 1
    found = finding.layout.params_to(solved.case.params)
    assert {k: v.tobytes() for k, v in found.items()} == {k: v.tobytes() for k, v in theirs.items()}
    assert finding.tried < 100


@pytest.mark.parametrize("first", [0, 1])
def test_a_stack_s_names_that_are_misread_are_noticed(first):
    """Layers are counted from 0 or 1, and four gates are told from the other letters."""
    layout = replace(BIAS_NEURON, first_layer=first, weight_ih="W{gate}_{layer}")
    layout = replace(layout, weight_hh="U{gate}_{layer}", gate_names=("in", "fgt", "z", "out"))
    solved = drawn_case(4, layers=2)
    theirs = layout.params_to(solved.case.params)

    def forward(params, *arrays):
        own = BIAS_NEURON.params_to(layout.params_from(params))
        return native.bias_neuron(own, *arrays)[0]

    base = Layout(sequence=layout.sequence, states=layout.states)
    shapes = {name: value.shape for name, value in theirs.items()}
    finding = find(forward, solved, base, shapes=shapes)
    assert len(finding.fits) == 1
    assert finding.layout.first_layer == first
    assert finding.layout.gate_names == layout.gate_names
    assert finding.layout.params_to(solved.case.params).keys() == theirs.keys()
    nothing = find(forward, solved, base, shapes=shapes | {"gamma": (3, 3)})
    assert (nothing.layout, nothing.tried) == (None, 0)


def test_gates_under_each_others_names_are_noticed():
    """What they call i is f, and the sentence says so."""

    def forward(params, x, a0, c0):
        swapped = params | {"Wi": params["Wf"], "Wf": params["Wi"]}
        swapped |= {"bi": params["bf"], "bf": params["bi"]}
        return native.columns(swapped, x, a0, c0)[0]

    finding = find(forward, drawn_case(), COLUMNS)
    assert finding.fits == (replace(COLUMNS, gate_names=("f", "i", "c", "o")),)
    assert finding.sentence == "correct, if its gates are called f, i, c, o for i, f, g, o"


def broken(params, x, h0, c0):
    outputs, _ = native.course(params, x, h0, c0)
    return outputs[0] * 1.001, *outputs[1:]


def not_a_number(params, x, h0, c0):
    outputs, _ = native.course(params, x, h0, c0)
    return np.full_like(outputs[0], np.nan), None, None


def no_output(params, x, h0, c0):
    return None, None, None


@pytest.mark.parametrize("forward", [broken, not_a_number, no_output])
def test_a_fit_to_a_broken_forward_is_noticed(forward):
    """A wrong number, no number and no output at all fit nothing."""
    finding = find(forward, drawn_case(4), COURSE)
    assert finding.layout is None
    assert finding.fits == ()
    assert finding.sentence.startswith(f"None of {finding.tried} arrangements")


def test_a_wrong_last_state_is_not_overlooked():
    """A right y does not excuse a wrong c_n, unless c_n is not asked for."""

    def forward(*arrays):
        (y, h, c), _ = native.course(*arrays)
        return y, h, np.tanh(c)

    assert find(forward, drawn_case(), COURSE).layout is None
    assert find(forward, drawn_case(), COURSE, outputs=("y", "h_n")).layout == COURSE


def test_an_ambiguity_that_is_kept_quiet_is_noticed():
    """With one unit interleaved gates and blocks are the same arrays; the sentence says so."""
    finding = find(course("ifog"), drawn_case(3, hidden=1), COURSE)
    assert finding.ambiguous
    assert finding.layout == COURSE
    assert replace(COURSE, gates="interleaved") in finding.fits
    assert finding.sentence.endswith("draw another case to tell them apart")
    assert find(course("ifog"), drawn_case(3), COURSE).fits == (COURSE,)


def test_two_orders_that_give_equal_outputs_are_both_reported():
    """Where i and o have the same weights their places cannot be told apart on this case."""
    case = drawn_case().case
    params = {name: value.copy() for name, value in case.params.items()}
    for value in params.values():
        value.reshape(4, 4, -1)[3] = value.reshape(4, 4, -1)[0]
    case = replace(case, params=params)
    truth, allowed = run_case(case, autograd_vjp), error_budget(case, sides=2).allowed
    finding = find(course("ifog"), Solved(case, truth, allowed), COURSE)
    assert set(finding.fits) == {COURSE, replace(COURSE, gate_order="ofig")}
    assert finding.layout == COURSE
    assert "1 other arrangement explains this case as well" in finding.sentence


def test_two_biases_are_one_finding():
    """Which of two biases is the first makes no difference, so it is no ambiguity."""

    def forward(params, x, h0, c0):
        own = {"Wx": params["W"].T, "Wh": params["U"].T, "b": params["b1"] + params["b2"]}
        return native.course(own, x, h0, c0, order="ifgo")[0]

    shapes = {"b1": (16,), "b2": (16,), "U": (16, 4), "W": (16, 4)}
    base = Layout(sequence="BTI", states="BH")
    finding = find(forward, drawn_case(4), base, shapes=shapes)
    assert len(finding.fits) == 1
    assert finding.layout.weight_ih == "W"
    assert finding.layout.bias == "pair"


def test_gates_that_are_not_known_by_their_names_are_noticed():
    """Three known names leave the fourth to the candidate; otherwise the alphabet decides."""
    usual = {f"{kind}_{gate}": (4, n) for kind, n in (("W", 3), ("U", 4)) for gate in ("o", "f")}
    usual |= {f"{kind}_{gate}": (4, n) for kind, n in (("W", 3), ("U", 4)) for gate in ("a", "i")}
    found = list(layouts_with_shapes(usual, 3, 4, 1, Layout()))
    assert {layout.gate_names for layout in found} == {("i", "f", "a", "o")}
    odd = {name.replace("_f", "_k"): shape for name, shape in usual.items()}
    found = list(layouts_with_shapes(odd, 3, 4, 1, Layout()))
    assert {layout.gate_names for layout in found} == {("a", "i", "k", "o")}


def test_an_exception_about_values_does_not_end_an_arrangement():
    """Only what concerns shapes or names rules out the other orders of the gates."""
    calls = []

    def forward(params, x, h0, c0):
        calls.append(1)
        if len(calls) < 4:
            raise FloatingPointError("overflow encountered in exp")
        return course("ogfi")(params, x, h0, c0)

    assert find(forward, drawn_case(), COURSE).layout == replace(COURSE, gate_order="ogfi")


def test_an_arrangement_is_not_tried_24_times_when_its_shapes_are_refused():
    """Two refusals end an arrangement: a slow program is not run for nothing."""

    def forward(*arrays):
        raise KeyError("kernel")

    finding = find(forward, drawn_case(), COURSE, axes={"transposed": (False, True)})
    assert finding.tried == 4


def test_other_axes_than_the_usual_are_searched_on_request():
    """Sequences and joined states, where the caller names them."""

    def forward(params, x, state):
        c, h = np.split(state, 2, axis=-1)
        (y, h, c), _ = native.course(params, x, h, c)
        return y, np.concatenate([c, h], axis=-1)

    base = replace(COURSE, joined_state="hc", sequence="TBI")
    axes = {"sequence": ("TBI", "BTI"), "joined_state": ("hc", "ch")}
    finding = find(forward, drawn_case(), base, axes=axes)
    assert finding.fits == (replace(COURSE, joined_state="ch"),)
    assert finding.sentence == (
        "correct, if its sequences are (B, T, I) and its states are joined as [c, h]"
    )


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        (
            {},
            "correct in the arrangement that was assumed: gates i, f, o, g in blocks of one "
            "matrix, transposed, bias single, batch first, states (B, H)",
        ),
        ({"gate_order": "ifgo"}, "correct, if its gates are in the order i, f, o, g"),
        (
            {"gate_order": "gofi", "transposed": False},
            "correct, if its gates are in the order i, f, o, g and its matrices are transposed",
        ),
        (
            {"gates": "interleaved", "bias": "pair"},
            "correct, if its gates are in blocks of one matrix and it has a single bias",
        ),
    ],
)
def test_a_finding_is_said_in_a_sentence(fields, sentence):
    """What must be true of their arrays, and only that."""
    assert find(course("ifog"), drawn_case(), replace(COURSE, **fields)).sentence == sentence


def test_a_joined_cell_is_found_from_the_default():
    """TensorFlow's kernel (I + H, 4H) with i, j, f, o, from its names and shapes."""

    def forward(params, x, h0, c0):
        kernel = params["kernel"]
        parts = {"Wx": kernel[: x.shape[2]], "Wh": kernel[x.shape[2] :], "b": params["bias"]}
        return native.course(parts, x, h0, c0, order="igfo")[0]

    solved = drawn_case(4)
    theirs = BASIC_LSTM_CELL.params_to(solved.case.params)
    shapes = {name: value.shape for name, value in theirs.items()}
    finding = find(forward, solved, Layout(sequence="BTI", states="BH"), shapes=shapes)
    assert finding.sentence == (
        "correct, if its gates are in the order i, g, f, o and W and U are joined as [x, h] "
        "and its matrices are transposed"
    )


@pytest.mark.parametrize("transposed", [False, True])
def test_a_transposition_that_only_the_values_show_is_noticed(transposed):
    """With a matrix for each gate and H = I every matrix is square."""

    def forward(params, x, h0, c0):
        own = {}
        for name, prefix in (("Wx", "i"), ("Wh", "h")):
            kernels = [params[f"{prefix}{gate}/kernel"] for gate in "ifog"]
            own[name] = np.hstack(kernels if transposed else [kernel.T for kernel in kernels])
        own["b"] = np.hstack([params[f"h{gate}/bias"] for gate in "ifog"])
        return native.course(own, x, h0, c0)[0]

    finding = find(forward, drawn_case(4), replace(FLAX, transposed=not transposed))
    assert finding.fits == (replace(FLAX, transposed=transposed),)
    not_ = "" if transposed else "not "
    assert finding.sentence == f"correct, if its matrices are {not_}transposed"


def test_an_output_of_another_name_is_refused():
    """Nothing to compare with is no reason to call everything correct."""
    with pytest.raises(ValueError, match=r"expected_outputs has \['z'\] but must have some of"):
        find_layout(course(), {}, None, None, None, {"z": 1}, {})
    with pytest.raises(ValueError, match=r"expected_outputs has \[\] but must have some of"):
        find_layout(course(), {}, None, None, None, {}, {})
