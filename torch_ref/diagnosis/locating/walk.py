"""The first wrong one of the gradients at every step, walking backward as the loop does."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from manual_lstm.params import GATES
from torch_ref.diagnosis.backward.render import joined
from torch_ref.diagnosis.evidence import Evidence
from torch_ref.oracles.equations import STEP_GRADIENTS, Array

GATE_EQUATIONS = {"i": "(12)", "f": "(14)", "g": "(13)", "o": "(10)"}
_SUMS = ("dweight_ih", "dweight_hh", "dbias_l", "dbias_hh", "dweight_c")
_COUNTS = {3: "three", 4: "four"}
_HEAD = {"dweight_out", "dbias_out"}


@dataclass(frozen=True)
class FirstWrong:
    """Where the gradients at every step first are wrong.

    Attributes:
        tensor: "dz_l0", "dh_l0", "dc_l0"; "" where every one that is returned is right.
        index: (t, b, row) in that tensor, in our arrangement; () where all are right.
        gate: of dz, "i", "f", "g" or "o"; "" otherwise.
        sentence: for people.
    """

    tensor: str
    index: tuple[int, ...]
    gate: str
    sentence: str


def first_wrong_of(evidence: Evidence) -> FirstWrong | None:
    """Walk back through what an implementation returns of a case; None where it returns nothing.

    Every layer from the top, every step from the last, and within a step dh, dz of o, dc, then dz
    of i, f and g: each is computed from those before it, so that the first wrong one is where the
    mistake is.
    """
    if not evidence.steps:
        return None
    layers = sorted({int(name.partition("_l")[2]) for name in evidence.steps}, reverse=True)
    for k in layers:
        for t in reversed(range(len(evidence.case.x))):
            for kind, gate, off in _of_step(evidence.steps, k, t):
                if off.any():
                    return _found(evidence, kind, gate, k, t, off)
    returned = [kind for kind in STEP_GRADIENTS if any(n.startswith(kind) for n in evidence.steps)]
    return FirstWrong("", (), "", _all_right(evidence, returned))


def _of_step(steps: Mapping[str, Array], k: int, t: int) -> Iterator[tuple[str, str, Array]]:
    """ "dh", "dc" or "dz" with its gate, and where that is off: (B, H)."""
    order = (("dh", ""), ("dz", "o"), ("dc", ""), ("dz", "i"), ("dz", "f"), ("dz", "g"))
    for kind, gate in order:
        if (off := steps.get(f"{kind}_l{k}")) is not None:
            parts = np.split(off[t], 4, axis=-1) if gate else [off[t]]
            yield kind, gate, parts[GATES.index(gate) if gate else 0]


def _found(evidence: Evidence, kind: str, gate: str, k: int, t: int, off: Array) -> FirstWrong:
    member, unit = (int(each) for each in np.argwhere(off)[0])
    hidden = off.shape[-1]
    where = f"{kind} of layer {k} at t={t}"
    where += f", sequence {member}" if len(off) > 1 else ""
    where += f", gate {gate}, unit {unit}" if gate else f", unit {unit}"
    name = f"{kind}_l{k}"
    row = GATES.index(gate) * hidden + unit if gate else unit
    if not evidence.wrong:
        hint = "but every gradient is right: it is not what they were computed from"
    else:
        hint = f"look at {_cause(evidence, kind, gate, k, t)}"
    sentence = f"The first wrong quantity walking backward is {where}: {hint}."
    if not off.all() and off.size > 1:
        sentence += (
            f" There it is wrong in {int(off.sum())} of {off.size} elements, right in the rest."
        )
    return FirstWrong(name, (t, member, row), gate, sentence)


def _cause(evidence: Evidence, kind: str, gate: str, k: int, t: int) -> str:
    """What a quantity is computed from, those before it being right."""
    steps, last = evidence.steps, t == len(evidence.case.x) - 1
    top = k == len(evidence.case.h0) - 1
    given = evidence.case.targets is None
    from_above = "what the layer above hands down, equations (8) and (17)"
    if top:
        from_above = "dy" if given else "what the output layer hands to h, equation (20) or (23)"
    to_h = f"what t+1 hands back, (16b), and {from_above}"
    to_c = "what t+1 hands back, (16a)"
    if last:
        to_h = f"{from_above}, and dh_n" if evidence.case.dh_n[k].any() else from_above
        to_c = "dc_n" if evidence.case.dc_n[k].any() else "what it begins with"
    if kind == "dh":
        return f"equation (9): {to_h}"
    if kind == "dc":
        lacking = "" if f"dh_l{k}" in steps else f"; or at equation (9): {to_h}"
        return f"equation (11) and at {to_c}{lacking}"
    own = f"equations {GATE_EQUATIONS[gate]} and (15)"
    needed = "dh" if gate == "o" else "dc"
    if f"{needed}_l{k}" in steps:
        return own
    off = {g: part.any() for kind, g, part in _of_step(steps, k, t) if kind == "dz"}
    wrong = {g for g, is_off in off.items() if is_off}
    silent = silent_gates(evidence, k, t) - wrong
    if len(wrong) > 1 and t == 0 and "dc0" in evidence.actual and not evidence.off("dc0")[k].any():
        numbers = joined(sorted(GATE_EQUATIONS[gate] for gate in wrong))
        return f"equations {numbers}, and (15): dc0 is right, and so must dc be"
    if last:
        kept = ", and what was kept of that step's forward pass"
        to_h, to_c = to_h + kept, to_c + kept
    hidden = silent - ({"i"} if evidence.case.variant.coupled else set())
    but = f" ({_nothing_shown(evidence, k, t, hidden)})" if hidden else ""
    if hidden and len(wrong) == 1:
        before = "dh, equation (9)" if gate == "o" else "dc, equation (11), and dh, (9)"
        return f"{own}, and at {before}: of this step no other gate tells{but}"
    if wrong | silent == {"i", "f", "g"}:
        shown = joined([gate for gate in GATES if gate in wrong])
        kept = "; or i or g is not as the forward pass kept it" if "f" in hidden else ""
        return f"dc, equation (11): {shown} are wrong and o is not{but}; and at {to_c}{kept}"
    if wrong | silent == set(GATES):
        gates = "all other gates" if hidden else f"all {_COUNTS[len(wrong)]} gates"
        squashes = evidence.case.variant.output == "tanh"
        one_step = squashes and len(evidence.case.x) == 1
        kept = "; or at tanh(c[t]), which both o's gradient and dc need" if one_step else ""
        return f"dh, equation (9), as {gates} are wrong{but}: {to_h}{kept}"
    return own


def silent_gates(evidence: Evidence, layer: int, t: int) -> set[str]:
    """The gates with a gradient of 0 whatever arrives, as what multiplies it in its equation is.

    f at t=0 where c0 is 0, (14); o where c[t] is, (10); i where g is, (12), or where it is 1 - f,
    (39).
    """
    q, coupled = evidence.quantities.layers[layer], evidence.case.variant.coupled
    g, before = q["g"][t], q["c"][t]
    factors = {"i": 0 * g if coupled else g, "f": before - coupled * g, "o": q["c_out"][t]}
    return {gate for gate, factor in factors.items() if not factor.any()}


def _nothing_shown(evidence: Evidence, layer: int, t: int, gates: set[str]) -> str:
    if gates == {"f"} and t == 0 and not evidence.case.c0[layer].any():
        return "f shows nothing at t=0, as c0 is 0"
    names = joined([gate for gate in GATES if gate in gates])
    return f"{names} show{'s' * (len(gates) == 1)} nothing at t={t}, being multiplied by 0"


def _all_right(evidence: Evidence, returned: list[str]) -> str:
    what = "The gates' gradients are" if returned == ["dz"] else f"Every {joined(returned)} is"
    what += " right at every step"
    wrong = set(evidence.wrong)
    sums = [name for name in evidence.wrong if name.startswith(_SUMS)]
    parts = []
    if sums:
        parts.append(f"the sum over the steps is wrong, equation (18), in {joined(sums)}")
    if head := sorted(wrong & _HEAD):
        parts.append(f"the sum for the output layer is wrong, (21) and (22), in {joined(head)}")
    if "dx" in wrong:
        parts.append("what is handed down as dx is wrong, equation (17)")
    for name, number in (("dh0", "(16b)"), ("dc0", "(16a)")):
        if name in wrong:
            parts.append(f"what is handed on as {name} after t=0 is wrong, equation {number}")
    return f"{what}: {'; '.join(parts)}." if parts else f"{what}."
