"""A factor or a term too many, a stale buffer, one side of a gate's two matrices."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import combinations, product

from manual_lstm.params import GATES
from torch_ref.diagnosis.backward.table import DERIVATIVE, KINDS, OUTER, Factor, Table, Term, Weight
from torch_ref.diagnosis.backward.words import GATE_WORDS, TARGET_WORDS, capitalised, name_of
from torch_ref.diagnosis.mistakes.edits import (
    ONE,
    Edit,
    Place,
    change,
    clipped,
    exchanged,
    factor,
    outer,
    plus,
    times,
    together,
    weight,
)
from torch_ref.oracles.variant import Variant

Found = Iterator[tuple[str, str, Edit]]
_STATE_WORDS = {"h": "h[t-1]", "c": "c[t-1]"}


def extra_mistakes(table: Table, variant: Variant) -> Found:
    """identifier, sentence and edit of each."""
    squashes = variant.output == "tanh"
    yield from _factors(table, squashes)
    yield from _states(table, squashes)
    yield from _terms(squashes)
    yield from _buffers(table)
    yield from _pairings()
    yield from _after_the_weight(variant)
    yield from _one_side()
    yield from _peepholes(table)
    yield from _carries(table)
    yield from _two_gates()
    yield from _row_sums()
    yield from _of_h(squashes)
    yield from _other_matrix()


def _factors(table: Table, squashes: bool) -> Found:
    """A quantity of the step that multiplies what it has nothing to do with."""
    state = "dc_total" if "dc_total" in table.equations else "dc"
    quantities = [*map(Factor, GATES), Factor("c"), Factor("c", -1), Factor("h"), Factor("h", -1)]
    parts = {
        Place(state): f"what comes through h[t] in {TARGET_WORDS['dc']}",
        **{Place(t): TARGET_WORDS[t] for t in ("do", "di", "dg", "df", "dc_carry")},
    }
    for place, words in parts.items():
        names = {each.name for each in table[place.target].terms[place.term].factors}
        names |= {"c"} if "c_out" in names and not squashes else set()
        for new in quantities:
            if new.name not in names:
                shown = name_of(new, squashes)
                yield (
                    f"{place.target}[{place.term}].times {shown}",
                    capitalised(f"{words} has the factor {shown}, which it should not have."),
                    times(place, new),
                )


def _states(table: Table, squashes: bool) -> Found:
    """Another state: c0 at every step, or h for the cell in tanh's derivative."""
    yield (
        "df.c0",
        "The forget gate's gradient uses c0 at every step where it needs c[t-1].",
        factor(Place("df"), 1, Factor("c", -1, at="first")),
    )
    if squashes:
        state = "dc_total" if "dc_total" in table.equations else "dc"
        yield (
            f"{state}.1-tanh(h)^2",
            "The cell's gradient takes 1 - tanh(h[t])^2 where it needs 1 - tanh(c[t])^2.",
            factor(Place(state), 2, Factor("h", function="1-tanh(y)^2")),
        )


def _terms(squashes: bool) -> Found:
    """What the forget gate's gradient hands on to c[t-1] without a peephole."""
    for name in ("df", "dz_f"):
        for state in (Factor("c", -1), Factor("c")):
            shown = name_of(state, squashes)
            yield (
                f"dc_carry.plus {name} * {shown}",
                f"What the cell's gradient hands to t-1 has {name} * {shown} added to it.",
                plus("dc_carry", Term((Factor(name), state))),
            )


def _buffers(table: Table) -> Found:
    """`if t > 0: before = state[t-1]`: at t=0 there still is what t=1 needed."""
    stale = {name: Factor(name, -1, step=1, edge="clamp") for name in _STATE_WORDS}
    sums = [Place(f"dweight_hh.{gate}") for gate in GATES]
    edits = {
        "c": _at_first(table, Place("df"), 1, stale["c"]),
        "h": together(*(_at_first(table, place, None, stale["h"]) for place in sums)),
    }
    for name, edit in edits.items():
        yield (
            f"{name} before.stale at t=0",
            f"At t=0 the buffer of {name}[t-1] still holds what t=1 needed, {name}[0], where "
            f"{name}0 is needed.",
            edit,
        )
    yield (
        "h and c before.stale at t=0",
        "At t=0 the buffers of h[t-1] and c[t-1] still hold what t=1 needed, h[0] and c[0], where "
        "h0 and c0 are needed.",
        together(*edits.values()),
    )


def _at_first(table: Table, place: Place, number: int | None, new: Factor) -> Edit:
    """Another factor at t=0, or where `number` is None another outer one."""
    wrong = outer(place, new) if number is None else factor(place, number, new)
    term = wrong(table)[place.target].terms[place.term]
    return together(
        change(place, steps="not the first"), plus(place.target, replace(term, steps="first"))
    )


def _pairings() -> Found:
    """`dz[1:].T @ inputs[:-1]`: one array of all steps against another that is cut elsewhere."""
    taken = {
        -1: (Factor("x", -1, edge="clamp"), Factor("h", -2, edge="clamp"), "not the first", "t=0"),
        1: (Factor("x", 1, edge="clamp"), Factor("h", 0), "not the last", "the last step"),
    }
    for by, (x, h, steps, left) in taken.items():
        for gates in (GATES, *GATES):
            of = "" if gates == GATES else f"{GATE_WORDS[gates[0]]}'s block of "
            sums = {"dweight_ih": x, "dweight_hh": h}
            cut = [change(Place(f"{d}.{g}"), steps=steps) for d in (*sums, "dbias") for g in gates]
            moved = [outer(Place(f"{d}.{g}"), new) for d, new in sums.items() for g in gates]
            others = "x[t-1] and h[t-2]" if by < 0 else "x[t+1] and h[t]"
            yield (
                f"joined{f'[{gates[0]}]' if of else ''}.pairs of t{by:+d}",
                f"{capitalised(of + 'the')} gradient of weight_ih, weight_hh and the bias pairs dz "
                f"of step t with {others}, and {left} is left out.",
                together(*cut, *moved),
            )


def _after_the_weight(variant: Variant) -> Found:
    """`W.T @ dgate * gate * (1 - gate)`, which multiplies from the left to the right."""
    edits = []
    for k, gate in enumerate(GATES):
        tanh = gate == "g" and variant.candidate == "tanh"
        derivative = Factor(gate, function=DERIVATIVE["tanh" if tanh else "sigmoid"])
        place = Place("dh_carry", k)
        edit = together(factor(place, 0, Factor(f"d{gate}")), change(place, after=derivative))
        edits.append(edit)
        yield (
            f"dh_carry.{gate}'s derivative after weight_hh",
            f"{GATE_WORDS[gate].capitalize()}'s part of what h's gradient hands to t-1 is "
            "multiplied by the activation's derivative after weight_hh, not before.",
            edit,
        )
    yield (
        "dh_carry.derivatives after weight_hh",
        "What h's gradient hands to t-1 is multiplied by the activations' derivatives after "
        "weight_hh, not before: a product from the left to the right.",
        together(*edits),
    )


def _one_side() -> Found:
    """What a gate hands to its matrix of x alone: the other way to h has one of its own."""
    for k, gate in enumerate(GATES):
        for name, words in (
            ("dc", "the cell's gradient"),
            ("dh", "h's gradient"),
            (f"d{gate}", "the gradient after the activation"),
            *((f"dz_{g}", f"{GATE_WORDS[g]}'s") for g in GATES if g != gate),
        ):
            places = (Place(f"dweight_ih.{gate}"), Place(f"dbias.{gate}"), Place("dx", k))
            yield (
                f"side of x.{gate} from {name}",
                f"{GATE_WORDS[gate].capitalize()}'s gradient for x, weight_ih and the bias is "
                f"{name}, {words}, where it must be dz_{gate}.",
                together(*(factor(place, 0, Factor(name)) for place in places)),
            )


def _peepholes(table: Table) -> Found:
    """The gates that see c, taken for each other on the way back and in their sums."""
    if "dweight_ci" not in table.equations:
        return
    state = "dc_total" if "dc_total" in table.equations else "dc"
    parts = {"i": Place("dc_carry", 1), "f": Place("dc_carry", 2), "o": Place(state, 2)}
    for gate, place in parts.items():
        words = f"{GATE_WORDS[gate].capitalize()}'s peephole in {TARGET_WORDS[place.target]}"
        others = [g for g in GATES if g != gate]
        taken = [f"dz_{g}" for g in others if gate != "o"]  # dz_o is there before the others
        for new in (*taken, f"d{gate}", "dh"):
            yield (
                f"{place.target}.peephole of {gate} with {new}",
                f"{words} takes {new} where it needs dz_{gate}.",
                factor(place, 0, Factor(new)),
            )
        for other in [g for g in parts if g != gate]:
            yield (
                f"{place.target}.peephole of {other} for that of {gate}",
                f"{words} is multiplied by that of {GATE_WORDS[other]}.",
                factor(place, 1, Factor(f"w_c{other}")),
            )
        yield (
            f"{place.target}.peephole of {gate} left out of the product",
            f"{words} is dz_{gate} where it must be multiplied by the weight.",
            factor(place, 1, ONE),
        )
        summed = Place(f"dweight_c{gate}")
        for new in (*(f"dz_{g}" for g in others), f"d{gate}", "dc", "dh"):
            of = f", {GATE_WORDS[new[3:]]}'s," if new.startswith("dz") else ""
            yield (
                f"weight_c{gate}.from {new}",
                f"{capitalised(TARGET_WORDS[summed.target])} is computed from {new}{of} where it "
                f"needs dz_{gate}.",
                factor(summed, 0, Factor(new)),
            )
    for one, other in combinations(parts, 2):
        yield (
            f"weight_c{one} and weight_c{other}.exchanged",
            f"The gradients of the peepholes of {one} and {other} are exchanged.",
            exchanged(f"dweight_c{one}", f"dweight_c{other}"),
        )


def _carries(table: Table) -> Found:
    """Ones for zeros before the last step; one limit for what is handed on of h and of c."""
    state = "dc_total" if "dc_total" in table.equations else "dc"
    one = Term((ONE,), steps="last")
    ones = {"h": plus("dh", one), "c": plus(state, one)}
    for names in (("h",), ("c",), ("h", "c")):
        what = " and ".join(f"d{name}" for name in names)
        yield (
            f"{what}.begins with ones",
            f"What is carried of {what} begins with ones before the last step.",
            together(*(ones[name] for name in names)),
        )
    for limit in (1, 5):
        yield (
            f"dh_carry and dc_carry.clipped at {limit}",
            f"What the gradients of h and c hand to t-1 is clipped to [-{limit}, {limit}], both "
            "within the loop.",
            together(clipped("dh_carry", limit), clipped("dc_carry", limit)),
        )


def _two_gates() -> Found:
    """`db["f"] = db["i"]`: one array in which two gates' sums are added up."""
    for (one, other), kinds in product(
        combinations(GATES, 2), (("weight_ih",), ("weight_hh",), ("bias",), KINDS[:3])
    ):
        edits = [
            plus(f"d{kind}.{gate}", Term((Factor(f"dz_{added}"),), outer=OUTER[kind]))
            for kind in kinds
            for gate, added in ((one, other), (other, one))
        ]
        every = len(kinds) > 1
        words = "the gradient of every weight" if every else TARGET_WORDS[kinds[0]]
        yield (
            f"{'weights' if every else kinds[0]}.{one} and {other} share one array",
            f"{capitalised(words)} has one array for the gates {one} and {other}: each has the sum "
            "of both.",
            together(*edits),
        )


def _row_sums() -> Found:
    """`dh[k] += dz[k] * U[k][j]` in a loop over j: the unit that is summed is the wrong one."""
    edits = {
        gate: weight(Place("dh_carry", k), Weight("weight_hh", gate, altered="row sums"))
        for k, gate in enumerate(GATES)
    }
    yield from _whole_and_by_gate(
        "dh_carry.row sums",
        "what h's gradient hands to t-1 is dz times the sum of its own row of weight_hh: the loop "
        "adds up over the other index.",
        edits,
    )


def _of_h(squashes: bool) -> Found:
    """`dh * h * (1 - h)`, of dh * tanh(c) * o * (1 - o) with h for o tanh(c)."""
    if squashes:
        derivative = (Factor("o"), Factor("h_out", function="1-y"))
        yield (
            "dz_o.o (1-h)",
            "The gradient before the output gate's activation has the factor 1 - h[t] where it "
            "needs 1 - o.",
            change(Place("dz_o"), factors=(Factor("do"), *derivative)),
        )


def _other_matrix() -> Found:
    """`dx = dz @ U`, which fits where a layer has as many inputs as units."""
    for target, needed, taken in (
        ("dx", "weight_ih", "weight_hh"),
        ("dh_carry", "weight_hh", "weight_ih"),
    ):
        edits = {
            gate: weight(Place(target, k), Weight(taken, gate)) for k, gate in enumerate(GATES)
        }
        yield from _whole_and_by_gate(
            f"{target}.{taken} for {needed}",
            f"{TARGET_WORDS[target]} goes back through {taken} where it needs {needed}.",
            edits,
        )


def _whole_and_by_gate(identifier: str, words: str, edits: Mapping[str, Edit]) -> Found:
    """One mistake in all gates' parts, and in each gate's alone."""
    yield identifier, capitalised(words), together(*edits.values())
    for gate, edit in edits.items():
        yield f"{identifier} of {gate}", capitalised(f"{GATE_WORDS[gate]}'s part of {words}"), edit
