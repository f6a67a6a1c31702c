"""Which sets of two or three mistakes may explain every block of every case, the likeliest first.

A block is a part of a gradient. What one alone of a set moves, that one must explain by itself;
what none of them moves must be right; what several move is seen only when they are computed.
"""

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Bits = NDArray[np.uint64]
Sets = NDArray[np.intp]
Scores = NDArray[np.intp]
NONE = np.uint64(0)
# A tensor's blocks. Two mistakes in one equation count for a pair as a tensor that one explains.
_BLOCKS = 4
# In so many cases one mistake may show beside another what it does not show alone; each counts
# against a set as a tensor.
_ODD_CASES = 4
ODD_CASES_OF_THREE = 1
# So many sets of three are kept, the likeliest: no search tries more.
_KEPT = 50_000


@dataclass(frozen=True)
class Marks:
    """What each mistake does to each block of each case: a word a case, a bit a block.

    Attributes:
        right: (cases,), the blocks in which there is nothing to explain.
        moved: (mistakes, cases), those that a mistake changes.
        explained: (mistakes, cases), those of them that it explains by itself.
        told: (mistakes, cases), the same, but for a mistake that takes one gradient for another:
            it is given all that it moves, as what it takes may be moved by another.
        fits: (mistakes,), whether the shapes of every case admit it.
        mixes: (mistakes,), whether it takes one gradient for another.
        edits: (mistakes, lines), which lines are different: equations, or two in one product.
    """

    right: Bits
    moved: Bits
    explained: Bits
    told: Bits
    fits: NDArray[np.bool_]
    mixes: NDArray[np.bool_]
    edits: NDArray[np.bool_]


def pairs(marks: Marks) -> Sets:
    """Pairs that may explain every block, the likeliest first: (sets, 2)."""
    allowed = np.flatnonzero(marks.fits)
    found: list[tuple[Sets, Scores]] = []
    for n, i in enumerate(allowed):
        rest = allowed[n + 1 :]
        both, either = marks.moved[i] & marks.moved[rest], marks.moved[i] | marks.moved[rest]
        fine = both | marks.told[i] | marks.told[rest] | (marks.right & ~either)
        odd = np.sum(fine != ~NONE, axis=1)
        good = np.flatnonzero(odd <= _ODD_CASES)
        alone = (marks.explained[i] | marks.explained[rest[good]]) & ~both[good]
        in_one = np.any(marks.edits[i] & marks.edits[rest[good]], axis=1)
        members = np.stack([np.full(len(good), i), rest[good]], axis=1)
        score = _score(alone, both[good], odd[good], marks) + _BLOCKS * in_one
        found.append((members, score))
    return _likeliest(found)[0] if found else np.empty((0, 2), int)


def triples(marks: Marks, until: float) -> Sets:
    """The same for three, of which two explain a wrong block by themselves: (sets, 3).

    Args:
        until: when to stop, by time.perf_counter; those that explain the most are tried first.
    """
    explains = _count(marks.told & ~marks.right)
    useful = (explains > 0) & marks.fits
    first = np.flatnonzero(useful)
    first = first[np.argsort(-explains[first], kind="stable")]
    place = np.empty(len(useful), int)
    place[first] = np.arange(len(first))
    found: list[tuple[Sets, Scores]] = []
    for n, j in enumerate(first):
        if time.perf_counter() > until:
            break
        for i in first[:n]:
            both, either = marks.moved[i] & marks.moved[j], marks.moved[i] | marks.moved[j]
            told, explained = marks.told[i] | marks.told[j], marks.explained[i] | marks.explained[j]
            # The third has to move what these two leave wrong.
            left = ~(both | told | (marks.right & ~either))
            odd = np.sum((left & ~marks.moved) != NONE, axis=1)
            rest = np.flatnonzero(marks.fits & (odd <= ODD_CASES_OF_THREE))
            rest = rest[~useful[rest] | (place[rest] > n)]
            moved = marks.moved[rest]
            several = both | (moved & either)
            alone = (told & ~moved) | (marks.told[rest] & ~either)
            fine = several | alone | (marks.right & ~(either | moved))
            odd = np.sum(fine != ~NONE, axis=1)
            good = odd <= ODD_CASES_OF_THREE
            truly = (explained & ~moved) | (marks.explained[rest] & ~either)
            score = _score((truly & ~several)[good], several[good], odd[good], marks)
            count = int(good.sum())
            members = np.stack([np.full(count, i), np.full(count, j), rest[good]], axis=1)
            found.append((members, score))
        if sum(len(score) for _, score in found) > 2 * _KEPT:
            found = [_likeliest(found)]
    return _likeliest(found)[0] if found else np.empty((0, 3), int)


def _score(alone: Bits, several: Bits, odd: NDArray[np.intp], marks: Marks) -> NDArray[np.intp]:
    """How likely each set is.

    For it speaks what one of it explains by itself; against it what several move and is right all
    the same, and each case in which one shows beside another what it does not show alone.
    """
    return _count(alone & ~marks.right) - _count(several & marks.right) - _BLOCKS * odd


def _likeliest(found: list[tuple[Sets, Scores]]) -> tuple[Sets, Scores]:
    """All of them in one, the likeliest first; of sets of three as many as are kept."""
    sets, scores = (np.concatenate(each) for each in zip(*found, strict=True))
    most = _KEPT if sets.shape[1] > 2 else len(sets)
    order = np.argsort(-scores, kind="stable")[:most]
    return sets[order], scores[order]


def _count(bits: Bits) -> NDArray[np.intp]:
    """How many bits are set in each row."""
    counted = np.unpackbits(np.ascontiguousarray(bits).view(np.uint8), axis=-1)
    return np.asarray(counted.sum(axis=-1, dtype=np.intp))
