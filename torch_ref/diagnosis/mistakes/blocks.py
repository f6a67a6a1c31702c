"""Mistakes where the gates' gradients meet the matrices, (16b) and (17): blocks and columns."""

import itertools
from collections.abc import Iterator, Mapping

from manual_lstm.params import GATES
from torch_ref.diagnosis.backward.table import Columns, Factor, Weight
from torch_ref.diagnosis.backward.words import GATE_WORDS, TARGET_WORDS, capitalised
from torch_ref.diagnosis.mistakes.edits import (
    Edit,
    Place,
    factor,
    outer,
    overwritten_by,
    scaled,
    together,
    weight,
)
from torch_ref.diagnosis.mistakes.sums import ORDERS

Found = Iterator[tuple[str, str, Edit]]
# Of [W|U] or [U|W], where the columns begin; as many as there are of the right ones.
_COLUMNS: Mapping[str, Mapping[Columns, str]] = {
    "dh_carry": {
        "W|U from the first": "the first H of [W|U], those of x",
        "U|W the last": "the last H of [U|W], those of x",
        "W|U one early": "those of [W|U] begin one too early",
        "U|W one late": "those of [U|W] begin one too late",
    },
    "dx": {
        "U|W from the first": "the first I of [U|W], those of h",
        "W|U the last": "the last I of [W|U], those of h",
        "U|W one early": "those of [U|W] begin one too early",
        "W|U one late": "those of [W|U] begin one too late",
    },
}


def _only(target: str, gate: str) -> list[Edit]:
    return [scaled(Place(target, k), "0") for k, other in enumerate(GATES) if other != gate]


def block_mistakes() -> Found:
    """identifier, sentence and edit of each."""
    for target, name in (("dh_carry", "weight_hh"), ("dx", "weight_ih")):
        words = TARGET_WORDS[target]
        whole = [weight(Place(target, k), Weight(name, g, True)) for k, g in enumerate(GATES)]
        yield (
            f"{target}.transposed",
            capitalised(f"{words} is multiplied by the transpose of each gate's block of {name}."),
            together(*whole),
        )
        for k, gate in enumerate(GATES):
            yield (
                f"{target}.{gate} transposed",
                capitalised(f"{words} has {GATE_WORDS[gate]}'s block of {name} transposed."),
                whole[k],
            )
            for other in GATES:
                if other != gate:
                    yield (
                        f"{target}.{gate} through {other}",
                        capitalised(
                            f"{words} multiplies dz_{gate} by {GATE_WORDS[other]}'s block of "
                            f"{name} where it needs {GATE_WORDS[gate]}'s."
                        ),
                        weight(Place(target, k), Weight(name, other)),
                    )
            for new in (*(f"dz_{g}" for g in GATES if g != gate), f"d{gate}"):
                yield (
                    f"{target}.{gate} of {new}",
                    capitalised(
                        f"{words} multiplies {new} by {GATE_WORDS[gate]}'s block of {name} where "
                        f"it needs dz_{gate}."
                    ),
                    factor(Place(target, k), 0, Factor(new)),
                )
        for gate in GATES:
            yield (
                f"{target}.only {gate}",
                capitalised(
                    f"{words} has {GATE_WORDS[gate]}'s part only: it is overwritten (= for +=)."
                ),
                together(*_only(target, gate)),
            )
        yield (
            f"{target}.after the activation",
            capitalised(f"{words} is computed from the gates' gradients after their activation."),
            together(*(factor(Place(target, k), 0, Factor(f"d{g}")) for k, g in enumerate(GATES))),
        )
        for order, blocks in ORDERS.items():
            yield (
                f"{target}.{order}",
                capitalised(f"{words} takes the blocks of {name} with {order}."),
                together(
                    *(weight(Place(target, k), Weight(name, b)) for k, b in enumerate(blocks))
                ),
            )
        for columns, phrase in _COLUMNS[target].items():
            yield (
                f"{target}.{columns}",
                capitalised(
                    f"{words} is that of the wrong columns of the joined matrix: {phrase}."
                ),
                together(
                    *(
                        weight(Place(target, k), Weight(name, g, columns=columns))
                        for k, g in enumerate(GATES)
                    )
                ),
            )
    exchanged: tuple[tuple[Columns, Columns, str], ...] = (
        ("W|U from the first", "W|U the last", "[W|U]"),
        ("U|W the last", "U|W from the first", "[U|W]"),
    )
    for of_h, of_x, matrix in exchanged:
        yield (
            f"dh_carry and dx.{matrix}",
            f"What goes back to h and to x is each taken from the other's end of {matrix}.",
            together(
                *(weight(Place("dh_carry", k), Weight("weight_hh", g, columns=of_h))
                  for k, g in enumerate(GATES)),
                *(weight(Place("dx", k), Weight("weight_ih", g, columns=of_x))
                  for k, g in enumerate(GATES)),
            ),
        )  # fmt: skip
    through = [
        weight(Place(target, k), Weight(name, gate))
        for target, name in (("dh_carry", "weight_ih"), ("dx", "weight_hh"))
        for k, gate in enumerate(GATES)
    ]
    sums = [
        outer(Place(f"d{kind}.{gate}"), new)
        for kind, new in (("weight_ih", Factor("h", -1)), ("weight_hh", Factor("x")))
        for gate in GATES
    ]
    for name, what, edits in (
        ("weights", "The gradients of weight_ih and weight_hh are", sums),
        ("everywhere", "The whole backward pass is", [*through, *sums]),
    ):
        yield (
            f"{name}.weight_ih for weight_hh",
            f"{what} as if weight_ih multiplied h[t-1] and weight_hh x[t].",
            together(*edits),
        )
    for gate in GATES:
        yield (
            f"dh_carry and dx.only {gate}",
            f"What goes back through the weights to h and x is {GATE_WORDS[gate]}'s part only: it "
            "is overwritten (= for +=).",
            together(*_only("dh_carry", gate), *_only("dx", gate)),
        )
    for scale, verb in (
        ("-1", "have the wrong sign"),
        ("2", "are counted twice"),
        ("1/2", "are halved"),
        ("1/T", "are divided by T"),
        ("1/B", "are divided by B"),
    ):
        yield (
            f"dz * {scale}",
            f"The gates' gradients {verb}, within the loop.",
            together(*(scaled(Place(f"dz_{gate}"), scale) for gate in GATES)),
        )
    for gate, other in itertools.permutations(GATES, 2):
        if gate == "o":  # which comes before the others
            continue
        yield (
            f"dz_{gate}.overwritten by dz_{other}",
            f"dz_{gate} is overwritten by dz_{other}, wherever it is used.",
            overwritten_by(f"dz_{gate}", f"dz_{other}"),
        )
    for order, blocks in ORDERS.items():
        users = [Place(target, k) for target in ("dh_carry", "dx") for k in range(4)]
        edits = [factor(p, 0, Factor(f"dz_{blocks[p.term]}")) for p in users]
        for kind in ("weight_ih", "weight_hh", "bias"):
            edits += [
                factor(Place(f"d{kind}.{gate}"), 0, Factor(f"dz_{b}"))
                for gate, b in zip(GATES, blocks, strict=True)
            ]
        yield f"dz.{order}", f"The gates' gradients are joined with {order}.", together(*edits)
