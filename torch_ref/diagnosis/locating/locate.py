"""Where the first wrong quantity is, walking backward, for what no known mistake explains."""

from collections.abc import Mapping, Sequence

import numpy as np

from manual_lstm.params import GATES
from torch_ref.diagnosis.backward.render import joined
from torch_ref.diagnosis.evidence import (
    Evidence,
    no_recurrent_weights,
    only_step,
    sizes_in_words,
    zero,
)
from torch_ref.diagnosis.locating.factors import another_factor, factors_in_words
from torch_ref.diagnosis.locating.locate_forward import in_forward, locate_forward
from torch_ref.diagnosis.locating.plainest import plainest_wrong
from torch_ref.diagnosis.locating.probing import Probes
from torch_ref.diagnosis.locating.walk import (
    GATE_EQUATIONS,
    FirstWrong,
    first_wrong_of,
    silent_gates,
)
from torch_ref.diagnosis.step_gradients import with_steps_read
from torch_ref.harness.judge import Subject

_SUMS = ("dweight", "dbias")
# Of a character model read step by step; its head grows with them.
_CLASSES = 16


def locate_first_wrong(subject: Subject, seed: int, known: Sequence[Evidence] = ()) -> str:
    """A few sentences: under which conditions it is right, where it first is wrong.

    Args:
        known: what it was seen to do; where it is wrong in there and the probes find nothing,
            that is told.

    Returns:
        "" if nothing wrong is found.
    """
    probes = Probes(subject, seed)
    forward = locate_forward(probes)
    if forward:
        return forward
    found = plainest_wrong(probes)
    if found is None:
        wrong = [each for each in known if not each.all_right]
        return f"Right in the plainest cases; {_in_case(subject, wrong[0])}" if wrong else ""
    probes, sizes, sentence, evidence = found
    if "B" in sizes and (alone := probes.wrong_alone(evidence)) is not None:
        return f"Right in the plainest cases; {_in_case(subject, alone)}"  # not for the batch
    if not evidence.forward_right:
        return f"{sentence}: {in_forward(evidence)}"
    told = [
        f"{sentence}: {_where(evidence)}.",
        factors_in_words(evidence),
        _cause(probes, sizes, evidence),
    ]
    return " ".join(part for part in told if part)


def _in_case(subject: Subject, evidence: Evidence) -> str:
    layers = len(evidence.case.h0)
    loud = ", whose upstream gradient is large" if evidence.loud else ""
    told = f"wrong in a case of {sizes_in_words(evidence.case)}{loud}:"
    if not evidence.forward_right:
        return f"{told} {in_forward(evidence)}"
    told += f" {_where(evidence)}."
    if head := _of_head(evidence):
        return f"{told} {head}"
    walked = _walked(subject, evidence)
    if layers > 1 and not evidence.steps:
        return f"{told} {_of_layers(evidence, walked, {})}"
    return told if walked is None else f"{told} {walked.sentence}"


def _walked(subject: Subject, evidence: Evidence) -> FirstWrong | None:
    """The first wrong one of the steps that are returned, or else of those read from outside."""
    seen = evidence if evidence.steps else with_steps_read(subject, evidence)
    return None if seen is None else first_wrong_of(seen)


def _cause(probes: Probes, sizes: Mapping[str, int], evidence: Evidence) -> str:
    """Which equations to look at, and what the probes say of the way there."""
    if cut := _cut_off(evidence) or another_factor(probes, sizes, evidence):
        return cut
    if head := _of_head(evidence, sizes):
        return head
    if evidence.wrong and _zeros_are_right(evidence):
        return "Only what is exactly 0 in truth is wrong."
    walked = _walked(probes.subject, _with_inputs_enough(probes, sizes, evidence))
    if len(evidence.case.h0) > 1 and not evidence.steps:
        return _of_last_states(probes, sizes) or _of_layers(evidence, walked, sizes)
    if walked is None:
        return _one_step(probes, evidence) if not sizes else _recurrence(probes, sizes, evidence)
    at_end = bool(sizes and walked.index) and walked.index[0] == len(evidence.case.x) - 1
    if not walked.tensor or at_end:
        return walked.sentence
    if _gates(evidence) | silent_gates(evidence, 0, walked.index[0]) not in _FROM_FURTHER:
        return walked.sentence
    return f"{walked.sentence} {_conditions(probes, sizes)}".rstrip()


def _with_inputs_enough(probes: Probes, sizes: Mapping[str, int], evidence: Evidence) -> Evidence:
    """A character model's case of the same size with a class for every step, wrong as well."""
    count = evidence.case.x.shape[0] * evidence.case.x.shape[1]
    bound = "I" in probes.subject.implementation.sizes
    if evidence.case.targets is None or bound or not evidence.case.x.shape[-1] < count <= _CLASSES:
        return evidence
    wide = probes.run(None, **{**sizes, "I": count})
    return evidence if wide is None or wide.right else wide


def _cut_off(evidence: Evidence) -> str:
    """Whether what is wrong looks clipped: several elements of one size, and none larger."""
    wrong = evidence.wrong
    limit = max((float(np.abs(evidence.actual[name]).max()) for name in wrong), default=0.0)
    bounded, twice = 0, False
    for name in wrong:
        for sign in (-1, 1):  # of two classes the gradients are each other's negative
            at_limit = evidence.actual[name] == sign * limit
            if not np.all(sign * evidence.expected[name][at_limit] > limit):
                return ""
            bounded += int(at_limit.sum())
            twice = twice or at_limit.sum() > 1
    if not twice or limit == 0:
        return ""
    return (
        f"No element of {joined(list(wrong))} exceeds {limit:.9g} in size and {bounded} are just "
        "that: it is clipped there, in the loop or after it."
    )


def _of_head(evidence: Evidence, sizes: Mapping[str, int] | None = None) -> str:
    """What the gradients of the output layer say; "" where they are right, or not there.

    Args:
        sizes: where it is right for a single step, those of the case.
    """
    wrong, head = set(evidence.wrong), {"dweight_out", "dbias_out"}
    if wrong == {"dweight_out"}:
        return "Look at the sum for weight_out, equation (21)."
    if wrong == {"dbias_out"}:
        return "Look at the sum for bias_out, equation (22)."
    if wrong and wrong <= head:
        return "Look at the sums over the steps for the output layer, equations (21) and (22)."
    if not wrong & head:
        return ""
    if _only_sums(evidence) and _shows_dz(evidence):
        return f"{_every_dz(evidence)}: look at the sums, (18), (21) and (22)."
    biases = [name for name in evidence.actual if name.startswith("dbias")]
    if _only_sums(evidence) and biases and not wrong & set(biases):
        return "The gradients of the biases are right: look at the other sums, (18) and (21)."
    if all(name.startswith("dbias") for name in wrong):
        return (
            "The gradients of the weights are right: look at the sums for the biases, (18) "
            "and (22)."
        )
    if sizes and set(sizes) <= {"T", "H"}:
        return (
            "With one step it is right: look at which steps the loop goes through, and of which "
            "step each gradient at the softmax is, equation (26)."
        )
    if sizes and "B" in sizes and "L" not in sizes:
        return (
            "With one sequence it is right: look at what is summed over the batch, equation (24), "
            "and of which sequence each gradient at the softmax is, equation (26)."
        )
    return "Look at the gradient at the softmax, equation (26)."


def _of_last_states(probes: Probes, sizes: Mapping[str, int]) -> str:
    """Which of dh_n and dc_n a stack of layers gives to the wrong one; "" if neither."""
    for name, number in (("dh_n", "(9)"), ("dc_n", "(11)")):
        if name not in probes.subject.abilities.ignored and probes.right(zero(name), **sizes):
            return f"Right without {name}: look at which layer's {name} each is given, {number}."
    return ""


def _of_layers(evidence: Evidence, walked: FirstWrong | None, sizes: Mapping[str, int]) -> str:
    """Where in a stack, from its own gradients of every layer and dz of the lowest.

    Args:
        sizes: where it first is wrong; of several steps and layers, where one step is right.
    """
    one_step, top = len(evidence.case.x) == 1, len(evidence.case.h0) - 1
    for k in range(top, -1, -1):
        sums = [n for n in evidence.actual if n.endswith(f"_l{k}") and n.startswith(_SUMS)]
        if not evidence.case.h0[k].any():  # what is wrong at t=0 alone is not in h0's share
            sums = [n for n in sums if not n.startswith("dweight_hh") or n in evidence.wrong]
        own = [name for name in sums if name in evidence.wrong]
        handed = [n for n in ("dh0", "dc0") if n in evidence.wrong and evidence.off(n)[k].any()]
        below_right = "dx" in evidence.actual and "dx" not in evidence.wrong and not handed
        if own and (below_right or len(own) < len(sums)):  # a wrong dz is in each of them
            return f"Every dz of layer {k} is right: look at its sums, equation (18)."
        if own and k < top and _gates(evidence, k) | silent_gates(evidence, k, 0) == set(GATES):
            above = (
                "Layer 0 is wrong, those above it are right" if k == 0 else f"Layer {k} is wrong"
            )
            if k == 0 and walked is not None and not walked.tensor:
                return f"{above}. {walked.sentence}"
            if sizes.get("T", 1) > 1 and "B" not in sizes:
                return (
                    f"{above}; with one step it is right: look at what each layer takes of the "
                    "steps beside it, its own or another's: (9), (11), (16), and c[t-1] in (14)."
                )
            return f"{above}: look at what a layer hands to the one below, equation (8)."
        if own:
            gates = _gates(evidence, k)
            gates |= silent_gates(evidence, k, 0) if gates >= {"i", "g"} else set()
            told = _of_gates(evidence, gates, one_step=one_step)
            return f"Layer {k} itself is wrong. {told}"
        if handed:
            return f"In layer {k} what is handed on as {joined(handed)} is wrong, equation (16)."
    return "Every layer's own gradients are right: look at dx, equation (17)."


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


def _one_step(probes: Probes, evidence: Evidence) -> str:
    """As `_cause`, where dz cannot be read."""
    if _only_sums(evidence) and _shows_dz(evidence):
        return f"{_every_dz(evidence)}: look at the sums, equation (18)."
    if other := _but_the_biases(evidence):
        return other
    return (
        f"{_conditions(probes, {})} {_of_gates(evidence, _gates(evidence), one_step=True)}".lstrip()
    )


def _recurrence(probes: Probes, sizes: Mapping[str, int], evidence: Evidence) -> str:
    """As `_cause`, where dz cannot be read and more than one step is needed."""
    if _only_sums(evidence) and _shows_dz(evidence):
        return f"{_every_dz(evidence)}: look at the sums, equation (18)."
    if other := _but_the_biases(evidence):
        return other
    where = _conditions(probes, sizes)
    return where or _of_gates(evidence, _gates(evidence), one_step=False)


def _but_the_biases(evidence: Evidence) -> str:
    """Where to look if the gradients of the biases show that every dz is right."""
    if "dbias_l0" not in evidence.actual or "dbias_l0" in evidence.wrong or not evidence.wrong:
        return ""
    sums = [name for name in evidence.wrong if name.startswith(_SUMS)]
    parts = [f"the sums for {joined(sums)}, equation (18)"] if sums else []
    wrong = joined([*parts, *_beyond_the_gates(evidence)])
    return f"Every dz is right as the gradient of the biases shows: look at {wrong}."


def _beyond_the_gates(evidence: Evidence) -> list[str]:
    """What is wrong of the gradients that follow from every dz, with its equation."""
    numbers = {"dh0": "(16b)", "dc0": "(16a)", "dx": "(17)"}
    return [f"{name}, equation {numbers[name]}" for name in numbers if name in evidence.wrong]


# Gates that are wrong together because of what they receive.
_FROM_FURTHER = ({"i", "f", "g"}, set(GATES))


def _conditions(probes: Probes, sizes: Mapping[str, int]) -> str:
    """Which way what is wrong comes, by what is right without it; "" where nothing tells."""
    without_head = probes.subject.implementation.head_inside is None
    ignored = probes.subject.abilities.ignored
    if sizes:
        if probes.right(no_recurrent_weights, **sizes):
            return (
                "Right with zero recurrent weights: look at what h's gradient receives from t+1, "
                "equation (16b)."
            )
        if without_head and probes.right(only_step(0), **sizes):
            return (
                "Right with dy at t=0 alone: look at what a step receives from t+1, equation (16)."
            )
        return ""
    if not without_head:
        return ""
    if "dc_n" not in ignored and probes.right(zero("dc_n")):
        return "Right without dc_n: look at how dc_n enters, equation (11)."
    if "dc_n" not in ignored and probes.right(zero("dy", "dh_n")):
        return "Right with dc_n alone, so what comes through h[t] is wrong."
    return ""


def _of_gates(evidence: Evidence, gates: set[str], *, one_step: bool) -> str:
    if not gates:
        return f"The gates are right: look at {joined(_beyond_the_gates(evidence))}."
    if len(gates) == 1:
        (gate,) = gates
        number = GATE_EQUATIONS[gate]
        return f"Only {gate} is wrong: look at its gradient, equations {number} and (15)."
    with_silent = gates | ({"i"} if evidence.case.variant.coupled else set())
    shown = joined(sorted(gates, key=GATES.index))
    if with_silent == {"i", "f", "g"}:
        what = "equation (11)" if one_step else "what the cell's gradient receives from t+1, (16a)"
        return f"Wrong in {shown} but not in o: look at {what}."
    if with_silent == set(GATES) and not one_step:
        return "Wrong in all gates: look at what t receives from t+1, equations (9) and (16)."
    return f"Wrong in {shown}: look at equations (9) to (15)."


def _gates(evidence: Evidence, layer: int | None = None) -> set[str]:
    """The gates in which a gradient of a weight is wrong, in one layer or in any."""
    gates: set[str] = set()
    for name in evidence.wrong:
        own = layer is None or name.endswith(f"_l{layer}")
        if own and name.startswith(("dweight_ih", "dweight_hh", "dbias_l")):
            blocks = np.split(evidence.off(name), 4)
            gates |= {gate for gate, block in zip(GATES, blocks, strict=True) if block.any()}
    return gates


def _only_sums(evidence: Evidence) -> bool:
    return all(name.startswith(_SUMS) for name in evidence.wrong)


def _every_dz(evidence: Evidence) -> str:
    shown = [name for name in ("dx", "dh0", "dc0") if name in evidence.actual]
    return f"Every dz is right as {joined(shown)} show{'s' * (len(shown) == 1)}"


def _shows_dz(evidence: Evidence) -> bool:
    """Whether a wrong dz would be seen in dx, dh0 or dc0: not through weights that are zero."""
    weights = {"dx": "weight_ih_l0", "dh0": "weight_hh_l0"}
    through = [name for name in weights if evidence.case.params[weights[name]].any()]
    return bool({*through, "dc0"} & set(evidence.actual))


def _zeros_are_right(evidence: Evidence) -> bool:
    return all(
        not (evidence.off(name) & (evidence.expected[name] != 0)).any() for name in evidence.wrong
    )
