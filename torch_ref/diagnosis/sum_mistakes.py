"""Mistakes in the gradients of the weights, the sums over the steps: equation (18)."""

from collections.abc import Iterable, Iterator, Mapping

from manual_lstm.params import GATES
from torch_ref.diagnosis.edits import (
    Edit,
    Place,
    change,
    clipped,
    factor,
    function,
    only_at,
    outer,
    scaled,
    together,
    weight,
)
from torch_ref.diagnosis.table import PEEPHOLES, Factor, Steps, Table, Weight
from torch_ref.diagnosis.words import GATE_WORDS, TARGET_WORDS, capitalised

Found = Iterator[tuple[str, str, Edit]]
KINDS = ("weight_ih", "weight_hh", "bias")
ORDERS = {
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
)
LEFT: Mapping[Steps, str] = {"first": "t=0", "last": "the last step"}
SPANS = (
    ("first", "is overwritten at every step (= for +=), so only t=0 is left of it"),
    ("last", "is that of the last step only"),
    ("not the first", "lacks the share of t=0"),
    ("not the last", "lacks the share of the last step"),
)


def sum_mistakes(table: Table) -> Found:
    """identifier, sentence and edit of each."""
    groups: dict[str, tuple[str, tuple[Place, ...]]] = {}
    for kind in KINDS:
        places = tuple(Place(f"d{kind}.{gate}") for gate in GATES)
        groups[kind] = (TARGET_WORDS[kind], places)
    groups["weights"] = ("every gradient of a weight", STACK)
    for name in PEEPHOLES:
        if f"d{name}" in table.equations:
            groups[name] = (TARGET_WORDS[f"d{name}"], (Place(f"d{name}"),))
    for name, (words, places) in groups.items():
        yield from of_sum(name, words, places)
    for kind in KINDS:
        yield from _of_gates(kind)
        yield from _of_kind(kind)
    yield from _leaks()


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


def _of_gates(kind: str) -> Found:
    for gate in GATES:
        place = Place(f"d{kind}.{gate}")
        words = f"{GATE_WORDS[gate]}'s block of {TARGET_WORDS[kind]}"
        for scale, verb in (*SCALES[:3], SCALES[4]):
            yield f"{kind}[{gate}] * {scale}", capitalised(f"{words} {verb}."), scaled(place, scale)
        for steps, verb in SPANS:
            edit = only_at(place, steps)  # type: ignore[arg-type]
            yield f"{kind}[{gate}].{steps}", capitalised(f"{words} {verb}."), edit
        for other in GATES:
            if other != gate:
                yield (
                    f"{kind}[{gate}].from {other}",
                    capitalised(f"{words} is computed from dz_{other}, {GATE_WORDS[other]}'s."),
                    factor(place, 0, Factor(f"dz_{other}")),
                )
        for before, which in ((f"d{gate}", "after"), ("dh", "h's"), ("dc", "c's")):
            of = "the gradient after the activation" if which == "after" else f"{which} gradient"
            yield (
                f"{kind}[{gate}].from {before}",
                capitalised(f"{words} is computed from {before}, {of}, where it needs dz_{gate}."),
                factor(place, 0, Factor(before)),
            )
    edits = [factor(Place(f"d{kind}.{gate}"), 0, Factor(f"d{gate}")) for gate in GATES]
    yield (
        f"{kind}.after the activation",
        capitalised(
            f"{TARGET_WORDS[kind]} is computed from the gates' gradients after their activation."
        ),
        together(*edits),
    )
    for order, blocks in ORDERS.items():
        yield (
            f"{kind}.{order}",
            capitalised(f"the blocks of {TARGET_WORDS[kind]} have {order}."),
            together(
                *(
                    factor(Place(f"d{kind}.{gate}"), 0, Factor(f"dz_{b}"))
                    for gate, b in zip(GATES, blocks, strict=True)
                )
            ),
        )


def _of_kind(kind: str) -> Found:
    words = TARGET_WORDS[kind]
    every = [Place(f"d{kind}.{gate}") for gate in GATES]
    needed = {"weight_ih": "x[t]", "weight_hh": "h[t-1]"}.get(kind, "")
    candidates = {
        "weight_ih": [Factor("x", -1), Factor("x", 1), Factor("h", -1), Factor("h")],
        "weight_hh": [
            *(Factor("h"), Factor("h", -2), Factor("c"), Factor("c", -1), Factor("c_out")),
            *(Factor("x"), Factor("h", -1, "1-y^2"), Factor("h", 0, at="last")),
            Factor("h", -1, at="first"),
            Factor("h_out", -1),
        ],
    }.get(kind, [])
    shown = {"c_out": "tanh(c[t])", "h_out": "h[t] without h0"}
    for new in candidates:
        name = shown.get(new.name, f"{new.name}[t]").replace(
            "[t]", f"[t{new.shift:+d}]" if new.shift else "[t]"
        )
        name = f"1 - {name}^2" if new.function else name
        name = {"": name, "last": "h[T-1]", "first": "h[0]"}[new.at]
        for edge in ("wrap", "clamp", "zero"):
            how = {"wrap": "", "clamp": " (the nearest at the end)", "zero": " (zero at the end)"}
            changed = Factor(new.name, new.shift, new.function, edge, new.at)
            yield (
                f"{kind}.{name} {edge}",
                capitalised(f"{words} uses {name} where it needs {needed}{how[edge]}."),
                together(*(outer(place, changed) for place in every)),
            )
    if kind != "bias":
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
            yield (
                f"{kind}[{gate}].transposed",
                capitalised(f"{GATE_WORDS[gate]}'s block of {words} is transposed."),
                change(Place(f"d{kind}.{gate}"), transposed=True),
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
