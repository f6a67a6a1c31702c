"""Mistakes around the loop: carries, upstream, the stack, what was kept."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from fractions import Fraction
from functools import partial
from typing import Literal

from manual_lstm.params import GATES
from torch_ref.diagnosis.backward.table import SUMS, Edge, Factor, Steps, Table, Term
from torch_ref.diagnosis.backward.words import GATE_WORDS, TARGET_WORDS, capitalised, name_of
from torch_ref.diagnosis.mistakes.blocks import block_mistakes
from torch_ref.diagnosis.mistakes.edits import (
    ONE,
    Edit,
    Place,
    change,
    clipped,
    everywhere,
    factor,
    forwards,
    function,
    in_layers,
    learning,
    only_at,
    plus,
    scaled,
    times,
    together,
)
from torch_ref.diagnosis.mistakes.layers import layer_mistakes
from torch_ref.oracles.variant import Variant

Found = Iterator[tuple[str, str, Edit]]
_KEPT: tuple[tuple[Literal["last", "first"], str], ...] = (
    ("last", "the last step"),
    ("first", "the first step"),
)


def path_mistakes(table: Table, variant: Variant) -> Found:
    """identifier, sentence and edit of each."""
    squashes = variant.output == "tanh"
    yield from _carries(table)
    yield from block_mistakes()
    yield from _loop(table)
    yield from layer_mistakes()
    yield from _overwritten(squashes)
    yield from _other_cells(table, variant)


def upstream_mistakes(table: Table) -> Found:
    """Carries kept, mixed up, or clipped; dh_n and dc_n ignored, exchanged, added everywhere."""
    state = "dc_total" if "dc_total" in table.equations else "dc"
    begin = {"dh_begin": ("dh_n", "h_n"), "dc_begin": ("dc_n", "c_n")}
    for target, (name, of) in begin.items():
        place = Place(target)
        for scale, verb in (("0", "is ignored"), ("-1", "has the wrong sign"), ("2", "is doubled")):
            sentence = f"{name}, the upstream gradient of {of}, {verb}."
            yield f"{name} * {scale}", sentence, scaled(place, scale)
        into = "dh" if name == "dh_n" else state
        term = Term((Factor(name),), steps="not the last")
        yield (
            f"{name}.every step",
            f"{name} is added at every step, not at the last one only.",
            plus(into, term),
        )
    exchanged = [
        factor(Place(t), 0, Factor(n)) for t, n in zip(begin, ("dc_n", "dh_n"), strict=True)
    ]
    yield "dh_n and dc_n exchanged", "dh_n and dc_n are exchanged.", together(*exchanged)
    yield "dh_n.dc_n", "The last h receives dc_n where it needs dh_n.", exchanged[0]
    yield "dc_n.dh_n", "The last c receives dh_n where it needs dc_n.", exchanged[1]
    both = together(*(scaled(Place(t), "0") for t in begin))
    yield "dh_n and dc_n ignored", "dh_n and dc_n are both ignored.", both
    for target in ("dh", "dc"):
        for limit in (1, 5):
            yield (
                f"{target}.clipped at {limit}",
                capitalised(
                    f"{TARGET_WORDS[target]} is clipped to [-{limit}, {limit}] within the loop."
                ),
                clipped(target, limit),
            )
    for limit in (1, 5):
        yield (
            f"dz.clipped at {limit}",
            f"The gates' gradients are clipped to [-{limit}, {limit}] within the loop.",
            together(*(clipped(f"dz_{gate}", limit) for gate in GATES)),
        )
    for name, of in (("dh0", "dh_carry"), ("dc0", "dc_carry")):
        place = Place(name)
        for scale, verb in (
            ("0", "is zero"),
            ("-1", "has the wrong sign"),
            ("2", "is doubled"),
            ("1/B", "is divided by B"),
        ):
            sentence = capitalised(f"{TARGET_WORDS[name]} {verb}.")
            yield f"{name} * {scale}", sentence, scaled(place, scale)
        for other in ("dh", "dc", "dh_carry", "dc_carry"):
            if other != of:
                yield (
                    f"{name}.{other}",
                    capitalised(
                        f"{TARGET_WORDS[name]} is {other} after t=0 where it is {of} after t=0."
                    ),
                    factor(place, 0, Factor(other)),
                )
        yield (
            f"{name}.one f too many",
            capitalised(f"{TARGET_WORDS[name]} is multiplied by f[0] once more."),
            times(place, Factor("f")),
        )
    swap = together(
        factor(Place("dh0"), 0, Factor("dc_carry")), factor(Place("dc0"), 0, Factor("dh_carry"))
    )
    yield "dh0 and dc0 exchanged", "The gradients of h0 and c0 are exchanged.", swap
    for steps, words in (("not the first", "t=0"), ("not the last", "the last step")):
        places = [Place("dx", k) for k in range(4)]
        places += [Place(target) for target in SUMS if target in table.equations]
        yield (
            f"dz.{steps}",
            f"The gates' gradients of {words} are left out of dx and of every weight's gradient.",
            together(*(only_at(place, steps) for place in places)),  # type: ignore[arg-type]
        )
    for rate in (Fraction(1), Fraction(1, 10), Fraction(1, 100), Fraction(1, 1000)):
        yield (
            f"weight_hh.updated in the loop at {float(rate)}",
            f"weight_hh is updated with a learning rate of {float(rate)} within the loop, before "
            "the steps before have used it.",
            learning(rate),
        )


def _carries(table: Table) -> Found:
    """What is handed on kept as it was, added up, or clipped."""
    for carry, words in (("dc_carry", "the cell's gradient"), ("dh_carry", "h's gradient")):
        old = [factor(Place(carry), 0, Factor(carry)), change(Place(carry), weight=None)]
        old += [factor(Place(carry), 1, ONE)] if carry == "dc_carry" else []
        rest = range(1, len(table[carry].terms))
        old += [scaled(Place(carry, k), "0") for k in rest]
        yield (
            f"{carry}.never updated",
            f"What is carried of {words} from step to step is never updated.",
            together(*old),
        )
        whole = carry.removesuffix("_carry")
        for old_value, what in ((carry, "the old carry"), (whole, f"the whole of {whole}")):
            yield (
                f"{carry}.accumulates {old_value}".removesuffix(f" {carry}"),
                f"What is carried of {words} is added to {what} where it should replace it.",
                plus(carry, Term((Factor(old_value),))),
            )
        for limit in (1, 5, 10):
            yield (
                f"{carry}.clipped at {limit}",
                f"What {words} hands to t-1 is clipped to [-{limit}, {limit}] within the loop.",
                clipped(carry, limit),
            )


def _loop(table: Table) -> Found:
    """Steps that the loop leaves out, or takes in the opposite order."""
    sums = [Place("dx", k) for k in range(4)]
    sums += [Place(target) for target in SUMS if target in table.equations]
    spans: tuple[tuple[Steps, Steps, str, str], ...] = (
        ("first", "not the first", "t=0", "dh0 and dc0 are what t=1 handed back"),
        ("last", "not the last", "the last step", "it begins one step too early"),
    )
    for skipped, others, words, effect in spans:
        edits = [only_at(place, others) for place in sums]
        for carry in ("dh_carry", "dc_carry"):
            edits += [only_at(Place(carry, k), others) for k in range(len(table[carry].terms))]
            edits.append(plus(carry, Term((Factor(carry),), steps=skipped)))
        yield (
            f"loop.without {words}",
            f"The loop over the steps leaves out {words}: {effect}.",
            together(*edits),
        )
    opposite = together(
        *(factor(Place("dx", k), 0, Factor(f"dz_{g}", at="reversed")) for k, g in enumerate(GATES))
    )
    yield "dx.reversed", "The gradient of x has its steps in the opposite order.", opposite
    for member, which in (("first", "0"), ("last", "B-1")):
        alone = [function(Place("dx", k), 0, f"of the {member} member only") for k in range(4)]
        yield (
            f"dx.member {which}",
            f"The gradient of x is that of sequence {which} of the batch only: the others' is 0.",
            in_layers(together(*alone), "first"),
        )
    for by, edge, left in (
        (1, "wrap", "cyclically"),
        (1, "zero", "t=0's is lost"),
        (-1, "wrap", "cyclically"),
        (-1, "zero", "that of the last step is lost"),
    ):
        elsewhere = [Factor(f"dz_{g}", by, edge=edge) for g in GATES]  # type: ignore[arg-type]
        yield (
            f"dx.written at t{-by:+d} {edge}",
            f"The gradient of x of step t is written at t{-by:+d} ({left}).",
            together(*(factor(Place("dx", k), 0, new) for k, new in enumerate(elsewhere))),
        )
    onward = "The loop over the steps runs from the first to the last; it must run backward in time"
    yield "loop.forwards", f"{onward}.", forwards
    yield (
        "loop.forwards, dx reversed",
        f"{onward}: dx, collected on the way, comes out in the opposite order.",
        together(forwards, opposite),
    )
    ats: tuple[tuple[Literal["first", "last", "reversed"], str], ...] = (
        ("reversed", "is taken in the opposite order of the steps"),
        ("first", "of t=0 is taken at every step"),
        ("last", "of the last step is taken at every step"),
    )
    for at, words in ats:
        yield f"dh.dy {at}", f"dy {words}.", factor(Place("dh"), 0, Factor("dy", at=at))
    for which in ("next", "previous"):
        yield (
            f"dh.dy of the {which} member",
            f"Each sequence of the batch is given dy of the {which} one.",
            function(Place("dh"), 0, f"of the {which} member"),
        )
    kept = (*GATES, *(f"z_{gate}" for gate in GATES), "c", "h", "c_out", "h_out", "x")
    steps: list[tuple[str, str, Callable[[Factor], Factor]]] = [
        ("reversed", "T-1-t kept", lambda f: replace(f, at="reversed")),
        ("last", "T-1 kept: the last call's", lambda f: replace(f, at="last")),
        ("first", "0 kept: the first call's", lambda f: replace(f, at="first")),
    ]
    edges: tuple[tuple[Edge, str], ...] = (
        ("wrap", "cyclically"),
        ("clamp", "at the end the nearest"),
    )
    for (edge, words), by in itertools.product(edges, (-1, 1)):
        taken = partial(_of_step, by=by, edge=edge)
        steps.append((f"t{by:+d} {edge}", f"t{by:+d} kept ({words})", taken))
    for name, words, moved in steps:
        edit = everywhere(_named(*kept), moved)
        uses = f"everything that the forward step {words}"
        yield f"cache.{name}", f"The backward step t uses {uses}.", edit
        if "dweight_out" in table.equations:
            yield (
                f"cache.{name}, not of the head",
                f"The backward step t of the LSTM, not of the head, uses {uses}.",
                _but_for_the_head(edit),
            )


def _of_step(f: Factor, by: int, edge: Edge) -> Factor:
    return replace(f, step=by, edge=edge)


def _but_for_the_head(edit: Edit) -> Edit:
    return lambda table: edit(table).with_equation(table["dweight_out"])


def _named(*names: str, shift: int | None = None) -> Callable[[Factor], bool]:
    return lambda f: f.name in names and shift in (None, f.shift)


def _at(step: Literal["last", "first"]) -> Callable[[Factor], Factor]:
    return lambda f: Factor(f.name, 0, f.function, at=step)


def _moved(by: int) -> Callable[[Factor], Factor]:
    return lambda f: Factor(f.name, f.shift + by, f.function)


def _renamed(names: Mapping[str, str]) -> Callable[[Factor], Factor]:
    return lambda f: replace(f, name=names[f.name])


def _overwritten(squashes: bool) -> Found:
    """What the forward pass kept for the backward was overwritten."""
    for name in (*GATES, "c", "h", "c_out", "x"):
        words = name_of(Factor(name), squashes).removesuffix("[t]")
        for at, when in _KEPT:
            yield (
                f"{name}.kept of {at}",
                f"The backward pass uses {words} of {when} at every step: the others were not "
                "kept, or overwritten.",
                everywhere(_named(name), _at(at)),
            )
    gates = everywhere(_named(*GATES), _at("last"))
    yield (
        "gates.kept of last",
        "The backward pass uses the gates of the last step at every step: the others were not "
        "kept, or overwritten.",
        gates,
    )
    for name, by in (("c", 1), ("h", 1), ("c", -1), ("h", -1)):
        new = "after" if by > 0 else "two steps before"
        yield (
            f"{name}.shifted by {by}",
            f"Wherever the backward pass needs {name}[t-1] it has {name} {new} the step.",
            everywhere(_named(name, shift=-1), _moved(by)),
        )
    for name, words in (*GATE_WORDS.items(), ("c_out", "what is kept of tanh(c)")):
        for by in (-1, 1):
            yield (
                f"{name}.everywhere {by:+d}",
                capitalised(f"{words} is read at t{by:+d} wherever it is needed at t."),
                everywhere(_named(name), _moved(by)),
            )


def _other_cells(table: Table, variant: Variant) -> Found:
    """A backward pass of another cell than the forward's."""
    state = "dc_total" if "dc_total" in table.equations else "dc"
    if variant.output == "tanh":
        yield (
            "cell.h = o * c",
            "The backward pass is that of h = o * c, the forward pass h = o * tanh(c).",
            together(factor(Place("do"), 1, Factor("c")), factor(Place(state), 2, ONE)),
        )
        squashed = Factor("c", -1, "tanh(y)")
        yield (
            "cell.c for tanh(c)",
            "The backward pass takes c wherever it needs tanh(c).",
            together(
                factor(Place("do"), 1, Factor("c")),
                factor(Place(state), 2, Factor("c", 0, "1-y^2")),
            ),
        )
        before = (Factor("c", -1, "tanh(y)"), Factor("c", -1, "1-tanh(y)^2"))
        yield (
            "cell.tanh(c[t-1])",
            "The backward pass takes tanh(c[t-1]) wherever it needs tanh(c[t]).",
            together(factor(Place("do"), 1, before[0]), factor(Place(state), 2, before[1])),
        )
        yield (
            "cell.c = tanh(c)",
            "The backward pass has the cell overwritten by tanh(c).",
            together(
                factor(Place("df"), 1, squashed),
                factor(Place("do"), 1, Factor("c_out", function="tanh(y)")),
                factor(Place(state), 2, Factor("c_out", function="1-tanh(y)^2")),
            ),
        )
    else:
        yield (
            "cell.h = o * tanh(c)",
            "The backward pass is that of h = o * tanh(c), the forward pass h = o * c.",
            together(
                function(Place("do"), 1, "tanh(y)"),
                times(Place(state), Factor("c", function="1-tanh(y)^2")),
            ),
        )
    yield (
        "cell.coupled",
        "The backward pass couples i = 1 - f, the forward pass does not.",
        plus("df", Term((Factor("dc"), Factor("g")), scale=("-1",))),
    )
    if variant.peepholes:
        swapped = everywhere(_named("w_ci", "w_cf"), _renamed({"w_ci": "w_cf", "w_cf": "w_ci"}))
        sentence = "The backward pass reads the peepholes of i and f for each other."
        yield "peepholes.i and f", sentence, swapped
        both = together(*(scaled(Place("dc_carry", k), "0") for k in (1, 2)))
        sentence = "The peepholes of i and f are left out of what the cell's gradient hands to t-1."
        yield "peepholes.not handed on", sentence, both
        every = together(both, scaled(Place(state, 2), "0"))
        yield "peepholes.no gradient", "No gradient goes through the peepholes to the cell.", every
        place = Place(state, 2)
        sentence = "The cell's gradient takes do where it needs dz_o, in the peephole's part."
        yield "peepholes.do for dz_o", sentence, factor(place, 0, Factor("do"))
    for first, second in (("i", "f"), ("f", "o"), ("i", "o"), ("g", "o"), ("i", "g"), ("f", "g")):
        pair = {first: second, second: first}
        yield (
            f"gates.{first} and {second} read for each other",
            f"The backward pass reads {first} and {second} for each other.",
            everywhere(_named(*pair), _renamed(pair)),
        )
    for needed, taken in itertools.permutations(GATES, 2):
        yield (
            f"gates.{taken} read for {needed}",
            f"The backward pass reads {taken} wherever it needs {needed}.",
            everywhere(_named(needed), _renamed({needed: taken})),
        )
