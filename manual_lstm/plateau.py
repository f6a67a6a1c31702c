"""The closed forms of a loss that stays where it is: what a head can reach, equations (40) to (48).

Every loss is a mean cross-entropy over the steps, in nats.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from manual_lstm.arrays import check_count, check_indices, check_number
from manual_lstm.model import Head

FLIP_LIMIT = math.tanh(1.0)  # (43)
Kind = Literal["floor", "attractor", "guess", "worst"]


@dataclass(frozen=True)
class Level:
    """A loss that has a closed form.

    Attributes:
        name: what it is called in a report.
        loss: in nats.
        kind: "floor", below which no training gets; "attractor", where training may stay;
            "guess", what is reached without the input; "worst", above which no loss lies.
        equation: its number in DERIVATION.md.
        probabilities: of the target, at each step of the period where they differ; otherwise one.
    """

    name: str
    loss: float
    kind: Kind
    equation: str
    probabilities: tuple[float, ...]


@dataclass(frozen=True)
class Position:
    """Where a loss lies among levels.

    Attributes:
        loss, uncertainty: as given.
        on: the level that the loss is on, to its uncertainty; None if it is on none.
        below, above: the nearest level on either side of it; None where there is none.
    """

    loss: float
    uncertainty: float
    on: Level | None
    below: Level | None
    above: Level | None


def best_probability(num_classes: int, low: float = -1.0, high: float = 1.0) -> float:
    """The limit of the target's probability where every logit lies in (low, high): (40).

    Raises:
        ValueError: num_classes below 1, or low not below high.
    """
    return math.exp(-lowest_loss(num_classes, low, high))


def lowest_loss(num_classes: int, low: float = -1.0, high: float = 1.0) -> float:
    """The floor of the loss where every logit lies in (low, high): ln(1+(V-1)e^(low-high)), (40).

    Args:
        num_classes: V.
        low, high: the range of the output; the bounded head's is (-1, 1), a sigmoid's (0, 1). An
            infinite one, which a linear layer has, gives 0.

    Raises:
        ValueError: num_classes below 1, or low not below high.
    """
    return _loss_of_margin(num_classes, _width(low, high))


def highest_loss(num_classes: int, low: float = -1.0, high: float = 1.0) -> float:
    """The worst mean cross-entropy where every logit lies in (low, high): (40).

    Raises:
        ValueError: num_classes below 1, or low not below high.
    """
    return _loss_of_margin(num_classes, -_width(low, high))


def uniform_loss(num_classes: int) -> float:
    """The loss of equal probabilities, ln V: (41).

    Raises:
        ValueError: num_classes below 1.
    """
    return math.log(check_count("num_classes", num_classes))


def unigram_loss(indices: ArrayLike, num_classes: int) -> float:
    """The lowest loss without the input: the entropy of the symbols' own frequencies, (42).

    Args:
        indices: of any shape, whole numbers from 0 to V - 1: a text, or targets.

    Raises:
        ValueError: an index out of range or not a whole number, or none at all.
    """
    counts = np.bincount(check_indices("indices", indices, num_classes).ravel())
    if not counts.sum():
        raise ValueError("indices is empty but must have at least one element.")
    frequencies = counts[counts > 0] / counts.sum()
    return float(-(frequencies * np.log(frequencies)).sum()) + 0.0


def ab_attractors() -> tuple[Level, ...]:
    """Where training on "ab" can stay with the bounded head, the lowest loss first: (45).

    Each unit either changes its sign at every step, which gives it tanh 1 at both, or keeps it.
    Then it has 0 where the sign is the wrong one, its output gate shut, and at the other step 1, or
    tanh 2 if it forgets its cell at the wrong one.
    """
    flips = (FLIP_LIMIT, FLIP_LIMIT)
    found = [_ab_level("both units flip at every step", flips, flips)]
    for how, share in _KEEPS.items():
        found.append(_ab_level(f"one unit flips, one {how}", flips, (share, 0.0)))
    for (how, share), (other, also) in combinations_with_replacement(_KEEPS.items(), 2):
        who = _BOTH_KEEP[how] if how == other else f"one unit {how}, one {other}"
        found.append(_ab_level(f"{who}, each right at its own step", (share, 0.0), (0.0, also)))
        found.append(_ab_level(f"{who}, both right at the same step", (share, 0.0), (also, 0.0)))
    return tuple(sorted(found, key=lambda level: level.loss))


_KEEPS = {"keeps its sign": 1.0, "keeps its sign and forgets": math.tanh(2.0)}
_BOTH_KEEP = {
    "keeps its sign": "both units keep their sign",
    "keeps its sign and forgets": "both units keep their sign and forget",
}


def _ab_level(name: str, left: tuple[float, float], right: tuple[float, float]) -> Level:
    """Two units' shares of the margin at the two steps, added up."""
    margins = sorted(x + y for x, y in zip(left, right, strict=True))
    probabilities = tuple(1 / (1 + math.exp(-margin)) for margin in margins)
    loss = -sum(map(math.log, probabilities)) / 2
    return Level(name, loss, "attractor", "(45)", probabilities)


def alphabet_attractor(num_classes: int, charge: int = 1) -> Level:
    """Where training on an alphabet can stay with the bounded head: (47).

    Args:
        num_classes: V, at least 3.
        charge: k, for how many steps a unit's cell is positive, its own letter's the last; at the
            others its output gate is shut. 1 to V - 2.

    Raises:
        ValueError: num_classes below 3, or charge out of range.
    """
    if check_count("num_classes", num_classes) < 3:
        raise ValueError(f"num_classes is {num_classes} but must be at least 3: see ab_attractors.")
    if check_count("charge", charge) > num_classes - 2:
        raise ValueError(f"charge is {charge} but must be from 1 to {num_classes - 2}.")
    others = math.exp(-FLIP_LIMIT) + (charge - 1) + (num_classes - 1 - charge) * math.exp(-1.0)
    loss = math.log1p(others * math.exp(-math.tanh(charge)))
    steps = "the letter itself" if charge == 1 else f"{charge} steps"
    return Level(
        f"every unit is positive for {steps}", loss, "attractor", "(47)", (math.exp(-loss),)
    )


def levels(
    num_classes: int, head: Head = "bounded", *, text: ArrayLike | None = None
) -> tuple[Level, ...]:
    """The levels of one task, the lowest first.

    Args:
        num_classes: V.
        head: "bounded" or "linear".
        text: (N,), the indices of the text that is learnt; None is the alphabet of V symbols,
            each followed by the next.

    Raises:
        ValueError: num_classes below 1, another head, or an index out of range.
    """
    check_count("num_classes", num_classes)
    if head not in ("bounded", "linear"):
        raise ValueError(f"head is {head!r} but must be 'bounded' or 'linear'.")
    found = [
        Level("uniform guessing", uniform_loss(num_classes), "guess", "(41)", _equal(num_classes))
    ]
    if head == "linear":
        found.append(Level("the linear head's floor", 0.0, "floor", "(40)", (1.0,)))
    else:
        best, floor = best_probability(num_classes), lowest_loss(num_classes)
        found.append(Level("the bounded head's floor", floor, "floor", "(40)", (best,)))
        worst = highest_loss(num_classes)
        found.append(Level("the bounded head's worst", worst, "worst", "(40)", (math.exp(-worst),)))
        if text is None and num_classes == 2:
            found += ab_attractors()
        elif text is None and num_classes > 2:
            found += [alphabet_attractor(num_classes, k) for k in (1, 2) if k <= num_classes - 2]
    if text is not None:
        loss = unigram_loss(text, num_classes)
        found.append(Level("unigram guessing", loss, "guess", "(42)", (math.exp(-loss),)))
    return tuple(sorted(found, key=lambda level: level.loss))


def locate(loss: float, levels: Sequence[Level], uncertainty: float = 0.0) -> Position:
    """Which level a loss is on, or which two it lies between.

    Args:
        loss: a mean cross-entropy in nats.
        levels: as `levels` gives them, in any order.
        uncertainty: how far the loss may be from the true one: half a unit of its last digit, or
            how far the losses of the last windows scatter. 0 is no scatter at all.

    Raises:
        ValueError: a loss or an uncertainty that is not finite, or a negative one.
    """
    loss = check_number("loss", loss)
    if check_number("uncertainty", uncertainty) < 0:
        raise ValueError(f"uncertainty is {uncertainty} but must be at least 0.")
    if loss < 0:
        raise ValueError(f"loss is {loss} but must be at least 0: it is a cross-entropy in nats.")
    # Where several have the same loss, as with one class, the floor says most.
    order = sorted(levels, key=lambda level: (level.loss, level.kind != "floor"))
    below = [level for level in order if level.loss < loss]
    above = [level for level in order if level.loss > loss]
    within = [level for level in order if abs(loss - level.loss) <= uncertainty]
    return Position(
        loss,
        uncertainty,
        min(within, key=lambda level: abs(loss - level.loss), default=None),
        next((level for level in order if below and level.loss == below[-1].loss), None),
        above[0] if above else None,
    )


def explain(position: Position, head: Head, floor: float) -> tuple[str, ...]:
    """A position in sentences: where the loss lies, what can and cannot lower it, what to change.

    Args:
        position: from `locate`.
        head: of the levels that it was located among.
        floor: of that head, from `lowest_loss`; for "ab" the higher one of (46).
    """
    return (_where(position), *_advice(position, head, floor))


def _where(position: Position) -> str:
    loss, on = f"The loss {position.loss:.5g}", position.on
    if on is not None:
        return f"{loss} is on a level: {_described(on)}."
    below, above = position.below, position.above
    if below is None or above is None:
        side, last = ("below every", above) if below is None else ("above every", below)
        assert last is not None
        return f"{loss} is {side} level; the nearest is {_described(last)}."
    return (
        f"{loss} lies {position.loss - below.loss:.3g} above {_described(below)}, and "
        f"{above.loss - position.loss:.3g} below {_described(above)}."
    )


def _described(level: Level) -> str:
    return f"{level.name}, {level.loss:.5g} {level.equation}"


_LOOK = (
    "look for a sum where a mean is meant, another unit than nats (in bits it is 1.4427 times as "
    "large), or classes that are left out."
)
_MISTAKEN_LOSS = f"Change how it is computed: {_LOOK}"


def _advice(position: Position, head: Head, floor: float) -> tuple[str, ...]:
    here = position.on or position.below
    off = position.on is None
    if here is None or (off and (here.kind == "worst" or position.loss < floor)):
        return ("It is no mean cross-entropy of this head, whatever the weights.", _MISTAKEN_LOSS)
    if position.loss == 0:
        return ("No loss is lower than 0.",)
    if here.kind in ("guess", "worst"):
        worse = off and (position.above is None or position.above.kind == "worst")
        return (
            "That is no better than guessing: nothing is learnt yet of what the input says.",
            "Training can lower it. If it does not, check the gradients first, then the learning "
            "rate and the data.",
            *([f"If it stays above guessing it is hardly a mean in nats: {_LOOK}"] * worse),
        )
    if head == "linear":
        return (
            "This head forbids no loss above 0: more steps, another learning rate or optimiser, "
            "more units or a longer window can lower it.",
        )
    if not off and here.loss <= floor:
        can = "Nothing can lower it."
    elif here.kind == "floor":
        can = "Training can lower it as far as that floor."
    elif off:
        can = (
            "More steps, a higher learning rate or Adam can lower it, towards that attractor or "
            "another one; which one, the first weights decide."
        )
    else:
        can = "Only other first weights can lower it, by leading to another attractor."
    return (
        can,
        "No optimiser, learning rate, momentum, initialisation, dropout or average of networks "
        f"gets below {floor:.5g} while h itself is the logits: h = o tanh(c) is in (-1, 1).",
        "Change the head: a linear layer between h and the softmax, (19), opens every loss above "
        "0.",
    )


def _loss_of_margin(num_classes: int, margin: float) -> float:
    others = check_count("num_classes", num_classes) - 1
    return math.log1p(others * math.exp(-margin))


def _width(low: float, high: float) -> float:
    if not low < high:
        raise ValueError(f"low is {low} but must be below high, which is {high}.")
    return high - low


def _equal(num_classes: int) -> tuple[float, ...]:
    return (1 / num_classes,)
