"""Mistakes in the gradients of the weights, the sums over the steps: equation (18)."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from fractions import Fraction

from manual_lstm.params import GATES
from torch_ref.diagnosis.backward.render import joined
from torch_ref.diagnosis.backward.table import PEEPHOLES, Factor, Steps, Table, Term, Weight
from torch_ref.diagnosis.backward.words import GATE_WORDS, TARGET_WORDS, capitalised, name_of
from torch_ref.diagnosis.mistakes.edits import (
    Edit,
    Place,
    change,
    clipped,
    decaying,
    factor,
    function,
    only_at,
    outer,
    plus,
    scaled,
    times,
    together,
    weight,
)
from torch_ref.oracles.variant import Variant

Found = Iterator[tuple[str, str, Edit]]
KINDS = ("weight_ih", "weight_hh", "bias")


# Orders of the gates in words, and whose block each of i, f, g, o gets.
USUAL_ORDERS = {
    "i and f exchanged": "figo",
    "g and o exchanged": "ifog",
    "i and g exchanged": "gfio",
    "f and o exchanged": "iogf",
    "i and o exchanged": "ofgi",
    "f and g exchanged": "igfo",
    "moved by one": "fgoi",
    "moved by one the other way": "oifg",
}
STACK = tuple(Place(f"d{kind}.{gate}") for kind in KINDS for gate in GATES)
ORDERS = USUAL_ORDERS | {
    f"{', '.join(order)} for i, f, g, o": "".join(order)
    for order in itertools.permutations(GATES)
    if "".join(order) not in ("".join(GATES), *USUAL_ORDERS.values())
}
EDGES = {
    "wrap": "cyclically",
    "clamp": "at the end the nearest step's",
    "zero": "at the end none",
}
SCALES = (
    ("0", "is missing"),
    ("-1", "has the wrong sign"),
    ("2", "is doubled"),
    ("1/2", "is halved"),
    ("1/T", "is a mean over the steps, not their sum"),
    ("1/B", "is a mean over the batch, not its sum"),
    ("1/(T B)", "is a mean over steps and batch, not their sum"),
    ("T", "is multiplied by T"),
    ("B", "is multiplied by B"),
    ("T B", "is multiplied by T B"),
)
LEFT: Mapping[Steps, str] = {"first": "t=0", "last": "the last step"}
SPANS = (
    ("first", "is overwritten at every step (= for +=), so only t=0 is left of it"),
    ("last", "is that of the last step only"),
    ("not the first", "lacks the share of t=0"),
    ("not the last", "lacks the share of the last step"),
)


def sum_mistakes(table: Table, variant: Variant) -> Found:
    """identifier, sentence and edit of each."""
    squashes = variant.output == "tanh"
    groups: dict[str, tuple[str, tuple[Place, ...]]] = {}
    for kind in KINDS:
        places = tuple(Place(f"d{kind}.{gate}") for gate in GATES)
        groups[kind] = (TARGET_WORDS[kind], places)
    groups["weights"] = ("every gradient of a weight", STACK)
    both = tuple(place for kind in KINDS[:2] for place in groups[kind][1])
    groups["weight"] = ("the gradient of weight_ih and weight_hh", both)
    for name in PEEPHOLES:
        if f"d{name}" in table.equations:
            groups[name] = (TARGET_WORDS[f"d{name}"], (Place(f"d{name}"),))
            shift = 0 if name == "weight_co" else -1
            for new in (Factor("c", -1 - shift), Factor("h", -1), Factor("h"), Factor("c_out")):
                shown, needed = (name_of(each, squashes) for each in (new, Factor("c", shift)))
                sentence = f"{TARGET_WORDS[f'd{name}']} uses {shown} where it needs {needed}."
                yield f"{name}.{shown}", capitalised(sentence), factor(Place(f"d{name}"), 1, new)
    peepholes = [Place(f"d{name}") for name in PEEPHOLES if f"d{name}" in table.equations]
    seen = [Factor("dc", 0 if place.target == "dweight_co" else -1, edge="zero")
            for place in peepholes]  # fmt: skip
    for name, words, taken in (
        ("h[t-1]", "h[t-1]", [Factor("h", -1)] * len(peepholes)),
        ("dc", "the cell's gradient", seen),
    ):
        yield (
            f"peepholes.{name}",
            f"The gradients of all peepholes use {words} where they need the cell c.",
            together(*(factor(p, 1, new) for p, new in zip(peepholes, taken, strict=True))),
        )
    for name, (words, places) in groups.items():
        yield from of_sum(name, words, places)
    for kind in KINDS:
        yield from _of_gates((kind,), kind)
        yield from _of_kind(kind)
    yield from _broadcast("dlogits" in table.equations)
    # One joined matrix, or one line, makes several of them.
    yield from _of_gates(KINDS[:2], "weight")
    yield from _of_gates(KINDS, "weights")
    yield from _of_joined()
    yield from _leaks()
    yield from _decay()


def of_sum(name: str, words: str, places: tuple[Place, ...]) -> Found:
    """What can go wrong with any sum over the steps."""
    for scale, verb in SCALES:
        edit = together(*(scaled(place, scale) for place in places))
        yield f"{name} * {scale}", capitalised(f"{words} {verb}."), edit
    for steps, verb in SPANS:
        edit = together(*(only_at(place, steps) for place in places))  # type: ignore[arg-type]
        yield f"{name}.{steps}", capitalised(f"{words} {verb}."), edit
    for member, which in (("first", "member 0"), ("last", "member B-1")):
        alone = [function(place, 0, f"of the {member} member only") for place in places]
        yield (
            f"{name}.{which}",
            capitalised(f"{words} has the {member} of the batch only."),
            together(*alone),
        )
    for steps, left in LEFT.items():
        yield (
            f"{name}.{steps} of member B-1",
            capitalised(
                f"{words} is overwritten at every step and by every sequence (= for +=), so only "
                f"{left} of the last one is left of it."
            ),
            overwritten(places, steps, by_members=True),
        )
    for limit in (1, 5):
        edit = together(*(clipped(place.target, limit) for place in places))
        yield (
            f"{name}.clipped at {limit}",
            capitalised(f"{words} is clipped to [-{limit}, {limit}]."),
            edit,
        )


def overwritten(places: Iterable[Place], steps: Steps, by_members: bool) -> Edit:
    """`=` for `+=` in sums over the steps, or also over the sequences: what is left of them."""
    edits = [only_at(place, steps) for place in places]
    if by_members:
        edits += [function(place, 0, "of the last member only") for place in places]
    return together(*edits)


def _of_gates(kinds: tuple[str, ...], name: str) -> Found:
    named = joined([TARGET_WORDS[kind].removeprefix("the gradient of ") for kind in kinds])
    for gate in GATES:
        places = [Place(f"d{kind}.{gate}") for kind in kinds]
        words = f"{GATE_WORDS[gate]}'s block of the gradient of {named}"

        def each(change: Callable[[Place], Edit], places: list[Place] = places) -> Edit:
            return together(*(change(place) for place in places))

        for scale, verb in SCALES if len(kinds) > 1 else (*SCALES[:3], *SCALES[4:7]):
            edit = each(lambda place, scale=scale: scaled(place, scale))  # type: ignore[misc]
            yield f"{name}[{gate}] * {scale}", capitalised(f"{words} {verb}."), edit
        for steps, verb in SPANS:
            edit = each(lambda place, steps=steps: only_at(place, steps))  # type: ignore[misc]
            yield f"{name}[{gate}].{steps}", capitalised(f"{words} {verb}."), edit
        for other in GATES:
            if other != gate:
                new = Factor(f"dz_{other}")
                yield (
                    f"{name}[{gate}].from {other}",
                    capitalised(f"{words} is computed from dz_{other}, {GATE_WORDS[other]}'s."),
                    each(lambda place, new=new: factor(place, 0, new)),  # type: ignore[misc]
                )
            if other != gate:
                edit = together(
                    *(scaled(place, "0") for place in places),
                    *(plus(f"d{kind}.{other}", _share(kind, gate)) for kind in kinds),
                )
                yield (
                    f"{name}[{gate}].into {other}",
                    capitalised(f"{words} is added to {GATE_WORDS[other]}'s block."),
                    edit,
                )
        for before, which in ((f"d{gate}", "after"), ("dh", "h's"), ("dc", "c's")):
            of = "the gradient after the activation" if which == "after" else f"{which} gradient"
            new = Factor(before)
            yield (
                f"{name}[{gate}].from {before}",
                capitalised(f"{words} is computed from {before}, {of}, where it needs dz_{gate}."),
                each(lambda place, new=new: factor(place, 0, new)),  # type: ignore[misc]
            )
    after = [
        factor(Place(f"d{kind}.{gate}"), 0, Factor(f"d{gate}")) for kind in kinds for gate in GATES
    ]
    yield (
        f"{name}.after the activation",
        f"The gradient of {named} is computed from the gates' gradients after their activation.",
        together(*after),
    )
    for order, blocks in ORDERS.items():
        edits = [
            factor(Place(f"d{kind}.{gate}"), 0, Factor(f"dz_{b}"))
            for kind in kinds
            for gate, b in zip(GATES, blocks, strict=True)
        ]
        yield (
            f"{name}.{order}",
            f"The blocks of the gradient of {named} have {order}.",
            together(*edits),
        )


def _share(kind: str, gate: str) -> Term:
    """What a gate adds to its block of a weight's gradient."""
    of = {"weight_ih": Factor("x"), "weight_hh": Factor("h", -1), "bias": Factor("one")}
    return Term((Factor(f"dz_{gate}"),), outer=of[kind])


def _of_joined() -> Found:
    """[h, x] of another step, where one matrix multiplies both."""
    for by in (-1, 1):
        for edge, words in EDGES.items():
            edits = [
                outer(Place(f"d{kind}.{gate}"), Factor(name, shift + by, edge=edge))  # type: ignore[arg-type]
                for kind, name, shift in (("weight_ih", "x", 0), ("weight_hh", "h", -1))
                for gate in GATES
            ]
            yield (
                f"weight.[h, x] of t{by:+d} {edge}",
                f"The gradient of weight_ih and weight_hh uses x and h of t{by:+d} where it needs "
                f"those of t ({words}).",
                together(*edits),
            )


def _of_kind(kind: str) -> Found:
    words = TARGET_WORDS[kind]
    every = [Place(f"d{kind}.{gate}") for gate in GATES]
    needed = {"weight_ih": "x[t]", "weight_hh": "h[t-1]"}.get(kind, "")
    candidates = {
        "weight_ih": [
            *(Factor("x", -1), Factor("x", 1), Factor("h", -1), Factor("h")),
            *(Factor("x", at="reversed"), Factor("x_before")),
        ],
        "weight_hh": [
            *(Factor("h"), Factor("h", -2), Factor("c"), Factor("c", -1), Factor("c_out")),
            *(Factor("x"), Factor("h", -1, "1-y^2"), Factor("h", 0, at="last")),
            *(Factor("h", at="first"), Factor("h", -1, at="last"), Factor("h", -1, at="first")),
            *(Factor("h", -1, step=-1), Factor("h", -1, step=1)),
            Factor("h_out", -1),
        ],
    }.get(kind, [])
    shown = {"c_out": "tanh(c[t])", "h_out": "h[t] without h0"}
    shown["x_before"] = "h[t-1] of the layer below"
    for new in candidates:
        name = shown.get(new.name, f"{new.name}[t]").replace(
            "[t]", f"[t{new.shift:+d}]" if new.shift else "[t]"
        )
        name = f"1 - {name}^2" if new.function else name
        name = f"the {name} that step t{new.step:+d} kept" if new.step else name
        if new.at == "reversed":
            name = f"{new.name}[T-1-t]"
        elif new.at:
            name = {("last", 0): "h[T-1]", ("first", 0): "h[0]", ("last", -1): "h[T-2]"}.get(
                (new.at, new.shift), "h0"
            )
        for edge in ("wrap", "clamp", "zero"):
            how = {"wrap": "", "clamp": " (the nearest at the end)", "zero": " (zero at the end)"}
            changed = replace(new, edge=edge)
            yield (
                f"{kind}.{name} {edge}",
                capitalised(f"{words} uses {name} where it needs {needed}{how[edge]}."),
                together(*(outer(place, changed) for place in every)),
            )
    if kind == "bias":
        return
    name, shift = ("x", 0) if kind == "weight_ih" else ("h", -1)
    for which in ("next", "previous"):
        mixed = Factor(name, shift, f"of the {which} member")
        yield (
            f"{kind}.{which} member",
            capitalised(
                f"{words} pairs each sequence of the batch with {needed} of the {which} one."
            ),
            together(*(outer(place, mixed) for place in every)),
        )
    yield (
        f"{kind}.transposed",
        capitalised(f"{words} has each gate's block transposed."),
        together(*(change(place, transposed=True) for place in every)),
    )
    for gate in GATES:
        if kind == "weight_hh":
            yield (
                f"weight_hh[{gate}].h[t]",
                capitalised(
                    f"{GATE_WORDS[gate]}'s block of {words} uses h[t] where it needs h[t-1]."
                ),
                outer(Place(f"dweight_hh.{gate}"), Factor("h")),
            )
        yield (
            f"{kind}[{gate}].transposed",
            capitalised(f"{GATE_WORDS[gate]}'s block of {words} is transposed."),
            change(Place(f"d{kind}.{gate}"), transposed=True),
        )


def _broadcast(loss: bool) -> Found:
    """A product element by element where an outer one is needed, and x as a class's number."""
    of_h = [Place(f"dweight_hh.{gate}") for gate in GATES]
    ones = [outer(place, Factor("h", -1, "1 for each")) for place in of_h]
    product = together(*ones, *(times(place, Factor("h", -1)) for place in of_h))
    for laid, edit in (
        ("column", product),
        ("row", together(product, *(change(place, transposed=True) for place in of_h))),
    ):
        yield (
            f"weight_hh.by element into each {laid}",
            "The gradient of weight_hh multiplies dz by h[t-1] element by element, the same in "
            f"every {laid} of a gate's block, where it needs their outer product.",
            edit,
        )
    if loss:
        yield (
            "weight_ih.class number",
            "The gradient of weight_ih multiplies dz by the number of the class, the same in "
            "every column, where it needs the class's one-hot row x[t].",
            together(
                *(outer(Place(f"dweight_ih.{gate}"), Factor("x", 0, "its class")) for gate in GATES)
            ),
        )


def _decay() -> Found:
    """A weight decay in the gradients."""
    for names, words in (
        (("weight_ih", "weight_hh"), "weight_ih and weight_hh"),
        (("weight",), "every weight, not the biases"),
        (("weight", "bias"), "every weight and bias"),
        (("weight_ih", "weight_hh", "bias_l"), "weight_ih, weight_hh and their bias"),
        *(((name,), name) for name in ("weight_ih", "weight_hh", "weight_out")),
    ):
        yield (
            f"decay of {' and '.join(names)} * 1.0",
            f"A weight decay is in the gradients: 1.0 times the weight is added, of {words}.",
            decaying(names, Fraction(1)),
        )


def _leaks() -> Found:
    """What flows into a bias that is the weight of an input of its own, fixed at 1."""
    for target, name, into in (("dh_carry", "weight_hh", "h"), ("dx", "weight_ih", "x")):
        for how, words in (
            ("added", f"the bias's share is added to every element of {into}"),
            ("onto last", f"the bias's share is added to the last element of {into}"),
            ("onto first", f"the bias's share is added to the first element of {into}"),
            ("last", f"the columns of {name} start one too late, so the last one is the bias's"),
            ("first", f"the columns of {name} start one too early, so the first is the bias's"),
        ):
            blocks = [Weight(name, gate, bias=how) for gate in GATES]  # type: ignore[arg-type]
            yield (
                f"{target}.leak {how}",
                f"Gradient leaks through the bias into {into}: {words}.",
                together(*(weight(Place(target, k), block) for k, block in enumerate(blocks))),
            )
