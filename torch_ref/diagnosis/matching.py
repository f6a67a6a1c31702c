"""Which mistake, or which two together, reproduce an implementation's wrong gradients."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from manual_lstm.params import GATES
from torch_ref.diagnosis.catalogue import Catalogue, Mistake
from torch_ref.diagnosis.edits import together
from torch_ref.diagnosis.evidence import Evidence, explains, fitted, predicted
from torch_ref.diagnosis.interpreter import gradients
from torch_ref.diagnosis.quantities import Quantities
from torch_ref.diagnosis.sum_mistakes import ORDERS
from torch_ref.diagnosis.table import Table
from torch_ref.harness.judge import Subject
from torch_ref.oracles.equations import Array

# A candidate that is further off than half of the digits is not tried against the error budget,
# which decides; this many of the nearest are tried in any case, and are what "unknown" tells of.
TRIED = 3
# In the identifier of a mistake that takes one gate's gradient, or a later one, for another.
_MIXED = (*ORDERS, ".from ", " for dc", " for dh")


@dataclass(frozen=True)
class Finding:
    """Mistakes that together explain every gradient of every case where they are numbers.

    Attributes:
        mistakes: one, or two.
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
    foretold = predictions(known, _Foretold(wrong[0].key, wrong[0].quantities))
    distances = [_distance(subject, found, wrong[0]) for found in foretold]
    nearest = sorted(range(len(distances)), key=lambda n: distances[n])
    near = [n for n in nearest if distances[n] <= half_the_digits(subject)]
    found = []
    for n in sorted({*near, *nearest[:TRIED]}):
        mistake = known.mistakes[n]
        used = share_used(subject, mistake.edit(known.table), evidence)
        if used is not None:
            found.append((mistake, used))
    return found


@dataclass(frozen=True)
class _Foretold:
    """A case by its key."""

    key: bytes
    quantities: Quantities = field(compare=False)


@lru_cache(maxsize=16)
def predictions(known: Catalogue, case: _Foretold) -> list[dict[str, Array] | None]:
    """The gradients of a case by every mistake; None by one that its shapes do not admit."""
    found: list[dict[str, Array] | None] = []
    for mistake in known.mistakes:
        try:
            with np.errstate(all="ignore"):
                found.append(gradients(mistake.edit(known.table), case.quantities))
        except ValueError:
            found.append(None)
    return found


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


def distance(subject: Subject, table: Table, evidence: Evidence) -> float:
    """The greatest error of a tensor relative to its size; infinite where nothing fits."""
    try:
        with np.errstate(all="ignore"):
            found = gradients(table, evidence.quantities)
    except ValueError:
        return float("inf")
    return _distance(subject, found, evidence)


def _distance(subject: Subject, found: Mapping[str, Array] | None, evidence: Evidence) -> float:
    if found is None:
        return float("inf")
    try:
        found = fitted(subject, found, evidence)
    except ValueError:
        return float("inf")
    return max(_relative(found[name], actual) for name, actual in evidence.actual.items())


def _relative(found: Array, actual: Array) -> float:
    size = float(np.max(np.abs(found)))
    error = float(np.max(np.abs(found - actual)))
    if not np.isfinite(error):
        return float("inf")
    if error == 0:
        return 0.0
    return error / size if size > 0 else float("inf")


@dataclass(frozen=True)
class _Screen:
    """What each of N mistakes does by itself to each of K blocks of one case's gradients.

    Attributes:
        admitted: (N,), whether the case's shapes admit the mistake at all.
        explained: (N, K), whether it explains the block.
        moved: (N, K), whether the block differs from the right one.
        right: (K,), where there is nothing to explain.
    """

    admitted: Array
    explained: Array
    moved: Array
    right: Array


def match_pair(
    subject: Subject,
    known: Catalogue,
    plain: Evidence,
    evidence: Sequence[Evidence],
    until: float,
) -> tuple[tuple[Mistake, Mistake], float] | None:
    """Two mistakes that explain all the evidence together.

    What one of them leaves unexplained the other must move, on the plainest case of one step too.
    A mistake that mixes up gradients is only held against what is right. Pairs are tried
    in the order of how much their two explain by themselves.

    Args:
        plain: the smallest case, T=1.
        evidence: further cases, all of which have to be explained; the first is screened on.
        until: when to give up, by time.perf_counter.
    """
    bound = half_the_digits(subject)
    screens = [plain, *evidence]
    wrong, at_plain = (_screen(subject, known, each) for each in (evidence[0], plain))
    for first, second in _pairs(known, wrong, at_plain):
        if time.perf_counter() > until:
            return None
        table = joint((first, second), known)
        if any(distance(subject, table, each) > bound for each in screens):
            continue
        used = share_used(subject, table, screens)
        if used is not None:
            return (first, second), used
    return None


def _pairs(known: Catalogue, wrong: _Screen, plain: _Screen) -> Iterator[tuple[Mistake, Mistake]]:
    """The pairs that may explain both cases, those first whose two explain most by themselves."""
    names = [mistake.identifier for mistake in known.mistakes]
    # One that reads another gradient than it should: what moves that, moves what it has moved.
    mixes = np.array([any(word in name for word in _MIXED) for name in names])
    moved = wrong.moved[:, wrong.right]
    possible = np.where(
        mixes[:, None] | mixes,
        ~_meets(moved, ~moved),
        ~(_meets(~wrong.explained, ~wrong.moved) | _meets(~plain.explained, ~plain.moved)),
    )
    admitted = wrong.admitted & plain.admitted
    first, second = np.nonzero(np.triu(possible & admitted & admitted[:, None], 1))
    alone = wrong.explained.sum(axis=1) + plain.explained.sum(axis=1)
    for k in np.argsort(-(alone[first] + alone[second]), kind="stable"):
        yield known.mistakes[first[k]], known.mistakes[second[k]]


def _meets(these: Array, those: Array) -> Array:
    """(N, N): whether a block is one of `these` (N, K) of a mistake and of `those` of another."""
    count = these.astype(np.float32) @ those.T.astype(np.float32)
    return np.asarray((count + count.T) > 0)


def _screen(subject: Subject, known: Catalogue, evidence: Evidence) -> _Screen:
    actual = _flat(evidence.actual, evidence)
    right = _flat(predicted(subject, known.table, evidence), evidence)
    found = np.full((len(known.mistakes), len(actual)), np.nan)
    admitted = np.zeros(len(found), bool)
    foretold = predictions(known, _Foretold(evidence.key, evidence.quantities))
    for n, each in enumerate(foretold):
        if each is not None:
            with suppress(ValueError):
                found[n] = _flat(fitted(subject, each, evidence), evidence)
                admitted[n] = True
    starts = _starts(evidence)
    bound = half_the_digits(subject)
    return _Screen(
        admitted,
        _explained(found, actual, starts, bound),
        np.logical_or.reduceat(found != right, starts, axis=1),
        _explained(right[None], actual, starts, bound)[0],
    )


def _explained(found: Array, actual: Array, starts: Sequence[int], bound: float) -> Array:
    """(N, K) of found (N, elements): whether a block is off by no more than `bound` of its size."""
    with np.errstate(all="ignore"):
        size = np.maximum.reduceat(np.abs(found), starts, axis=1)
        error = np.maximum.reduceat(np.abs(found - actual), starts, axis=1)
        return np.asarray(np.isfinite(error) & (error <= bound * size))


def _flat(values: Mapping[str, Array], evidence: Evidence) -> Array:
    return np.concatenate([np.ravel(values[name]) for name in evidence.actual])


def _starts(evidence: Evidence) -> list[int]:
    """Where the blocks begin: of weights the gates, of x the steps, of the states the layers."""
    starts: list[int] = []
    begin = 0
    for name, value in evidence.actual.items():
        by_gate = name.startswith(("dweight_ih", "dweight_hh", "dbias_l", "dbias_hh"))
        blocks = len(GATES) if by_gate else len(np.atleast_1d(value))
        starts += range(begin, begin + value.size, value.size // blocks)
        begin += value.size
    return starts


def joint(mistakes: Sequence[Mistake], known: Catalogue) -> Table:
    """The table with several mistakes in it."""
    return together(*(mistake.edit for mistake in mistakes))(known.table)
