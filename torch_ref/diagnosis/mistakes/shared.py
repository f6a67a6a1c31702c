"""One array where there should be several, and a gate's gradient in another one's place."""

import itertools
from collections.abc import Iterator, Mapping

from manual_lstm.params import GATES
from torch_ref.diagnosis.backward.render import joined
from torch_ref.diagnosis.backward.table import OUTER, AllLayers, Factor, Term
from torch_ref.diagnosis.backward.words import GATE_WORDS, TARGET_WORDS, capitalised
from torch_ref.diagnosis.mistakes.edits import (
    Edit,
    Place,
    factor,
    function,
    in_one_array,
    plus,
    scaled,
    together,
)
from torch_ref.diagnosis.mistakes.sums import KINDS

Found = Iterator[tuple[str, str, Edit]]
_SUMMED = "summed over the units"


def shared_mistakes() -> Found:
    """identifier, sentence and edit of each."""
    for kinds in (*((kind,) for kind in KINDS), KINDS[:2], KINDS):
        yield from _of_rows(kinds)
    yield from _of_bias()
    yield from _in_another_place()
    yield from _of_layers()


def _of_rows(kinds: tuple[str, ...]) -> Found:
    """Rows or blocks of a sum that are one array: each has what was meant for all of them."""
    named = joined([TARGET_WORDS[kind].removeprefix("the gradient of ") for kind in kinds])
    name = {1: kinds[0], 2: "weight", 3: "weights"}[len(kinds)]
    words = capitalised(f"the gradient of {named}")
    each = [(kind, gate) for kind in kinds for gate in GATES]
    rows = [function(Place(f"d{kind}.{gate}"), 0, _SUMMED) for kind, gate in each]
    yield (
        f"{name}.gates share one array",
        f"{words} has one array for all four gates: each has the sum of the four.",
        together(*_of_others(kinds, "")),
    )
    if kinds == ("bias",):
        return
    yield (
        f"{name}.rows of a gate share one array",
        f"{words} has one array for all units of a gate: each has the sum of all.",
        together(*rows),
    )
    yield (
        f"{name}.rows share one array",
        f"{words} has one array for all units of all gates: each has the sum of all.",
        together(*rows, *_of_others(kinds, _SUMMED)),
    )


_OF_LAYERS: Mapping[AllLayers, str] = {
    "sum": "one array for all layers: each has the sum of all",
    "so far": "one array for all layers, not set to zero between them: each has the sum of its own "
    "and those of the layers above",
    "lowest": "one array for all layers, written to by each: all have the lowest layer's",
}


def _of_layers() -> Found:
    """`[zeros] * L`, or a buffer that one layer leaves to the next; those of one shape."""
    for kinds in (("bias",), ("weight_hh",), ("weight_hh", "bias")):
        named = joined([TARGET_WORDS[kind].removeprefix("the gradient of ") for kind in kinds])
        for what, words in _OF_LAYERS.items():
            yield (
                f"{' and '.join(kinds)}.one array for all layers, {what}",
                f"The gradient of {named} has {words}.",
                together(*(in_one_array(f"d{kind}", what) for kind in kinds)),
            )


def _of_bias() -> Found:
    """The bias's gradient summed over one axis too many, and spread again as a number is."""
    words = TARGET_WORDS["bias"]
    every = [function(Place(f"dbias.{gate}"), 0, _SUMMED) for gate in GATES]
    yield (
        "bias.summed over the units",
        capitalised(f"{words} is summed over the units of each gate too: one number a gate."),
        together(*every),
    )
    for gate, summed in zip(GATES, every, strict=True):
        yield (
            f"bias[{gate}].summed over the units",
            f"{capitalised(GATE_WORDS[gate])}'s block of {words} is summed over the units too.",
            summed,
        )
    yield (
        "bias.summed over units and gates",
        capitalised(f"{words} is summed over the units and the gates too: one number for all."),
        together(*every, *_of_others(("bias",), _SUMMED)),
    )


def _of_others(kinds: tuple[str, ...], function_of_dz: str) -> Iterator[Edit]:
    """What the other three gates add to each one's block."""
    for kind in kinds:
        for gate, other in itertools.permutations(GATES, 2):
            dz = Factor(f"dz_{other}", function=function_of_dz)
            yield plus(f"d{kind}.{gate}", Term((dz,), outer=OUTER[kind]))


def _in_another_place() -> Found:
    """dz of one gate stored over that of another, where all are joined."""
    for gate, other in itertools.permutations(GATES, 2):
        edits = []
        for target in ("dh_carry", "dx"):
            edits.append(factor(Place(target, GATES.index(other)), 0, Factor(f"dz_{gate}")))
            edits.append(scaled(Place(target, GATES.index(gate)), "0"))
        for kind in KINDS:
            edits.append(factor(Place(f"d{kind}.{other}"), 0, Factor(f"dz_{gate}")))
            edits.append(scaled(Place(f"d{kind}.{gate}"), "0"))
        yield (
            f"dz_{gate}.in the place of dz_{other}",
            f"dz_{gate}, {GATE_WORDS[gate]}'s, is stored in the place of dz_{other}, over it: its "
            "own place stays 0.",
            together(*edits),
        )
