"""The diagnosis: from an implementation to the line that is wrong."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch_ref.compare.errors import Comparison
from torch_ref.diagnosis.catalogue import Catalogue, Mistake, catalogue
from torch_ref.diagnosis.clipped import match_clipped
from torch_ref.diagnosis.evidence import FURTHER, LOUD, SIZES, Evidence, draw_case, gather
from torch_ref.diagnosis.forward_matching import explain_forward
from torch_ref.diagnosis.kept import find_kept, find_modified
from torch_ref.diagnosis.locate import locate_first_wrong
from torch_ref.diagnosis.matching import (
    Finding,
    match_confined,
    match_pair,
    match_single,
    share_used,
)
from torch_ref.harness.abilities import find_abilities
from torch_ref.harness.contract import as_implementation
from torch_ref.harness.findings import find_clipping
from torch_ref.harness.judge import Subject
from torch_ref.harness.layout_auto import with_layout_found
from torch_ref.oracles.case import Case

_PLAIN = {"T": 1, "B": 1, "I": 2, "H": 2, "L": 1}


@dataclass(frozen=True)
class Diagnosis:
    """What is wrong.

    Attributes:
        finding: the mistake or mistakes that explain everything, or None.
        located: where the first wrong quantity is, a sentence, where no mistake explains it; ""
            otherwise.
        wrong: whether any gradient is.
        seconds: how long it took.
    """

    finding: Finding | None
    located: str
    wrong: bool
    seconds: float


def diagnose(
    implementation: Any, *, seconds: float = 60.0, seed: int = 0, case: Case | None = None
) -> Diagnosis:
    """Name the mistake in an implementation's gradients, or say where it is.

    Args:
        implementation: an Implementation, a bare callable in the vjp or the loss form, or a
            Subject.
        seconds: after so long the search for pairs is given up.
        seed: of the cases.
        case: one on which it is known to be wrong, beside those that are drawn.

    Raises:
        Exception: what the implementation raises on the plainest case of all.
    """
    started = time.perf_counter()
    subject = _subject(implementation)
    evidence = _gather(subject, SIZES, seed)
    known_wrong = gather(subject, case) if case is not None else None
    if known_wrong is not None:
        evidence.append(known_wrong)
    finding, located = None, ""
    wrong = not all(each.right and each.forward_right for each in evidence)
    try:
        kept, located = find_kept(subject, draw_case(subject, SIZES[0], seed))
    except Exception:  # a crash is a finding of the campaign's
        kept, located = None, ""
    if kept is not None:
        finding = Finding((kept,), 1.0)
    elif wrong and not located:
        if all(each.forward_right for each in evidence):
            finding = _explain(subject, evidence, seed, started + seconds)
        else:
            finding = explain_forward(subject, seed, started + seconds)
        located = "" if finding else _clipped(subject) or locate_first_wrong(subject, seed)
    elif not wrong and not located:
        modified = find_modified(subject, draw_case(subject, SIZES[0], seed))
        finding = Finding((modified,), 0.0) if modified else None
    wrong = wrong or finding is not None or bool(located)
    return Diagnosis(finding, located, wrong, time.perf_counter() - started)


def _clipped(subject: Subject) -> str:
    clipping = find_clipping(subject)
    return "" if clipping is None else clipping.sentence


def _subject(implementation: Any) -> Subject:
    if isinstance(implementation, Subject):
        return implementation
    resolved = as_implementation(implementation)
    if resolved.layout == "auto":
        resolved, _ = with_layout_found(resolved)
    return Subject(resolved, find_abilities(resolved))


def catalogue_of(subject: Subject) -> Catalogue:
    """The mistakes that an implementation can have."""
    implementation = subject.implementation
    head = None if implementation.form == "vjp" else implementation.head
    return catalogue(implementation.variant, head)


def _gather(subject: Subject, sizes: Sequence[Any], seed: int) -> list[Evidence]:
    found = []
    for k, wanted in enumerate(sizes):
        loudness = LOUD if k == len(SIZES) - 1 else 1.0
        each = gather(subject, draw_case(subject, wanted, seed + k, loudness))
        if each is not None and each.actual:
            # Loud, a loss with the logarithm of a probability that rounds to 0 is not judged.
            found.append(each if loudness == 1.0 else _loud(each))
    return found


def _loud(evidence: Evidence) -> Evidence:
    return replace(evidence, forward=Comparison(()), loud=True)


def _explain(subject: Subject, evidence: list[Evidence], seed: int, until: float) -> Finding | None:
    known = catalogue_of(subject)
    singles = match_single(subject, known, evidence)
    if not singles:
        singles, clipping = match_clipped(subject, known, evidence, until)
        if clipping is not None:
            (best, residual), *others = singles
            alternatives = tuple((mistake, clipping) for mistake, _ in others)
            return Finding((best, clipping), residual, alternatives)
    if not singles and any(not each.right for each in evidence):
        singles = match_confined(subject, known, evidence, until)
    for k, wanted in enumerate(FURTHER):
        if len(singles) < 2:
            break
        more = _gather(subject, [wanted], seed + len(SIZES) + k)
        singles = _still(subject, known, singles, more)
    if singles:
        (best, residual), *others = singles
        return Finding((best,), residual, tuple((mistake,) for mistake, _ in others))
    plain = gather(subject, draw_case(subject, _PLAIN, seed))
    wrong = [each for each in evidence if not each.right]
    if plain is None or not wrong:
        return None
    ordered = [wrong[0], *(each for each in evidence if each is not wrong[0])]
    pair = match_pair(subject, known, plain, ordered, until)
    return Finding(pair[0], pair[1]) if pair else None


def _still(
    subject: Subject,
    known: Catalogue,
    singles: list[tuple[Mistake, float]],
    more: Sequence[Evidence],
) -> list[tuple[Mistake, float]]:
    kept = []
    for mistake, residual in singles:
        used = share_used(subject, mistake.edit(known.table), more)
        if used is not None:
            kept.append((mistake, max(residual, used)))
    return kept
