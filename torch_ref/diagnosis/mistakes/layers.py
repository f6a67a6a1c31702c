"""A stack that is joined wrongly: what a layer hands to the one below, and takes of another."""

from collections.abc import Iterator, Mapping

from manual_lstm.params import GATES
from torch_ref.diagnosis.backward.render import joined
from torch_ref.diagnosis.backward.table import Carrying, Factor, OtherLayer, Term, Weight
from torch_ref.diagnosis.mistakes.edits import (
    Edit,
    Place,
    carrying,
    factor,
    keeping,
    only_at,
    plus,
    scaled,
    together,
    weight,
)

Found = Iterator[tuple[str, str, Edit]]


_CARRYING: Mapping[Carrying, str] = {
    "one for all": "in one array for all layers, as of [zeros] * L: each takes what the layer "
    "above it has just handed on",
    "the top layer's": "read where the top layer keeps its own, by every layer",
    "the lowest layer's": "read where the lowest layer keeps its own, by every layer",
    "kept as the top layer's": "kept by every layer where the top one keeps its own",
    "kept as the lowest layer's": "kept by every layer where the lowest one keeps its own",
}


def layer_mistakes() -> Found:
    """identifier, sentence and edit of each."""
    below = Place("below")
    yield (
        "stack.dy for every layer",
        "Every layer is given dy where the lower ones need dx of the layer above.",
        factor(below, 0, Factor("dy_top")),
    )
    for scale, verb in (
        ("0", "is not passed"),
        ("-1", "is passed with the wrong sign"),
        ("1/2", "is passed halved"),
    ):
        yield f"stack.dx * {scale}", f"dx {verb} to the layer below.", scaled(below, scale)
    yield (
        "stack.dx * 2",
        "dx, passed to the layer below, is doubled.",
        scaled(below, "2"),
    )
    yield (
        "stack.dy added",
        "A lower layer is given dy in addition to dx of the layer above.",
        plus("below", Term((Factor("dy_top"),))),
    )
    yield (
        "stack.last step only",
        "A lower layer is given dx of the layer above at the last step only.",
        only_at(below, "last"),
    )
    for target, name in (("dh_begin", "dh_n"), ("dc_begin", "dc_n")):
        yield (
            f"stack.{name} of another layer",
            f"A layer is given the {name} of another layer.",
            factor(Place(target), 0, Factor(name, layer=1)),
        )
    places = {"dh_n": Place("dh_begin"), "dc_n": Place("dc_begin")}
    of: tuple[OtherLayer, ...] = ("lowest", "top")
    for layer in of:
        for taken in (("dh_n",), ("dc_n",), ("dh_n", "dc_n")):
            yield (
                f"stack.{joined(taken)} of the {layer} layer",
                f"Every layer is given {joined(taken)} of the {layer} layer.",
                together(*(factor(places[n], 0, Factor(n, layer=layer)) for n in taken)),
            )
    for target, name in (("dh0", "dh_carry"), ("dc0", "dc_carry")):
        yield (
            f"stack.{target} of another layer",
            f"{target} is that of another layer.",
            factor(Place(target), 0, Factor(name, layer=1)),
        )
    yield (
        "stack.dh0 and dc0 of another layer",
        "dh0 and dc0 are those of another layer.",
        together(
            factor(Place("dh0"), 0, Factor("dh_carry", layer=1)),
            factor(Place("dc0"), 0, Factor("dc_carry", layer=1)),
        ),
    )
    yield (
        "stack.dh_n and dc_n of another layer",
        "A layer is given dh_n and dc_n of another layer.",
        together(
            factor(Place("dh_begin"), 0, Factor("dh_n", layer=1)),
            factor(Place("dc_begin"), 0, Factor("dc_n", layer=1)),
        ),
    )
    for how, words in _CARRYING.items():
        for carried in (("dh_carry",), ("dc_carry",), ("dh_carry", "dc_carry")):
            what = joined([each.removesuffix("_carry") for each in carried])
            yield (
                f"stack.{what} carried, {how}",
                f"What is carried of {what} from step to step is {words}.",
                together(*(carrying(each, how) for each in carried)),
            )
    for layer in of:
        yield (
            f"stack.df with c of the {layer} layer",
            f"The forget gate's gradient takes c[t-1] of the {layer} layer, in every layer.",
            factor(Place("df"), 1, Factor(f"c_{layer}", -1)),
        )
    both = (("dh_begin", "dh_above"), ("dc_begin", "dc_above"))
    for kept, words in ((both, "dh and dc"), (both[:1], "dh"), (both[1:], "dc")):
        yield (
            f"stack.{words} not begun anew",
            f"A layer begins with the {words} that the layer above has left behind, which between "
            "the layers must be set anew.",
            together(*(plus(target, Term((Factor(name),))) for target, name in kept)),
        )
    targets = {"dh_carry": "weight_hh", "dx": "weight_ih"}
    for layer in of:
        for chosen in (("dh_carry",), ("dx",), ("dh_carry", "dx")):
            names = joined([targets[target] for target in chosen])
            yield (
                f"stack.{names} of the {layer} layer",
                f"What goes back through {names} goes through that of the {layer} layer, in every "
                "layer.",
                together(
                    *(
                        weight(Place(target, k), Weight(targets[target], gate, layer=layer))
                        for target in chosen
                        for k, gate in enumerate(GATES)
                    )
                ),
            )
        yield (
            f"stack.cache of the {layer} layer",
            f"The backward pass of every layer uses what the {layer} layer's forward pass kept.",
            keeping(layer),
        )
