"""What of a forward pass is wrong, where no known mistake explains it."""

from collections.abc import Mapping, Sequence
from functools import partial

from manual_lstm.params import GATES
from torch_ref.diagnosis.evidence import Evidence, held_open, no_output_weights, zero
from torch_ref.diagnosis.probing import Change, Probes, as_asked
from torch_ref.diagnosis.render import joined
from torch_ref.harness.layout import Layout
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
        if wrong:
            told = f"The forward pass is wrong, in {joined(wrong)}, {words}."
            if wrong == ["loss"] and evidence.right and evidence.actual:
                where = "Every gradient is right: look at the loss and its mean, equation (25)."
            else:
                where = _of_loss(probes) if wrong == ["loss"] else ""
                where = where or _gate_at_fault(probes, change, sizes)
                where = where or _of_forward(wrong, evidence)
            return f"{told} {where}"
    return ""


def _of_loss(probes: Probes) -> str:
    """Whether a loss is wrong without the cell already; "" if not, or where that cannot be."""
    evidence = probes.run(no_output_weights)
    if evidence is None or "weight_out" not in evidence.case.params or evidence.forward_right:
        return ""
    return (
        "Wrong where weight_out is 0 too: look at the head, the softmax and the mean, (19) to (25)."
    )


def _gate_at_fault(probes: Probes, change: Change | None, sizes: Mapping[str, int]) -> str:
    """The one gate without whose arguments the forward pass is right, if there is one."""
    layout = probes.subject.implementation.layout
    if isinstance(layout, Layout) and layout.bias == "none":  # nothing can hold a gate
        return ""
    right = []
    for gate in GATES:
        held = held_open(gate)
        both = held if change is None else partial(_one_after_the_other, change, held)
        evidence = probes.run(both, **sizes)
        if evidence is not None and evidence.forward.tensors and evidence.forward_right:
            right.append(gate)
    if len(right) != 1 or (probes.subject.implementation.form != "vjp" and sizes):
        return ""
    (gate,) = right
    numbers = {"i": "(1), (2)", "f": "(1), (3)", "g": "(1), (4)", "o": "(1), (5)"}[gate]
    use = "(7)" if gate == "o" else "(6)"
    return f"Right where {gate} is held at 1: look at it, {numbers}, and at its use, {use}."


def _one_after_the_other(first: Change, second: Change, case: Case) -> Case:
    return second(first(case))


def _of_forward(wrong: Sequence[str], evidence: Evidence) -> str:
    if wrong == ["loss"]:
        return "Look at the cell, the head, the softmax and the mean, equations (1) to (25)."
    if "c_n" not in [tensor.name for tensor in evidence.forward.tensors]:
        return "Look at equations (1) to (7)."
    if "c_n" not in wrong:
        return "The last cell is right: look at h, equation (7), and at what is returned."
    if "y" not in wrong and "h_n" not in wrong:
        return "h is right: look at which c is returned as c_n."
    return "The cell itself is wrong: look at equations (1) to (6)."


def in_forward(evidence: Evidence) -> str:
    wrong = [tensor.name for tensor in evidence.forward.tensors if tensor.verdict != "agree"]
    return f"the forward pass, in {joined(wrong)}. {_of_forward(wrong, evidence)}"
