"""Weights and gradients of one arrangement in another: what `Layout`'s methods do.

Between the two arrangements stand a layer's parts, each (4, H, N) with the gates in their order:
w and u, the columns for x and h; b, the bias; p and q, its two parts; z, U's column for the bias
neuron, which nothing may use.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from string import Formatter
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from manual_lstm.arrays import Params
from manual_lstm.params import GATES, lstm_sizes
from torch_ref.harness.layouts.arrange import copy, pack_gates, unequal_parts, unpack_gates
from torch_ref.harness.layouts.fields import LayoutFields
from torch_ref.harness.layouts.rules import IN_MATRIX, roles

Array = NDArray[Any]
# A variant's peephole weights (H,) keep their names and shapes in every layout.
_PEEPHOLE = re.compile(r"weight_c[ifo]_l\d+")
_HEAD = ("weight_out", "bias_out")
BIASES = ("bias_ih", "bias_hh")
_OURS = {"w": "weight_ih_l{}", "u": "weight_hh_l{}", "b": "bias_l{}", "p": "bias_l{}"}


def params_to(layout: LayoutFields, params: Params) -> dict[str, Array]:
    """Our weights in their arrangement; see `Layout.params_to`."""
    layers = lstm_sizes(params)[2]
    _check_layers(layout, layers)
    theirs: dict[str, Array] = {}
    for layer in range(layers):
        parts = _parts_of(layout, params, layer)
        for role, letters in letters_of(layout).items():
            arrays = _pack(layout, role, [parts[letter] for letter in letters])
            theirs |= zip(_names(layout, role, layer), arrays, strict=True)
    for role in _HEAD:
        if role in params:
            theirs[getattr(layout, role)] = _head_to(layout, role, np.asarray(params[role]))
    theirs |= {name: copy(np.asarray(params[name])) for name in params if _PEEPHOLE.fullmatch(name)}
    if not layout.flat:
        return theirs
    order = _flat_order(layout, layers, theirs)
    return {layout.flat_name: np.concatenate([theirs[name].ravel() for name in order])}


def arrays_from(
    layout: LayoutFields, theirs: Mapping[str, Any], like: Params | None, prefix: str
) -> dict[str, Array]:
    """Their weights, or with the prefix "d" their gradients, under our names.

    Returns:
        With "weight_ih_lk" and so on also "bias_hh_lk", the second of two biases, and
        "bias_neuron_lk", U's column for the bias neuron; what they leave out is left out.
    """
    rest = {name: np.asarray(value) for name, value in theirs.items()}
    what = "gradients" if prefix else "params"
    expected = None if like is None else _shapes(layout, like)
    if layout.flat:
        rest |= _unflatten(layout, rest, like, prefix)
    ours: dict[str, Array] = {}
    for layer in _layers_in(layout, rest, prefix):
        parts: dict[str, Array] = {}
        for role in roles(layout):
            names = [prefix + name for name in _names(layout, role, layer)]
            missing = [name for name in names if name not in rest]
            if prefix and len(missing) == len(names):
                continue
            if missing:
                raise ValueError(f"{what} has no {missing[0]}, which this layout needs.")
            arrays = [rest.pop(name) for name in names]
            for name, array in zip(names, arrays, strict=True):
                _check_shape(layout, role, name, array, expected, prefix)
            parts |= _unpack(layout, role, names, arrays)
        ours |= _under_our_names(layout, parts, layer, prefix)
    for role in _HEAD:
        name = prefix + getattr(layout, role)
        if name in rest:
            _check_shape(layout, role, name, rest[name], expected, prefix)
            ours[prefix + role] = _head_from(layout, role, rest.pop(name))
    peepholes = [name for name in rest if _PEEPHOLE.fullmatch(name.removeprefix(prefix))]
    ours |= {name: _peephole(name, rest.pop(name), like) for name in peepholes}
    if rest:
        known = [prefix + name for role in roles(layout) for name in _names(layout, role, 0)]
        raise ValueError(
            f"{what} has {next(iter(rest))} but must have no other names than this layout's: "
            f"{', '.join(known)} and the like."
        )
    return ours


def _peephole(name: str, array: Array, like: Params | None) -> Array:
    """A copy; ValueError for another shape than the weight's (H,), that of a matrix above all."""
    weight = None if like is None else like.get(name.removeprefix("d"))
    if weight is None or array.shape == weight.shape:
        return copy(array)
    whole = array.shape == weight.shape * 2
    glue = ": a weight that is a matrix is np.diag of this one, its gradient np.diagonal of that"
    raise ValueError(
        f"{name} has shape {array.shape} but must be {weight.shape}{glue if whole else ''}."
    )


def params_from(
    layout: LayoutFields, theirs: Mapping[str, ArrayLike], like: Params | None
) -> dict[str, Array]:
    """Their weights in our arrangement; see `Layout.params_from`."""
    ours = arrays_from(layout, theirs, like, "")
    layers = sum(name.startswith("weight_ih_l") for name in ours)
    for layer in range(layers):
        leak = ours.pop(f"bias_neuron_l{layer}", None)
        if leak is not None and np.any(leak != 0):
            name = _names(layout, "weight_hh", layer)[0]
            raise ValueError(
                f"{name} has weights from the bias neuron that are not zero but must be: "
                "the neuron's weights are in W, not in U."
            )
        second = ours.pop(f"bias_hh_l{layer}", None)
        if second is not None:
            ours[f"bias_l{layer}"] = ours[f"bias_l{layer}"] + second
        if layout.bias == "none":
            weight = ours[f"weight_ih_l{layer}"]
            ours[f"bias_l{layer}"] = np.zeros(len(weight), weight.dtype)
    lstm_sizes(ours)
    return ours


def names_of(layout: LayoutFields, arrays: Mapping[str, Any], prefix: str) -> set[str]:
    """The names of all layers' arrays, for the layers that `arrays` are of."""
    return {
        prefix + name
        for layer in _layers_in(layout, arrays, prefix)
        for role in roles(layout)
        for name in _names(layout, role, layer)
    }


def letters_of(layout: LayoutFields) -> dict[str, str]:
    """Which parts stand side by side in each of a layer's arrays."""
    side = IN_MATRIX.index(layout.bias) if layout.bias in IN_MATRIX else None

    def insert(letters: str, letter: str) -> str:
        at = len(letters) if side == 2 else side or 0
        return letters if side is None else letters[:at] + letter + letters[at:]

    if layout.matrices == "split":
        neuron = insert("u", "z") if "h" in layout.bias_neuron else "u"
        letters = {"weight_ih": insert("w", "b"), "weight_hh": neuron}
    else:
        letters = {"weight": insert({"xh": "wu", "hx": "uw"}[layout.matrices], "b")}
    biases = {
        "single": {"bias_ih": "b"},
        "pair": {"bias_ih": "p", "bias_hh": "q"},
        "concatenated": {"bias_ih": "pq"},
    }
    return letters | biases.get(layout.bias, {})


def _parts_of(layout: LayoutFields, params: Params, layer: int) -> dict[str, Array]:
    order = ["ifgo".index(gate) for gate in layout.gate_order]

    def gates(array: Array) -> Array:
        return array.reshape(4, -1, array.shape[1])[order]

    bias = np.asarray(params[f"bias_l{layer}"])[:, None]
    if layout.bias == "none" and np.any(bias != 0):
        raise ValueError(f"bias_l{layer} is not zero but the layout has no bias: use zeros.")
    parts = {
        "w": gates(np.asarray(params[f"weight_ih_l{layer}"])),
        "u": gates(np.asarray(params[f"weight_hh_l{layer}"])),
        "b": gates(bias),
    }
    parts["p"], parts["q"] = unequal_parts(parts["b"])
    parts["z"] = np.zeros_like(parts["b"])
    return parts


def _under_our_names(
    layout: LayoutFields, parts: Mapping[str, Array], layer: int, prefix: str
) -> dict[str, Array]:
    order = [layout.gate_order.index(gate) for gate in GATES]
    names = _OURS | {"q": "bias_hh_l{}", "z": "bias_neuron_l{}"}
    ours = {}
    for letter, part in parts.items():
        matrix = part[order].reshape(-1, part.shape[-1])
        name = prefix + names[letter].format(layer)
        ours[name] = copy(matrix if letter in "wu" else matrix[:, 0])
    return ours


def _pack(layout: LayoutFields, role: str, parts: Sequence[Array]) -> list[Array]:
    if role not in BIASES:
        arrays = pack_gates(np.concatenate(parts, axis=-1), layout.gates, layout.transposed)
    else:
        columns = [pack_gates(part, layout.gates, transposed=False) for part in parts]
        arrays = [np.concatenate(each, axis=-2) for each in zip(*columns, strict=True)]
        arrays = [_shape_bias(layout, array) for array in arrays]
    return [copy(array[None] if layout.leading_axis else array) for array in arrays]


def _shape_bias(layout: LayoutFields, column: Array) -> Array:
    if layout.bias_shape == "vector":
        return column[..., 0]
    return column if layout.bias_shape == "column" else column.swapaxes(-1, -2)


def _unpack(
    layout: LayoutFields, role: str, names: Sequence[str], arrays: Sequence[Array]
) -> dict[str, Array]:
    letters = letters_of(layout)[role]
    if len({array.shape for array in arrays}) != 1:
        shapes = ", ".join(f"{n} {a.shape}" for n, a in zip(names, arrays, strict=True))
        raise ValueError(f"the four gates must have one shape but have {shapes}.")
    if layout.leading_axis:
        arrays = [array[0] for array in arrays]
    if role in BIASES:
        columns = [_bias_column(layout, array) for array in arrays]
        split = zip(*(np.split(column, len(letters), axis=-2) for column in columns), strict=True)
        return {
            letter: unpack_gates(parts, layout.gates, transposed=False)
            for letter, parts in zip(letters, split, strict=True)
        }
    blocks = unpack_gates(arrays, layout.gates, layout.transposed)  # (4, H, N)
    widths = {"u": blocks.shape[1], "b": 1, "z": 1}
    rest = blocks.shape[2] - sum(widths.get(letter, 0) for letter in letters)
    if rest < 1 if "w" in letters else rest != 0:
        raise ValueError(
            f"{names[0]} has shape {arrays[0].shape} but must hold {_columns(letters)}, "
            f"with H = {blocks.shape[1]}."
        )
    ends = np.cumsum([widths.get(letter, rest) for letter in letters])
    return dict(zip(letters, np.split(blocks, ends[:-1], axis=-1), strict=True))


def _columns(letters: str) -> str:
    words = {"w": "I for x", "u": "H for h", "b": "1 for the bias", "z": "1 for the bias neuron"}
    return "the columns " + ", ".join(words[letter] for letter in letters)


def _bias_column(layout: LayoutFields, array: Array) -> Array:
    if layout.bias_shape == "vector":
        return array[..., None]
    return array if layout.bias_shape == "column" else array.swapaxes(-1, -2)


def _check_shape(
    layout: LayoutFields,
    role: str,
    name: str,
    array: Array,
    expected: Mapping[str, tuple[int, ...]] | None,
    prefix: str,
) -> None:
    """One array's shape: against the known sizes, or else as far as its rank tells."""
    bare = name.removeprefix(prefix)
    if expected is not None:
        if bare in expected and array.shape != expected[bare]:
            raise ValueError(f"{name} has shape {array.shape} but must be {expected[bare]}.")
        return
    rows = "H" if layout.gates in ("separate", "stacked") else "4H"
    if layout.bias == "concatenated":
        rows = "8H" if role in BIASES else rows
    if role in _HEAD:
        rows = "V"
    axes = [rows, "N"] if not layout.transposed else ["N", rows]
    if role in (*BIASES, "bias_out"):
        axes = {"vector": [rows], "column": [rows, "1"], "row": ["1", rows]}[layout.bias_shape]
    if role not in _HEAD:
        axes = [*(["4"] if layout.gates == "stacked" else []), *axes]
        axes = [*(["1"] if layout.leading_axis else []), *axes]
    if len(axes) != array.ndim or not all(map(_fits, axes, array.shape)):
        shape = f"({', '.join(axes)}{',' if len(axes) == 1 else ''})"
        raise ValueError(f"{name} has shape {array.shape} but must be {shape}.")


def _fits(axis: str, length: int) -> bool:
    if axis.isdigit():
        return length == int(axis)
    return length >= 1 and length % int(axis.rstrip("HNV") or 1) == 0


def _head_to(layout: LayoutFields, role: str, array: Array) -> Array:
    if role == "weight_out":
        return copy(array.T if layout.transposed else array)
    return copy(_shape_bias(layout, array[:, None]))


def _head_from(layout: LayoutFields, role: str, array: Array) -> Array:
    if role == "weight_out":
        return copy(array.T if layout.transposed else array)
    return copy(_bias_column(layout, array)[:, 0])


def _names(layout: LayoutFields, role: str, layer: int) -> list[str]:
    number = layer + layout.first_layer
    template = getattr(layout, role)
    if layout.gates != "separate":
        return [template.format(layer=number)]
    called = dict(zip(GATES, layout.gate_names, strict=True))
    return [template.format(layer=number, gate=called[gate]) for gate in layout.gate_order]


def _layers_in(layout: LayoutFields, arrays: Mapping[str, Array], prefix: str) -> list[int]:
    """The layers to read: of weights every one up to the highest, of gradients those there are."""
    found = {layout.first_layer}
    for role in roles(layout):
        pattern = re.compile(re.escape(prefix) + _pattern(getattr(layout, role), layout.gate_names))
        for match in filter(None, map(pattern.fullmatch, arrays)):
            found.add(int(match.groupdict().get("layer") or layout.first_layer))
    layers = sorted(number - layout.first_layer for number in found)
    return [layer for layer in layers if layer >= 0] if prefix else list(range(layers[-1] + 1))


def _pattern(template: str, gate_names: Sequence[str]) -> str:
    pattern = ""
    for text, place, _, _ in Formatter().parse(template):
        pattern += re.escape(text)
        if place == "gate":
            pattern += f"(?:{'|'.join(map(re.escape, gate_names))})"
        if place == "layer":
            pattern += r"(?P=layer)" if "?P<layer>" in pattern else r"(?P<layer>\d+)"
    return pattern


def _check_layers(layout: LayoutFields, layers: int) -> None:
    for role in roles(layout):
        if layers > 1 and "{layer}" not in getattr(layout, role):
            raise ValueError(
                f"the stack has {layers} layers but the layout's {role} is "
                f"{getattr(layout, role)!r}, which must contain {{layer}} for a stack."
            )


def _shapes(layout: LayoutFields, like: Params) -> dict[str, tuple[int, ...]]:
    zeros = {name: np.zeros_like(np.asarray(value)) for name, value in like.items()}
    return {name: value.shape for name, value in params_to(layout, zeros).items()}


def _flat_order(layout: LayoutFields, layers: int, arrays: Mapping[str, Array]) -> list[str]:
    """The arrays' names in the order that they have in the flat vector."""
    order: list[str] = []
    for group in layout.flat.split(";"):
        for layer in range(layers):
            for word in group.split():
                names = [word]
                if word in roles(layout):
                    names = _names(layout, word, layer)
                elif word in _HEAD:
                    names = [getattr(layout, word)] if getattr(layout, word) in arrays else []
                order += [name for name in names if name not in order]
    if sorted(order) != sorted(arrays):
        odd = sorted(set(order) ^ set(arrays))[0]
        raise ValueError(
            f"flat is {layout.flat!r} but must name each of the arrays once, and nothing else: "
            f"{odd} is {'missing' if odd in arrays else 'no array of this layout'}."
        )
    return order


def _unflatten(
    layout: LayoutFields, rest: dict[str, Array], like: Params | None, prefix: str
) -> dict[str, Array]:
    """The arrays that the flat vector holds, which is taken out of `rest`."""
    name = prefix + layout.flat_name
    if name not in rest:
        return {}
    vector = rest.pop(name)
    if like is None:
        raise ValueError(
            f"{name} is one vector but its length does not tell the sizes: pass like=params, "
            "weights of the same sizes in our arrangement."
        )
    zeros = {each: np.zeros_like(np.asarray(value)) for each, value in like.items()}
    arrays = params_to(replace(layout, flat=""), zeros)
    order = _flat_order(layout, lstm_sizes(like)[2], arrays)
    total = sum(array.size for array in arrays.values())
    if vector.shape != (total,):
        raise ValueError(f"{name} has shape {vector.shape} but must be ({total},).")
    ends = np.cumsum([arrays[each].size for each in order])
    return {
        prefix + each: part.reshape(arrays[each].shape)
        for each, part in zip(order, np.split(vector, ends[:-1]), strict=True)
    }
