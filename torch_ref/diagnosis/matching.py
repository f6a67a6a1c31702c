"""Which mistake, or which two together, reproduce an implementation's wrong gradients."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from torch_ref.diagnosis.catalogue import Catalogue, Mistake
from torch_ref.diagnosis.confined import NOT_AT_T1, THERE_AT_T1, confined
from torch_ref.diagnosis.edits import together
from torch_ref.diagnosis.evidence import (
    Evidence,
    draw_case,
    explains,
    fitted,
    gather,
    predicted,
)
from torch_ref.diagnosis.interpreter import gradients
from torch_ref.diagnosis.quantities import Quantities
from torch_ref.diagnosis.sum_mistakes import USUAL_ORDERS
from torch_ref.diagnosis.table import Steps, Table
from torch_ref.harness.judge import Subject
from torch_ref.oracles.equations import Array

# A candidate that is further off than half of the digits is not tried against the error budget,
# which decides; this many of the nearest are tried in any case, and are what "unknown" tells of.
TRIED = 3


@dataclass(frozen=True)
class Finding:
    """Mistakes that together explain every gradient of every case.

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
class _Candidate:
    """A mistake as pairs need it.

    Attributes:
        explained, moved: bit by bit for the blocks of the tensors, whether the mistake explains
            the block, and whether it differs from the right one.
    """

    mistake: Mistake
    table: Table
    explained: int
    moved: int

    @property
    def mixes(self) -> bool:
        """Whether it puts one gate's block where another's belongs, which others then move."""
        return any(order in self.mistake.identifier for order in USUAL_ORDERS)


def match_confined(
    subject: Subject, known: Catalogue, evidence: Sequence[Evidence], until: float
) -> list[tuple[Mistake, float]]:
    """Mistakes that explain all the evidence if they are made at some steps or in one part only.

    Only those are tried that move whatever is wrong.

    Args:
        until: when to give up, by time.perf_counter.
    """
    wrong = [each for each in evidence if not each.right]
    everything, right = _whole(wrong[0]), _right(subject, known, wrong[0])
    movers = [
        each.mistake
        for each in _candidates(subject, known, wrong[0])
        if not everything & ~right & ~each.moved
    ]
    found: list[tuple[Mistake, float]] = []
    spans = _spans(subject, known, movers)
    for mistake in confined(known, subject.implementation.variant, movers, spans):
        if time.perf_counter() > until:
            break
        table = mistake.edit(known.table)
        if distance(subject, table, wrong[0]) <= half_the_digits(subject):
            used = share_used(subject, table, evidence)
            if used is not None:
                found.append((mistake, used))
    return found


def _spans(
    subject: Subject, known: Catalogue, mistakes: Sequence[Mistake]
) -> list[Sequence[Steps]]:
    """To which steps each mistake may be confined, by what a single step shows of it."""
    plain = gather(subject, draw_case(subject, {"T": 1, "B": 1, "I": 2, "H": 2, "L": 1}, 0))
    if plain is None or not plain.actual or len(plain.case.x) != 1:
        return [THERE_AT_T1 + NOT_AT_T1] * len(mistakes)
    bound = half_the_digits(subject)
    spans: list[Sequence[Steps]] = []
    for mistake in mistakes:
        there = distance(subject, mistake.edit(known.table), plain) <= bound
        spans.append(THERE_AT_T1 * there + NOT_AT_T1 * plain.right)
    return spans


def match_pair(
    subject: Subject,
    known: Catalogue,
    plain: Evidence,
    evidence: Sequence[Evidence],
    until: float,
) -> tuple[tuple[Mistake, Mistake], float] | None:
    """Two mistakes that explain all the evidence together.

    What one of them leaves unexplained the other must move, on the plainest case of one step too.
    A mistake that mixes up the gates' blocks is only held against what is right. Pairs are tried
    in the order of how much their two explain by themselves.

    Args:
        plain: the smallest case, T=1.
        evidence: further cases, all of which have to be explained; the first is screened on.
        until: when to give up, by time.perf_counter.
    """
    screens = [plain, *evidence]
    candidates = _candidates(subject, known, evidence[0])
    at_plain = {c.mistake.identifier: c for c in _candidates(subject, known, plain)}
    whole = _whole(evidence[0])
    right = _right(subject, known, evidence[0])
    for first, second in _pairs(candidates, at_plain, whole, _whole(plain), right):
        if time.perf_counter() > until:
            return None
        table = second.mistake.edit(first.table)
        bound = half_the_digits(subject)
        if any(distance(subject, table, each) > bound for each in screens):
            continue
        used = share_used(subject, table, [plain, *evidence])
        if used is not None:
            return (first.mistake, second.mistake), used
    return None


def _pairs(
    candidates: Sequence[_Candidate],
    at_plain: Mapping[str, _Candidate],
    whole: int,
    whole_plain: int,
    right: int,
) -> Iterator[tuple[_Candidate, _Candidate]]:
    def complementary(a: _Candidate, b: _Candidate, everything: int) -> bool:
        return not (everything & ~(a.explained | b.moved) or everything & ~(b.explained | a.moved))

    allowed = [c for c in candidates if c.mistake.identifier in at_plain]
    scored: list[tuple[int, int, _Candidate, _Candidate]] = []
    for k, a in enumerate(allowed):
        plain_a = at_plain[a.mistake.identifier]
        for b in allowed[k + 1 :]:
            plain_b = at_plain[b.mistake.identifier]
            if a.mixes or b.mixes:
                if right & (a.moved ^ b.moved):
                    continue
            elif not (complementary(a, b, whole) and complementary(plain_a, plain_b, whole_plain)):
                continue
            alone = a.explained.bit_count() + b.explained.bit_count()
            alone += plain_a.explained.bit_count() + plain_b.explained.bit_count()
            scored.append((-alone, len(scored), a, b))
    scored.sort(key=lambda each: each[:2])
    for _, _, a, b in scored:
        yield a, b


def _candidates(subject: Subject, known: Catalogue, evidence: Evidence) -> list[_Candidate]:
    right = _blocks(predicted(subject, known.table, evidence), evidence)
    actual = _blocks(evidence.actual, evidence)
    bound = half_the_digits(subject)
    found = []
    foretold = predictions(known, _Foretold(evidence.key, evidence.quantities))
    for mistake, each in zip(known.mistakes, foretold, strict=True):
        table = mistake.edit(known.table)
        if each is None:
            continue
        try:
            values = fitted(subject, each, evidence)
        except ValueError:
            continue
        blocks = _blocks(values, evidence)
        explained = _bits(_relative(b, a) <= bound for b, a in zip(blocks, actual, strict=True))
        moved = _bits(not np.array_equal(b, r) for b, r in zip(blocks, right, strict=True))
        found.append(_Candidate(mistake, table, explained, moved))
    return found


def _right(subject: Subject, known: Catalogue, evidence: Evidence) -> int:
    """The blocks in which there is nothing to explain."""
    found = _blocks(predicted(subject, known.table, evidence), evidence)
    actual = _blocks(evidence.actual, evidence)
    bound = half_the_digits(subject)
    return _bits(_relative(b, a) <= bound for b, a in zip(found, actual, strict=True))


def _whole(evidence: Evidence) -> int:
    return (1 << len(_blocks(evidence.actual, evidence))) - 1


def _bits(values: Iterator[bool]) -> int:
    return sum(1 << k for k, value in enumerate(values) if value)


def _blocks(values: Mapping[str, Array], evidence: Evidence) -> list[Array]:
    """The gradients of weights by gate, those of x by step, those of the states by layer."""
    blocks: list[Array] = []
    for name in evidence.actual:
        value = values[name]
        by_gate = name.startswith(("dweight_ih", "dweight_hh", "dbias_l", "dbias_hh"))
        blocks += np.split(value, 4) if by_gate else list(np.atleast_1d(value))
    return blocks


def joint(mistakes: Sequence[Mistake], known: Catalogue) -> Table:
    """The table with several mistakes in it."""
    return together(*(mistake.edit for mistake in mistakes))(known.table)
