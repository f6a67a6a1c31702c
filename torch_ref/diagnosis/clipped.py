"""A mistake behind gradients that are clipped: what explains them once the clipping is undone."""

from collections.abc import Sequence

import numpy as np

from torch_ref.diagnosis.catalogue import Catalogue, Mistake
from torch_ref.diagnosis.confined import match_confined
from torch_ref.diagnosis.evidence import Evidence, foreseen
from torch_ref.diagnosis.matching import match_single
from torch_ref.diagnosis.table import Table
from torch_ref.harness.findings import clipping_of
from torch_ref.harness.judge import Clipping, Subject


def match_clipped(
    subject: Subject, known: Catalogue, evidence: Sequence[Evidence], until: float
) -> tuple[list[tuple[Mistake, float]], Mistake | None]:
    """The mistakes that explain the evidence if large gradients are clipped, and the clipping.

    Args:
        until: when to give up, by time.perf_counter.
    """
    looks_cut = [_looks_cut(each) for each in evidence]
    pairs = list(zip(evidence, looks_cut, strict=True))
    cut = [each for each, looks in pairs if looks or each.loud]
    whole = [each for each, looks in pairs if not (looks or each.loud)]
    if not any(looks_cut) or all(each.right for each in whole):
        return [], None
    found = match_single(subject, known, whole) or match_confined(subject, known, whole, until)
    kept = []
    clippings: set[Clipping] = set()
    for mistake, used in found:
        clipping = _clipping(subject, mistake.edit(known.table), cut)
        if clipping is not None:
            kept.append((mistake, used))
            clippings.add(clipping)
    if len(clippings) != 1:
        return [], None
    return kept, _as_mistake(clippings.pop())


def _looks_cut(evidence: Evidence) -> bool:
    """Whether several elements have the greatest size that there is, or nothing is as in truth."""
    sizes = np.concatenate([np.abs(value).ravel() for value in evidence.actual.values()])
    truth = np.concatenate([np.abs(value).ravel() for value in evidence.expected.values()])
    largest = float(np.max(sizes))
    return int((sizes == largest).sum()) > 1 or largest < float(np.max(truth)) / 2


def _clipping(subject: Subject, table: Table, cut: Sequence[Evidence]) -> Clipping | None:
    """The one limit with which the table explains all of it."""
    found: set[Clipping | None] = set()
    for each in cut:
        foretold = foreseen(subject, table, each)
        if foretold is None:
            return None
        expected, allowed = foretold
        names = list(each.actual)
        within = all(
            np.all(np.abs(each.actual[name] - expected[name]) <= allowed[name]) for name in names
        )
        if not within:
            named = ({name: source[name] for name in names} for source in (expected, allowed))
            found.add(clipping_of(each.actual, *named))
    return found.pop() if len(found) == 1 else None


def _as_mistake(clipping: Clipping) -> Mistake:
    by_value = clipping.kind == "value"
    return Mistake(
        f"gradients.clipped by {clipping.kind}",
        f"Gradients are clipped inside, by {clipping.kind} at {clipping.limit:.6g}.",
        "(29)" if by_value else "(28)",
        f"gradients clipped by {clipping.kind} at {clipping.limit:.6g}",
        "gradients as they are",
        lambda table: table,
    )
