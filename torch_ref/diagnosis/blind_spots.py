"""The mistakes that a case cannot show, and what about it hides them."""

from dataclasses import dataclass

import numpy as np

from torch_ref.compare.budget import error_budget
from torch_ref.diagnosis.backward.interpreter import gradients, solved
from torch_ref.diagnosis.backward.quantities import quantities
from torch_ref.diagnosis.mistakes.catalogue import Mistake, catalogue
from torch_ref.oracles.case import Case


@dataclass(frozen=True)
class Blindness:
    """What a case can tell.

    Attributes:
        blind: the mistakes with which every gradient stays within its error budget.
        seen: the others.
        why: what about the case hides mistakes, a phrase each.
    """

    blind: tuple[Mistake, ...]
    seen: tuple[Mistake, ...]
    why: tuple[str, ...]


def blind_spots(case: Case, *, sides: int = 1) -> Blindness:
    """Which mistakes of the catalogue a comparison on this case would let pass.

    Args:
        case: of float32 or float64, whose precision decides what is seen.
        sides: as for `error_budget`.
    """
    beyond = bool(case.dh_n.any() or case.dc_n.any())
    known = catalogue(case.variant, case.head, beyond or case.head is None)
    allowed = error_budget(case, sides=sides).allowed
    forward = quantities(case.astype(np.float64))
    beside = solved(known.table, forward)
    right = gradients(known.table, forward, beside=beside)
    blind: list[Mistake] = []
    seen: list[Mistake] = []
    for mistake, table in zip(known.mistakes, known.wrong, strict=True):
        try:
            with np.errstate(all="ignore"):
                wrong = gradients(table, forward, beside=beside)
            hidden = all(
                wrong[name].shape == value.shape
                and bool(np.all(np.abs(wrong[name] - value) <= allowed[name]))
                for name, value in right.items()
            )
        except ValueError:  # the wrong line cannot even be run on these shapes
            hidden = False
        (blind if hidden else seen).append(mistake)
    return Blindness(tuple(blind), tuple(seen), hides(case))


def hides(case: Case) -> tuple[str, ...]:
    """What about a case hides mistakes: a phrase each, without trying any."""
    steps, batch, inputs = case.x.shape
    layers, _, hidden = case.h0.shape
    biases = [value for name, value in case.params.items() if name.startswith("bias")]
    upstream = () if case.targets is not None else ("dh_n", "dc_n")
    weights = [value for name, value in case.params.items() if name.startswith("weight")]
    largest = max(float(np.abs(value).max()) for value in weights)
    phrases = [
        ("a single step (T=1): nothing is carried", steps == 1),
        ("two steps (T=2): no carry is handed on twice", steps == 2),
        ("one sequence (B=1): a mean over the batch is its sum", batch == 1),
        ("one layer (L=1): no stack", layers == 1),
        ("one unit (H=1): a transpose changes nothing", hidden == 1),
        ("one input (I=1)", inputs == 1),
        *((f"{name} is zero", not getattr(case, name).any()) for name in ("h0", "c0", *upstream)),
        ("every bias is zero", not any(bias.any() for bias in biases)),
        ("dy is zero", case.dy is not None and not case.dy.any()),
        (
            "dy is the same everywhere: a permutation of it cannot be seen",
            case.dy is not None and case.dy.any() and np.ptp(case.dy) == 0,
        ),
        ("x is the same at every step", steps > 1 and bool(np.all(case.x == case.x[:1]))),
        (
            "the weights are so small that no gate moves",
            largest < np.sqrt(float(np.finfo(case.dtype).eps)),
        ),
    ]
    return tuple(phrase for phrase, holds in phrases if holds)
