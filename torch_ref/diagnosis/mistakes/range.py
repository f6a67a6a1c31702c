"""Loops over units, inputs or rows that begin or end one too early or too late, or end inside.

An array library has no such loops; C, C++ and lists have little else.
"""

from collections.abc import Iterator, Sequence
from typing import Literal

from manual_lstm.params import GATES
from torch_ref.diagnosis.backward.table import OUTER, Factor, Table, Term, Weight
from torch_ref.diagnosis.backward.words import GATE_WORDS, TARGET_WORDS, capitalised, name_of
from torch_ref.diagnosis.mistakes.edits import (
    Edit,
    Place,
    factor,
    function,
    outer,
    plus,
    scaled,
    times,
    together,
    weight,
)
from torch_ref.diagnosis.mistakes.sums import KINDS

Found = Iterator[tuple[str, str, Edit]]
End = Literal["last", "first"]


def range_mistakes(table: Table) -> Found:
    """identifier, sentence and edit of each."""
    ends: tuple[End, ...] = ("last", "first")
    for end in ends:
        yield from _of_units(table, end)
        for gate in GATES:
            yield from _of_rows(gate, end)
        yield from _of_columns(end)
    yield from _kept_between()
    yield from _of_another_unit(table)
    for inner, counted, words in (
        ("inputs", Factor("x", function="how many"), "input, I times"),
        ("units", Factor("h", -1, "how many"), "unit, H times"),
    ):
        yield (
            f"bias.inside the loop over the {inner}",
            f"The gradient of the bias is added once for every {words}: it is inside that loop.",
            together(*(outer(Place(f"dbias.{gate}"), counted) for gate in GATES)),
        )
    if "dbias_out" in table.equations:
        yield (
            "bias_out.inside the loop over the units",
            "The gradient of bias_out is added once for every unit, H times: it is inside that "
            "loop.",
            outer(Place("dbias_out"), Factor("h", function="how many")),
        )


def _of_units(table: Table, end: End) -> Found:
    """A loop that computes the gates' gradients unit by unit."""
    but = f"0 in the {end}"
    there = Factor("f", function=f"1, {but}")
    if "dc_total" not in table.equations:  # there c's gradient is handed on as it came
        yield (
            f"loop.without the {end} unit",
            f"The loop over the units leaves out the {end} one: it has no gradient at the gates.",
            together(
                *(times(Place(f"dz_{gate}"), there) for gate in GATES),
                times(Place("dc"), there),
                factor(Place("dc_carry"), 1, Factor("f", function=f"y, 1 in the {end}")),
            ),
        )
    yield (
        f"dc_carry.f of the {end} unit only",
        f"What the cell's gradient hands to t-1 is multiplied by f in the {end} unit only.",
        factor(Place("dc_carry"), 1, Factor("f", function=f"1, y in the {end}")),
    )


def _of_rows(gate: str, end: End) -> Found:
    """A loop over the rows of the weights that begins or ends with a row of one gate."""
    there = Factor("f", function=f"1, 0 in the {end}")
    at = {target: times(Place(target, GATES.index(gate)), there) for target in ("dh_carry", "dx")}
    of_sums = [times(Place(f"d{kind}.{gate}"), there) for kind in KINDS]
    words = f"leaves out the {end} of {GATE_WORDS[gate]}'s units"
    for target, edit in at.items():
        yield (
            f"{target}.without the {end} row of {gate}",
            f"The loop over the gates' units that makes {TARGET_WORDS[target]} {words}.",
            edit,
        )
    yield (
        f"sums.without the {end} row of {gate}",
        f"The loop over the gates' units for the weights' gradients {words}.",
        together(*of_sums),
    )
    yield (
        f"rows.without the {end} of {gate}",
        f"The loop over the gates' units for the gradients of the weights, of h and of x {words}.",
        together(*at.values(), *of_sums),
    )


def _kept_between() -> Found:
    """What is not set to zero, or set anew, between one turn of a loop and the next."""
    only = Factor("f", function="1 in the last")
    for targets, words in (
        (("dh_carry",), TARGET_WORDS["dh_carry"]),
        (("dx",), TARGET_WORDS["dx"]),
        (("dh_carry", "dx"), "what goes back through the weights to h and x"),
    ):
        for k, gate in enumerate(GATES):
            edits = [times(Place(target, k), only) for target in targets]
            others = [scaled(Place(t, n), "0") for t in targets for n in range(4) if n != k]
            yield (
                f"{' and '.join(targets)}.only the last row of {gate}",
                f"{capitalised(words)} is overwritten by every unit of every gate (= for +=): "
                f"only what {GATE_WORDS[gate]}'s last one gives is left.",
                together(*edits, *others),
            )
    for target, kind in (("dh_carry", "weight_hh"), ("dx", "weight_ih")):
        blocks = [Weight(kind, gate, altered="summed up") for gate in GATES]
        yield (
            f"{target}.not set to zero between the columns",
            f"{capitalised(TARGET_WORDS[target])} is summed on from one element to the next: the "
            "sum is not set to zero in between.",
            together(*(weight(Place(target, k), block) for k, block in enumerate(blocks))),
        )
    every = [plus(f"dz_{gate}", Term((Factor(f"dz_{gate}"),))) for gate in GATES]
    for gate, edit in zip(GATES, every, strict=True):
        yield (
            f"dz_{gate}.added to that of t+1",
            f"dz_{gate}, {GATE_WORDS[gate]}'s, is added to that of t+1 where it should replace it.",
            edit,
        )
    sentence = "The gates' gradients are added to those of t+1 where they should replace them."
    yield "dz.added to that of t+1", sentence, together(*every)


def _of_another_unit(table: Table) -> Found:
    """A quantity with another index than the rest of its line."""
    state = "dc_total" if "dc_total" in table.equations else "dc"
    squashes = any(each.name == "c_out" and each.function for each in _factors(table, state))
    for target in (state, "do", "di", "dg", "df", "dc_carry"):
        for number, taken in enumerate(_factors(table, target)):
            if number == 0 or taken.function:
                continue
            for which in ("of the next unit", "of the previous unit", "of the first unit"):
                yield (
                    f"{target}.{taken.name} {which}",
                    f"{capitalised(TARGET_WORDS[target])} uses {name_of(taken, squashes)} {which} "
                    "where it needs that of its own.",
                    function(Place(target), number, which),
                )


def _factors(table: Table, target: str) -> Sequence[Factor]:
    return table[target].terms[0].factors


def _of_columns(end: End) -> Found:
    """A loop over the inputs, or over the h of the step before."""
    for target, kind, words in (
        ("dx", "weight_ih", "inputs"),
        ("dh_carry", "weight_hh", "units of h[t-1]"),
    ):
        of = OUTER[kind]
        without: Literal["without the first", "without the last"]
        without = "without the first" if end == "first" else "without the last"
        of_sum = [
            outer(Place(f"d{kind}.{gate}"), Factor(of.name, of.shift, f"y, 0 in the {end}"))
            for gate in GATES
        ]
        of_back = [
            weight(Place(target, k), Weight(kind, gate, altered=without))
            for k, gate in enumerate(GATES)
        ]
        name = {"dx": "x", "dh_carry": "h"}[target]
        for edits, identifier, loop in (
            (of_sum, f"d{kind}", f"the gradient of {kind}"),
            (of_back, target, f"the gradient of {name}"),
            ([*of_sum, *of_back], f"d{kind} and {target}", f"the gradients of {kind} and {name}"),
        ):
            yield (
                f"{identifier}.without the {end} column",
                f"The loop over the {words} that makes {loop} leaves out the {end} one.",
                together(*edits),
            )
