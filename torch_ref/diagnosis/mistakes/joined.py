"""Mistakes of what is joined in one array, h and c or W and U, and of gates computed again."""

from collections.abc import Iterator

from manual_lstm.params import GATES
from torch_ref.diagnosis.backward.table import Again, Factor, Table, Term, Weight
from torch_ref.diagnosis.backward.words import GATE_WORDS
from torch_ref.diagnosis.mistakes.edits import (
    Edit,
    Place,
    again,
    factor,
    outer,
    plus,
    scaled,
    together,
    weight,
)

Found = Iterator[tuple[str, str, Edit]]
_TARGETS = {"dh_carry": "weight_hh", "dx": "weight_ih"}
_WHERE = "what goes back through the weights to h and x"
_AGAIN: dict[Again, str] = {
    "h[t]": "h[t] where they need h[t-1]",
    "h = 0 at t=0": "zero for h0",
    "h = 0": "zero for h[t-1]",
    "c[t-1]": "c[t-1] where they need h[t-1]",
    "x[t-1]": "x[t-1] where they need x[t] (cyclically)",
    "x[t+1]": "x[t+1] where they need x[t] (cyclically)",
    "no bias": "no bias",
    "the bias twice": "their bias twice",
}


def joined_mistakes(table: Table) -> Found:
    """identifier, sentence and edit of each."""
    yield from _halves(table)
    yield from _rows()
    yield from _blocks()
    for how, words in _AGAIN.items():
        yield (
            f"gates.again from {how}",
            f"The backward pass computes the gates again, with {words}.",
            again(how),
        )
        if how in _SUMMED:
            yield (
                f"gates.again and sums from {how}",
                f"The backward pass computes the gates again, and the sums of the weights with "
                f"them, with {words}.",
                together(again(how), *_summed(how)),
            )


_SUMMED: dict[Again, tuple[str, Factor]] = {
    "h[t]": ("weight_hh", Factor("h")),
    "c[t-1]": ("weight_hh", Factor("c", -1)),
    "x[t-1]": ("weight_ih", Factor("x", -1)),
    "x[t+1]": ("weight_ih", Factor("x", 1)),
}


def _summed(how: Again) -> Iterator[Edit]:
    """The sums of the weight on what the gates are computed from."""
    kind, taken = _SUMMED[how]
    for gate in GATES:
        yield outer(Place(f"d{kind}.{gate}"), taken)


def _halves(table: Table) -> Found:
    """The gradients of h and c in one array, [dh; dc] or [dc; dh], with its halves exchanged."""
    state = "dc_total" if "dc_total" in table.equations else "dc"
    into_h, into_c = Place("dh", 1), Place(state, 1)
    exchanged = together(
        factor(into_h, 0, Factor("dc_carry")), factor(into_c, 0, Factor("dh_carry"))
    )
    dy = Term((Factor("dy"),))
    yield from (
        (
            "dh and dc exchanged before dy",
            "The gradients of h and c that a step receives are exchanged, before dy is added.",
            exchanged,
        ),
        (
            "dh and dc exchanged after dy",
            "The gradients of h and c that a step receives are exchanged, dy among them.",
            together(exchanged, scaled(Place("dh"), "0"), plus(state, dy)),
        ),
        (
            "dh and dc handed on exchanged",
            "The gradients of h and c are exchanged where they are handed to t-1.",
            together(exchanged, *_ends_exchanged("begin"), *_ends_exchanged("end")),
        ),
        (
            "dy into dc",
            "dy is added to the cell's gradient where it must be added to h's.",
            together(scaled(Place("dh"), "0"), plus(state, dy)),
        ),
        (
            "dy into dc too",
            "dy is added to the cell's gradient as well as to h's.",
            plus(state, dy),
        ),
        (
            "dy into dh_carry",
            "dy is added to what h's gradient hands to t-1 as well as to h's gradient.",
            plus("dh_carry", dy),
        ),
    )


def _ends_exchanged(end: str) -> list[Edit]:
    """What the last step begins with, or what the first one leaves, each in the other's place."""
    if end == "begin":
        pairs = (("dh_begin", "dc_n"), ("dc_begin", "dh_n"))
    else:
        pairs = (("dh0", "dc_carry"), ("dc0", "dh_carry"))
    return [factor(Place(target), 0, Factor(name)) for target, name in pairs]


def _rows() -> Found:
    """The sum of a joined matrix on [h, x] where the matrix is on [x, h], or the other way."""
    for given, of_x, of_h in (
        ("[h, x]", "[h[t-1], x[t]][:I]", "[h[t-1], x[t]][I:]"),
        ("[x, h]", "[x[t], h[t-1]][H:]", "[x[t], h[t-1]][:H]"),
    ):
        needed = "[x, h]" if given == "[h, x]" else "[h, x]"
        taken = {"weight_ih": of_x, "weight_hh": of_h}
        yield (
            f"weight.of {given}",
            f"The gradient of weight_ih and weight_hh, joined, is made with {given} where they are "
            f"on {needed}.",
            together(
                *(
                    outer(Place(f"d{kind}.{gate}"), Factor(name))
                    for kind, name in taken.items()
                    for gate in GATES
                )
            ),
        )


def _blocks() -> Found:
    """A gate's block of the joined matrix, or what it is multiplied by: dh_carry and dx alike."""
    for k, gate in enumerate(GATES):
        for scale, verb in (
            ("0", "is left out"),
            ("-1", "has the wrong sign"),
            ("2", "is counted twice"),
        ):
            yield (
                f"dh_carry and dx[{k}] * {scale}",
                f"{GATE_WORDS[gate].capitalize()}'s part of {_WHERE} {verb}.",
                together(*(scaled(Place(target, k), scale) for target in _TARGETS)),
            )
        for other in GATES:
            if other != gate:
                through = together(
                    *(weight(Place(t, k), Weight(n, other)) for t, n in _TARGETS.items())
                )
                yield (
                    f"dh_carry and dx.{gate} through {other}",
                    f"dz_{gate} goes back to h and x through {GATE_WORDS[other]}'s blocks of "
                    f"weight_hh and weight_ih where it needs {GATE_WORDS[gate]}'s.",
                    through,
                )
        for new in (*(f"dz_{g}" for g in GATES if g != gate), f"d{gate}"):
            yield (
                f"dh_carry and dx.{gate} of {new}",
                f"{GATE_WORDS[gate].capitalize()}'s part of {_WHERE} takes {new} where it needs "
                f"dz_{gate}.",
                together(*(factor(Place(target, k), 0, Factor(new)) for target in _TARGETS)),
            )
    yield (
        "dh_carry and dx.after the activation",
        f"{_WHERE.capitalize()} is computed from the gates' gradients after their activation.",
        together(
            *(
                factor(Place(target, k), 0, Factor(f"d{gate}"))
                for target in _TARGETS
                for k, gate in enumerate(GATES)
            )
        ),
    )
