"""A reshape where the backward pass needs a transpose."""

from collections.abc import Iterator
from typing import get_args

from manual_lstm.params import GATES
from torch_ref.diagnosis.backward.reshaped import OF_MATRIX, OF_ROWS, OF_STEPS
from torch_ref.diagnosis.backward.table import Altered, Factor, Table, Weight
from torch_ref.diagnosis.backward.words import TARGET_WORDS, capitalised
from torch_ref.diagnosis.mistakes.edits import (
    Edit,
    Place,
    factor,
    function,
    in_layers,
    outer,
    returned,
    together,
    weight,
)

Found = Iterator[tuple[str, str, Edit]]
_SUMMED = {"weight_ih": ("x", Factor("x")), "weight_hh": ("h[t-1]", Factor("h", -1))}


def reshape_mistakes(table: Table) -> Found:
    """identifier, sentence and edit of each."""
    yield from _of_sequences(table)
    yield from _of_states()
    yield from _in_sums(table)
    yield from _of_matrices()


def _sized(how: str, *sizes: str) -> str:
    """ "from (B, T, I) to (T, B, I)", with these sizes for M and N, or behind T and B."""
    before, after = how.split(" to ")
    if sizes and how in OF_MATRIX:
        names = dict(zip("MN", sizes, strict=True))
        before, after = (
            "(" + ", ".join(names[each] for each in part.strip("()").split(", ")) + ")"
            for part in (before, after)
        )
    elif sizes:
        before, after = (part.replace(")", f", {sizes[0]})") for part in (before, after))
    return f"from {before} to {after}"


def _of_sequences(table: Table) -> Found:
    for how in OF_STEPS:
        words = f"is reshaped {_sized(how, 'I')} where its axes have to be exchanged"
        back = returned("dx", how)
        yield f"dx.{how}", f"dx {words}.", back
        of_layers = together(back, factor(Place("below"), 0, Factor("dx", function=how)))
        yield f"dx of every layer.{how}", f"dx of every layer {words}.", of_layers
        words = f"is reshaped {_sized(how, 'H')} where its axes have to be exchanged"
        edit = factor(Place("dh"), 0, Factor("dy", function=how))
        yield f"dy.{how}", f"dy, the upstream gradient of y, {words}.", in_layers(edit, "last")
        yield (
            f"dy of every layer.{how}",
            f"What comes to h from above {words}, in every layer.",
            edit,
        )
        if "dlogits" in table.equations:
            yield (
                f"dlogits.{how}",
                "The one-hot rows are subtracted from the probabilities of another step and "
                f"sequence: one of the two is reshaped {_sized(how)} where it has to be "
                "transposed.",
                function(Place("dlogits", 1), 0, how),
            )
    for how in OF_MATRIX:
        yield (
            f"dx.{how}",
            f"dx of a step is reshaped {_sized(how, 'B', 'I')} where it has to be transposed.",
            returned("dx", how),
        )


def _of_states() -> Found:
    for hows, sizes, words in (
        (OF_MATRIX, ("B", "H"), "of a layer "),
        (OF_STEPS, (), ""),
    ):
        for how in hows:
            shown = _sized(how, *sizes) if sizes else _sized(how, "H").replace("T", "L")
            for names in (("dh0",), ("dc0",), ("dh0", "dc0")):
                told = f"{' and '.join(names)} {words}{'are' if len(names) > 1 else 'is'}"
                yield (
                    f"{' and '.join(names)}.{how}",
                    f"{told} reshaped {shown}, not transposed.",
                    together(*(returned(name, how) for name in names)),
                )


def _in_sums(table: Table) -> Found:
    """The steps and sequences of dz in the order of those of x or h, or flat for transposed."""
    kinds: list[tuple[str, ...]] = [("weight_ih",), ("weight_hh",), ("weight_ih", "weight_hh")]
    for kinds_of in kinds:
        named = " and ".join(_SUMMED[kind][0] for kind in kinds_of)
        target = TARGET_WORDS[kinds_of[0]] + " and weight_hh" * (len(kinds_of) - 1)
        name = "weight" if len(kinds_of) > 1 else kinds_of[0]
        for how in (*OF_STEPS, *OF_ROWS):
            edits = [
                outer(Place(f"d{kind}.{gate}"), _reshaped(_SUMMED[kind][1], how))
                for kind in kinds_of
                for gate in GATES
            ]
            yield f"{name}.{named} {how}", _of_sum(target, named, how), together(*edits)
        if len(kinds_of) == 1:
            for how in OF_ROWS:
                shown = _sized(how).replace("N", "H")
                yield (
                    f"{name}.dz {how}",
                    capitalised(f"{target} takes each gate's dz reshaped {shown}, not transposed."),
                    together(*(function(Place(f"d{name}.{g}"), 0, how) for g in GATES)),
                )
    if "dweight_out" in table.equations:
        for how in (*OF_STEPS, *OF_ROWS):
            told = _of_sum(TARGET_WORDS["dweight_out"], "h", how).replace(" dz ", " dlogits ")
            edit = outer(Place("dweight_out"), Factor("h", function=how))
            yield f"dweight_out.h {how}", told, edit


def _reshaped(old: Factor, how: str) -> Factor:
    return Factor(old.name, old.shift, how)


def _of_sum(target: str, named: str, how: str) -> str:
    size = "I" if named == "x" else "N" if "and" in named else "H"
    if how in OF_ROWS:
        shown = _sized(how).replace("N", size)
        return capitalised(f"{target} takes {named} reshaped {shown}, not transposed.")
    first, second = ("(T, B)", "(B, T)") if how == OF_STEPS[0] else ("(B, T)", "(T, B)")
    return capitalised(
        f"{target} pairs steps and sequences wrongly: dz is flattened from {first}, {named} from "
        f"{second}."
    )


def _of_matrices() -> Found:
    for name, size in (("weight_ih", "I"), ("weight_hh", "H")):
        for how in OF_MATRIX:
            whole, block = _sized(how, "4H", size), _sized(how, "H", size)
            for each, told in (
                (how, f"is reshaped {whole}"),
                (f"block {how}", f"has each gate's block reshaped {block}"),
            ):
                yield (
                    f"{name}.{each}",
                    capitalised(f"{TARGET_WORDS[name]} {told}, not transposed."),
                    returned(f"d{name}", each),
                )
    through = {"dh_carry": ("weight_hh", "H"), "dx": ("weight_ih", "I")}
    altered = [each for each in get_args(Altered) if " to " in each]
    for targets in (("dh_carry",), ("dx",), ("dh_carry", "dx")):
        for each in altered:
            how = each.removeprefix("block ")
            names = " and ".join(through[target][0] for target in targets)
            size = through[targets[0]][1] if len(targets) == 1 else "N"
            shown = _sized(how, "H" if "block" in each else "4H", size)
            words = " and ".join(TARGET_WORDS[target] for target in targets)
            block = " block by block" if "block" in each else ""
            yield (
                f"{' and '.join(targets)}.{names} {each}",
                capitalised(
                    f"{words} goes through {names} reshaped{block} {shown}, not transposed."
                ),
                together(
                    *(
                        weight(Place(target, k), Weight(through[target][0], gate, altered=each))
                        for target in targets
                        for k, gate in enumerate(GATES)
                    )
                ),
            )
