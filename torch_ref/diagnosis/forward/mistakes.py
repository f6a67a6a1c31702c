"""Mistakes in the forward pass: one line of it that is another, each with a sentence."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from manual_lstm.params import GATES
from torch_ref.diagnosis.backward.words import GATE_WORDS, capitalised
from torch_ref.diagnosis.forward.gate_mistakes import (
    Found,
    LinesEdit,
    changed,
    declared,
    gate_mistakes,
    of_each,
    of_gates,
    one_for_several,
)
from torch_ref.diagnosis.forward.lines import (
    BEFORE,
    CELLS,
    OF_THE_LOWEST,
    OUTS,
    Lines,
    forward_lines,
)
from torch_ref.diagnosis.forward.loss_mistakes import loss_mistakes
from torch_ref.diagnosis.forward.reshaped import reshape_mistakes
from torch_ref.diagnosis.mistakes.catalogue import Mistake
from torch_ref.oracles.variant import Variant

_STATES = {
    "zero at t=0": "{s}0 is ignored: at t=0 zero is taken for it",
    "zero": "zero is taken for {s}[t-1] at every step: {s} is not carried",
    "its own start at every step": "{s}0 is taken for {s}[t-1] at every step: {s} is not carried",
    "the other state": "{o}[t-1] is taken for {s}[t-1]",
    "the other state at t=0": "{o}0 is taken for {s}0",
    "the other state after t=0": "{o}[t-1] is taken for {s}[t-1], but for t=0",
}
_ORDER_WORDS = {
    "[t-1]": "that of t-1, at t=0 the last",
    "[t+1]": "that of t+1, at the end the first",
    "[T-1-t]": "in the opposite order",
    "[0]": "that of t=0 at every step",
    "[T-1]": "that of the last step at every step",
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
def forward_mistakes(
    variant: Variant, head: str | None, pair: bool = False
) -> tuple[ForwardMistake, ...]:
    """All of them, in the order in which they are preferred.

    Args:
        variant: the cell.
        head: "linear" or "bounded" for code with its loss inside; None where y is returned.
        pair: whether the bias comes in two parts, as `unequal_parts` makes them.
    """
    right = forward_lines(variant)
    found: dict[str, ForwardMistake] = {}
    outcomes = [right]
    sources = [_states(), _cells(right), gate_mistakes(right, pair)]
    sources += [
        _peepholes(right),
        _stack(),
        *([loss_mistakes(head)] if head else []),
        _returned(head),
    ]
    sources += [one_for_several(right), _reshaped(head)]  # last, as pairs are tried in order
    for each in listed(itertools.chain(*sources)):
        lines = each.edit(right)
        if lines not in outcomes:
            outcomes.append(lines)
            found[each.mistake.identifier] = each
    return tuple(found.values())


def listed(found: Found) -> Iterator[ForwardMistake]:
    """Wrong lines with what a finding tells of them."""
    for identifier, sentence, number, wrong, should_be, edit in found:
        mistake = Mistake(f"forward.{identifier}", capitalised(sentence), number, wrong, should_be)
        yield ForwardMistake(mistake, edit)


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
                "the other state after t=0": f"{other}[t-1]",
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
        "h0 and c0 = 0",
        "h0 and c0 are ignored: every call begins with a zero state.",
        "(1)",
        "h0, c0 = 0, 0",
        "h0, c0 = h0, c0",
        changed(h="zero at t=0", c="zero at t=0"),
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
        declare = declared("coupled", True) if cell == "f * c[t-1] + (1 - f) * g" else ""
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
        f"c[t] is {lines[0]} where it must be {lines[1]}."
        + declared("state", "tanh" if state == "tanh" else "linear"),
        "(32)",
        f"c[t] = {lines[0]}",
        f"c[t] = {lines[1]}",
        changed(state=state),
    )
    inner = "tanh(c[t])" if right.squash == "tanh" else "c[t]"
    others = {"tanh": "tanh(c[t])", "identity": "c[t]", "sigmoid": "sigmoid(c[t])"}
    others |= {"tanh of tanh": "tanh(tanh(c[t]))", "relu": "relu(c[t])"}
    for squash, shown in others.items():
        declare = declared("output", squash) if squash in ("tanh", "identity") else ""
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
    if right.gates["o"].peephole:
        yield (
            "z_o.peephole not at t=0",
            "the output gate lacks its peephole at t=0, where c[t] is there already.",
            "(34)",
            "z_o += weight_co * c[t]  except at t=0",
            "z_o += weight_co * c[t]",
            of_gates(["o"], peephole="c[t], not at t=0"),
        )
    for first, second in (("i", "f"), ("i", "o"), ("f", "o")):
        if right.gates["i"].peephole:
            yield (
                f"z.peepholes of {first} and {second} exchanged",
                f"{GATE_WORDS[first]} and {GATE_WORDS[second]} have each other's peephole.",
                "(34)",
                f"z_{first} += weight_c{second} * {right.gates[first].peephole}",
                f"z_{first} += weight_c{first} * {right.gates[first].peephole}",
                of_each({first: {"p": second}, second: {"p": first}}),
            )
    if any(line.peephole for line in right.gates.values()):
        edit = of_gates(GATES, peephole="")
        yield "z.no peepholes", "the peepholes are left out.", "(34)", "z", "z + w_c * c", edit


def _stack() -> Found:
    for below, shown in (
        ("c", "c of the layer below"),
        ("x", "x"),
        ("h[t-1]", "h[t-1] of the layer below"),
    ):
        yield (
            f"stack.{shown}",
            f"a layer of the stack is given {shown} where it needs h[t] of the layer below.",
            "(8)",
            f"x[t] = {below.removesuffix('[t-1]')}[{'t-1' if '[' in below else 't'}]",
            "x[t] = h[t] of the layer below",
            changed(below=below),
        )
    for states in (("h",), ("c",), ("h", "c")):
        for how in OF_THE_LOWEST:
            at, names = how.rpartition(" ")[2], " and ".join(states)
            yield (
                f"stack.{names} of the lowest {at}",
                f"every layer takes {' and '.join(s + at for s in states)} of the lowest one for "
                f"its own {' and '.join(s + '[t-1]' for s in states)}.",
                "(8)",
                f"{states[0]} = {states[0]}{at} of layer 0",
                f"{states[0]} = {states[0]}[t-1] of layer k",
                changed(**dict.fromkeys(states, how)),
            )
    sentence = "every layer of the stack uses the weights of the lowest."
    edit = changed(layer="lowest")
    yield "stack.weights of layer 0", sentence, "(8)", "weight_l0", "weight_lk", edit
    sentence = "a layer begins with h0 and c0 of another layer."
    edit = changed(start="reversed")
    yield "stack.states of another layer", sentence, "(8)", "h0[L-1-k]", "h0[k]", edit
    for layer, index in (("lowest", "0"), ("top", "L-1")):
        for taken in ("h0", "c0", "h0 and c0"):
            sentence = f"every layer begins with {taken} of the {layer} layer."
            edit = changed(start=f"{taken} of the {layer}")
            name = taken[:2]
            lines = (f"{name}[{index}]", f"{name}[k]")
            yield f"stack.{taken} of the {layer} layer", sentence, "(8)", *lines, edit


def _returned(head: str | None) -> Found:
    for name, others in {
        "y": () if head else ("c", "h[t-1]", "h[T-1-t]"),
        "h_n": ("c", "h[0]", "h[T-2]", "tanh(c)"),
        "c_n": ("h", "c[0]", "c[T-2]", "tanh(c)"),
    }.items():
        right = {"y": "h[t]", "h_n": "h[T-1]", "c_n": "c[T-1]"}[name]
        for other in others:
            yield (
                f"{name}.{other}",
                f"what is returned as {name} is {other} where it must be {right}.",
                "(7)",
                f"{name} = {other}",
                f"{name} = {right}",
                changed(**{name: other}),
            )
    edit = changed(h_n="c", c_n="h")
    sentence = "h_n and c_n are exchanged."
    yield "h_n and c_n exchanged", sentence, "(7)", "return y, c, h", "return y, h, c", edit


def _reshaped(head: str | None) -> Found:
    for names, how, sentence, number in reshape_mistakes(head):
        edit = changed(reshaped=tuple((name, how) for name in names.split(" and ")))
        first, _, _ = names.partition(" and ")
        wrong, should_be = (f"{first} = {call}({first})" for call in ("reshape", "transpose"))
        yield f"{names}.{how}", sentence, number, wrong, should_be, edit
