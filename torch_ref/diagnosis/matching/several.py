"""Which two or three mistakes together reproduce an implementation's wrong gradients.

Each mistake alone says of every block of every gradient whether it moves the block, and whether it
explains it: sets.py. Few sets pass on all cases, and those are computed.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, permutations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from manual_lstm.params import GATES
from torch_ref.diagnosis.backward.table import Equation, Table
from torch_ref.diagnosis.evidence import (
    LOUD,
    PLAIN,
    Evidence,
    draw_case,
    fitted,
    gather,
    no_recurrent_weights,
    only_step,
    predicted,
    zero,
)
from torch_ref.diagnosis.matching.sets import NONE, ODD_CASES_OF_THREE, Bits, Marks, pairs, triples
from torch_ref.diagnosis.matching.single import (
    foretold_by,
    half_the_digits,
    joint,
    near,
    relative,
    share_used,
)
from torch_ref.diagnosis.mistakes.catalogue import Catalogue, Mistake
from torch_ref.harness.judge import Subject
from torch_ref.oracles.case import Case
from torch_ref.oracles.equations import Array

Word = np.uint64
# Of the pairs so many come before the sets of three, whose best are likelier than the other pairs.
_FIRST_PAIRS = 8000
_TOLD = 50
_WORDS = {2: "two", 3: "three"}
Change = Callable[[Case], Case]


def marks_of(
    subject: Subject, known: Catalogue, evidence: Sequence[Evidence], until: float
) -> Marks:
    """Every mistake of the catalogue, held against every case for which there is time."""
    bound = half_the_digits(subject)
    rows: list[tuple[Bits, Bits, Bits]] = []
    fits = np.ones(len(known.mistakes), bool)
    for each in evidence:
        truth = blocks_of([predicted(subject, known.table, each)], each)
        fine = _explained(truth, each, bound)[0]
        found: list[Mapping[str, Array]] = []
        fitting = np.zeros(len(known.mistakes), bool)
        for n, foretold in enumerate(foretold_by(known, each)):
            try:
                if foretold is not None:
                    found.append(fitted(subject, foretold, each))
                    fitting[n] = True
            except ValueError:
                continue
        fits &= fitting
        moved = np.zeros((len(known.mistakes), len(fine)), bool)
        alone = np.zeros_like(moved)
        blocks = blocks_of(found, each)
        moved[fitting] = _differing(blocks, truth)
        alone[fitting] = _explained(blocks, each, bound)
        rows.append((_word(fine), _word(moved, filled=False), _word(alone)))
        if time.perf_counter() > until:
            break
    right, changed, same = (np.stack(each, axis=-1) for each in zip(*rows, strict=True))
    explained = same & changed
    edited = [_edited(wrong, known.table) for wrong in known.wrong]
    mixes = np.array([any(_taken(w) - _taken(r) for w, r in found.values()) for found in edited])
    lines = [{target} for target in known.table.equations]
    lines += [{f"d{gate}", f"dz_{gate}"} for gate in GATES]  # two factors of one product
    edits = np.array([[not line.isdisjoint(found) for line in lines] for found in edited])
    told = np.where(mixes[:, None], changed, explained)
    return Marks(right, changed, explained, told, fits, mixes, edits)


def _explained(found: Sequence[Array], evidence: Evidence, bound: float) -> NDArray[np.bool_]:
    """(N, blocks): which blocks of N sets of gradients are what the implementation returned."""
    actual, allowed = (blocks_of([of], evidence) for of in (evidence.actual, evidence.allowed))
    triples = zip(found, actual, allowed, strict=True)
    return np.stack([relative(f, a, within) <= bound for f, a, within in triples], axis=-1)


def _differing(found: Sequence[Array], others: Sequence[Array]) -> NDArray[np.bool_]:
    """(N, blocks): which blocks of N sets of gradients differ from others; NaN always does."""
    pairs = zip(found, others, strict=True)
    return np.stack([np.any(f != other, axis=-1) for f, other in pairs], axis=-1)


def _edited(wrong: Table, right: Table) -> dict[str, tuple[Equation, Equation]]:
    """The equations that differ, by target: as they are and as they should be."""
    pairs = {target: (wrong[target], right[target]) for target in right.equations}
    return {target: (w, r) for target, (w, r) in pairs.items() if w != r}


def _taken(equation: Equation) -> set[tuple[str, str]]:
    """The gradients that an equation takes, each with the gate whose weights it is sent through."""
    return {
        (factor.name, term.weight.block if term.weight else "")
        for term in equation.terms
        for factor in term.factors
        if factor.name.startswith("d")
    }


def _word(bits: NDArray[np.bool_], filled: bool = True) -> Bits:
    """(..., blocks), at most 64 of them, as (...) words; the other bits are `filled`."""
    lacking = 64 - bits.shape[-1]
    rest = np.full((*bits.shape[:-1], lacking), filled)
    return np.packbits(np.concatenate([bits, rest], axis=-1), axis=-1).view(np.uint64)[..., 0]


def blocks_of(sets: Sequence[Mapping[str, Array]], evidence: Evidence) -> list[Array]:
    """The gradients of weights by gate, those of x by step, those of the states by layer.

    Returns:
        At most 64 blocks, (N, elements), of N sets of gradients.
    """
    blocks: list[Array] = []
    for name, actual in evidence.actual.items():
        values = np.array([each[name] for each in sets]).reshape(len(sets), *actual.shape)
        by_gate = name.startswith(("dweight_ih", "dweight_hh", "dbias_l", "dbias_hh"))
        parts = 4 if by_gate else actual.shape[0] if actual.ndim else 1
        blocks += np.split(values.reshape(len(sets), -1), parts, axis=1)
    return blocks[:63] + ([np.concatenate(blocks[63:], axis=1)] if blocks[63:] else [])


def probes(subject: Subject, seed: int) -> list[Evidence]:
    """Small cases on which few mistakes show at a time, so that each is seen by itself."""
    upstream: tuple[tuple[dict[str, int], float, Sequence[Change]], ...] = (
        ({}, 1.0, ()),
        ({}, 1.0, (zero("dy", "dh_n"),)),
        ({}, 1.0, (zero("dc_n"),)),
        ({"T": 3}, 1.0, (zero("dy", "dh_n"), no_recurrent_weights)),
        ({"T": 3}, 1.0, (only_step(0),)),
        ({"T": 3, "B": 2}, 1.0, (only_step(2), no_recurrent_weights)),
        ({"B": 2}, 1.0, (zero("dy", "dh_n"),)),
        ({"T": 3}, 1.0, (only_step(2),)),
        ({"L": 2}, 1.0, ()),
        ({}, LOUD**2, ()),
    )
    loss: tuple[tuple[dict[str, int], float, Sequence[Change]], ...] = (
        ({}, 1.0, ()),
        ({}, 1.0, (zero("h0", "c0"),)),
        ({"B": 2}, 1.0, ()),
        ({"T": 2}, 1.0, (no_recurrent_weights,)),
        ({"T": 3, "B": 2}, 1.0, (no_recurrent_weights,)),
        ({"T": 2}, 1.0, ()),
        ({}, LOUD, ()),
    )
    found = []
    chosen = upstream if subject.implementation.head_inside is None else loss
    for k, (sizes, loudness, changes) in enumerate(chosen):
        case = draw_case(subject, {**PLAIN, **sizes}, seed + k, loudness)
        for change in changes:
            case = change(case)
        each = gather(subject, case)
        if each is not None and each.actual:
            found.append(each)
    return found


@dataclass
class _Together:
    """What sets of mistakes explain, each computed once."""

    subject: Subject
    known: Catalogue
    evidence: Sequence[Evidence]
    marks: Marks
    seen: dict[tuple[int, int, int], "_Pair"] = field(default_factory=dict)

    def pair(self, i: int, j: int, case: int) -> "_Pair":
        """What two mistakes make of a case together."""
        i, j = sorted((i, j))
        if (i, j, case) not in self.seen:
            each = self.evidence[case]
            bound = half_the_digits(self.subject)
            table = joint([self.known.mistakes[n] for n in (i, j)], self.known)
            with np.errstate(all="ignore"):
                found = blocks_of([predicted(self.subject, table, each)], each)
            bits = _explained(found, each, bound)[0]
            moved = [self._differs(found, n, each) for n in (j, i)]
            self.seen[i, j, case] = _Pair(Word(_word(bits)), moved[0], moved[1])
        return self.seen[i, j, case]

    def _differs(self, found: Sequence[Array], alone: int, each: Evidence) -> Word:
        """The blocks in which `found` is not what one mistake gives alone."""
        if not self.marks.mixes[alone]:
            return NONE
        foretold = foretold_by(self.known, each)[alone]
        assert foretold is not None
        own = blocks_of([fitted(self.subject, foretold, each)], each)
        return Word(_word(_differing(found, own)[0], filled=False))

    def moved(self, k: int, others: Sequence[int], case: int) -> Word:
        """The blocks that a mistake changes, by itself or beside one that mixes the gates."""
        moved = Word(self.marks.moved[k, case])
        for other in others:
            if self.marks.mixes[other]:
                pair = self.pair(k, other, case)
                moved |= pair.moved_by_first if k < other else pair.moved_by_second
        return moved

    def may_be(self, chosen: tuple[int, ...]) -> bool:
        """Whether of three each two explain what the third leaves as it is."""
        if len(chosen) == 2:
            return True
        odd = 0
        for case in range(self.marks.right.shape[0]):
            for k in chosen:
                i, j = (n for n in chosen if n != k)
                if ~self.pair(i, j, case).explained & ~self.moved(k, (i, j), case):
                    odd += 1
                    break
            if odd > ODD_CASES_OF_THREE:
                return False
        return True


class _Pair(NamedTuple):
    """The blocks of a case that two mistakes explain together; and those that either changes of
    what the other gives alone, if that mixes the gates."""

    explained: Word
    moved_by_first: Word
    moved_by_second: Word


def match_several(
    subject: Subject,
    known: Catalogue,
    evidence: Sequence[Evidence],
    further: Sequence[Evidence],
    until: float,
    tell: Callable[[str], None] = lambda _: None,
) -> tuple[tuple[Mistake, ...], float] | None:
    """Two or three mistakes that explain all the evidence together.

    Args:
        evidence: small cases, the cheapest to compute first, on which all mistakes are tried.
        further: what else has to be explained.
        until: when to give up, by time.perf_counter.
        tell: is told how far it is.
    """
    tell("two or three mistakes together")
    marks = marks_of(subject, known, evidence, until)
    together = _Together(subject, known, evidence, marks)
    for n, chosen in enumerate(_sets(marks, until)):
        if n % _TOLD == 0:
            tell(f"{_WORDS[len(chosen)]} mistakes together: {n} sets tried")
        if time.perf_counter() > until:
            return None
        if not together.may_be(chosen):
            continue
        for order in _orders(chosen, marks):
            mistakes = tuple(known.mistakes[n] for n in order)
            table = joint(mistakes, known)
            if not all(near(subject, known, table, each) for each in (*evidence, *further)):
                continue
            used = share_used(subject, table, [*evidence, *further])
            if used is not None:
                return mistakes, used
    return None


def _orders(chosen: tuple[int, ...], marks: Marks) -> Iterator[tuple[int, ...]]:
    """The orders of a set: one alone, unless two of it edit the same equation."""
    apart = not any(np.any(marks.edits[i] & marks.edits[j]) for i, j in combinations(chosen, 2))
    return iter([chosen]) if apart else permutations(chosen)


def _sets(marks: Marks, until: float) -> Iterator[tuple[int, ...]]:
    """The likeliest pairs, the sets of three, the other pairs."""
    two = pairs(marks)
    yield from map(tuple, two[:_FIRST_PAIRS].tolist())
    now = time.perf_counter()
    yield from map(tuple, triples(marks, now + (until - now) / 3).tolist())
    yield from map(tuple, two[_FIRST_PAIRS:].tolist())
