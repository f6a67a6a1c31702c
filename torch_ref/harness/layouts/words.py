"""What our arrays are called in another arrangement: "weight_ih[f]" as "Wf" or "kernel[:, H:2H]".

Subscripts are Python's, with I and H where a sentence does not know the sizes.
"""

import re
from dataclasses import fields

from manual_lstm.params import GATES
from torch_ref.harness.layouts.fields import LayoutFields
from torch_ref.harness.layouts.params import BIASES, letters_of

# Which part of a layer stands for an array of ours: see layout_params.
_LETTERS = {"weight_ih": "w", "weight_hh": "u", "bias": "bp", "bias_hh": "q"}
_HEAD = ("weight_out", "bias_out")
_GATE_WORDS = ("the input gate", "the forget gate", "the candidate", "the output gate")
_SUMMED = "(?:weight_ih|weight_hh|the bias)"
_BLOCK = re.compile(
    rf"({'|'.join(_GATE_WORDS)})'s block of the gradient of ({_SUMMED}(?:(?:, | and ){_SUMMED})*)",
    re.IGNORECASE,
)
_ARRAY = re.compile(
    r"(?<![\w.])(?P<d>d?)(?P<kind>weight_ih|weight_hh|weight_out|bias_out|bias_hh|bias)"
    r"(?:_l(?P<layer>\d+))?(?:\[(?P<gate>[ifgo])\])?(?!\w)"
)
_SUM = re.compile(r"(dweight_\w+(?:\[\w\])? \+= )(?!0)(.+?)(?=  |; |$)")
# Of such a sum what is there at one step only, beside what is there elsewhere.
_APART = re.compile(r"(  except at t=0 \+ )(dz_\w\.T @ .+?)(?=  at t=0 only)")
_FACTOR = re.compile(r"(?<=@ )(weight_(?:ih|hh|out)(?:\[\w\])?)(\.T)?(?! and| from)")
# What of a layout says nothing about the weights.
_ELSEWHERE = ("sequence", "states", "joined_state", "bias_neuron", "state", "flat_name")


def in_their_words(layout: LayoutFields, text: str) -> str:
    """A sentence or a line of code about our arrays as one about theirs.

    Args:
        text: with our names as the catalogue writes them: "weight_ih[f]", "dweight_ih_l0",
            "the forget gate's block of the gradient of weight_ih".
    """
    if not differs(layout):
        return text

    def block(found: re.Match[str]) -> str:
        words = found[1].lower()
        gate = GATES[_GATE_WORDS.index(words)]
        names = re.sub(
            _SUMMED, lambda each: array_name(layout, each[0].removeprefix("the "), gate), found[2]
        )
        return f"{found[1][0]}he gradient of {names} ({words}'s)"

    def array(found: re.Match[str]) -> str:
        kind, layer, gate = found["kind"], found["layer"], found["gate"]
        if kind == "bias" and not (found["d"] or layer or gate):
            return found[0]  # the word
        return found["d"] + array_name(layout, kind, gate, None if layer is None else int(layer))

    if layout.transposed:
        text = _SUM.sub(r"\1(\2).T", text)
        text = _APART.sub(r"\1(\2).T", text)
        text = _FACTOR.sub(lambda found: found[1] + ("" if found[2] else ".T"), text)
    text = _BLOCK.sub(block, text)
    bias = f"gradient of {array_name(layout, 'bias')}"
    text = re.sub(r"gradient of the bias(es)?\b", lambda _: bias, text)
    text = _ARRAY.sub(array, text)
    names = {"dx": f"d{layout.x}"}
    if not layout.joined_state:
        names |= {"h0": layout.h0, "c0": layout.c0, "dh0": f"d{layout.h0}", "dc0": f"d{layout.c0}"}
    return re.sub(rf"\b({'|'.join(names)})\b", lambda found: names[found[0]], text)


def differs(layout: LayoutFields) -> bool:
    """Whether the weights have other names, or another arrangement, than ours."""
    ours = LayoutFields()
    names = [field.name for field in fields(LayoutFields) if field.name not in _ELSEWHERE]
    return any(getattr(layout, name) != getattr(ours, name) for name in names)


def array_name(
    layout: LayoutFields, kind: str, gate: str | None = None, layer: int | None = None
) -> str:
    """One of our arrays, or a gate's block of it, as theirs.

    Args:
        kind: "weight_ih", "weight_hh", "bias", "bias_hh", "weight_out" or "bias_out".
        gate: whose block; None is the whole.
        layer: its number, from 0; None is any, called k.

    Returns:
        "Wf", "kernel[:, H:2H]", "W[:, I:I+H]"; where the layout has no such array, `kind`.
    """
    found = _role_of(layout, kind)
    if found is None:
        return str(getattr(layout, kind)) if kind in _HEAD else kind
    role, letters, letter = found
    if role in BIASES:
        column = "0"
    elif len(letters) == 1:
        column = ":"
    else:
        start = _sum(letters[: letters.index(letter)])
        stop = "" if letters.endswith(letter) else _sum(letters[: letters.index(letter) + 1])
        column = (start or "0") if letter in "bz" else f"{start}:{stop}"
    rows = _rows(layout, gate, {"p": ":4H", "q": "4H:"}[letter] if letters == "pq" else ":")
    return _name(layout, role, gate, layer) + _subscript(layout, role, gate, rows, column)


def element_of(
    layout: LayoutFields, kind: str, layer: int, shape: tuple[int, ...], index: tuple[int, ...]
) -> str:
    """An element of one of our arrays of a layer as one of theirs: "Wf[2, 7]", "W[2, I+3]".

    Args:
        kind: as for `array_name`, but for the head's.
        shape, index: in our arrangement.

    Returns:
        "" where it cannot be said: the weights are one vector, or the layout has no such array.
    """
    found = _role_of(layout, kind)
    if found is None or layout.flat:
        return ""
    role, letters, letter = found
    hidden = shape[0] // 4
    gate, unit = GATES[index[0] // hidden], index[0] % hidden
    number = layout.gate_order.index(gate)
    if layout.gates in ("separate", "stacked"):
        row = unit
    else:
        row = number * hidden + unit if layout.gates == "blocks" else 4 * unit + number
    if role in BIASES:
        row += 4 * hidden * letters.index(letter)
        column = "0"
    else:
        inputs = shape[1] if kind == "weight_ih" else None if layer == 0 else hidden
        own = index[1] if letter in "wu" else 0
        column = _sum(letters[: letters.index(letter)], hidden, inputs, own)
    return _name(layout, role, gate, layer) + _subscript(layout, role, gate, str(row), column)


def _role_of(layout: LayoutFields, kind: str) -> tuple[str, str, str] | None:
    """The array that ours stands in, the parts side by side in it, and which of them it is."""
    for role, letters in letters_of(layout).items():
        for letter in _LETTERS.get(kind, ""):
            if letter in letters:
                return role, letters, letter
    return None


def _rows(layout: LayoutFields, gate: str | None, whole: str) -> str:
    """A gate's rows of an array whose four gates have the rows `whole`."""
    if gate is None or layout.gates in ("separate", "stacked"):
        return whole
    number = layout.gate_order.index(gate)
    if layout.gates == "interleaved":
        start, stop = whole.split(":")
        return f"{f'{start}+' if start else ''}{number}:{stop}:4"
    number += 4 * (whole == "4H:")
    return f"{_times(number)}:{_times(number + 1)}"


def _times(number: int) -> str:
    return {0: "", 1: "H"}.get(number, f"{number}H")


def _sum(letters: str, hidden: int | None = None, inputs: int | None = None, own: int = 0) -> str:
    """How many columns the parts have, and `own` more: "I+H+1", or numbers where known."""
    number = own + sum(letter in "bz" for letter in letters)
    unknown = []
    for letter, name, size in (("w", "I", inputs), ("u", "H", hidden)):
        if letter in letters and size is None:
            unknown.append(name)
        elif letter in letters:
            number += size or 0
    if own or hidden is not None or number or unknown:
        return "+".join([*unknown, *([str(number)] if number or not unknown else [])])
    return ""


def _name(layout: LayoutFields, role: str, gate: str | None, layer: int | None) -> str:
    called = dict(zip(GATES, layout.gate_names, strict=True))
    every = f"{{{','.join(layout.gate_names)}}}"
    number = "k" if layer is None else str(layer + layout.first_layer)
    return str(getattr(layout, role)).format(layer=number, gate=called[gate] if gate else every)


def _subscript(layout: LayoutFields, role: str, gate: str | None, row: str, column: str) -> str:
    """ "[:, H:2H]", or "" for the whole array."""
    if role in BIASES:
        axes = {"vector": [row], "column": [row, column], "row": [column, row]}[layout.bias_shape]
    else:
        axes = [column, row] if layout.transposed else [row, column]
    if layout.gates == "stacked":
        axes.insert(0, str(layout.gate_order.index(gate)) if gate else ":")
    if layout.leading_axis:
        axes.insert(0, "0")
    whole = row == ":" and (column == ":" or role in BIASES)
    if whole and not (gate and layout.gates == "stacked"):
        return ""
    while axes[-1] == ":":
        axes.pop()
    return f"[{', '.join(axes)}]"
