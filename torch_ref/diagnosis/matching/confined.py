"""A mistake at some steps only, or in one part only: of dc, of a pair of biases, of a stack."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from torch_ref.diagnosis.backward.table import BEGIN, END, Equation, Factor, Steps, Table, Term
from torch_ref.diagnosis.backward.words import TARGET_WORDS
from torch_ref.diagnosis.evidence import PLAIN, Evidence, draw_case, gather
from torch_ref.diagnosis.matching.one_part import confined_to, in_one_bias, in_some_layers
from torch_ref.diagnosis.matching.several import marks_of
from torch_ref.diagnosis.matching.single import (
    distances,
    foretold_by,
    half_the_digits,
    near,
    share_used,
)
from torch_ref.diagnosis.mistakes.catalogue import Catalogue, Mistake
from torch_ref.harness.judge import Subject
from torch_ref.oracles.variant import Variant

_ELSEWHERE: Mapping[Steps, Steps] = {
    "first": "not the first",
    "not the first": "first",
    "last": "not the last",
    "not the last": "last",
    "first of several": "not the first of several",
    "last of several": "not the last of several",
}
# What a single step, which is the first and the last, has of the mistake: all of it, or nothing.
# Nothing also where the first or the last step is written out, and a single one apart from them,
# or where a buffer of the step before still holds what the step after needed.
_THERE_AT_T1: tuple[Steps, ...] = ("first", "last")
_NOT_AT_T1: tuple[Steps, ...] = (
    "not the first",
    "not the last",
    "first of several",
    "last of several",
)
_STEP_WORDS: Mapping[Steps, str] = {
    "first": "at t=0 only",
    "not the first": "except at t=0",
    "last": "at the last step only",
    "not the last": "except at the last step",
    "first of several": "at t=0 only, where T > 1",
    "last of several": "at the last step only, where T > 1",
}
_LOCAL, _CARRIED = "what comes through h[t]", "what t+1 hands back"
_SPLIT = ("di", "dg", "df", "dc_carry")


def match_confined(
    subject: Subject, known: Catalogue, evidence: Sequence[Evidence], until: float
) -> list[tuple[Mistake, float]]:
    """Mistakes that explain all the evidence if they are made at some steps or in one part only.

    Or in some layers of a stack only, or for one of two biases. Only those are tried that move
    whatever is wrong.

    Args:
        until: when to give up, by time.perf_counter.
    """
    wrong = [each for each in evidence if not each.right]
    marks = marks_of(subject, known, wrong, until)
    moves_all = marks.fits & np.all((~marks.right & ~marks.moved) == 0, axis=1)
    chosen = np.flatnonzero(moves_all)
    movers = [known.mistakes[n] for n in chosen]
    found: list[tuple[Mistake, float]] = []
    variant = subject.implementation.variant
    ways = (
        in_one_bias(known, variant, movers, evidence),
        in_some_layers(subject, known, np.flatnonzero(moves_all | ~marks.fits), evidence),
        confined(known, variant, movers, _spans(subject, known, chosen)),
    )
    for mistake in chain.from_iterable(way for way in ways if not found):
        if time.perf_counter() > until:
            break
        table = mistake.edit(known.table)
        if all(near(subject, known, table, each) for each in wrong):
            used = share_used(subject, table, evidence)
            if used is not None:
                found.append((mistake, used))
    return found


def _spans(subject: Subject, known: Catalogue, chosen: NDArray[np.intp]) -> list[Sequence[Steps]]:
    """To which steps each mistake, by its index, may be confined, as a single step shows."""
    plain = gather(subject, draw_case(subject, PLAIN, 0))
    if plain is None or not plain.actual or len(plain.case.x) != 1:
        return [_THERE_AT_T1 + _NOT_AT_T1] * len(chosen)
    foretold = foretold_by(known, plain)
    away = distances(subject, [foretold[n] for n in chosen], plain)
    there = away <= half_the_digits(subject)
    return [_THERE_AT_T1 * bool(each) + _NOT_AT_T1 * plain.right for each in there]


def confined(
    known: Catalogue,
    variant: Variant,
    mistakes: Sequence[Mistake],
    spans: Sequence[Sequence[Steps]],
) -> Iterator[Mistake]:
    """Each of some mistakes at t=0 only, except there, and so on, where it can be so confined.

    Args:
        known: the catalogue that they are of. variant: its cell.
        mistakes: those to be confined. spans: for each of them, to which steps.
    """
    for mistake, its_spans in zip(mistakes, spans, strict=True):
        wrong = mistake.edit(known.table)
        for steps in its_spans:
            words = _STEP_WORDS[steps]
            table = _at_steps(known.table, wrong, steps)
            if table is not None:
                yield confined_to(mistake, table, known.table, variant, words)
        for part in (_LOCAL, _CARRIED):
            table = _in_part(known.table, wrong, part)
            if table is not None:
                yield confined_to(mistake, table, known.table, variant, f"in {part} only")
        for user in _SPLIT:
            table = _in_user(known.table, wrong, user)
            if table is not None:
                words = f"only where {TARGET_WORDS[user]} is computed"
                yield confined_to(mistake, table, known.table, variant, words)


def _pairs(
    right: Table, wrong: Table
) -> Iterator[tuple[Equation, list[tuple[Term | None, Term]]]] | None:
    """The equations that differ, with their terms; None where more differs than terms."""
    if replace(wrong, equations=right.equations) != right:
        return None
    differing = [target for target in right.equations if wrong[target] != right[target]]
    if any(t in (*BEGIN, *END) or wrong[t].clip != right[t].clip for t in differing):
        return None

    def each() -> Iterator[tuple[Equation, list[tuple[Term | None, Term]]]]:
        for target in differing:
            of_right: list[Term | None] = list(right[target].terms)
            of_right += [None] * (len(wrong[target].terms) - len(of_right))
            yield right[target], list(zip(of_right, wrong[target].terms, strict=True))

    return each()


def _at_steps(right: Table, wrong: Table, steps: Steps) -> Table | None:
    pairs = _pairs(right, wrong)
    if pairs is None:
        return None
    table = right
    for equation, terms in pairs:
        made: list[Term] = []
        for is_right, is_wrong in terms:
            if is_right == is_wrong:
                made.append(is_wrong)
                continue
            if is_wrong.steps != "every" or (is_right and is_right.steps != "every"):
                return None
            made += [replace(is_right, steps=_ELSEWHERE[steps])] if is_right else []
            made.append(replace(is_wrong, steps=steps))
        table = table.with_equation(replace(equation, terms=tuple(made)))
    return table


def _in_part(right: Table, wrong: Table, part: str) -> Table | None:
    """Of di, dg, df and what is handed on, each a multiple of dc, which has two parts."""
    pairs = _pairs(right, wrong)
    if pairs is None or "dc_total" in right.equations or len(right["dc"].terms) != 2:
        return None
    local = right["dc"].terms[0].factors
    parts = {_LOCAL: local, _CARRIED: (Factor("dc_carry"),)}
    other = _CARRIED if part == _LOCAL else _LOCAL
    table = right
    for equation, terms in pairs:
        if equation.target not in _SPLIT:
            return None
        made: list[Term] = []
        for is_right, is_wrong in terms:
            if is_right == is_wrong:
                made.append(is_wrong)
                continue
            if is_right is None or not (_has_dc(is_right) and _has_dc(is_wrong)):
                return None
            made.append(_with(is_right, parts[other]))
            made.append(_with(is_wrong, parts[part]))
        table = table.with_equation(replace(equation, terms=tuple(made)))
    return table


def _in_user(right: Table, wrong: Table, user: str) -> Table | None:
    """A mistake in dc where dc is written out once for each of those that need it."""
    pairs = _pairs(right, wrong)
    if pairs is None or [equation.target for equation, _ in pairs] != ["dc"]:
        return None
    equation, made = right[user], []
    for term in equation.terms:
        if term.factors[0] != Factor("dc"):
            made.append(term)
            continue
        for part in wrong["dc"].terms:
            factors = (*part.factors, *term.factors[1:])
            made.append(replace(part, factors=factors, scale=(*part.scale, *term.scale)))
    return right.with_equation(replace(equation, terms=tuple(made)))


def _has_dc(term: Term) -> bool:
    return term.factors[0] == Factor("dc")


def _with(term: Term, part: tuple[Factor, ...]) -> Term:
    return replace(term, factors=(*part, *term.factors[1:]))
