"""What is wrong in a forward pass that no known mistake explains, in the plainest case."""

from collections.abc import Mapping, Sequence
from functools import partial

from manual_lstm.params import GATES
from torch_ref.diagnosis.backward.render import joined
from torch_ref.diagnosis.evidence import Evidence, held_open, no_output_weights, zero
from torch_ref.diagnosis.locating.probing import Change, Probes, as_asked
from torch_ref.harness.layouts.layout import Layout
from torch_ref.oracles.case import Case


def locate_forward(probes: Probes) -> str:
    """What of the outputs is wrong, in the plainest case in which it is."""
    probed: tuple[tuple[Change | None, dict[str, int], str], ...] = (
        (zero("h0", "c0"), {}, "for a single step from a zero state already"),
        (zero("c0"), {}, "for a single step with a non-zero h0; right from a zero state"),
        (zero("h0"), {}, "for a single step with a non-zero c0; right from c0 = 0"),
        (None, {}, "for a single step with a non-zero state; right from a zero one"),
        (None, {"T": 2}, "at T=2; right at T=1"),
        (None, {"T": 5}, "at T=5; right at T=1 and T=2"),
        (None, {"B": 3}, "for a batch of three; right for one sequence"),
        (None, {"T": 4, "L": 2}, "for a stack of two; right for one layer"),
        (None, {"T": 4, "I": 4, "H": 4}, "in some cases; right in the plainest"),
    )
    for change, sizes, words in probed:
        evidence = probes.run(change, **sizes)
        if evidence is None or not evidence.forward.tensors or not as_asked(evidence, sizes):
            continue
        wrong = [tensor.name for tensor in evidence.forward.tensors if tensor.verdict != "agree"]
        alone = probes.wrong_alone(evidence) if wrong and "B" in sizes else None
        if alone is not None and not alone.forward_right:  # it is not the batch
            of = "Right in the plainest cases; wrong in another of one sequence"
            return f"{of}: {in_forward(alone)}"
        if wrong and "B" in sizes:
            told = f"The forward pass is wrong, in {joined(wrong)}, {words}."
            return f"{told} {_OF_BATCH}"
        if wrong:
            told = f"The forward pass is wrong, in {joined(wrong)}, {words}."
            where = _of_loss_alone(wrong, evidence)
            where = where or (_of_loss(probes) if wrong == ["loss"] else "")
            where = where or _of_returned(wrong, evidence)
            where = where or _gate_at_fault(probes, change, sizes, evidence)
            return f"{told} {where or _of_forward(wrong, evidence)}"
    return ""


def _of_loss_alone(wrong: Sequence[str], evidence: Evidence) -> str:
    """Of a loss that is wrong where every gradient is right; "" of any other."""
    if wrong != ["loss"] or not evidence.right or not evidence.actual:
        return ""
    return "Every gradient is right: look at the loss and its mean, equation (25)."


def _of_loss(probes: Probes) -> str:
    """Whether a loss is wrong without the cell already; "" if not, or where that cannot be."""
    evidence = probes.run(no_output_weights)
    if evidence is None or "weight_out" not in evidence.case.params or evidence.forward_right:
        return ""
    return (
        "Wrong where weight_out is 0 too: look at the head, the softmax and the mean, (19) to (25)."
    )


def _gate_at_fault(
    probes: Probes, change: Change | None, sizes: Mapping[str, int], evidence: Evidence
) -> str:
    """The one gate without whose arguments the forward pass is right, or those wrong alone."""
    implementation = probes.subject.implementation
    if isinstance(implementation.layout, Layout) and implementation.layout.bias == "none":
        return ""  # nothing can hold a gate

    def right_with(*held: str, before: Change | None = None) -> bool:
        opened = held_open(*held)
        both = opened if before is None else partial(_one_after_the_other, before, opened)
        found = probes.run(both, **sizes)
        return found is not None and bool(found.forward.tensors) and found.forward_right

    gates: Sequence[str] = GATES
    if "c_n" in evidence.outputs and not sizes:  # in a single step c tells o from the others
        gates = ("i", "f", "g") if evidence.outputs["c_n"].any() else ("o",)
    right = [gate for gate in gates if right_with(gate, before=change)]
    if len(right) == 1 and not (implementation.head_inside is not None and sizes):
        (gate,) = right
        use = "(7)" if gate == "o" else "(6)"
        return (
            f"Right where {gate} is held at 1: look at it, {_NUMBERS[gate]}, and at its use, {use}."
        )
    if right or sizes or gates == ("o",) or implementation.variant.coupled:
        return ""
    if not right_with(*GATES):  # with any state, so that f shows
        return (
            "Wrong where every gate is held at 1 too: look at c and h, equations (6) and (7), and "
            "at what an activation tends to, (2) to (5)."
        )
    wrong = [gate for gate in GATES if not right_with(*(set(GATES) - {gate}))]
    return _of_gates(wrong)


_OF_BATCH = (
    "Each sequence alone is right: look at which sequence's x, h, c and targets each takes, and at "
    "what is summed or spread over the batch."
)
_NUMBERS = {"i": "(1), (2)", "f": "(1), (3)", "g": "(1), (4)", "o": "(1), (5)"}


def _of_gates(wrong: Sequence[str]) -> str:
    """What gates have in common that are wrong where the others are held at 1."""
    if not wrong:
        return ""
    one = " or ".join(wrong)
    told = f"Right where every gate is held at 1, wrong where all but one are, that being {one}:"
    if len(wrong) == len(GATES):
        return f"{told} look at their arguments, equation (1)."
    if wrong == ["i", "f", "o"]:
        return f"{told} look at the sigmoid, equations (2), (3) and (5), and at its argument, (1)."
    suspects = [f"{gate}, {_NUMBERS[gate]}" for gate in wrong]
    if len(wrong) == 2 and "g" not in wrong:  # the third may be wrong by less than rounding
        suspects.append("the sigmoid, if it is one function")
    return f"{told} look at {joined(suspects)}."


def _one_after_the_other(first: Change, second: Change, case: Case) -> Case:
    return second(first(case))


def in_forward(evidence: Evidence) -> str:
    """Of a case in which it is wrong: the outputs, and which equations to look at."""
    wrong = [tensor.name for tensor in evidence.forward.tensors if tensor.verdict != "agree"]
    return f"the forward pass, in {joined(wrong)}. {_of_forward(wrong, evidence)}"


def _of_forward(wrong: Sequence[str], evidence: Evidence) -> str:
    """Which equations to look at, by the outputs that are wrong."""
    if where := _of_loss_alone(wrong, evidence):
        return where
    if wrong == ["loss"] and {"h_n", "c_n"} <= set(evidence.outputs):
        return (
            "h_n and c_n are right, and with them the cells: look at what the head is given, and "
            "at the head, the softmax and the mean, equations (19) to (25)."
        )
    if wrong == ["loss"] and len(evidence.case.h0) > 1:
        return (
            "Look at what a layer takes from the one below, equation (8), and which weights and "
            "states it is given."
        )
    if wrong == ["loss"]:
        return "Look at the cell, the head, the softmax and the mean, equations (1) to (25)."
    if where := _of_returned(wrong, evidence) or _of_layers(evidence):
        return where
    if "c_n" not in evidence.outputs:
        return "Look at equations (1) to (7)."
    if "c_n" not in wrong:
        return "The last cell is right: look at h, equation (7), and at what is returned."
    return "The cell itself is wrong: look at equations (1) to (6)."


def _of_returned(wrong: Sequence[str], evidence: Evidence) -> str:
    """What is returned for what, where only that can be wrong: the other outputs are right."""
    if wrong == ["c_n"] and {"y", "h_n"} & set(evidence.outputs):
        return "h is right: look at which c is returned as c_n."
    if wrong == ["y"] and "h_n" in evidence.outputs:
        return "The last h is right: look at how y is put together, and at what is returned as it."
    if wrong == ["h_n"] and "y" in evidence.outputs:
        return "y is right: look at which h is returned as h_n."
    return ""


def _of_layers(evidence: Evidence) -> str:
    """Which layer of a stack is the first whose last states are wrong; "" for one layer."""
    states = [evidence.outputs[name] for name in ("h_n", "c_n") if name in evidence.outputs]
    layers = [k for k in range(len(evidence.case.h0)) if any(off[k].any() for off in states)]
    if len(evidence.case.h0) == 1 or not layers:
        return ""
    if layers[0] == 0:
        return "Layer 0 is wrong: look at which weights, states and x it is given, equation (8)."
    return (
        f"Layer {layers[0]} is the first wrong one: look at what it takes from the layer below, "
        "equation (8), and which weights and states it is given."
    )
