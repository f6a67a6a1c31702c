"""Mistakes in how the gates come about, equations (1) to (5): activations, blocks, biases."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from manual_lstm.params import GATES
from torch_ref.diagnosis.backward.words import GATE_WORDS
from torch_ref.diagnosis.forward.lines import Joined, Lines
from torch_ref.harness.layouts.arrange import FIRST_PART

LinesEdit = Callable[[Lines], Lines]
# identifier, sentence, equation, the wrong line, the right one, and what makes the one of the other
Found = Iterator[tuple[str, str, str, str, str, LinesEdit]]
_NUMBERS = {"i": "(2)", "f": "(3)", "g": "(4)", "o": "(5)"}
_OTHER_ACTIVATIONS = {
    "sigmoid": ("tanh", "identity", "hard sigmoid", "sigmoid of sigmoid", "sigmoid of -z",
                "sigmoid of 2 z", "relu", "exp"),
    "tanh": ("sigmoid", "identity", "tanh of tanh", "tanh of z/2", "tanh of 2 z", "relu",
             "hard sigmoid"),
}  # fmt: skip
_KINDS = {"w": "weight_ih", "u": "weight_hh", "b": "the bias"}


def gate_mistakes(right: Lines, pair: bool = False) -> Found:
    """Those of the gates; `pair` as for `forward_mistakes`."""
    yield from _activations(right)
    yield from _blocks()
    yield from _biases(pair)


def changed(**values: Any) -> LinesEdit:
    """Give the lines other values."""
    return lambda lines: replace(lines, **values)


def of_gates(names: Sequence[str], **values: Any) -> LinesEdit:
    """Give some gates' lines other values."""

    def edit(lines: Lines) -> Lines:
        gates = {
            gate: replace(line, **values) if gate in names else line
            for gate, line in lines.gates.items()
        }
        return replace(lines, gates=gates)

    return edit


def of_each(values: Mapping[str, Mapping[str, Any]]) -> LinesEdit:
    """Give each of some gates' lines other values."""

    def edit(lines: Lines) -> Lines:
        for gate, each in values.items():
            lines = of_gates([gate], **each)(lines)
        return lines

    return edit


def declared(attribute: str, value: Any) -> str:
    return f" If that is meant, declare Variant({attribute}={value!r})."


def _activations(right: Lines) -> Found:
    groups: dict[str, tuple[tuple[str, ...], str]] = {}
    groups |= {gate: ((gate,), GATE_WORDS[gate]) for gate in GATES}
    groups["sigmoid"] = (("i", "f", "o"), "each of i, f and o")
    groups["all"] = (tuple(GATES), "each of the four gates")
    for name, (gates, words) in groups.items():
        activation = right.gates[gates[-1]].activation
        for other in _OTHER_ACTIVATIONS[activation]:
            declare = ""
            if name == "g" and other in ("tanh", "sigmoid"):
                declare = declared("candidate", other)
            shown = f"of {name}" if len(gates) == 1 else f"of {name} gates"
            yield (
                f"{shown}.{other}",
                f"{words} goes through {_named(other)} where it needs {activation}.{declare}",
                _NUMBERS[gates[0]],
                f"{gates[0]} = {_applied(other, f'z_{gates[0]}')}",
                f"{gates[0]} = {_applied(activation, f'z_{gates[0]}')}",
                of_gates(gates, activation=other),
            )
    if right.squash == "tanh" and right.gates["g"].activation == "tanh":
        for other in ("tanh of z/2", "tanh of 2 z"):
            yield (
                f"tanh.{other}",
                f"tanh is {_named(other)} wherever it is needed.",
                "(4)",
                f"g = {_applied(other, 'z_g')}",
                "g = tanh(z_g)",
                lambda lines, other=other: changed(squash=other)(  # type: ignore[misc]
                    of_gates("g", activation=other)(lines)
                ),
            )


def _named(activation: str) -> str:
    return "no activation" if activation == "identity" else _applied(activation, "z")


def _applied(activation: str, z: str) -> str:
    if activation == "identity":
        return z
    if " of " not in activation:
        return f"{activation}({z})" if " " not in activation else f"{activation} of {z}"
    outer, inner = activation.split(" of ")
    if inner in ("sigmoid", "tanh"):
        return f"{outer}({inner}({z}))"
    return f"{outer}({inner.replace('z', z)})"


def _blocks() -> Found:
    """A gate that reads another's block, or none; all of them in another order."""
    for gate, kind in itertools.product(GATES, ("wub", *_KINDS)):
        for other in GATES:
            if other == gate:
                continue
            of = "weights and bias" if kind == "wub" else _KINDS[kind]
            yield (
                f"z_{gate}.{kind} of {other}",
                f"{GATE_WORDS[gate]} reads {GATE_WORDS[other]}'s block of {of}, not its own.",
                "(1)",
                _pre(gate, dict.fromkeys(kind, other)),
                _pre(gate, {}),
                of_gates([gate], **dict.fromkeys(kind, other)),
            )
    for first, second in itertools.combinations(GATES, 2):
        for kind in ("wub", *_KINDS):
            of = "blocks" if kind == "wub" else f"blocks of {_KINDS[kind]}"
            edit = of_each({first: dict.fromkeys(kind, second), second: dict.fromkeys(kind, first)})
            yield (
                f"z.{kind} of {first} and {second} exchanged",
                f"the {of} of {first} and {second} are exchanged: {GATE_WORDS[first]} reads "
                f"{GATE_WORDS[second]}'s and the other way round.",
                "(1)",
                _pre(first, dict.fromkeys(kind, second)),
                _pre(first, {}),
                edit,
            )
    for order in itertools.permutations(GATES):
        called = ", ".join(order)
        yield (
            f"z.order {''.join(order)}",
            f"the gates are read in another order: its i, f, g, o are the blocks of {called}.",
            "(1)",
            f"i, f, g, o from the blocks {called}",
            "i, f, g, o from the blocks i, f, g, o",
            of_each({g: dict.fromkeys("wub", o) for g, o in zip(GATES, order, strict=True)}),
        )
    for gates, words in (*(((g,), GATE_WORDS[g]) for g in GATES), (tuple(GATES), "every gate")):
        name = gates[0] if len(gates) == 1 else "*"
        for kind, weight in _KINDS.items():
            edit = of_gates(gates, **{kind: ""})
            yield (
                f"z_{name}.without {kind}",
                f"{words} lacks {weight}.",
                "(1)",
                _pre(gates[0], {kind: ""}),
                _pre(gates[0], {}),
                edit,
            )
        yield (
            f"z_{name}.u transposed",
            f"{words} has its block of weight_hh transposed.",
            "(1)",
            _pre(gates[0], {}).replace("weight_hh", "weight_hh.T"),
            _pre(gates[0], {}),
            of_gates(gates, transposed=True),
        )
    joined: tuple[Joined, ...] = ("[W|U] on [h, x]", "[U|W] on [x, h]")
    for how in joined:
        matrix, inputs = how.split(" on ")
        needed = {"[h, x]": "[x, h]", "[x, h]": "[h, x]"}[inputs]
        yield (
            f"z.{how}",
            f"the joined matrix {matrix} multiplies {inputs}, where it needs {needed}.",
            "(1)",
            f"z = {matrix} @ {inputs} + b",
            f"z = {matrix} @ {needed} + b",
            changed(joined=how),
        )


def one_for_several(right: Lines) -> Found:
    """Gates that share an array, or read the block of one of them."""
    for gate in GATES:
        others = [other for other in GATES if other != gate]
        for kind in ("wub", *_KINDS):
            of = "weights and bias" if kind == "wub" else _KINDS[kind]
            yield (
                f"z.{kind} of {gate} for all",
                f"every gate reads {GATE_WORDS[gate]}'s block of {of}.",
                "(1)",
                _pre(others[0], dict.fromkeys(kind, gate)),
                _pre(others[0], {}),
                of_gates(GATES, **dict.fromkeys(kind, gate)),
            )
        for several in (*itertools.combinations(others, 2), tuple(others)):
            named = f"{', '.join(several[:-1])} and {several[-1]}"
            one = right.gates[gate]
            activation = f" = {_applied(one.activation, f'z_{gate}')}"
            yield (
                f"{named} are {gate}",
                f"{named} hold what {gate} is, as of one array for several gates.",
                _NUMBERS[several[0]],
                f"{several[0]}{activation}",
                f"{several[0]} = "
                + _applied(right.gates[several[0]].activation, f"z_{several[0]}"),
                of_gates(several, w=gate, u=gate, b=gate, activation=one.activation),
            )


def _pre(gate: str, read: Mapping[str, str]) -> str:
    """The line of z: "z_i = weight_ih[i] @ x[t] + weight_hh[i] @ h[t-1] + bias[i]"."""
    blocks = {"w": gate, "u": gate, "b": gate} | dict(read)
    terms = {
        "w": f"weight_ih[{blocks['w']}] @ x[t]",
        "u": f"weight_hh[{blocks['u']}] @ h[t-1]",
        "b": f"bias[{blocks['b']}]",
    }
    return f"z_{gate} = {' + '.join(term for kind, term in terms.items() if blocks[kind])}"


_HALF = (0.5, "has half of its bias: of a bias in two parts one is not added", "1/2 * ")
_BIASES = ((2.0, "has its bias twice", "2 * "), _HALF, (-1.0, "subtracts its bias", "-"))
# How often the first of two biases is added, and the second.
_PAIRS = {
    (2, 1): "adds its first bias twice",
    (1, 2): "adds bias_hh twice",
    (1, 0): "lacks bias_hh",
    (0, 1): "lacks its first bias",
    (2, 0): "adds its first bias twice and bias_hh not",
    (0, 2): "adds bias_hh twice and its first bias not",
    (2, 2): "adds both biases twice",
    (-1, -1): "subtracts both biases",
}


def _biases(pair: bool) -> Found:
    groups = [((gate,), GATE_WORDS[gate]) for gate in GATES] + [(tuple(GATES), "every gate")]
    for gates, words in groups:
        name = gates[0] if len(gates) == 1 else "*"
        right = _pre(gates[0], {})
        for times, verb, shown in () if pair else _BIASES:
            line = right.replace("bias", f"{shown}bias")
            edit = of_gates(gates, bias_factor=times)
            yield f"z_{name}.bias * {times:g}", f"{words} {verb}.", "(1)", line, right, edit
        for (first, second), verb in _PAIRS.items() if pair else ():
            both = f"bias[{gates[0]}] + bias_hh[{gates[0]}]"
            needed = right.replace(f"bias[{gates[0]}]", both)
            line = needed.replace(both, _sum_of_biases(gates[0], first, second))
            edit = of_gates(gates, bias_factor=first * FIRST_PART + second * (1 - FIRST_PART))
            yield (
                f"z_{name}.biases * {first}, {second}",
                f"{words} {verb}.",
                "(1)",
                line,
                needed,
                edit,
            )
        for plus in (1, -1):
            line = f"{right} {plus:+d}"
            sentence = f"{words} has {plus:+d} added to its bias."
            edit = of_gates(gates, plus=plus)
            yield f"z_{name}.bias {plus:+d}", sentence, "(1)", line, right, edit


def _sum_of_biases(gate: str, first: int, second: int) -> str:
    terms = {f"bias[{gate}]": first, f"bias_hh[{gate}]": second}
    return " + ".join(
        name if times == 1 else f"{times} * {name}" for name, times in terms.items() if times
    )
