"""Several mistakes, found one after the other as the walk backward meets them.

From inputs of their own every dz of the lowest layer can be read, and each is computed from those
before it. The mistake that makes the first wrong one right, and nothing wrong that was right, is
put into the table; then the walk goes on, through ever longer cases.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from torch_ref.diagnosis.backward.interpreter import Solved, solved
from torch_ref.diagnosis.backward.render import render_difference
from torch_ref.diagnosis.backward.table import SUMS, Table
from torch_ref.diagnosis.evidence import Evidence, draw_case, gather, predicted
from torch_ref.diagnosis.matching.single import half_the_digits, joint, relative, share_used
from torch_ref.diagnosis.matching.unknown import HELPERS, helper_scaled, helper_words
from torch_ref.diagnosis.mistakes.catalogue import Catalogue, Mistake
from torch_ref.diagnosis.step_gradients import bound_inputs, one_input_a_step, own_inputs
from torch_ref.harness.judge import Subject
from torch_ref.oracles.equations import Array
from torch_ref.oracles.variant import Variant

_STAGES: tuple[dict[str, int], ...] = (
    {"T": 1, "B": 1},
    {"T": 2, "B": 1},
    {"T": 4, "B": 1},
    {"T": 2, "B": 2},
    {"T": 2, "B": 1, "L": 2},
)
# So many of the mistakes that explain a quantity are followed, those first that explain most.
_FOLLOWED = 3
_MOST = 6


@dataclass(frozen=True)
class InTurn:
    """Mistakes that were found one after the other.

    Attributes:
        mistakes: in the order in which the walk backward meets them; () if the first is unknown.
        sizes: of the case in which something is wrong that none explains; {} where there is none.
        residual: the greatest share of its budget that an element uses, or None where the
            evidence is not all explained.
    """

    mistakes: tuple[Mistake, ...]
    sizes: Mapping[str, int]
    residual: float | None

    @property
    def sentence(self) -> str:
        """What they explain; "" where there are none."""
        if not self.mistakes:
            return ""
        told = " ".join(mistake.sentence for mistake in self.mistakes)
        sizes = ", ".join(f"{name}={size}" for name, size in self.sizes.items())
        then = f"in a case of {sizes} comes" if sizes else "elsewhere is wrong"
        return (
            f"What is wrong first, walking backward, is as if: {told} What then {then} no known "
            "mistake explains."
        )


@dataclass(frozen=True)
class _Stage:
    """A case whose gradients are told apart by when the walk backward meets them."""

    evidence: Evidence
    columns: Array

    def blocks(self, name: str, array: Array) -> tuple[Array, Array]:
        """(blocks, elements) of a gradient, and when the walk comes to each of the blocks."""
        steps = len(self.columns)
        top = len(self.evidence.case.h0) - 1
        last = 2 * steps + top + 1
        _, _, number = name.rpartition("_l")
        layer = int(number) if number.isdigit() else 0
        if name in ("dweight_out", "dbias_out"):
            return array.reshape(1, -1), np.array([0])
        if name == "dx":
            return array.reshape(steps, -1), np.full(steps, last + 1)
        if not name.startswith(("dweight_ih", "dweight_hh", "dbias_l", "dbias_hh")):
            return array.reshape(1, -1), np.array([last + 1])
        if layer > 0:
            return array.reshape(4, -1), np.full(4, 1 + top - layer)
        if name != "dweight_ih_l0":
            return array.reshape(4, -1), np.full(4, last)
        dz = array.reshape(4, -1, array.shape[-1])[..., self.columns]  # (4, H, T, B)
        back = top + 1 + 2 * (steps - 1 - np.arange(steps))  # o of each step comes first
        when = back[None, :] + np.array([1, 1, 1, 0])[:, None]
        return np.moveaxis(dz, 2, 1).reshape(4 * steps, -1), when.ravel()


@dataclass
class _Search:
    """Ever more mistakes in turn; the farthest that any came is kept."""

    subject: Subject
    mistakes: Sequence[Mistake]
    stages: Sequence[_Stage]
    until: float
    farthest: tuple[int, int] = (0, 0)
    best: tuple[Mistake, ...] = ()
    found: dict[frozenset[str], list[Mistake]] = field(default_factory=dict)

    def explained(self, found: Mapping[str, Array], stage: _Stage) -> tuple[Array, Array]:
        """Which blocks of a stage some gradients explain, and when the walk comes to them."""
        each, bound = stage.evidence, half_the_digits(self.subject)
        fine, when = [], []
        for name, actual in each.actual.items():
            split, order = stage.blocks(name, found[name])
            theirs, allowed = (stage.blocks(name, of)[0] for of in (actual, each.allowed[name]))
            fine.append(relative(split, theirs, allowed) <= bound)
            when.append(order)
        return np.concatenate(fine), np.concatenate(when)

    def predicted(
        self, table: Table, stage: _Stage, beside: Solved | None = None
    ) -> Mapping[str, Array] | None:
        """A table's gradients of a stage; None where its shapes do not admit the table."""
        try:
            with np.errstate(all="ignore"):
                return predicted(self.subject, table, stage.evidence, beside)
        except ValueError:
            return None

    def follow(
        self, chosen: tuple[Mistake, ...], table: Table, more: int, width: int = _FOLLOWED
    ) -> bool:
        """Whether these and so many more mistakes at most explain every stage.

        Args:
            width: how many of the candidates for each are followed.
        """
        for k, stage in enumerate(self.stages):
            found = self.predicted(table, stage)
            if found is None:
                return False
            fine, when = self.explained(found, stage)
            if fine.all():
                self.keep(chosen, (k + 1, 0))
                continue
            self.keep(chosen, (k, int(when[~fine].min())))
            names = frozenset(mistake.identifier for mistake in chosen)
            if more and names not in self.found:
                left = [each for each in self.mistakes if each.identifier not in names]
                found_here = sorted(self.candidates(left, table, k, fine, when), key=_rank)
                self.found[names] = _unlike(found_here)[:_FOLLOWED]
            return more > 0 and any(
                self.follow((*chosen, mistake), mistake.edit(table), more - 1, width)
                for mistake in self.found[names][:width]
            )
        return True

    def keep(self, chosen: tuple[Mistake, ...], reached: tuple[int, int]) -> None:
        if reached > self.farthest:
            self.farthest, self.best = reached, chosen

    def candidates(
        self, mistakes: Sequence[Mistake], table: Table, k: int, fine: Array, when: Array
    ) -> Iterator["_Candidate"]:
        """Those of the mistakes that make some of the first wrong quantity right, nothing wrong."""
        stage, at_first = self.stages[k], (when == when[~fine].min()) & ~fine
        with np.errstate(all="ignore"):
            beside = solved(table, stage.evidence.quantities)
        now = self.predicted(table, stage, beside)
        assert now is not None
        for mistake in mistakes:
            if time.perf_counter() > self.until:
                return
            try:
                wrong = mistake.edit(table)
            except (IndexError, KeyError):  # its place is not there any more
                continue
            found = self.predicted(wrong, stage, beside)
            if found is None:
                continue
            changed = _changed(stage, now, found)
            if not changed[at_first].any():
                continue
            then, _ = self.explained(found, stage)
            if np.any(fine & ~then) or not then[at_first].any():
                continue
            if all(self.explains(wrong, before) for before in self.stages[:k]):
                made = b"".join(np.asarray(array).tobytes() for array in found.values())
                yield _Candidate(int((~then).sum()), int(changed.sum()), made, mistake)

    def explains(self, table: Table, stage: _Stage) -> bool:
        """Whether a table explains the whole of a stage."""
        found = self.predicted(table, stage)
        return found is not None and bool(self.explained(found, stage)[0].all())


class _Candidate(NamedTuple):
    """A mistake that may come next.

    Attributes:
        wrong: how many blocks are wrong with it.
        changed: how many it changes: of those that explain as much, the one that changes least is
            the likeliest.
        made: the gradients of the stage with it.
        mistake: the mistake.
    """

    wrong: int
    changed: int
    made: bytes
    mistake: Mistake


def _rank(candidate: _Candidate) -> tuple[int, int]:
    return candidate.wrong, candidate.changed


def _unlike(candidates: Sequence[_Candidate]) -> list[Mistake]:
    """Their mistakes, each that is another's equal on the stage behind all that are not."""
    seen: set[bytes] = set()
    firsts: list[Mistake] = []
    equals: list[Mistake] = []
    for each in candidates:
        (equals if each.made in seen else firsts).append(each.mistake)
        seen.add(each.made)
    return [*firsts, *equals]


def _changed(stage: _Stage, before: Mapping[str, Array], after: Mapping[str, Array]) -> Array:
    """In which blocks two sets of gradients differ."""
    parts = [
        np.any(stage.blocks(name, before[name])[0] != stage.blocks(name, after[name])[0], axis=1)
        for name in stage.evidence.actual
    ]
    return np.concatenate(parts)


def match_in_turn(
    subject: Subject, known: Catalogue, evidence: Sequence[Evidence], seed: int, until: float
) -> InTurn:
    """Mistakes that explain the evidence, each found where the walk backward first goes wrong.

    Args:
        evidence: what they have to explain for their residual to be given.
        until: when to give up, by time.perf_counter.
    """
    stages = [stage for sizes in _STAGES if (stage := _stage(subject, sizes, seed)) is not None]
    search = _Search(
        subject, [*_helpers(known, subject.implementation.variant), *known.mistakes], stages, until
    )
    explained = search.follow((), known.table, _MOST, width=1)
    # The likeliest each time is soon found; fewer that explain as much are likelier than those.
    for count in range(2, len(search.best) if explained else _MOST + 1):
        fewer = replace(search, farthest=(0, 0), best=())
        if fewer.follow((), known.table, count):
            search = fewer
            break
        search = max(search, fewer, key=lambda each: each.farthest)
        if time.perf_counter() > until:
            break
    if search.farthest[0] < len(stages):
        if _of_sums(search.best, known.table):  # in a few small cases many a sum is as wrong
            return InTurn((), {}, None)
        x = stages[search.farthest[0]].evidence.case.x
        layers = len(stages[search.farthest[0]].evidence.case.h0)
        return InTurn(search.best, {"T": x.shape[0], "B": x.shape[1], "L": layers}, None)
    best = _needed(search, known)
    return InTurn(best, {}, share_used(subject, joint(best, known), evidence))


def _needed(search: _Search, known: Catalogue) -> tuple[Mistake, ...]:
    """The best without those that a later one has undone: the rest explains every stage too."""
    needed = search.best
    for mistake in search.best:
        rest = tuple(each for each in needed if each is not mistake)
        table = joint(rest, known)
        if rest and all(search.explains(table, stage) for stage in search.stages):
            needed = rest
    return needed


def _of_sums(mistakes: Sequence[Mistake], right: Table) -> bool:
    """Whether mistakes are in the sums over the steps only, from which nothing follows."""
    tables = [mistake.edit(right) for mistake in mistakes]
    differing = {t for table in tables for t in right.equations if table[t] != right[t]}
    return differing <= set(SUMS)


def _helpers(known: Catalogue, variant: Variant) -> Iterator[Mistake]:
    """The functions that give a derivative with the wrong sign: no catalogue lists them."""
    for needed, name in HELPERS.items():
        edit = helper_scaled(known.table, needed, Fraction(-1))
        wrong, right, equation = render_difference(edit(known.table), known.table, variant)
        sentence = helper_words(needed).format(-1)
        yield Mistake(f"{name}' * -1", sentence, equation, wrong, right, edit)


def _stage(subject: Subject, sizes: dict[str, int], seed: int) -> _Stage | None:
    able = {"L": subject.abilities.stacks, "B": subject.abilities.batches}
    if any(sizes.get(size, 1) > 1 and not can for size, can in able.items()):
        return None
    inputs = max(2, sizes["T"] * sizes["B"])
    case = draw_case(subject, {"I": inputs, "H": 3, "L": 1, **sizes}, seed)
    case = one_input_a_step(case, bound_inputs(subject, case))
    columns, found = own_inputs(case.x), gather(subject, case)
    if columns is None or found is None or "dweight_ih_l0" not in found.actual:
        return None
    return _Stage(found, columns) if found.finite else None
