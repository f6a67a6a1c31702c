"""Mistakes between the loss and h: equations (20) to (23) and (26)."""

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Literal

from torch_ref.diagnosis.backward.table import Factor, Weight
from torch_ref.diagnosis.backward.words import TARGET_WORDS, capitalised
from torch_ref.diagnosis.mistakes.edits import (
    Edit,
    Place,
    change,
    factor,
    function,
    only_at,
    outer,
    scaled,
    shifted,
    times,
    together,
    weight,
)
from torch_ref.diagnosis.mistakes.sums import EDGES, LEFT, STACK, of_sum, overwritten

Found = Iterator[tuple[str, str, Edit]]
P, HOT = Place("dlogits", 0), Place("dlogits", 1)
DY = Place("dy")
_SCALES = (
    ("-1", "has the wrong sign: it is (onehot - p) where it must be (p - onehot)"),
    ("T", "is not divided by T"),
    ("B", "is not divided by B"),
    ("T B", "is not divided by T B: it is that of the sum, the loss is the mean"),
    ("1/T", "is divided by T twice"),
    ("1/B", "is divided by B twice"),
    ("1/(T B)", "is divided by T B twice"),
    ("1/V", "is divided by V, over which no mean is taken"),
    ("T/(T-1)", "is divided by T - 1 where it needs T"),
    ("2", "is doubled, as for a squared error or by a temperature of 1/2"),
    ("1/2", "is halved, as by a temperature of 2"),
)


_AT: Mapping[Literal["last", "first", "reversed"], str] = {
    "last": "of the last step at every step: the others were not kept, or overwritten",
    "first": "of t=0 at every step",
    "reversed": "in the opposite order of the steps",
}


def loss_mistakes(head: str, beyond: bool) -> Found:
    """identifier, sentence and edit of each.

    Args:
        head: "linear" or "bounded".
        beyond: whether dh_n or dc_n leaves something where nothing comes from the softmax.
    """
    words = "the gradient at the softmax"
    zero = ("0", "is zero, as where 1 / (T B) is a division of whole numbers")
    for scale, verb in (*((zero,) if beyond else ()), *_SCALES):
        yield (
            f"dlogits * {scale}",
            capitalised(f"{words} {verb}."),
            together(scaled(P, scale), scaled(HOT, scale)),
        )
    place_names = {P: "p", HOT: "onehot"}
    for place, name in ((P, "p"), (HOT, "onehot(target)")):
        for scale, verb in (("0", "lacks"), ("-1", "has the wrong sign of"), ("2", "doubles")):
            yield (
                f"dlogits.{name} * {scale}",
                capitalised(f"{words} {verb} {name}."),
                scaled(place, scale),
            )
        other = {P: "onehot(target)", HOT: "p"}[place]
        yield (
            f"dlogits.{name} * T B",
            capitalised(f"{words} has {name} undivided: {other} alone is divided by T B."),
            scaled(place, "T B"),
        )
        for by in (-1, 1):
            for edge in ("wrap", "clamp", "zero"):
                yield (
                    f"dlogits.{name}[t{by:+d}] {edge}",
                    capitalised(
                        f"{words} uses {name} of t{by:+d} where it needs that of t ({EDGES[edge]})."
                    ),
                    shifted(place, 0, by, edge),
                )
        for at, phrase in _AT.items():
            taken = Factor(place_names[place], at=at)
            yield (
                f"dlogits.{name} {at}",
                capitalised(f"{words} uses {name} {phrase}."),
                factor(place, 0, taken),
            )
        yield (
            f"dlogits.{name} of the next member",
            capitalised(f"{words} uses {name} of another sequence of the batch."),
            function(place, 0, "of the next member"),
        )
        for which in ("first", "last"):
            yield (
                f"dlogits.{name} of the {which} member for all",
                capitalised(f"{words} uses {name} of the {which} of the batch for all of them."),
                function(place, 0, f"of the {which} member for all"),
            )
            yield (
                f"dlogits.{name} of the {which} member only",
                capitalised(f"{words} has {name} for the {which} of the batch only."),
                function(place, 0, f"of the {which} member only"),
            )
    yield (
        "dlogits.onehot of any member",
        capitalised(
            f"{words} has 1 subtracted at the targets of every sequence of the batch, not at its "
            "own alone."
        ),
        function(HOT, 0, "of any member"),
    )
    yield (
        "dlogits.onehot of any step and member",
        capitalised(
            f"{words} has 1 subtracted at the targets of every step and sequence, as of "
            "d[:, :, targets] -= 1, not at its own alone."
        ),
        factor(HOT, 0, Factor("onehot_any")),
    )
    yield (
        "dlogits.onehot(input)",
        capitalised(f"{words} has 1 subtracted at the input's class, not at the target's."),
        factor(HOT, 0, Factor("x_in")),
    )
    for name, taken in (("log p", Factor("log_p")), ("logits", Factor("logits"))):
        yield (
            f"dlogits.{name} for p",
            capitalised(f"{words} takes {name} where it needs p."),
            factor(P, 0, taken),
        )
    softmax = Factor("p", function="y(1-y)")
    yield (
        "dlogits.softmax's derivative twice",
        capitalised(f"{words} is multiplied by p (1 - p), which (p - onehot) contains already."),
        together(times(P, softmax), times(HOT, softmax)),
    )
    yield (
        "dlogits.times p",
        capitalised(f"{words} is multiplied by p, which it should not be."),
        together(times(P, Factor("p")), times(HOT, Factor("p"))),
    )
    yield (
        "dlogits.-onehot/p",
        "The gradient of the probabilities, -onehot / p, is taken for that of the logits.",
        together(scaled(P, "0"), times(HOT, Factor("p", function="1/y"))),
    )
    yield (
        "dlogits.only the target",
        capitalised(f"{words} has the target's class only."),
        times(P, Factor("onehot")),
    )
    for steps, verb in (
        ("first", "is there at t=0 only"),
        ("last", "is there at the last step only"),
        ("not the first", "lacks t=0"),
        ("not the last", "lacks the last step"),
    ):
        both = together(only_at(P, steps), only_at(HOT, steps))  # type: ignore[arg-type]
        yield f"dlogits.{steps}", capitalised(f"{words} {verb}."), both
        yield (
            f"dy.{steps}",
            capitalised(f"{TARGET_WORDS['dy']} {verb}."),
            only_at(DY, steps),  # type: ignore[arg-type]
        )
    yield from _head(head)


def _head(head: str) -> Found:
    words = TARGET_WORDS["dy"]
    for scale, verb in (
        ("0", "is zero: the LSTM learns nothing of the loss"),
        ("-1", "has the wrong sign"),
        ("2", "is doubled"),
        ("1/T", "is divided by T once more"),
        ("1/B", "is divided by B once more"),
        ("T", "is multiplied by T"),
        ("B", "is multiplied by B"),
        ("T B", "is multiplied by T B"),
    ):
        yield f"dy * {scale}", capitalised(f"{words} {verb}."), scaled(DY, scale)
    if head == "bounded":
        for derivative, phrase in (("1-y^2", "1 - h^2"), ("y(1-y)", "h (1 - h)")):
            yield (
                f"dy.{phrase}",
                capitalised(f"{words} is multiplied by {phrase}, a derivative that it has not."),
                times(DY, Factor("h", function=derivative)),
            )
        return
    yield (
        "dy.transposed",
        capitalised(f"{words} is multiplied by weight_out transposed."),
        weight(DY, Weight("weight_out", transposed=True)),
    )
    for name, kept in (("p", "onehot"), ("onehot", "p")):
        mean = ("1/(T B)",) if name == "p" else ("-1", "1/(T B)")
        yield (
            f"dy.{name} for dlogits",
            capitalised(f"{words} comes of {name} where it needs dlogits: {kept} is left out."),
            change(DY, scale=mean, factors=(Factor(name), Factor("dloss"))),
        )
    softmax = Factor("p", function="y(1-y)")
    yield (
        "dy.softmax's derivative twice",
        capitalised(f"{words} comes of dlogits times p (1 - p), which dlogits contains already."),
        times(DY, softmax),
    )
    yield (
        "dy.without weight_out",
        capitalised(f"{words} is not multiplied by weight_out."),
        change(DY, weight=None),
    )
    for target in ("dweight_out", "dbias_out"):
        yield from of_sum(target.removeprefix("d"), TARGET_WORDS[target], (Place(target),))
    output = (Place("dweight_out"), Place("dbias_out"))
    yield from of_sum("weight_out and bias_out", "the gradient of weight_out and bias_out", output)
    for (steps, left), by_members in product(LEFT.items(), (False, True)):
        edits = (overwritten(STACK, "first", by_members), overwritten(output, steps, by_members))
        by, of = (" and by every sequence", " of the last one") if by_members else ("", "")
        yield (
            f"every weight.first, {steps}{' of member B-1' if by_members else ''}",
            f"Every gradient of a weight is overwritten at every step{by} (= for +=): only t=0{of} "
            f"is left, and of the output layer's only {left}{of}.",
            together(*edits),
        )
    place = Place("dweight_out")
    for new, name in (
        (Factor("h", -1), "h[t-1]"),
        (Factor("h", 1), "h[t+1]"),
        (Factor("h_out", -1), "h[t-1], the last at t=0,"),
        (Factor("c"), "c[t]"),
        (Factor("c_out"), "tanh(c[t])"),
        (Factor("h", -1, edge="zero"), "h[t-1], 0 at t=0,"),
        (Factor("h", 0, at="last"), "h[T-1]"),
        (Factor("h", 0, "of the next member"), "h of another sequence"),
        (Factor("h_lowest"), "h[t] of the lowest layer"),
    ):
        yield (
            f"dweight_out.{name}",
            f"The gradient of weight_out uses {name} where it needs h[t].",
            outer(place, new),
        )
    yield (
        "dweight_out.transposed",
        "The gradient of weight_out is transposed.",
        change(place, transposed=True),
    )
    for target in ("dweight_out", "dbias_out"):
        for name in ("p", "onehot"):
            yield (
                f"{target}.{name}",
                capitalised(
                    f"{TARGET_WORDS[target]} is computed from {name} where it needs dlogits."
                ),
                factor(Place(target), 0, Factor(name)),
            )
