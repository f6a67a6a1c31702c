"""Mistakes within one step: factors, derivatives, terms and their order. Equations (9) to (17)."""

from collections.abc import Iterator
from itertools import combinations

from manual_lstm.params import GATES
from torch_ref.diagnosis.backward.table import Factor, Table
from torch_ref.diagnosis.backward.words import (
    FUNCTION_WORDS,
    GATE_WORDS,
    TARGET_WORDS,
    capitalised,
    name_of,
    quantity,
)
from torch_ref.diagnosis.mistakes.edits import (
    ONE,
    Edit,
    Place,
    factor,
    function,
    only_at,
    scaled,
    shifted,
    times,
    together,
)
from torch_ref.diagnosis.mistakes.sums import EDGES
from torch_ref.oracles.variant import Variant

Found = Iterator[tuple[str, str, Edit]]
_SPAN = {
    "first": "is taken at t=0 only",
    "last": "is taken at the last step only",
    "not the first": "is left out at t=0",
    "not the last": "is left out at the last step",
}


def cell_mistakes(table: Table, variant: Variant) -> Found:
    """identifier, sentence and edit of each."""
    squashes = variant.output == "tanh"
    yield from _other_factors(table, squashes)
    yield from _derivatives(table, squashes)
    yield from _helpers(table)
    yield from _terms(table)
    yield from _order(table)


def _factor_of(table: Table, place: Place, number: int) -> Factor:
    return table[place.target].terms[place.term].factors[number]


def _other_factors(table: Table, squashes: bool) -> Found:
    """A factor replaced by another quantity of the same shape, or left out."""
    state = "dc_total" if "dc_total" in table.equations else "dc"
    squashed = Factor("c", -1, "tanh(y)")
    common = [Factor("c"), Factor("c", -1), Factor("h"), Factor("h", -1), Factor("c_out")]
    common += [squashed, *(Factor(gate) for gate in GATES), *(Factor(f"z_{g}") for g in GATES)]
    for place, number, needed in (
        (Place("do"), 1, Factor("c_out")),
        (Place(state), 1, Factor("o")),
        (Place("di"), 1, Factor("g")),
        (Place("dg"), 1, Factor("i")),
        (Place("df"), 1, Factor("c", -1)),
        (Place("dc_carry"), 1, Factor("f")),
    ):
        words = TARGET_WORDS[place.target]
        further = {
            "dc_carry": [Factor("f", function=name) for name in ("1-y", "y(1-y)", "y^2")],
            "di": [Factor("g", function=name) for name in ("tanh(y)", "1-y^2", "y(1-y^2)")],
            "dg": [Factor("i", function=name) for name in ("sigmoid(y)", "y(1-y)", "1-y")],
            "do": [Factor("c_out", function=name) for name in ("tanh(y)", "1-y^2")],
            state: [Factor("o", function=name) for name in ("y(1-y)", "1-y")],
        }.get(place.target, [])
        for new in [*common, *further]:
            if new == needed:
                continue
            yield (
                f"{place.target}.{quantity(new, squashes)}",
                capitalised(
                    f"{words} uses {quantity(new, squashes)} where it needs "
                    f"{name_of(needed, squashes)}."
                ),
                factor(place, number, new),
            )
        yield (
            f"{place.target}.without {needed.name}",
            capitalised(f"{words} lacks the factor {name_of(needed, squashes)}."),
            factor(place, number, ONE),
        )
        yield (
            f"{place.target}.{needed.name} twice",
            capitalised(f"{words} has the factor {name_of(needed, squashes)} twice."),
            times(place, needed),
        )
    for edge, taken in (("wrap", "that of the last step, index -1,"), ("clamp", "c[0]")):
        yield (
            f"df.c without c0 {edge}",
            f"The forget gate's gradient takes {taken} at t=0 where it needs c0.",
            factor(Place("df"), 1, Factor("c_new", -1, edge=edge)),  # type: ignore[arg-type]
        )
    for place, number, by in (
        (Place("do"), 1, (-1, 1)),
        (Place(state), 1, (-1, 1)),
        (Place("di"), 1, (-1, 1)),
        (Place("dg"), 1, (-1, 1)),
        (Place("dc_carry"), 1, (-1, 1)),
        (Place("dh"), 0, (-1, 1)),
        (Place("df"), 1, (-1,)),
    ):
        yield from _shifts(table, place, number, by, squashes)


def _shifts(
    table: Table, place: Place, number: int, shifts: tuple[int, ...], squashes: bool
) -> Found:
    needed = _factor_of(table, place, number)
    for by in shifts:
        for edge, words in EDGES.items():
            new = Factor(needed.name, needed.shift + by)
            yield (
                f"{place.target}.{name_of(new, squashes)} {edge}",
                capitalised(
                    f"{TARGET_WORDS[place.target]} uses {name_of(new, squashes)} where it needs "
                    f"{_timed(needed, squashes)} ({words})."
                ),
                shifted(place, number, by, edge),  # type: ignore[arg-type]
            )


def _timed(factor: Factor, squashes: bool) -> str:
    name = name_of(factor, squashes)
    return name if "[" in name else f"{name}[t]"


def _derivatives(table: Table, squashes: bool) -> Found:
    """A derivative left out, twice, of another value or function, or without its square."""
    state = "dc_total" if "dc_total" in table.equations else "dc"
    places = [(Place(f"dz_{gate}"), 1, f"z_{gate}") for gate in GATES]
    if squashes:
        places.append((Place(state), 2, ""))
    if state == "dc_total":
        places.append((Place("dc"), 1, ""))
    for place, number, before in places:
        needed = _factor_of(table, place, number)
        words, tanh = TARGET_WORDS[place.target], needed.function == "1-y^2"
        y = name_of(needed, squashes)
        right = FUNCTION_WORDS[needed.function].format(y=y)
        yield (
            f"{place.target}.no derivative",
            capitalised(f"{words} lacks {right}."),
            factor(place, number, ONE),
        )
        names = ["(1-y^2)^2", "1-y", "(1-y)^2", "1+y^2", "y^2-1", "y^2", "1-tanh(y)^2", "y(1-y)"]
        if not tanh:
            names = ["(y(1-y))^2", "1-y", "y(1+y)", "y^2", "s(1-s), s = sigmoid(y)", "1-y^2"]
        for name in names:
            wrong = FUNCTION_WORDS[name].format(y=y)
            yield (
                f"{place.target}.{name}",
                capitalised(f"{words} takes {wrong} where it needs {right}."),
                function(place, number, name),
            )
        yield (
            f"{place.target}.value for derivative",
            capitalised(f"{words} takes {y} itself where it needs {right}."),
            function(place, number, ""),
        )
        if not tanh:
            for another in [gate for gate in GATES if gate != y]:
                for one, rest in ((y, another), (another, y)):
                    mixed = factor(place, number, Factor(one))
                    yield (
                        f"{place.target}.{one}(1-{rest})",
                        capitalised(f"{words} takes {one} (1 - {rest}) where it needs {right}."),
                        together(mixed, times(place, Factor(rest, function="1-y"))),
                    )
        others = [Factor(other) for other in (*GATES, before) if other not in (needed.name, "")]
        if not before or (before == "z_g" and tanh):
            others += [Factor("c"), Factor("h"), Factor("c", -1, "tanh(y)")]
        elif before:
            others += [Factor("c"), Factor("h")]
        if before and not (before == "z_g" and not tanh):
            others.append(Factor("c_out"))
        for other in others:
            new = Factor(other.name, other.shift, needed.function)
            if other.function:  # of tanh(c[t-1])
                new = Factor("c", -1, "1-tanh(y)^2")
            if other.name != needed.name or not before:
                yield (
                    f"{place.target}.derivative at {quantity(new, squashes)}",
                    capitalised(
                        f"{words} takes the derivative at {quantity(other, squashes)} where it "
                        f"needs it at {y}."
                    ),
                    factor(place, number, new),
                )
        yield from _shifts(table, place, number, (-1, 1), squashes)


def _helpers(table: Table) -> Found:
    """A derivative that is wrong wherever it is needed: one function, or the gates as one array."""
    state = "dc_total" if "dc_total" in table.equations else "dc"
    places = [(Place(f"dz_{gate}"), 1) for gate in GATES]
    places += [(Place(state), 2)] if len(table[state].terms[0].factors) > 2 else []
    places += [(Place("dc"), 1)] if state == "dc_total" else []
    for needed, name, others in (
        ("y(1-y)", "sigmoid", ("(y(1-y))^2", "1-y", "y(1+y)", "y^2", "s(1-s), s = sigmoid(y)",
                               "1-y^2", "")),
        ("1-y^2", "tanh", ("(1-y^2)^2", "1-y", "1+y^2", "y^2-1", "y^2", "1-tanh(y)^2", "y(1-y)",
                           "")),
    ):  # fmt: skip
        users = [p for p in places if _factor_of(table, *p).function == needed]
        right = FUNCTION_WORDS[needed].format(y="y")
        for other in others:
            wrong = FUNCTION_WORDS[other].format(y="y") if other else "y itself"
            yield (
                f"{name}'.{other or 'value'}",
                f"Wherever {right} is needed the backward pass takes {wrong}.",
                together(*(function(place, number, other) for place, number in users)),
            )
        yield (
            f"{name}'.none",
            f"{capitalised(right)} is left out wherever it is needed.",
            together(*(factor(place, number, ONE) for place, number in users)),
        )
        gates = [place.target[-1] for place, _ in users if place.target.startswith("dz_")]
        for of, words in ((needed, f"{right}, of the values before the activation"),
                          ("", "the values before the activation")):  # fmt: skip
            yield (
                f"{name}'.z {of}",
                f"Wherever a gate needs {right} it takes {words}.",
                together(*(factor(Place(f"dz_{g}"), 1, Factor(f"z_{g}", 0, of)) for g in gates)),
            )
    for needed, name in (("y(1-y)", "sigmoid"), ("1-y^2", "tanh")):
        yield (
            f"gates'.{name}",
            f"All four gates take {FUNCTION_WORDS[needed].format(y='y')}.",
            together(*(function(Place(f"dz_{gate}"), 1, needed) for gate in GATES)),
        )
    yield (
        "gates'.none",
        "No gate's gradient has the derivative of its activation.",
        together(*(factor(Place(f"dz_{gate}"), 1, ONE) for gate in GATES)),
    )


def _terms(table: Table) -> Found:
    """A term left out, negated, doubled, halved, or there at some steps only."""
    parts = {
        ("dh", 0): "dy[t]",
        ("dh", 1): "what t+1 hands back",
        ("dc", 0): "what comes through h[t]",
        ("dc", 1): "what t+1 hands back",
    }
    whole = ("do", "di", "dg", "df", "dc_carry")
    state = "dc_total" if "dc_total" in table.equations else "dc"
    places: dict[Place, str] = {}
    for (target, term), part in parts.items():
        inside = f"{part} in {TARGET_WORDS[target]}"
        places[Place(state if target == "dc" else target, term)] = inside
    places |= {Place(target): f"the whole of {TARGET_WORDS[target]}" for target in whole}
    if len(table["df"].terms) > 1:  # coupled: f stands for i too
        places[Place("df")] = f"c[t-1] in {TARGET_WORDS['df']}"
        places[Place("df", 1)] = f"g in {TARGET_WORDS['df']}"
        both = tuple(Place("df", k) for k in range(2))
        yield from _scales("df", f"the whole of {TARGET_WORDS['df']}", both)
    if len(table[state].terms) > 2:
        places[Place(state, 2)] = "the output gate's peephole in the cell's gradient"
    for number, gate in enumerate(("i", "f")):
        if len(table["dc_carry"].terms) > 1:
            words = f"{GATE_WORDS[gate]}'s peephole in {TARGET_WORDS['dc_carry']}"
            places[Place("dc_carry", number + 1)] = words
    for target in ("dh_carry", "dx"):
        for number, gate in enumerate(GATES):
            words = f"{GATE_WORDS[gate]}'s part of {TARGET_WORDS[target]}"
            places[Place(target, number)] = words
    for place, words in places.items():
        yield from _scales(f"{place.target}[{place.term}]", words, (place,))
    for target in ("dh_carry", "dx"):
        every = tuple(Place(target, k) for k in range(4))
        yield from _scales(target, f"the whole of {TARGET_WORDS[target]}", every)
    for pair in ("if", "ig", "io", "fg", "fo", "go"):
        for target in ("dh_carry", "dx"):
            yield (
                f"{target}.without {pair}",
                capitalised(
                    f"{TARGET_WORDS[target]} lacks the parts of {GATE_WORDS[pair[0]]} and "
                    f"{GATE_WORDS[pair[1]]}."
                ),
                together(*(scaled(Place(target, GATES.index(g)), "0") for g in pair)),
            )


def _scales(identifier: str, words: str, places: tuple[Place, ...]) -> Found:
    for scale, verb in (
        ("0", "is left out"),
        ("-1", "has the wrong sign"),
        ("2", "is counted twice"),
        ("1/2", "is halved"),
        ("1/T", "is divided by T"),
        ("1/B", "is divided by B"),
    ):
        edit = together(*(scaled(place, scale) for place in places))
        yield f"{identifier} * {scale}", capitalised(f"{words} {verb}."), edit
    for steps, verb in _SPAN.items():
        edit = together(*(only_at(place, steps) for place in places))  # type: ignore[arg-type]
        yield f"{identifier} {verb}", capitalised(f"{words} {verb}."), edit


def _order(table: Table) -> Found:
    """A gradient used before or after it is complete, or another's used for it."""
    state = "dc_total" if "dc_total" in table.equations else "dc"
    local = table[state].terms[0].factors
    users = {"di": "di", "dg": "dg", "df": "df", "dc_carry": "what is handed to t-1"}
    before = {
        t: together(factor(Place(t), 0, local[0]), times(Place(t), *local[1:])) for t in users
    }
    for target, words in users.items():
        yield (
            f"{target}.dc before its carry",
            f"{capitalised(words)} is computed from dc before what t+1 hands back is added to it.",
            before[target],
        )
    yield (
        "dc.used before its carry",
        "di, dg and df are computed from dc before what t+1 hands back is added to it.",
        together(*(before[t] for t in ("di", "dg", "df"))),
    )
    yield (
        "dc.used after f",
        "di, dg and df are computed from dc after it was multiplied by f for t-1.",
        together(*(times(Place(t), Factor("f")) for t in ("di", "dg", "df"))),
    )
    for pair in combinations(("di", "dg", "df"), 2):
        words = " and ".join(pair)
        yield (
            f"{words}.dc before its carry",
            f"{words} are computed from dc before what t+1 hands back is added to it.",
            together(*(before[t] for t in pair)),
        )
        yield (
            f"{words}.dc after f",
            f"{words} are computed from dc after it was multiplied by f for t-1.",
            together(*(times(Place(t), Factor("f")) for t in pair)),
        )
    back = times(Place(state, 1), Factor("f"))
    yield (
        "dc.carry times f",
        "What t+1 hands back in the cell's gradient is multiplied by f[t] once more.",
        back,
    )
    yield (
        "dc.carry times f of t",
        "What t+1 hands back in the cell's gradient is multiplied by f[t] where it needs f[t+1].",
        together(back, factor(Place("dc_carry"), 1, ONE)),
    )
    for target in ("di", "dg", "df"):
        yield (
            f"{target}.dc after f",
            capitalised(
                f"{TARGET_WORDS[target]} has the factor f[t] once too often, as where it takes dc "
                "after it was multiplied by f for t-1."
            ),
            times(Place(target), Factor("f")),
        )
    of_step = ("dh", "dc", "dy", "dh_carry", "dc_carry")
    taken: dict[tuple[str, int], tuple[str, ...]]
    taken = {(target, 0): of_step for target in ("di", "dg", "df", "do", state, "dc_carry")}
    taken |= {("dh", 1): ("dy", "dc_carry"), (state, 1): ("dh", "dy", "dh_carry")}
    for (target, number), names in taken.items():
        place = Place(target, number)
        needed = _factor_of(table, place, 0)
        for name in names:
            if name == needed.name or (target == state and name == "dc"):
                continue
            yield (
                f"{target}.{name} for {needed.name}",
                capitalised(f"{TARGET_WORDS[target]} takes {name} where it needs {needed.name}."),
                factor(place, 0, Factor(name)),
            )
        if number == 0:
            yield (
                f"{target}.without {needed.name}",
                capitalised(f"{TARGET_WORDS[target]} lacks {needed.name}, what comes to it."),
                factor(place, 0, ONE),
            )
    yield (
        "do.dc of t+1",
        "The output gate's gradient takes the cell's gradient that t+1 handed back for dh.",
        factor(Place("do"), 0, Factor("dc_carry")),
    )
    yield (
        "dh.carry not in dc and do",
        "What t+1 hands back to h is added after dc and do were computed.",
        together(factor(Place("do"), 0, Factor("dy")), factor(Place(state), 0, Factor("dy"))),
    )
