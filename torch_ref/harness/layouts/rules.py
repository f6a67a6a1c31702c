"""Which layouts make sense, one sentence for each that does not, and a layout in words."""

from collections.abc import Iterable
from string import Formatter
from typing import Any, get_args

from torch_ref.harness.layouts.arrange import in_words
from torch_ref.harness.layouts.fields import (
    BiasNeuron,
    BiasPlace,
    BiasShape,
    Gates,
    Joined,
    LayoutFields,
    Matrices,
)

# Where the bias neuron stands next to x, so that x can carry it, and on which side of x.
NEURON_SIDE = {
    ("split", "first"): "first",
    ("split", "last"): "last",
    ("xh", "first"): "first",
    ("xh", "middle"): "last",
    ("hx", "middle"): "first",
    ("hx", "last"): "last",
}
IN_MATRIX = ("first", "middle", "last")
_CHOICES: dict[str, tuple[str, ...]] = {
    "gates": get_args(Gates),
    "matrices": get_args(Matrices),
    "bias": get_args(BiasPlace),
    "bias_shape": get_args(BiasShape),
    "bias_neuron": get_args(BiasNeuron),
    "joined_state": get_args(Joined),
}
_FLAGS = ("transposed", "leading_axis")
GATE_PLACES = {
    "blocks": "in blocks of one matrix",
    "interleaved": "interleaved per unit",
    "stacked": "along an axis of their own",
    "separate": "in a matrix each",
}


def roles(fields: LayoutFields) -> tuple[str, ...]:
    """The fields whose names a layer's arrays have."""
    matrices = ("weight_ih", "weight_hh") if fields.matrices == "split" else ("weight",)
    biases = {
        "single": ("bias_ih",),
        "concatenated": ("bias_ih",),
        "pair": ("bias_ih", "bias_hh"),
    }
    return (*matrices, *biases.get(fields.bias, ()))


def check(fields: LayoutFields) -> None:
    """ValueError with one sentence unless the fields of a Layout make sense together."""
    for name, allowed in _CHOICES.items():
        if getattr(fields, name) not in allowed:
            expected = ", ".join(map(repr, allowed))
            raise ValueError(f"{name} is {getattr(fields, name)!r} but must be one of {expected}.")
    for name in _FLAGS:
        if getattr(fields, name) is not True and getattr(fields, name) is not False:
            raise ValueError(f"{name} is {getattr(fields, name)!r} but must be True or False.")
    _check_gates(fields)
    _check_axes("sequence", fields.sequence, "TBI", "TI", "T")
    _check_axes("states", fields.states, "LBH", "H", "L")
    _check_bias(fields)
    _check_names(fields)


def _check_gates(fields: LayoutFields) -> None:
    order, names = fields.gate_order, fields.gate_names
    if not isinstance(order, str) or sorted(order) != sorted("ifgo"):
        raise ValueError(f"gate_order is {order!r} but must be i, f, g and o in some order.")
    if not _are_texts(names) or len(names) != 4 or len(set(names)) != 4:
        raise ValueError(
            f"gate_names is {names!r} but must be a tuple of four different names, those of i, f, "
            "g and o."
        )


def _check_axes(name: str, axes: Any, letters: str, needed: str, list_axis: str) -> None:
    text = axes if isinstance(axes, str) else ""
    if text.startswith(f"{list_axis}:"):
        text = text.replace(":", "", 1)
    plain = text.replace("1", "")
    if not set(needed) <= set(plain) <= set(letters) or len(set(plain)) != len(plain):
        raise ValueError(
            f"{name} is {axes!r} but must be {' and '.join(needed)} with or without "
            f"{' and '.join(letter for letter in letters if letter not in needed)} in some order, "
            f"1 for an axis of length 1, and {list_axis}: in front for a list."
        )


def _check_bias(fields: LayoutFields) -> None:
    matrices, bias, neuron = fields.matrices, fields.bias, fields.bias_neuron
    if bias == "middle" and matrices == "split":
        raise ValueError(
            "bias is 'middle' but W and U are apart: it must be 'first' or 'last' in W."
        )
    if bias == "concatenated" and fields.gates not in ("blocks", "interleaved"):
        raise ValueError(
            f"bias is 'concatenated' but gates is {fields.gates!r}: "
            "two biases share one array only where the four gates do."
        )
    if neuron and bias not in IN_MATRIX:
        raise ValueError(
            f"bias_neuron is {neuron!r} but bias is {bias!r}: "
            "there is a bias neuron only where the bias is in W, 'first', 'middle' or 'last'."
        )
    if "h" in neuron and matrices != "split":
        raise ValueError(
            f"bias_neuron is {neuron!r} but W and U are joined: "
            "U has a row or column for the neuron only where it is a matrix of its own."
        )
    if "x" in neuron and (matrices, bias) not in NEURON_SIDE:
        raise ValueError(
            f"bias_neuron is {neuron!r} but in {matrices!r} with bias {bias!r} the neuron does "
            "not stand next to x, so x cannot carry it."
        )


def _check_names(fields: LayoutFields) -> None:
    used = roles(fields)
    single = ("weight_out", "bias_out", "x", "h0", "c0", "state", "flat_name")
    for name in (*used, *single):
        template = getattr(fields, name)
        if not isinstance(template, str) or not template:
            raise ValueError(f"{name} is {template!r} but must be a name.")
        found = _places(template)
        per_gate = name in used and fields.gates == "separate"
        if per_gate and "gate" not in found:
            raise ValueError(
                f"{name} is {template!r} but must contain {{gate}}: there is an array per gate."
            )
        allowed = {"layer", "gate"} if per_gate else {"layer"} if name in used else set()
        if not found <= allowed:
            places = " and ".join(f"{{{each}}}" for each in sorted(allowed, reverse=True))
            raise ValueError(
                f"{name} is {template!r} but must be a name with no other place than "
                f"{places or 'none'}."
            )
    first = fields.first_layer
    if isinstance(first, bool) or not isinstance(first, int) or first < 0:
        raise ValueError(f"first_layer is {first!r} but must be a whole number of at least 0.")
    if not _are_texts((fields.flat or " ",)):
        raise ValueError(f"flat is {fields.flat!r} but must be names with spaces between them.")
    gates = fields.gate_names if fields.gates == "separate" else ("",)
    unused = ["h0", "c0"] if fields.joined_state else ["state"]
    unused += [] if fields.flat else ["flat_name"]
    names = [
        getattr(fields, role).format(layer=layer, gate=gate)
        for role in used
        for layer in ((0, 1) if "{layer}" in getattr(fields, role) else (0,))
        for gate in gates
    ] + [getattr(fields, name) for name in single if name not in unused]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"the layout has two arrays named {twice[0]} but each needs its own name.")


def _places(template: str) -> set[str]:
    """What stands in braces; the whole template where it is more than a plain name."""
    try:
        parts = list(Formatter().parse(template))
    except ValueError:
        return {template}
    if any(spec or conversion for _, _, spec, conversion in parts):
        return {template}
    return {field for _, field, _, _ in parts if field is not None}


def _are_texts(value: Any) -> bool:
    return isinstance(value, tuple) and all(isinstance(each, str) and each for each in value)


def describe(fields: LayoutFields) -> str:
    """A layout in a short phrase: what every layout has, then what is not as usual."""
    bias = bias_phrase(fields).replace("a single bias", "bias single")
    parts = [_gate_phrase(fields), *_matrix_phrases(fields), bias]
    sequence = fields.sequence
    usual = {"TBI": "time first", "BTI": "batch first", "TI": "one sequence (T, I)"}
    parts.append(usual.get(sequence, f"sequences {in_words(sequence)}"))
    if fields.states != "LBH":
        parts.append(f"states {in_words(fields.states)}")
    if fields.joined_state:
        parts.append(f"states joined as [{', '.join(fields.joined_state)}]")
    if fields.flat:
        parts.append("all weights in one vector")
    return ", ".join(parts)


def _gate_phrase(fields: LayoutFields) -> str:
    return f"gates {gates_in_words(fields)} {GATE_PLACES[fields.gates]}"


def gates_in_words(fields: LayoutFields) -> str:
    """The gates' names in their order: "i, f, o, c"."""
    return ", ".join(fields.gate_names["ifgo".index(gate)] for gate in fields.gate_order)


def _matrix_phrases(fields: LayoutFields) -> Iterable[str]:
    if fields.matrices != "split":
        yield f"W and U {joined_phrase(fields)}"
    if fields.transposed:
        yield "transposed"
    if fields.leading_axis:
        yield "with a leading axis of 1"


def joined_phrase(fields: LayoutFields) -> str:
    """Whether W and U are one matrix: "joined as [h, x, 1]", "apart"."""
    if fields.matrices == "split":
        return "apart"
    letters = list(fields.matrices)
    if fields.bias in IN_MATRIX:
        letters.insert(IN_MATRIX.index(fields.bias), "1")
    return f"joined as [{', '.join(letters)}]"


def bias_phrase(fields: LayoutFields) -> str:
    """Where the bias is: "a single bias", "bias as the last column of W"."""
    bias = fields.bias
    if bias in IN_MATRIX:
        line = "row" if fields.transposed else "column"
        phrase = f"bias as the {bias} {line} of W"
        also = {"h": "U has it too", "x": "x carries it", "xh": "x carries it and U has it too"}
        neuron = fields.bias_neuron
        return f"{phrase} ({also[neuron]})" if neuron else phrase
    words = {
        "none": "no bias",
        "single": "a single bias",
        "pair": "two biases",
        "concatenated": "two biases in one array",
    }[bias]
    return words if fields.bias_shape == "vector" else f"{words} as a {fields.bias_shape}"
