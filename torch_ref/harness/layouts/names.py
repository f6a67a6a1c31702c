"""Which layouts have given names and shapes: what is known of a program before it runs."""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from torch_ref.harness.layouts.fields import BiasNeuron, BiasPlace, BiasShape, Gates, Matrices
from torch_ref.harness.layouts.layout import Layout
from torch_ref.harness.layouts.rules import IN_MATRIX, roles

Shape = tuple[int, ...]
# What people call the gates. Where three are known, the fourth is the candidate, whatever its name.
_GATE_NAMES = {
    "i": ("i", "in", "inp", "input"),
    "f": ("f", "forget"),
    "o": ("o", "out", "output"),
}


@dataclass(frozen=True)
class _Arrays:
    """Arrays with one name but for {layer} and {gate}, and their shapes from layer to layer."""

    template: str
    shapes: tuple[Shape, ...]
    gates: tuple[str, ...] = ()


def layouts_with_shapes(
    shapes: Mapping[str, Shape], inputs: int, hidden: int, layers: int, base: Layout
) -> Iterator[Layout]:
    """Every layout of a stack whose arrays have these names and shapes.

    Args:
        shapes: the stack's arrays, nothing else.
        inputs, hidden, layers: I, H, L of the case that the shapes are from.
        base: the sequences, states and the order of the gates.

    Returns:
        Layouts with their names in them. Where four gates have an array each, gate_names follows
        from what people call them, or is the alphabetical order where that says nothing.
    """
    whole, first_layer = _by_layer(shapes, layers)
    readings: list[tuple[Gates, Sequence[_Arrays]]] = [("blocks", whole)]
    separate = _by_gate(whole)
    if separate:
        readings.append(("separate", separate))
    for kind, arrays in readings:
        for layout in _arrangements(base, kind):
            yield from _named(layout, arrays, first_layer, inputs, hidden, layers)


def _by_layer(shapes: Mapping[str, Shape], layers: int) -> tuple[list[_Arrays], int]:
    """The names with {layer} in place of a number that counts the layers, and the first number."""
    if layers == 1:
        return [_Arrays(_escape(n), (tuple(shape),)) for n, shape in shapes.items()], 0
    numbered: dict[tuple[str, str], dict[int, str]] = {}
    for name in shapes:
        for match in re.finditer(r"\d+", name):
            around = (_escape(name[: match.start()]), _escape(name[match.end() :]))
            numbered.setdefault(around, {})[int(match[0])] = name
    for first in (0, 1):
        found: list[_Arrays] = []
        left = dict(shapes)
        for (before, after), names in numbered.items():
            series = [names.get(first + k) for k in range(layers)]
            if all(name in left for name in series):
                each = tuple(tuple(left.pop(name)) for name in series if name is not None)
                found.append(_Arrays(before + "{layer}" + after, each))
        if not left:
            return found, first
    return [], 0


def _by_gate(arrays: Sequence[_Arrays]) -> list[_Arrays]:
    """Four arrays that differ in one place of their names as one with {gate}; empty if not so."""
    found: list[_Arrays] = []
    for shapes in dict.fromkeys(each.shapes for each in arrays):
        left = [each.template for each in arrays if each.shapes == shapes]
        around: dict[tuple[str, str], dict[str, str]] = {}
        for template in left:
            for start, end in itertools.combinations(range(len(template) + 1), 2):
                if not set("{}") & set(template[start:end]):
                    key = (template[:start], template[end:])
                    around.setdefault(key, {})[template[start:end]] = template
        for before, after in sorted(around, key=lambda key: -len(key[0] + key[1])):
            members = {g: t for g, t in around[before, after].items() if t in left}
            if len(members) == 4 and before.count("{") == before.count("}"):
                found.append(_Arrays(before + "{gate}" + after, shapes, _gate_names(members)))
                left = [template for template in left if template not in members.values()]
        if left:
            return []
    same = len({each.gates for each in found}) == 1
    return found if same else []


def _gate_names(words: Mapping[str, Any]) -> tuple[str, ...]:
    """The four words in the order i, f, g, o, if three say which gate they are."""
    called = {
        gate: word
        for word in sorted(words)
        for gate, usual in _GATE_NAMES.items()
        if word.strip("_").lower() in usual
    }
    rest = [word for word in sorted(words) if word not in called.values()]
    if len(called) == 3:
        return called["i"], called["f"], rest[0], called["o"]
    return tuple(sorted(words))


def _arrangements(base: Layout, kind: Gates) -> Iterator[Layout]:
    """Every arrangement, under names that say what is what."""
    plain = replace(
        base,
        gates="separate",
        matrices="split",
        bias="single",
        bias_neuron="",
        flat="",
        first_layer=0,
        weight_ih="weight_ih {gate} {layer}",
        weight_hh="weight_hh {gate} {layer}",
        weight="weight {gate} {layer}",
        bias_ih="bias_ih {gate} {layer}",
        bias_hh="bias_hh {gate} {layer}",
    )
    if kind != "separate":
        names = ("weight_ih", "weight_hh", "weight", "bias_ih", "bias_hh")
        fused = {name: getattr(plain, name).replace("{gate} ", "") for name in names}
        plain = replace(plain, gates="blocks", **fused)
    together: list[Gates] = ["blocks", "interleaved", "stacked"]
    neurons: list[BiasNeuron] = ["", "h"]
    for gates, matrices, transposed, bias, shape, leading, neuron in itertools.product(
        [kind] if kind == "separate" else together,
        get_args(Matrices),
        (False, True),
        get_args(BiasPlace),
        get_args(BiasShape),
        (False, True),
        neurons,
    ):
        if shape != "vector" and bias in (*IN_MATRIX, "none"):
            continue
        try:
            yield replace(
                plain,
                gates=gates,
                matrices=matrices,
                transposed=transposed,
                bias=bias,
                bias_shape=shape,
                leading_axis=leading,
                bias_neuron=neuron,
            )
        except ValueError:
            continue


def _named(
    layout: Layout,
    arrays: Sequence[_Arrays],
    first_layer: int,
    inputs: int,
    hidden: int,
    layers: int,
) -> Iterator[Layout]:
    """The layout under the arrays' own names, in each way in which the shapes allow it."""
    used = roles(layout)
    if len(used) != len(arrays):
        return
    expected = _shapes(layout, inputs, hidden, layers)
    for order in itertools.permutations(range(len(arrays))):
        chosen = dict(zip(used, (arrays[k] for k in order), strict=True))
        # Two biases count as their sum, so either may be the first.
        swapped = "bias_hh" in chosen and order[used.index("bias_ih")] > order[-1]
        if swapped or any(chosen[role].shapes != expected[role] for role in used):
            continue
        names: dict[str, Any] = {role: each.template for role, each in chosen.items()}
        if layout.gates == "separate":
            names["gate_names"] = arrays[0].gates
        try:
            yield replace(layout, first_layer=first_layer, **names)
        except ValueError:
            continue


def _shapes(layout: Layout, inputs: int, hidden: int, layers: int) -> dict[str, tuple[Shape, ...]]:
    zeros: dict[str, NDArray[Any]] = {}
    for layer in range(layers):
        columns = inputs if layer == 0 else hidden
        zeros[f"weight_ih_l{layer}"] = np.zeros((4 * hidden, columns))
        zeros[f"weight_hh_l{layer}"] = np.zeros((4 * hidden, hidden))
        zeros[f"bias_l{layer}"] = np.zeros(4 * hidden)
    theirs = layout.params_to(zeros)
    gate = layout.gate_names[0]
    return {
        role: tuple(
            theirs[getattr(layout, role).format(layer=layer, gate=gate)].shape
            for layer in range(layers)
        )
        for role in roles(layout)
    }


def _escape(name: str) -> str:
    return name.replace("{", "{{").replace("}", "}}")
