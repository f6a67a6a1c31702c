"""Which mistake reproduces an implementation's wrong gradients."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from torch_ref.diagnosis.backward.interpreter import Solved, gradients, solved
from torch_ref.diagnosis.backward.quantities import Quantities
from torch_ref.diagnosis.backward.table import Table
from torch_ref.diagnosis.evidence import Evidence, explains, fitted
from torch_ref.diagnosis.mistakes.catalogue import Catalogue, Mistake
from torch_ref.diagnosis.mistakes.edits import together
from torch_ref.harness.judge import Subject
from torch_ref.oracles.equations import Array

# A candidate that is further off than half of the digits is not tried against the error budget,
# which decides; this many of the nearest are tried in any case.
_TRIED = 3


@dataclass(frozen=True)
class Finding:
    """Mistakes that together explain every gradient of every case where they are numbers.

    Attributes:
        mistakes: one, two or three.
        residual: the greatest share of its error budget that an element uses; at most 1.
        alternatives: others that explain them as well, where the implementation cannot be asked
            what would tell them apart.
    """

    mistakes: tuple[Mistake, ...]
    residual: float
    alternatives: tuple[tuple[Mistake, ...], ...] = ()


def match_single(
    subject: Subject, known: Catalogue, evidence: Sequence[Evidence]
) -> list[tuple[Mistake, float]]:
    """The mistakes that explain all the evidence, and the share of the budget that each uses."""
    wrong = [each for each in evidence if not each.right]
    if not wrong:
        return []
    foretold = foretold_by(known, wrong[0])
    away = distances(subject, foretold, wrong[0])
    fitting = np.flatnonzero(away <= half_the_digits(subject))
    nearest = np.argsort(away, kind="stable")[:_TRIED]
    found = []
    for n in sorted({*fitting.tolist(), *nearest.tolist()}):
        used = share_used(subject, known.wrong[n], evidence)
        if used is not None:
            found.append((known.mistakes[n], used))
    return found


def foretold_by(known: Catalogue, evidence: Evidence) -> list[dict[str, Array] | None]:
    """`predictions` of a case that is given."""
    return predictions(known, _Foretold(evidence.key, evidence.quantities))


@dataclass(frozen=True)
class _Foretold:
    """A case by its key."""

    key: bytes
    quantities: Quantities = field(compare=False)


# As many cases as one diagnosis draws, with room for those of another dtype.
@lru_cache(maxsize=32)
def predictions(known: Catalogue, case: _Foretold) -> list[dict[str, Array] | None]:
    """The gradients of a case by every mistake; None by one that its shapes do not admit."""
    found: list[dict[str, Array] | None] = []
    q, right = _right(known, case)
    for wrong in known.wrong:
        try:
            with np.errstate(all="ignore"):
                found.append(gradients(wrong, q, beside=right))
        except ValueError:
            found.append(None)
    return found


@lru_cache(maxsize=32)
def _right(known: Catalogue, case: _Foretold) -> tuple[Quantities, Solved]:
    """The right table on a case, and the arrays on which it is solved: those of one of its keys."""
    return case.quantities, solved(known.table, case.quantities)


def share_used(subject: Subject, table: Table, evidence: Sequence[Evidence]) -> float | None:
    """The greatest share of its budget that an element uses; None if some element exceeds it."""
    most = 0.0
    for each in evidence:
        comparison = explains(subject, table, each)
        if comparison is None or comparison.verdict == "disagree":
            return None
        most = max(most, *(tensor.used for tensor in comparison.tensors))
    return most


def half_the_digits(subject: Subject) -> float:
    """The square root of the unit in the last place of 1."""
    return float(np.sqrt(np.finfo(subject.abilities.dtypes[0]).eps))


def near(subject: Subject, known: Catalogue, table: Table, evidence: Evidence) -> bool:
    """Whether each gradient by a table is the implementation's to half the digits.

    What the table has in common with the catalogue's right one is computed once for each case.
    """
    q, right = _right(known, _Foretold(evidence.key, evidence.quantities))
    try:
        with np.errstate(all="ignore"):
            foretold = gradients(table, q, beside=right)
        found = fitted(subject, foretold, evidence)
    except ValueError:
        return False
    bound = half_the_digits(subject)
    return all(
        relative(found[name].ravel(), actual.ravel(), evidence.allowed[name].ravel()) <= bound
        for name, actual in evidence.actual.items()
    )


def distances(
    subject: Subject, foretold: Sequence[Mapping[str, Array] | None], evidence: Evidence
) -> NDArray[np.float64]:
    """The greatest error of a tensor relative to its size, by each of many tables' gradients.

    Of None, and where nothing fits, it is infinite.
    """
    fitting: dict[int, Mapping[str, Array]] = {}
    for n, found in enumerate(foretold):
        with suppress(ValueError):
            if found is not None:
                fitting[n] = fitted(subject, found, evidence)
    each_far = np.full(len(foretold), np.inf)
    if fitting:
        each_far[list(fitting)] = np.max(
            [
                relative(
                    np.stack([found[name].ravel() for found in fitting.values()]),
                    actual.ravel(),
                    evidence.allowed[name].ravel(),
                )
                for name, actual in evidence.actual.items()
            ],
            axis=0,
        )
    return each_far


def relative(found: Array, actual: Array, allowed: Array) -> Array:
    """The greatest error relative to the largest element; infinite where it is not a number.

    An error that is no greater than rounding's counts for nothing: where a gradient is a
    difference that cancels there may be nothing else.

    Args:
        found, actual, allowed: (..., elements).

    Returns:
        (...).
    """
    with np.errstate(all="ignore"):
        off = np.abs(found - actual)
        error = np.max(np.where(off <= allowed, 0, off), axis=-1)
        share = np.where(error == 0, 0.0, error / np.max(np.abs(found), axis=-1))
    return np.where(np.isfinite(error) & ~np.isnan(share), share, np.inf)


def joint(mistakes: Sequence[Mistake], known: Catalogue) -> Table:
    """The table with several mistakes in it."""
    return together(*(mistake.edit for mistake in mistakes))(known.table)
