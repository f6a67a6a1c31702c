"""Mistakes in the forward pass: one line of it that is another, each with a sentence."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from manual_lstm.params import GATES
from torch_ref.diagnosis.catalogue import Mistake
from torch_ref.diagnosis.forward_lines import (
    BEFORE,
    CELLS,
    LOSSES,
    OUTS,
    Joined,
    Lines,
    forward_lines,
)
from torch_ref.diagnosis.words import GATE_WORDS, capitalised
from torch_ref.oracles.variant import Variant

LinesEdit = Callable[[Lines], Lines]
_NUMBERS = {"i": "(2)", "f": "(3)", "g": "(4)", "o": "(5)"}
_OTHER_ACTIVATIONS = {
    "sigmoid": ("tanh", "identity", "hard sigmoid", "sigmoid of sigmoid", "sigmoid of -z",
                "sigmoid of 2 z", "relu", "exp"),
    "tanh": ("sigmoid", "identity", "tanh of tanh", "tanh of z/2", "tanh of 2 z", "relu",
             "hard sigmoid"),
}  # fmt: skip
_KINDS = {"w": "weight_ih", "u": "weight_hh", "b": "the bias"}
_STATES = {
    "zero at t=0": "{s}0 is ignored: at t=0 zero is taken for it",
    "zero": "zero is taken for {s}[t-1] at every step: {s} is not carried",
    "its own start at every step": "{s}0 is taken for {s}[t-1] at every step: {s} is not carried",
    "the other state": "{o}[t-1] is taken for {s}[t-1]",
    "the other state at t=0": "{o}0 is taken for {s}0",
}
_ORDER_WORDS = {
    "[t-1]": "that of t-1, at t=0 the last",
    "[t+1]": "that of t+1, at the end the first",
    "[T-1-t]": "in the opposite order",
    "[0]": "that of t=0 at every step",
    "[T-1]": "that of the last step at every step",
}
_LOSS_SCALES = {
    "T B": "it is the sum over steps and batch, not their mean",
    "T": "it is summed over the steps, not averaged",
    "B": "it is summed over the batch, not averaged",
    "1/T": "it is divided by T once too often",
    "1/B": "it is divided by B once too often",
    "1/(T B)": "it is divided by T B twice",
    "1/V": "it is divided by V, over which no mean is taken",
    "-1": "it has the wrong sign",
    "2": "it is doubled",
    "1/2": "it is halved",
}


@dataclass(frozen=True)
class ForwardMistake:
    """A wrong line of the forward pass.

    Attributes:
        mistake: what a finding tells.
        edit: makes the wrong lines of the right ones.
    """

    mistake: Mistake
    edit: LinesEdit


@cache
def forward_mistakes(variant: Variant, head: str | None) -> tuple[ForwardMistake, ...]:
    """All of them, in the order in which they are preferred.

    Args:
        variant: the cell.
        head: "linear" or "bounded" for code with its loss inside; None where y is returned.
    """
    right = forward_lines(variant)
    found: dict[str, ForwardMistake] = {}
    outcomes = [right]
    sources = [_states(), _cells(right), _activations(right), _blocks(right), _biases(right)]
    sources += [_peepholes(right), _stack(), _loss(head) if head else _returned()]
    for identifier, sentence, number, wrong, should_be, edit in itertools.chain(*sources):
        lines = edit(right)
        if lines in outcomes:
            continue
        outcomes.append(lines)
        mistake = Mistake(
            f"forward.{identifier}", capitalised(sentence), number, wrong, should_be, _unchanged
        )
        found[identifier] = ForwardMistake(mistake, edit)
    return tuple(found.values())


def _unchanged(table: Any) -> Any:
    return table


Found = Iterator[tuple[str, str, str, str, str, LinesEdit]]


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


def _of_each(values: Mapping[str, Mapping[str, Any]]) -> LinesEdit:
    def edit(lines: Lines) -> Lines:
        for gate, each in values.items():
            lines = of_gates([gate], **each)(lines)
        return lines

    return edit


def _declared(attribute: str, value: Any) -> str:
    return f" If that is meant, declare Variant({attribute}={value!r})."


def _states() -> Found:
    for own, other in (("h", "c"), ("c", "h")):
        for before, words in _STATES.items():
            assert before in BEFORE
            line = {
                "its own start at every step": f"{own}0",
                "zero at t=0": f"{own}0 = 0",
                "zero": "0",
                "the other state": f"{other}[t-1]",
                "the other state at t=0": f"{own}0 = {other}0",
            }[before]
            yield (
                f"{own}[t-1].{before}",
                f"{words.format(s=own, o=other)}.",
                "(1)" if own == "h" else "(6)",
                line,
                f"{own}0" if "t=0" in before else f"{own}[t-1]",
                changed(**{own: before}),
            )
    yield (
        "h0 and c0 exchanged",
        "h0 and c0 are exchanged.",
        "(1)",
        "h0, c0 = c0, h0",
        "h0, c0 = h0, c0",
        changed(h="the other state at t=0", c="the other state at t=0"),
    )
    for order, words in _ORDER_WORDS.items():
        sentence = f"x is read at another step: {words}."
        yield f"x{order}", sentence, "(1)", f"x{order}", "x[t]", changed(x=order)


def _cells(right: Lines) -> Found:
    for cell in CELLS:
        declare = _declared("coupled", True) if cell == "f * c[t-1] + (1 - f) * g" else ""
        yield (
            f"c.{cell}",
            f"The cell is {cell} where it must be {right.cell}.{declare}",
            "(6)",
            f"c[t] = {cell}",
            f"c[t] = {right.cell}",
            changed(cell=cell),
        )
    state = {"tanh": "identity", "identity": "tanh"}[right.state]
    squashed = f"tanh({right.cell})"
    lines = (right.cell, squashed) if state == "identity" else (squashed, right.cell)
    yield (
        "c.tanh" if state == "tanh" else "c.without tanh",
        f"c is {lines[0]} where it must be {lines[1]}."
        + _declared("state", "tanh" if state == "tanh" else "linear"),
        "(32)",
        f"c[t] = {lines[0]}",
        f"c[t] = {lines[1]}",
        changed(state=state),
    )
    inner = "tanh(c[t])" if right.squash == "tanh" else "c[t]"
    others = {"tanh": "tanh(c[t])", "identity": "c[t]", "sigmoid": "sigmoid(c[t])"}
    others |= {"tanh of tanh": "tanh(tanh(c[t]))", "relu": "relu(c[t])"}
    for squash, shown in others.items():
        declare = _declared("output", squash) if squash in ("tanh", "identity") else ""
        yield (
            f"h.o * {shown}",
            f"h[t] is o * {shown} where it must be o * {inner}.{declare}",
            "(7)",
            f"h[t] = o * {shown}",
            f"h[t] = o * {inner}",
            changed(squash=squash),
        )
    for out in (*OUTS, "tanh(o * c[t])"):
        shown = out if "[t-1]" in out else out.replace("tanh(c[t])", inner)
        yield (
            f"h.{shown}",
            f"h[t] is {shown} where it must be o * {inner}.",
            "(7)",
            f"h[t] = {shown}",
            f"h[t] = o * {inner}",
            changed(out=out),
        )


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
                declare = _declared("candidate", other)
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


def _blocks(right: Lines) -> Found:
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
            edit = _of_each(
                {first: dict.fromkeys(kind, second), second: dict.fromkeys(kind, first)}
            )
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
            _of_each({g: dict.fromkeys("wub", o) for g, o in zip(GATES, order, strict=True)}),
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


def _pre(gate: str, read: Mapping[str, str]) -> str:
    """The line of z: "z_i = weight_ih[i] @ x[t] + weight_hh[i] @ h[t-1] + bias[i]"."""
    blocks = {"w": gate, "u": gate, "b": gate} | dict(read)
    terms = {
        "w": f"weight_ih[{blocks['w']}] @ x[t]",
        "u": f"weight_hh[{blocks['u']}] @ h[t-1]",
        "b": f"bias[{blocks['b']}]",
    }
    return f"z_{gate} = {' + '.join(term for kind, term in terms.items() if blocks[kind])}"


def _biases(right: Lines) -> Found:
    groups = [((gate,), GATE_WORDS[gate]) for gate in GATES] + [(tuple(GATES), "every gate")]
    for gates, words in groups:
        name = gates[0] if len(gates) == 1 else "*"
        for times, verb, shown in ((2, "has its bias twice", "2 *"), (-1, "subtracts it", "-")):
            sentence = f"{words} {verb}." if times == 2 else f"{words} subtracts its bias."
            line = _pre(gates[0], {}).replace("bias", f"{shown} bias")
            edit = of_gates(gates, bias_factor=times)
            yield f"z_{name}.bias * {times}", sentence, "(1)", line, _pre(gates[0], {}), edit
        for plus in (1, -1):
            line = f"{_pre(gates[0], {})} {plus:+d}"
            sentence = f"{words} has {plus:+d} added to its bias."
            edit = of_gates(gates, plus=plus)
            yield f"z_{name}.bias {plus:+d}", sentence, "(1)", line, _pre(gates[0], {}), edit


def _peepholes(right: Lines) -> Found:
    for gate, line in right.gates.items():
        if not line.peephole:
            continue
        for seen in {"", "c[t-1]", "c[t]" if gate == "o" else ""} - {line.peephole}:
            what = f"sees {seen} through its peephole, not {line.peephole}"
            yield (
                f"z_{gate}.peephole {seen or 'left out'}",
                f"{GATE_WORDS[gate]} {what if seen else 'lacks its peephole'}.",
                "(34)",
                f"z_{gate} += weight_c{gate} * {seen}" if seen else f"z_{gate}",
                f"z_{gate} += weight_c{gate} * {line.peephole}",
                of_gates([gate], peephole=seen),
            )
    if any(line.peephole for line in right.gates.values()):
        edit = of_gates(GATES, peephole="")
        yield "z.no peepholes", "the peepholes are left out.", "(34)", "z", "z + w_c * c", edit


def _stack() -> Found:
    for below, shown in (("c", "c of the layer below"), ("x", "x")):
        yield (
            f"stack.{shown}",
            f"a layer of the stack is given {shown} where it needs h of the layer below.",
            "(8)",
            f"x[t] = {below}[t]",
            "x[t] = h[t] of the layer below",
            changed(below=below),
        )
    sentence = "every layer of the stack uses the weights of the lowest."
    edit = changed(layer="lowest")
    yield "stack.weights of layer 0", sentence, "(8)", "weight_l0", "weight_lk", edit
    sentence = "a layer begins with h0 and c0 of another layer."
    edit = changed(start="reversed")
    yield "stack.states of another layer", sentence, "(8)", "h0[L-1-k]", "h0[k]", edit


def _returned() -> Found:
    for name, others in {
        "y": ("c", "h[t-1]", "h[T-1-t]"),
        "h_n": ("c", "h[0]", "h[T-2]", "tanh(c)"),
        "c_n": ("h", "c[0]", "c[T-2]", "tanh(c)"),
    }.items():
        right = {"y": "h[t]", "h_n": "h[T-1]", "c_n": "c[T-1]"}[name]
        for other in others:
            yield (
                f"{name}.{other}",
                f"{name} is {other} where it must be {right}.",
                "(7)",
                f"{name} = {other}",
                f"{name} = {right}",
                changed(**{name: other}),
            )
    edit = changed(h_n="c", c_n="h")
    sentence = "h_n and c_n are exchanged."
    yield "h_n and c_n exchanged", sentence, "(7)", "return y, c, h", "return y, h, c", edit


def _loss(head: str) -> Found:
    for scale, words in _LOSS_SCALES.items():
        line = "loss = " + (f"loss * {scale}" if "1/" not in scale else f"loss / {scale[2:]}")
        sentence = f"the loss is right but for a factor: {words}."
        edit = changed(scale=(scale,))
        yield f"loss * {scale}", sentence, "(25)", line, "loss = mean(-log p[target])", edit
    for loss in LOSSES:
        sentence = f"the loss is that of {loss}, not of -log p[target]."
        edit = changed(loss=loss)
        line = f"loss = mean({loss})"
        yield f"loss.{loss}", sentence, "(25)", line, "loss = mean(-log p[target])", edit
    for order in ("[t-1]", "[t+1]", "[T-1-t]"):
        sentence = f"the targets are read at another step: {_ORDER_WORDS[order]}."
        edit = changed(targets=order)
        yield f"targets{order}", sentence, "(25)", f"targets{order}", "targets[t]", edit
    for h in ("c", "h[t-1]"):
        sentence = f"the head is given {h} where it needs h[t]."
        yield f"head.{h}", sentence, "(19)", f"logits of {h}", "logits of h[t]", changed(head=h)
    if head == "linear":
        right = "logits = weight_out @ h[t] + bias_out"
        for edit, identifier, sentence, line in (
            (changed(bias_out=0), "bias_out.left out", "bias_out is not added.",
             "logits = weight_out @ h[t]"),
            (changed(bias_out=2), "bias_out * 2", "bias_out is added twice.",
             "logits = weight_out @ h[t] + 2 * bias_out"),
            (changed(weight_out="transposed"), "weight_out.transposed",
             "weight_out is transposed.", "logits = weight_out.T @ h[t] + bias_out"),
            (changed(weight_out="left out"), "weight_out.left out",
             "the head is left out: the softmax is taken of h itself.", "logits = h[t]"),
        ):  # fmt: skip
            yield identifier, sentence, "(19)", line, right, edit
