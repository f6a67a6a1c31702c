"""Where the first wrong quantity is, walking backward, for what no known mistake explains."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from manual_lstm.params import GATES
from torch_ref.diagnosis.evidence import (
    Evidence,
    draw_case,
    gather,
    no_recurrent_weights,
    only_step,
    zero,
)
from torch_ref.diagnosis.render import joined
from torch_ref.diagnosis.walk import GATE_EQUATIONS, FirstWrong, first_wrong_of
from torch_ref.harness.judge import Subject
from torch_ref.oracles.case import Case
from torch_ref.oracles.equations import is_step_gradient

_SMALL = {"T": 1, "B": 1, "I": 2, "H": 3, "L": 1}
_SUMS = ("dweight_ih", "dweight_hh", "dbias", "dweight_c")


@dataclass(frozen=True)
class _Probes:
    """Runs the probes of one implementation."""

    subject: Subject
    seed: int

    def run(self, change: Callable[[Case], Case] | None = None, **sizes: int) -> Evidence | None:
        """A case of these sizes with a change made to it."""
        case = draw_case(self.subject, _SMALL | sizes, self.seed)
        return gather(self.subject, change(case) if change else case)

    def right(self, change: Callable[[Case], Case], **sizes: int) -> bool:
        """Whether everything is right in that case, and there was something to see."""
        evidence = self.run(change, **sizes)
        return evidence is not None and evidence.right and bool(evidence.actual)


def locate_first_wrong(subject: Subject, seed: int) -> str:
    """One or two sentences: under which conditions it is right, where it first is wrong.

    Returns:
        "" if the probes find nothing wrong.
    """
    probes = _Probes(subject, seed)
    forward = _forward(probes)
    if forward:
        return forward
    found = _plainest_wrong(probes)
    if found is None:
        return ""
    sizes, sentence, evidence = found
    sentence = f"{sentence}: {_where(evidence)}."
    walked = first_wrong_of(evidence)
    if walked is not None:
        return f"{sentence} {walked.sentence}"
    if not sizes:
        return f"{sentence} {_one_step(probes, evidence)}"
    if sizes == {"T": 2}:
        return f"{sentence} {_recurrence(probes, evidence)}"
    hint = " Look at what a layer hands to the one below, equation (8)."
    return f"{sentence}{hint if 'L' in sizes else ''}"


def walked_back(subject: Subject, seed: int) -> FirstWrong | None:
    """The first wrong one of the gradients at every step, in the plainest case with anything wrong.

    Returns:
        None if the implementation returns none of them, or the probes find nothing wrong.
    """
    if not any(map(is_step_gradient, subject.abilities.returned)):
        return None
    found = _plainest_wrong(_Probes(subject, seed))
    return None if found is None else first_wrong_of(found[2])


_PLAINEST_FIRST: tuple[tuple[dict[str, int], str], ...] = (
    ({}, "Wrong for a single step (T=1) already"),
    ({"T": 2}, "Right at T=1; wrong at T=2"),
    ({"T": 5}, "Right at T=1 and T=2; wrong at T=5"),
    ({"T": 2, "B": 3}, "Right for one sequence; wrong for a batch of three"),
    ({"L": 2}, "Right for one layer; wrong for a stack of two at T=1"),
    ({"T": 2, "L": 2}, "Right for one layer, and for two at T=1; wrong for two at T=2"),
    ({"T": 3, "B": 2, "L": 3}, "Right for one layer and for two; wrong for three"),
    ({"T": 2, "I": 3}, "Right for I = 2 and H = 3; wrong for I = H = 3"),
    ({"T": 50, "H": 3}, "Right for a few steps; wrong at T=50"),
)


def _plainest_wrong(probes: _Probes) -> tuple[dict[str, int], str, Evidence] | None:
    for sizes, sentence in _PLAINEST_FIRST:
        evidence = probes.run(None, **sizes)
        if evidence is not None and not evidence.all_right:
            return sizes, sentence, evidence
    return None


def _forward(probes: _Probes) -> str:
    """What of the outputs is wrong, in the plainest case in which it is."""
    probed: tuple[tuple[Callable[[Case], Case] | None, dict[str, int], str], ...] = (
        (zero("h0", "c0"), {}, "for a single step from a zero state already"),
        (zero("c0"), {}, "for a single step with a non-zero h0; right from a zero state"),
        (zero("h0"), {}, "for a single step with a non-zero c0; right from c0 = 0"),
        (None, {}, "for a single step with a non-zero state; right from a zero one"),
        (None, {"T": 2}, "at T=2; right at T=1"),
        (None, {"B": 3}, "for a batch of three; right for one sequence"),
        (None, {"T": 4, "L": 2}, "for a stack of two; right for one layer"),
    )
    for change, sizes, words in probed:
        evidence = probes.run(change, **sizes)
        if evidence is None or not evidence.forward.tensors:
            continue
        wrong = [tensor.name for tensor in evidence.forward.tensors if tensor.verdict != "agree"]
        if wrong:
            returned = [tensor.name for tensor in evidence.forward.tensors]
            return (
                f"The forward pass is wrong, in {joined(wrong)}, {words}. "
                f"{_of_forward(wrong, returned)}".rstrip()
            )
    return ""


def _of_forward(wrong: Sequence[str], returned: Sequence[str]) -> str:
    if wrong == ["loss"]:
        return "Look at the cell, the head, the softmax and the mean, equations (1) to (25)."
    if "c_n" not in returned:
        return "Look at equations (1) to (7)."
    if "c_n" not in wrong:
        return "The last cell is right: look at h, equation (7), and at what is returned."
    if "y" not in wrong and "h_n" not in wrong:
        return "h is right: look at which c is returned as c_n."
    return "The cell itself is wrong: look at equations (1) to (6)."


def _where(evidence: Evidence) -> str:
    """The wrong tensors, with the gates and steps that are wrong in them."""
    if not evidence.wrong:
        return joined([name for name, off in evidence.steps.items() if off.any()])
    by_gates: dict[str, list[str]] = {}
    others = []
    for name in evidence.wrong:
        off = evidence.off(name)
        if name.startswith(("dweight_ih", "dweight_hh", "dbias_l", "dbias_hh")):
            blocks = np.split(off, 4)
            gates = [gate for gate, block in zip(GATES, blocks, strict=True) if block.any()]
            by_gates.setdefault("" if len(gates) == 4 else joined(gates), []).append(name)
        elif name == "dx" and len(off) > 1 and not off.all(axis=(1, 2)).all():
            steps = [f"t={t}" for t in range(len(off)) if off[t].any()]
            others.append(f"dx at {joined(steps)}")
        else:
            others.append(name)
    phrases = [
        joined(names) + (f" for the gates {gates} only" if gates else "")
        for gates, names in by_gates.items()
    ]
    return "; ".join([*phrases, *([joined(others)] if others else [])])


def _one_step(probes: _Probes, evidence: Evidence) -> str:
    wrong = set(evidence.wrong)
    if "dbias_out" in wrong:
        return "Look at the gradient at the softmax, equation (26)."
    if wrong == {"dweight_out"}:
        return "Look at the sum for weight_out, equation (21)."
    if _only_sums(wrong) and {"dx", "dh0", "dc0"} & set(evidence.actual):
        return "Every dz is right as dx, dh0 and dc0 show: look at the sums, equation (18)."
    if _zeros_are_right(evidence):
        return "Only what is exactly 0 in truth is wrong."
    gates = _gates(evidence)
    if evidence.case.targets is not None:
        return _of_gates(gates, one_step=True)
    takes_dc_n = "dc_n" not in probes.subject.abilities.ignored
    if takes_dc_n and probes.right(zero("dc_n")):
        return "Right without dc_n: look at how dc_n enters, equation (11)."
    if takes_dc_n and probes.right(zero("dy", "dh_n")):
        return (
            f"Right with dc_n alone, so what comes through h[t] is wrong. "
            f"{_of_gates(gates, one_step=True)}"
        )
    if probes.right(zero("h0", "c0")):
        return "Right from a zero state: look at where h0 and c0 are used."
    return _of_gates(gates, one_step=True)


def _recurrence(probes: _Probes, evidence: Evidence) -> str:
    wrong = set(evidence.wrong)
    if wrong <= {"dweight_out", "dbias_out"}:
        return "Look at the sums over the steps for the output layer, equations (21) and (22)."
    if "dbias_out" in wrong:
        return "Look at the gradient at the softmax, equation (26)."
    if _only_sums(wrong) and {"dx", "dh0", "dc0"} & set(evidence.actual):
        return "The recurrence is right as dx, dh0 and dc0 show: look at the sums, equation (18)."
    if probes.right(no_recurrent_weights, T=2):
        return (
            "Right with zero recurrent weights: look at what h's gradient receives from t+1, "
            "equation (16b)."
        )
    if evidence.case.targets is None and probes.right(only_step(0), T=2):
        return "Right with dy at t=0 alone: look at what t=0 receives from t=1, equation (16)."
    return _of_gates(_gates(evidence), one_step=False)


def _of_gates(gates: set[str], *, one_step: bool) -> str:
    if not gates:
        return "The gates are right: look at dh0 and dc0, equation (16), and dx, (17)."
    if len(gates) == 1:
        (gate,) = gates
        number = GATE_EQUATIONS[gate]
        return f"Only {gate} is wrong: look at its gradient, equations {number} and (15)."
    if gates == {"i", "f", "g"}:
        what = "equation (11)" if one_step else "what the cell's gradient receives from t+1, (16a)"
        return f"Wrong in i, f and g but not in o: look at {what}."
    if gates == set(GATES) and not one_step:
        return "Wrong in all gates: look at what t receives from t+1, equations (9) and (16)."
    return f"Wrong in {joined(sorted(gates, key=GATES.index))}: look at equations (9) to (15)."


def _gates(evidence: Evidence) -> set[str]:
    gates: set[str] = set()
    for name in evidence.wrong:
        if name.startswith(("dweight_ih", "dweight_hh", "dbias_l")):
            blocks = np.split(evidence.off(name), 4)
            gates |= {gate for gate, block in zip(GATES, blocks, strict=True) if block.any()}
    return gates


def _only_sums(wrong: set[str]) -> bool:
    return all(name.startswith(_SUMS) for name in wrong)


def _zeros_are_right(evidence: Evidence) -> bool:
    return all(
        not (evidence.off(name) & (evidence.expected[name] != 0)).any() for name in evidence.wrong
    )
