"""A mistake behind gradients that are clipped: what explains them once the clipping is undone."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from torch_ref.diagnosis.backward.table import Table
from torch_ref.diagnosis.evidence import LOUD, Evidence, foreseen, gather
from torch_ref.diagnosis.matching.confined import match_confined
from torch_ref.diagnosis.matching.loop_range import Foretold, foreseen_in_range, match_loop_range
from torch_ref.diagnosis.matching.single import match_single
from torch_ref.diagnosis.mistakes.catalogue import Catalogue, Mistake
from torch_ref.harness.findings import clipping_of
from torch_ref.harness.judge import Clipping, Subject
from torch_ref.oracles.equations import Array

Foretell = Callable[[Evidence], Foretold | None]


def match_clipped(
    subject: Subject, known: Catalogue, evidence: Sequence[Evidence], until: float
) -> tuple[list[tuple[Mistake, float]], Mistake | None]:
    """The mistakes that explain the evidence if large gradients are clipped, and the clipping.

    Args:
        until: when to give up, by time.perf_counter.
    """
    looks_cut = _looks_cut(evidence)
    pairs = list(zip(evidence, looks_cut, strict=True))
    cut = [each for each, looks in pairs if looks or each.loud]
    whole = [each for each, looks in pairs if not (looks or each.loud)]
    if not any(looks_cut):
        return [], None
    if all(each.right for each in whole):
        whole += [quiet for each in cut if (quiet := _quiet(subject, each)) is not None]
    if all(each.right for each in whole):
        return [], None
    found = match_single(subject, known, whole) or match_confined(subject, known, whole, until)
    ways: list[tuple[Mistake, float, Foretell]]
    ways = [(m, used, partial(_by_table, subject, m.edit(known.table))) for m, used in found]
    if not found and (loop := match_loop_range(subject, known, whole)) is not None:
        ranged, used = loop
        ways = [(ranged.mistake, used, partial(foreseen_in_range, subject, known, ranged))]
    kept = []
    clippings: set[Clipping] = set()
    for mistake, used, foretell in ways:
        clipping = _clipping(foretell, cut)
        if clipping is not None:
            kept.append((mistake, used))
            clippings.add(clipping)
    if len(clippings) != 1:
        return [], None
    return kept, _as_mistake(clippings.pop())


def _looks_cut(evidence: Sequence[Evidence]) -> list[bool]:
    """Which cases look as if gradients were clipped.

    By value, as several elements have the greatest size that there is, which then is the greatest
    of every case that is cut; otherwise, by norm, as nothing is as large as in truth.
    """
    sizes = [_all_of(each.actual) for each in evidence]
    limits = {float(np.max(of)) for of in sizes if int((of == np.max(of)).sum()) > 1} - {0.0}
    if limits:
        return [float(np.max(of)) in limits for of in sizes]
    truth = [_all_of(each.expected) for each in evidence]
    return [bool(np.max(of) < np.max(true) / 2) for of, true in zip(sizes, truth, strict=True)]


def _all_of(gradients: Mapping[str, Array]) -> Array:
    return np.concatenate([np.abs(value).ravel() for value in gradients.values()])


def _quiet(subject: Subject, evidence: Evidence) -> Evidence | None:
    """The same case with an upstream gradient so small that nothing is cut; None without one."""
    case = evidence.case
    if case.dy is None or evidence.loud:
        return None
    small = {name: getattr(case, name) / LOUD for name in ("dy", "dh_n", "dc_n")}
    found = gather(subject, replace(case, **small).astype(subject.abilities.dtypes[0]))
    return None if found is None or any(_looks_cut([found])) else found


def _by_table(subject: Subject, table: Table, evidence: Evidence) -> Foretold | None:
    foretold = foreseen(subject, table, evidence)
    if foretold is None:
        return None
    named = ({name: source[name] for name in evidence.actual} for source in foretold)
    expected, allowed = named
    return evidence.actual, expected, allowed


def _clipping(foretell: Foretell, cut: Sequence[Evidence]) -> Clipping | None:
    """The one limit with which what is foretold explains all of it."""
    found: set[Clipping | None] = set()
    for each in cut:
        foretold = foretell(each)
        if foretold is None:
            return None
        actual, expected, allowed = foretold
        if not all(np.all(np.abs(actual[n] - expected[n]) <= allowed[n]) for n in actual):
            found.add(clipping_of(actual, expected, allowed))
    return found.pop() if len(found) == 1 else None


def _as_mistake(clipping: Clipping) -> Mistake:
    by_value = clipping.kind == "value"
    return Mistake(
        f"gradients.clipped by {clipping.kind}",
        f"Gradients are clipped inside, by {clipping.kind} at {clipping.limit:.6g}.",
        "(29)" if by_value else "(28)",
        f"gradients clipped by {clipping.kind} at {clipping.limit:.6g}",
        "gradients as they are",
    )
