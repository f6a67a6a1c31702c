"""The diagnosis: from an implementation to the line that is wrong."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from torch_ref.compare.errors import Comparison
from torch_ref.diagnosis.evidence import (
    FURTHER,
    LOUD,
    SIZES,
    UNUSUAL,
    Evidence,
    draw_case,
    gather,
    sizes_in_words,
    zero,
)
from torch_ref.diagnosis.forward.matching import explain_forward
from torch_ref.diagnosis.locating.coarse import as_of_float32
from torch_ref.diagnosis.locating.locate import locate_first_wrong
from torch_ref.diagnosis.locating.plainest import walked_back
from torch_ref.diagnosis.locating.walk import FirstWrong
from torch_ref.diagnosis.matching.clipped import match_clipped
from torch_ref.diagnosis.matching.confined import match_confined
from torch_ref.diagnosis.matching.cut_off import match_cut_off
from torch_ref.diagnosis.matching.in_turn import match_in_turn
from torch_ref.diagnosis.matching.kept import find_kept, find_modified
from torch_ref.diagnosis.matching.loop_range import match_loop_range
from torch_ref.diagnosis.matching.several import match_several, probes
from torch_ref.diagnosis.matching.single import Finding, match_single, share_used
from torch_ref.diagnosis.matching.unknown import match_unknown
from torch_ref.diagnosis.mistakes.catalogue import Catalogue, Mistake, catalogue, in_gate_order
from torch_ref.diagnosis.mistakes.of_a_sum import of_a_sum
from torch_ref.harness.answers import MalformedAnswer
from torch_ref.harness.contract import Implementation, as_implementation
from torch_ref.harness.findings import find_clipping
from torch_ref.harness.judge import Subject, given_case
from torch_ref.harness.layout_auto import with_layout_found
from torch_ref.harness.layouts.layout import Layout
from torch_ref.harness.layouts.words import in_their_words
from torch_ref.harness.subject import subject_of
from torch_ref.oracles.case import Case

# Of the time that is left, how much may go into mistakes one after the other, before sets of them.
_FOR_TURNS = 0.25
_FEW_DIGITS = (
    "No difference is larger than two correct results may have between them: are results handed "
    "over with all their digits, 17 in float64 and 9 in float32?"
)


@dataclass(frozen=True)
class Diagnosis:
    """What is wrong, with the implementation's own names of the weights.

    Attributes:
        finding: the mistake or mistakes that explain everything, or None.
        located: where the first wrong quantity is, a sentence, where no mistake explains it; ""
            otherwise.
        wrong: whether any gradient is.
        seconds: how long it took.
        first_wrong: where the gradients at every step first are wrong, or that none of them is,
            if the implementation returns any.
        sought: whether the catalogue was searched for what explains it.
    """

    finding: Finding | None
    located: str
    wrong: bool
    seconds: float
    first_wrong: FirstWrong | None = None
    sought: bool = False


def diagnose(
    implementation: Any,
    *,
    seconds: float = 60.0,
    seed: int = 0,
    case: Case | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> Diagnosis:
    """Name the mistake in an implementation's gradients, or say where it is.

    Args:
        implementation: an Implementation, a bare callable in the vjp or the loss form, or a
            Subject.
        seconds: after so long the search for two or three mistakes together is given up.
        seed: of the cases.
        case: one on which it is known to be wrong, beside those that are drawn.
        tell: is told what is being tried, a phrase each time.

    Raises:
        Exception: what the implementation raises on the plainest case of all.
    """
    started = time.perf_counter()
    subject = as_subject(implementation)
    evidence = _gather(subject, SIZES, seed)
    known_wrong = gather(subject, case) if case is not None else None
    if known_wrong is not None:
        evidence.append(known_wrong)
    if all(each.all_right for each in evidence):
        evidence += _gather_unusual(subject, seed + len(SIZES))
    if all(each.all_right for each in evidence) and (square := _stacked(subject)) is not None:
        of_square = _gather(square, SIZES, seed)
        if not all(each.all_right for each in of_square):
            subject, evidence = square, of_square
    wrong = not all(each.all_right for each in evidence)
    sought = False
    finding, located = _kept(subject, evidence, seed)
    if finding is None and not located:
        if not wrong:
            finding, located = _beside_the_numbers(subject, seed)
        elif not (located := _nothing_returned(evidence) or _few_digits(subject, evidence)):
            sought = True
            finding, located = _seek(subject, evidence, seed, started + seconds, tell)
    wrong = wrong or finding is not None or bool(located)
    first_wrong = walked_back(subject, seed) if wrong else None
    found = Diagnosis(finding, located, wrong, time.perf_counter() - started, first_wrong, sought)
    if subject.implementation.reduction == "sum":
        found = _told(found, of_a_sum)
    layout = subject.implementation.layout
    return _in_their_words(found, layout) if isinstance(layout, Layout) else found


def _kept(subject: Subject, evidence: Sequence[Evidence], seed: int) -> tuple[Finding | None, str]:
    """What is kept from the last call, or a sentence that something is; None and "" if nothing."""
    try:
        small = draw_case(subject, SIZES[0], seed)
        x = given_case(subject, small).x
        same = [each for each in evidence if np.array_equal(each.case.x, x)]
        kept, located = find_kept(subject, small, same[:1])
    except Exception:  # a crash is a finding of the campaign's
        return None, ""
    return (Finding((kept,), 1.0) if kept else None), located


def _beside_the_numbers(subject: Subject, seed: int) -> tuple[Finding | None, str]:
    """What is wrong where every number is right: an array changed in place, or another shape."""
    modified = find_modified(subject, draw_case(subject, SIZES[0], seed))
    if modified is not None:
        return Finding((modified,), 0.0), ""
    return None, _misshapen(subject, seed)


def _nothing_returned(evidence: Sequence[Evidence]) -> str:
    """That all gradients are 0, of which every loop through no step would be an explanation."""
    gradients = [value for each in evidence for value in each.actual.values()]
    if not gradients or any(value.any() for value in gradients):
        return ""
    return (
        "Every gradient is exactly 0 in every case: is the LSTM run, is dy added to h's gradient, "
        "is what it computes returned, is a factor such as 1 / (T B) computed in whole numbers, or "
        "is all multiplied by a carry that begins with 0?"
    )


def _seek(
    subject: Subject,
    evidence: list[Evidence],
    seed: int,
    until: float,
    tell: Callable[[str], None],
) -> tuple[Finding | None, str]:
    """What explains that something is wrong; failing that, where it first is."""
    so_far, small = "", as_of_float32(subject, evidence)
    modified = find_modified(subject, draw_case(subject, SIZES[0], seed))
    # Several mistakes are not as small, and an array that is changed explains enough.
    until = time.perf_counter() if small or modified else until
    if all(each.forward_right for each in evidence):
        finding, so_far = _explain(subject, evidence, seed, until, tell)
    else:
        tell("the forward pass")
        beside = [each.case for each in evidence if not each.forward_right]
        finding = explain_forward(subject, seed, until, beside[:1])
    if finding is not None:
        return finding, ""
    located = _clipped(subject) or locate_first_wrong(subject, seed, evidence)
    changed = modified.sentence if modified else ""
    return None, " ".join(part for part in (changed, small, located, so_far) if part)


def _few_digits(subject: Subject, evidence: Sequence[Evidence]) -> str:
    """That two right results may differ as much: a mistake without effect would explain it."""
    seen = [each for each in evidence if each.actual and each.finite]
    steps = any(off.any() for each in evidence for off in each.steps.values())
    if not seen or steps or not all(each.forward_right for each in evidence):
        return ""
    right = share_used(subject, catalogue_of(subject).table, seen)
    return "" if right is None else _FEW_DIGITS


def _in_their_words(found: Diagnosis, layout: Layout) -> Diagnosis:
    """A diagnosis with the implementation's own names of the weights."""
    tell = partial(in_their_words, layout)

    def of(m: Mistake) -> Mistake:
        return replace(m, sentence=tell(m.sentence), wrong=tell(m.wrong), right=tell(m.right))

    first = found.first_wrong
    if first is not None:
        first = replace(first, sentence=tell(first.sentence))
    return replace(_told(found, of), located=tell(found.located), first_wrong=first)


def _told(found: Diagnosis, words: Callable[[Mistake], Mistake]) -> Diagnosis:
    """A diagnosis with its mistakes, and their alternatives, in other words."""
    if found.finding is None:
        return found
    mistakes, *others = (
        tuple(map(words, each)) for each in (found.finding.mistakes, *found.finding.alternatives)
    )
    return replace(
        found, finding=replace(found.finding, mistakes=mistakes, alternatives=tuple(others))
    )


def _clipped(subject: Subject) -> str:
    clipping = find_clipping(subject)
    return "" if clipping is None else clipping.sentence


def as_subject(implementation: Any) -> Subject:
    """An Implementation, a bare callable or a Subject as a Subject, its layout found.

    Raises:
        MalformedAnswer: what came back cannot be read, with as many inputs as units either.
    """
    if isinstance(implementation, Subject):
        return implementation
    resolved = as_implementation(implementation)
    if resolved.layout == "auto":
        resolved, _ = with_layout_found(resolved)
    try:
        return subject_of(resolved)
    except MalformedAnswer:
        # What takes x for h, or a matrix for its transpose, can be read where I = H.
        square = _square(resolved)
        if square == resolved:
            raise
        return subject_of(square)


def _square(implementation: Implementation) -> Implementation:
    size = implementation.sizes.get("I", implementation.sizes.get("H", 3))
    return replace(implementation, sizes={"I": size, "H": size} | dict(implementation.sizes))


def _stacked(subject: Subject) -> Subject | None:
    """What takes a layer's weights for another's can be a stack where I = H; None if not there."""
    if subject.abilities.stacks or subject.implementation.sizes.get("L", 2) == 1:
        return None
    try:
        square = subject_of(_square(subject.implementation))
    except Exception:  # a crash is a finding of the campaign's
        return None
    return square if square.abilities.stacks else None


def catalogue_of(subject: Subject) -> Catalogue:
    """The mistakes that an implementation can have."""
    implementation = subject.implementation
    head = implementation.head_inside
    beyond = not {"dh_n", "dc_n"} <= subject.abilities.ignored
    return catalogue(implementation.variant, head, beyond or head is None)


def _gather(subject: Subject, sizes: Sequence[Any], seed: int) -> list[Evidence]:
    found = []
    for k, wanted in enumerate(sizes):
        loudness = LOUD if wanted is SIZES[-1] else 1.0
        each = gather(subject, draw_case(subject, wanted, seed + k, loudness))
        if each is not None and each.actual:
            # Loud, a loss with the logarithm of a probability that rounds to 0 is not judged.
            found.append(each if loudness == 1.0 else _loud(each))
    return found


def _gather_unusual(subject: Subject, seed: int) -> list[Evidence]:
    """What else a mistake may hide behind: a long case, one with T = B, one from a zero state."""
    from_zero = gather(subject, zero("h0", "c0")(draw_case(subject, SIZES[0], seed)))
    found = [] if from_zero is None or not from_zero.actual else [from_zero]
    return [*_gather(subject, UNUSUAL, seed), *found]


def _misshapen(subject: Subject, seed: int) -> str:
    """What it raises in some case, or returns there in another shape; "" if nothing of the kind."""
    from torch_ref.harness.check_list import Check
    from torch_ref.harness.checks import check_shapes_and_dtypes
    from torch_ref.harness.search import try_check

    for sizes in (*SIZES, *UNUSUAL):
        case = draw_case(subject, sizes, seed)
        failure = try_check(Check(check_shapes_and_dtypes, {}), subject, case).failure
        if failure is not None:
            told = failure.sentence.rstrip(".")
            return f"Right but in this, in a case of {sizes_in_words(case)}: {told}."
    return ""


def _loud(evidence: Evidence) -> Evidence:
    return replace(evidence, forward=Comparison(()), loud=True)


def _explain(
    subject: Subject,
    evidence: list[Evidence],
    seed: int,
    until: float,
    tell: Callable[[str], None],
) -> tuple[Finding | None, str]:
    """What explains all the evidence; failing that, a sentence on what comes first, or ""."""
    tell("one mistake")
    known = catalogue_of(subject)
    # A mistake that divides by what rounds to zero on a loud case is told by the others.
    evidence = [each for each in evidence if each.actual and each.finite]
    singles = match_single(subject, known, evidence)
    layout = subject.implementation.layout
    if not singles and isinstance(layout, Layout) and layout.gates == "blocks":
        singles = match_single(subject, in_gate_order(known, layout.gate_order), evidence)
    if not singles:
        singles, clipping = match_clipped(subject, known, evidence, until)
        if clipping is not None:
            (best, residual), *others = singles
            alternatives = tuple((mistake, clipping) for mistake, _ in others)
            return Finding((best, clipping), residual, alternatives), ""
    if not singles and _clipped(subject):
        return None, ""
    if not singles and any(not each.right for each in evidence):
        singles = match_confined(subject, known, evidence, until)
    for k, wanted in enumerate(FURTHER):
        if len(singles) < 2:
            break
        more = _gather(subject, [wanted], seed + len(SIZES) + k)
        singles = _still(subject, known, singles, more)
    if singles:
        (best, residual), *others = sorted(singles, key=lambda each: _unlikely(subject, each[0]))
        return Finding((best,), residual, tuple((mistake,) for mistake, _ in others)), ""
    if all(each.right for each in evidence):
        return None, ""
    longer = _gather(subject, FURTHER[-1:], seed + len(SIZES))
    loop = match_loop_range(subject, known, [*evidence, *longer])
    if loop is not None:
        return Finding((loop[0].mistake,), loop[1]), ""
    cut = match_cut_off(subject, known, evidence, seed)
    if cut is not None:
        return Finding((cut[0],), cut[1]), ""
    if time.perf_counter() > until:
        return None, ""
    small = [*probes(subject, seed), *evidence[: len(SIZES)]]
    further = evidence[len(SIZES) :]
    tell("one mistake with a number of its own")
    unknown = match_unknown(subject, known, small, further, until)
    if unknown is not None:
        return Finding((unknown[0],), unknown[1]), ""
    tell("mistakes one after the other")
    now = time.perf_counter()
    turn = match_in_turn(subject, known, evidence, seed, now + _FOR_TURNS * (until - now))
    if turn.mistakes and turn.residual is not None:
        return Finding(turn.mistakes, turn.residual), ""
    several = match_several(subject, known, small, further, until, tell)
    return (Finding(*several), "") if several else (None, turn.sentence)


def _unlikely(subject: Subject, mistake: Mistake) -> int:
    """Of mistakes that nothing can tell apart: how many arrays one is of that the code has not."""
    layout = subject.implementation.layout
    split = isinstance(layout, Layout) and layout.matrices == "split"
    of_dx = mistake.identifier.startswith("dx") and "dx" not in subject.abilities.returned
    return of_dx + ("joined matrix" in mistake.sentence and split)


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
