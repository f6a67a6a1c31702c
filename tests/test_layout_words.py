"""Our arrays under the names of another layout: in sentences, in lines of code, in tables."""

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from test_diagnosis import by_name
from test_layout import layouts

from torch_ref import diagnose, preset
from torch_ref.diagnosis.mistakes.catalogue import catalogue
from torch_ref.diagnosis.mistakes.planted import planted_vjp
from torch_ref.harness.contract import Implementation
from torch_ref.harness.layouts.arrange import FIRST_PART
from torch_ref.harness.layouts.layout import Layout
from torch_ref.harness.layouts.presets import KERAS, PRESETS
from torch_ref.harness.layouts.words import array_name, differs, element_of, in_their_words
from torch_ref.reports.names import element_name

pytestmark = pytest.mark.sampled

KINDS = ("weight_ih", "weight_hh", "bias")
GATES = "ifgo"
TWO = ("pair", "concatenated")
# Which part of ours the first of two biases is, and the second.
SHARES = {"bias": FIRST_PART, "bias_hh": 1 - FIRST_PART}
INPUTS, HIDDEN = 3, 2


def numbered(layout: Layout) -> tuple[dict[str, Any], dict[str, Any]]:
    """A stack of two whose elements are all different, and as theirs; the bias is even."""
    shapes: dict[str, tuple[int, ...]] = {}
    for k in range(2):
        shapes |= {f"weight_ih_l{k}": (4 * HIDDEN, HIDDEN if k else INPUTS)}
        shapes[f"weight_hh_l{k}"] = (4 * HIDDEN, HIDDEN)
        shapes[f"bias_l{k}"] = (4 * HIDDEN,)
    ours, start = {}, 1
    for name, shape in shapes.items():
        count = int(np.prod(shape))
        ours[name] = 2.0 * np.arange(start, start + count).reshape(shape)
        start += count
    if layout.bias == "none":
        ours |= {name: 0 * value for name, value in ours.items() if name.startswith("bias")}
    return ours, layout.params_to(ours)


def kinds_of(layout: Layout) -> tuple[str, ...]:
    """The arrays that a layout has; of two biases each is a part of ours."""
    two = ("bias_hh",) if layout.bias in TWO else ()
    return (*(KINDS if layout.bias != "none" else KINDS[:2]), *two)


def looked_up(name: str, theirs: dict[str, Any], inputs: int) -> Any:
    """The elements that a name with a subscript stands for."""
    array, _, subscript = name.partition("[")
    value = theirs[array]
    if not subscript:
        return value
    code = re.sub(r"(\d)H", r"\1*H", subscript.removesuffix("]"))
    return eval(f"value[{code}]", {"value": value, "I": inputs, "H": HIDDEN})


CONCATENATED = Layout(bias="concatenated", gate_order="ogif")


@given(layout=layouts())
@example(layout=CONCATENATED)
@example(layout=replace(CONCATENATED, gates="interleaved"))
def test_name_of_a_block_stands_for_that_block(layout: Layout) -> None:
    """A block of another gate, or columns of x that are those of h or of the bias."""
    layout = replace(layout, flat="")
    ours, theirs = numbered(layout)
    for k in range(2):
        for kind in kinds_of(layout):
            whole = ours[f"{kind.replace('bias_hh', 'bias')}_l{k}"]
            for gate, block in zip(GATES, np.split(whole, 4), strict=True):
                name = array_name(layout, kind, gate, k)
                found = looked_up(name, theirs, HIDDEN if k else INPUTS)
                share = SHARES.get(kind, 1) if layout.bias in TWO else 1
                assert np.array_equal(np.sort(found, None), np.sort(block, None) * share), name


@given(layout=layouts())
@example(layout=CONCATENATED)
@example(layout=replace(CONCATENATED, gates="interleaved"))
def test_name_of_an_element_stands_for_that_element(layout: Layout) -> None:
    """A person is sent to a right element of their array."""
    layout = replace(layout, flat="")
    ours, theirs = numbered(layout)
    for k in range(2):
        for kind in kinds_of(layout):
            array = ours[f"{kind.replace('bias_hh', 'bias')}_l{k}"]
            share = SHARES.get(kind, 1) if layout.bias in TWO else 1
            for index in np.ndindex(array.shape):
                name = element_of(layout, kind, k, array.shape, index)
                found = looked_up(name, theirs, HIDDEN if k else INPUTS)
                assert np.shape(found) == (), name
                assert float(found) == array[index] * share, name


OURS = re.compile(r"weight_[ih]h|weight_out|bias_out|dbias|bias_l|\bbias\[|gradient of the bias")


@pytest.mark.parametrize("name", sorted(set(PRESETS) - {"manual_lstm", "torch"}))
def test_no_name_of_ours_is_left_in_a_sentence_about_their_lstm(name: str) -> None:
    """A way of writing an array in the catalogue that the translation does not know."""
    names = ("weight_out", "bias_out")
    own = {each: f"their_{each[0]}" for each in names if getattr(PRESETS[name], each) == each}
    layout = replace(PRESETS[name], **own)
    bias = "dbias" if layout.bias_ih == "bias" else ""
    for mistake in catalogue(head="linear").mistakes:
        for text in (mistake.sentence, mistake.wrong, mistake.right):
            told = in_their_words(layout, text)
            left = [each for each in OURS.findall(told) if each not in (bias, bias + "[", "bias[")]
            assert not left, told


@pytest.mark.parametrize(
    ("layout", "text", "told"),
    [
        (
            Layout(),
            "The gradient of weight_ih is missing.",
            "The gradient of weight_ih is missing.",
        ),
        (KERAS, "dweight_ih_l0 for the gates f only", "dkernel for the gates f only"),
        (
            KERAS,
            "The forget gate's block of the gradient of weight_hh has the wrong sign.",
            "The gradient of recurrent_kernel[:, H:2H] (the forget gate's) has the wrong sign.",
        ),
        (
            KERAS,
            "dweight_ih[f] += dz_f.T @ x[t] / T  at t=0 only; ...",
            "dkernel[:, H:2H] += (dz_f.T @ x[t] / T).T  at t=0 only; ...",
        ),
        (
            KERAS,
            "dx = dz_i @ weight_ih[i] + dz_f @ weight_ih[f].T",
            "dx = dz_i @ kernel[:, :H].T + dz_f @ kernel[:, H:2H]",
        ),
        (preset("columns"), "dbias[g] += dz_g", "dbc += dz_g"),
        (preset("columns"), "dh0 = dh_carry", "da0 = dh_carry"),
        (preset("columns"), "dweight_ih_l0 and dbias_l0", "dW{i,f,c,o}[:, H:] and db{i,f,c,o}"),
        (preset("bias_neuron"), "dbias_l1", "dW_{i,f,g,o}_l1[:, I]"),
    ],
)
def test_sentence_in_their_words(layout: Layout, text: str, told: str) -> None:
    """A sentence that is turned into another one, or not at all."""
    assert in_their_words(layout, text) == told


def test_own_layout_is_left_as_it_is() -> None:
    """Another order of the sequences' axes is no reason to rename the weights."""
    assert not differs(Layout(sequence="BTI", states="BH"))
    assert differs(Layout(gate_order="ifog"))
    assert element_name("dweight_ih_l0", (8, 3), (3, 1), Layout(sequence="BTI")) == "f[1] x[1]"
    assert element_name("dweight_ih_l0", (8, 3), (3, 1), KERAS) == "dkernel[1, 3]"
    assert element_name("dweight_ih_l0", (8, 3), (3, 1), preset("cudnn")) == "f[1] x[1]"


def test_diagnosis_speaks_of_their_arrays() -> None:
    """A finding with our names in it, for somebody who has never seen them."""
    known = catalogue()
    planted = planted_vjp(by_name(known, "weight_hh[f] * 0").edit(known.table))

    def vjp(params: Any, x: Any, h0: Any, c0: Any) -> Any:
        ours = KERAS.params_from(params)
        outputs, pullback = planted(ours, KERAS.sequence_from(x), h0[None], c0[None])

        def back(dy: Any) -> Any:
            found = pullback(KERAS.sequence_from(dy), 0 * h0[None], 0 * c0[None])
            theirs = KERAS.params_to({name: found[f"d{name}"] for name in ours})
            return {f"d{name}": value for name, value in theirs.items()}

        return KERAS.sequence_to(outputs[0]), back

    finding = diagnose(Implementation("keras", vjp=vjp, layout=KERAS), seconds=0).finding
    assert finding is not None
    (mistake,) = finding.mistakes
    assert mistake.identifier == "weight_hh[f] * 0"
    assert mistake.sentence == (
        "The gradient of recurrent_kernel[:, H:2H] (the forget gate's) is missing."
    )
    assert mistake.right == "drecurrent_kernel[:, H:2H] += (dz_f.T @ h[t-1]).T"
