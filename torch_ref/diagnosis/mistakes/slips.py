"""Slips of the pen: a name for another, a bracket one factor too late, a sum of its own steps."""

import itertools
from collections.abc import Iterator
from dataclasses import replace

from manual_lstm.params import GATES
from torch_ref.diagnosis.backward.table import Edge, Factor, Steps, Table
from torch_ref.diagnosis.backward.words import (
    FUNCTION_WORDS,
    GATE_WORDS,
    TARGET_WORDS,
    capitalised,
    name_of,
)
from torch_ref.diagnosis.mistakes.edits import (
    Edit,
    Place,
    factor,
    only_at,
    outer,
    plus,
    scaled,
    times,
    together,
)
from torch_ref.diagnosis.mistakes.sums import EDGES
from torch_ref.oracles.variant import Variant

Found = Iterator[tuple[str, str, Edit]]
_OF_Z = {
    "y(1-y)": ("1-tanh(y)^2", "tanh's derivative"),
    "1-y^2": ("s(1-s), s = sigmoid(y)", "sigmoid's derivative"),
}
_LEFT_OUT: tuple[tuple[Steps, str], ...] = (
    ("not the first", "t=0"),
    ("not the last", "the last step"),
)
_ENDS: tuple[Edge, ...] = ("wrap", "zero")
# Whose blocks of a sum: those of all gates, which one line makes, or those of one.
_BLOCKS = (GATES, *((gate,) for gate in GATES))


def slip_mistakes(table: Table, variant: Variant) -> Found:
    """identifier, sentence and edit of each."""
    squashes = variant.output == "tanh"
    yield from _left_behind(table, squashes)
    yield from _gradient_for_gate()
    yield from _of_h(table, squashes)
    yield from _brackets(table, squashes)
    yield from _of_preactivations(table, squashes)
    yield from _exchanged()
    yield from _peephole(table)
    yield from _own_state(table)
    yield from _of_other_steps()


def _state(table: Table) -> str:
    return "dc_total" if "dc_total" in table.equations else "dc"


def _left_behind(table: Table, squashes: bool) -> Found:
    """After the loop forward a variable still holds what the last step left in it."""
    state = _state(table)
    places = [(Place(target), 1) for target in ("do", state, "di", "dg", "df", "dc_carry")]
    places += [(Place(state), 2)] if squashes else []
    places += [(Place("dc"), 1)] if state == "dc_total" else []
    places += [(Place(f"dz_{gate}"), 1) for gate in GATES]
    for place, number in places:
        needed = table[place.target].terms[place.term].factors[number]
        words, right = TARGET_WORDS[place.target], name_of(needed, squashes)
        now = name_of(replace(needed, shift=0), squashes)
        for back in (1, 2) if needed.shift else (1,):
            shown = now.replace("[t]", f"[T-{back}]") if "[" in now else f"{now}[T-{back}]"
            takes, needs = f"takes {shown}", right if "[" in right else f"{right}[t]"
            if needed.function:
                takes, needs = f"takes the derivative at {shown}", f"it at {needs}"
            yield (
                f"{place.target}.{'derivative at ' if needed.function else ''}{shown}",
                capitalised(
                    f"{words} {takes}, what the last step left, at every step where it needs "
                    f"{needs}."
                ),
                factor(place, number, replace(needed, shift=1 - back, at="last")),
            )


def _gradient_for_gate() -> Found:
    """`df` for `f`."""
    for target, needed, taken in (
        ("dc_carry", "f", "df"),
        ("dc_carry", "f", "dz_f"),
        ("dg", "i", "di"),
    ):
        yield (
            f"{target}.{taken} for {needed}",
            capitalised(
                f"{TARGET_WORDS[target]} is multiplied by {taken}, {GATE_WORDS[needed]}'s "
                f"gradient, where it needs {needed}."
            ),
            factor(Place(target), 1, Factor(taken)),
        )


def _of_h(table: Table, squashes: bool) -> Found:
    """`tanh_c = tanh(h)`."""
    if squashes:
        yield (
            "cell.tanh(h)",
            "The backward pass takes tanh(h[t]) wherever it needs tanh(c[t]).",
            together(
                factor(Place("do"), 1, Factor("h", function="tanh(y)")),
                factor(Place(_state(table)), 2, Factor("h", function="1-tanh(y)^2")),
            ),
        )


def _brackets(table: Table, squashes: bool) -> Found:
    """`(dh * o + dc_next) * (1 - tanh(c)**2)`."""
    place = Place(_state(table), 1)
    derivative = Factor("c_out", function="1-y^2")
    words = FUNCTION_WORDS["1-y^2"].format(y=name_of(Factor("c_out"), squashes))
    wrong: dict[str, tuple[Factor, ...]] = {"o": (Factor("o"),)}
    if squashes:
        wrong |= {words: (derivative,), f"o and {words}": (Factor("o"), derivative)}
    for name, factors in wrong.items():
        yield (
            f"dc.carry times {name}",
            f"What t+1 hands back in the cell's gradient is multiplied by {name} too, as only what "
            "comes through h[t] must be.",
            times(place, *factors),
        )


def _of_preactivations(table: Table, squashes: bool) -> Found:
    """`tanh.derivative(z_o)`: the other activation's, of what is right for it."""
    edits: dict[str, list[Edit]] = {"y(1-y)": [], "1-y^2": []}
    for gate in GATES:
        needed = table[f"dz_{gate}"].terms[0].factors[1].function
        function, name = _OF_Z[needed]
        edit = factor(Place(f"dz_{gate}"), 1, Factor(f"z_{gate}", function=function))
        edits[needed].append(edit)
        yield (
            f"dz_{gate}.{name} of z",
            capitalised(
                f"{TARGET_WORDS[f'dz_{gate}']} takes {name}, at the value before it, where it "
                f"needs {FUNCTION_WORDS[needed].format(y=gate)}."
            ),
            edit,
        )
    for needed, of_gates in edits.items():
        if of_gates:
            name = _OF_Z[needed][1]
            yield (
                f"gates'.{name} of z",
                f"All four gates take {name}, at the values before their activation.",
                together(*of_gates),
            )
    if squashes:
        state = _state(table)
        yield (
            f"{state}.sigmoid's derivative of c",
            "The cell's gradient takes sigmoid's derivative at c[t] where it needs tanh's.",
            factor(Place(state), 2, Factor("c", function="s(1-s), s = sigmoid(y)")),
        )


def _exchanged() -> Found:
    """`[dg, di, df, do] * [.., i's derivative, f's, ..]`: in another order than the derivatives."""
    for one, other in itertools.combinations("ifg", 2):
        yield (
            f"d{one} and d{other}.exchanged",
            f"d{one} and d{other} are exchanged before the activations: dz_{one} is computed from "
            f"d{other}, dz_{other} from d{one}.",
            together(
                factor(Place(f"dz_{one}"), 0, Factor(f"d{other}")),
                factor(Place(f"dz_{other}"), 0, Factor(f"d{one}")),
            ),
        )


def _peephole(table: Table) -> Found:
    """`+ w_co * do_next`, as what i and f hand on through theirs is of t+1."""
    place = Place(_state(table), 2)
    if len(table[place.target].terms) > 2:
        term = replace(table[place.target].terms[place.term], steps="not the first")
        yield (
            f"{place.target}[2].dz_o of t+1",
            "The output gate's peephole in the cell's gradient takes dz_o of t+1 where it needs "
            "that of t.",
            together(scaled(place, "0"), plus("dc_carry", term)),
        )
        yield (
            f"{place.target}[2].for t-1 too",
            "The output gate's peephole hands dz_o to c[t-1] too, which it does not see.",
            plus("dc_carry", replace(term, steps="every")),
        )
        handed_on = replace(term, factors=(*term.factors, Factor("f")), steps="every")
        yield (
            f"{place.target}[2].after i, f and g",
            "The output gate's peephole is added to the cell's gradient after i, f and g have "
            "taken theirs: it reaches t-1 only.",
            together(scaled(place, "0"), plus("dc_carry", handed_on)),
        )


def _own_state(table: Table) -> Found:
    """`for t in range(T - 1): dU += outer(dz[t], h[t])`, for dz[t + 1]."""
    for (steps, left), gates in itertools.product(_LEFT_OUT, _BLOCKS):
        places = [Place(f"dweight_hh.{gate}") for gate in gates]
        yield (
            f"weight_hh{_name(gates)}.h[t], {steps}",
            capitalised(
                f"{_words(gates)}the gradient of weight_hh uses h[t] where it needs h[t-1], and "
                f"leaves out {left}."
            ),
            together(*(together(outer(p, Factor("h")), only_at(p, steps)) for p in places)),
        )
    for steps, left in _LEFT_OUT:
        for name in ("weight_ci", "weight_cf"):
            if f"d{name}" in table.equations:
                place = Place(f"d{name}")
                yield (
                    f"{name}.c[t], {steps}",
                    capitalised(
                        f"{TARGET_WORDS[f'd{name}']} uses c[t] where it needs c[t-1], and leaves "
                        f"out {left}."
                    ),
                    together(factor(place, 1, Factor("c")), only_at(place, steps)),
                )


def _of_other_steps() -> Found:
    """`dW_g += outer(dz_g[t], x[t - 1])`, for one gate; and what another step kept of [x, h]."""
    for gate, (kind, name, shift, by) in itertools.product(
        GATES, (("weight_ih", "x", 0, -1), ("weight_ih", "x", 0, 1), ("weight_hh", "h", -1, -1))
    ):
        for edge in _ENDS:
            new = Factor(name, shift + by, edge=edge)
            yield (
                f"{kind}[{gate}].{name_of(new)} {edge}",
                f"{capitalised(GATE_WORDS[gate])}'s block of the gradient of {kind} uses "
                f"{name_of(new)} where it needs {name_of(Factor(name, shift))} ({EDGES[edge]}).",
                outer(Place(f"d{kind}.{gate}"), new),
            )
    for gate, (kind, left) in itertools.product(
        GATES,
        (
            ("weight_ih", Factor("x", at="last")),
            ("weight_hh", Factor("h", -1, at="last")),
            ("weight_hh", Factor("h", at="last")),
        ),
    ):
        shown, needed = (
            f"{left.name}[T{left.shift - 1:+d}]",
            {"x": "x[t]", "h": "h[t-1]"}[left.name],
        )
        yield (
            f"{kind}[{gate}].{shown}",
            f"{capitalised(GATE_WORDS[gate])}'s block of the gradient of {kind} uses {shown}, what "
            f"the last step left, at every step where it needs {needed}.",
            outer(Place(f"d{kind}.{gate}"), left),
        )
    for by, gates in itertools.product((-1, 1), _BLOCKS):
        kept = {"weight_ih": Factor("x", step=by), "weight_hh": Factor("h", -1, step=by)}
        yield (
            f"weight{_name(gates)}.[h, x] kept at t{by:+d}",
            capitalised(
                f"{_words(gates)}the gradient of weight_ih and weight_hh uses the [h, x] that step "
                f"t{by:+d} kept where it needs that of t ({EDGES['wrap']})."
            ),
            together(*(outer(Place(f"d{k}.{g}"), new) for k, new in kept.items() for g in gates)),
        )


def _name(gates: tuple[str, ...]) -> str:
    return "" if gates == GATES else f"[{gates[0]}]"


def _words(gates: tuple[str, ...]) -> str:
    return "" if gates == GATES else f"{GATE_WORDS[gates[0]]}'s block of "
