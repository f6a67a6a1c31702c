"""Which line of the forward pass is wrong: the one that explains every output to rounding."""

import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from torch_ref.compare.budget import error_budget
from torch_ref.compare.errors import compare_gradients
from torch_ref.diagnosis.backward.quantities import FLOAT64
from torch_ref.diagnosis.evidence import FURTHER, SIZES, draw_case
from torch_ref.diagnosis.forward.gate_mistakes import Found, changed
from torch_ref.diagnosis.forward.lines import Lines, forward_lines, forward_outputs
from torch_ref.diagnosis.forward.loss_mistakes import numbers_in_loss
from torch_ref.diagnosis.forward.mistakes import ForwardMistake, forward_mistakes, listed
from torch_ref.diagnosis.matching.one_part import LAYER_WORDS, layers_for
from torch_ref.diagnosis.matching.single import Finding, half_the_digits
from torch_ref.diagnosis.mistakes.catalogue import Mistake
from torch_ref.harness.abilities import OUTPUTS
from torch_ref.harness.judge import Subject, expected_of, given_case, precision_of
from torch_ref.harness.layouts.layout import Layout
from torch_ref.oracles.case import Case
from torch_ref.oracles.equations import Arithmetic, Array

# The plainest first, on which hundreds of pairs are tried in a second.
_SIZES: Sequence[Mapping[str, int]] = (
    {"T": 2, "B": 1, "I": 3, "H": 2, "L": 1},
    *SIZES,
    *FURTHER,
)


@dataclass(frozen=True)
class _Answer:
    """What came out of a case's forward pass.

    Attributes:
        case: what was really given, in float64. scale: of the loss, which may be a sum.
        outputs: "loss" or "y", "h_n", "c_n", those that it returns.
        right: whether they are. off: how far rounding may move the loss, if it returns one.
    """

    case: Case
    scale: float
    outputs: Mapping[str, Array]
    right: bool
    off: float


def explain_forward(
    subject: Subject, seed: int, until: float, beside: Sequence[Case] = ()
) -> Finding | None:
    """The mistake, or the two, that explain every output of every case; None if none do.

    Args:
        beside: cases to be explained beside those that are drawn.
        until: when to give up, by time.perf_counter.
    """
    cases = [draw_case(subject, wanted, seed + k) for k, wanted in enumerate(_SIZES)]
    found_of = (_answer(subject, case) for case in (*cases, *beside))
    answers = [answer for answer in found_of if answer is not None]
    wrong = [answer for answer in answers if not answer.right]
    if not wrong:
        return None
    implementation = subject.implementation
    head = implementation.head_inside
    layout = implementation.layout
    pair = isinstance(layout, Layout) and layout.bias in ("pair", "concatenated")
    known = forward_mistakes(implementation.variant, head, pair)
    right = forward_lines(implementation.variant)
    bound = half_the_digits(subject)
    found: list[tuple[tuple[Mistake, ...], float]] = []
    with_numbers = listed(_numbers(right, wrong[0]))
    for several in (known, _in_some_layers(known, right, answers), with_numbers):
        for each in several if not found else ():
            lines = each.edit(right)
            if all(_distance(lines, answer) <= bound for answer in wrong):
                used = _share_used(subject, lines, answers)
                if used is not None:
                    found.append(((each.mistake,), used))
    if not found:
        found = _pair(subject, known, right, wrong[0], answers, until)
    if not found:
        return None
    (mistakes, residual), *others = found
    return Finding(mistakes, residual, tuple(each for each, _ in others))


def _numbers(right: Lines, answer: _Answer) -> Found:
    if "loss" in answer.outputs:
        loss = float(answer.outputs["loss"]) / answer.scale
        off, summed = answer.off / answer.scale, answer.scale != 1
        yield from numbers_in_loss(right, answer.case, loss, off, summed)


def _in_some_layers(
    known: Sequence[ForwardMistake], right: Lines, answers: Sequence[_Answer]
) -> Iterator[ForwardMistake]:
    """Each mistake in the top or the lowest layer only, or in all but that one."""
    where = layers_for([(len(answer.case.h0), answer.right) for answer in answers])
    for each, layers in itertools.product(known, where):
        own, words = each.edit(right), LAYER_WORDS[layers]
        told = replace(
            each.mistake,
            identifier=f"{each.mistake.identifier}, {words}",
            sentence=f"{each.mistake.sentence.removesuffix('.')}, {words}.",
        )
        yield ForwardMistake(told, changed(own=own, own_layers=layers))


def _pair(
    subject: Subject, known: Sequence[ForwardMistake], right: Lines, wrong: _Answer,
    answers: Sequence[_Answer], until: float,
) -> list[tuple[tuple[Mistake, ...], float]]:  # fmt: skip
    bound = half_the_digits(subject)
    for first, second in itertools.combinations(known, 2):
        if time.perf_counter() > until:
            break
        lines = second.edit(first.edit(right))
        if _distance(lines, wrong) <= bound:
            used = _share_used(subject, lines, answers)
            if used is not None:
                return [((first.mistake, second.mistake), used)]
    return []


def _answer(subject: Subject, case: Case) -> _Answer | None:
    try:
        expected, allowed = expected_of(subject, case)
        results = subject.run(case)
    except Exception:  # a crash is a finding of the campaign's, here it is one case less
        return None
    names = [name for name in OUTPUTS if name in results and name in expected]
    names = [name for name in names if np.shape(results[name]) == np.shape(expected[name])]
    if not names:
        return None
    outputs = {name: np.asarray(results[name]) for name in names}
    comparison = compare_gradients(outputs, {name: expected[name] for name in names}, allowed)
    real = given_case(subject, case)
    return _Answer(
        real.astype(np.float64),
        real.dloss / case.dloss,
        {name: np.asarray(value, np.float64) for name, value in outputs.items()},
        comparison.verdict == "agree",
        float(allowed.get("loss", 0.0)),
    )


def _distance(lines: Lines, answer: _Answer) -> float:
    """The greatest error of an output relative to its size; infinite where nothing fits."""
    try:
        with np.errstate(all="ignore"):
            found = forward_outputs(answer.case, lines, FLOAT64)
    except ValueError:
        return float("inf")
    most = 0.0
    for name, actual in answer.outputs.items():
        value = found[name] * answer.scale if name == "loss" else found[name]
        error, size = float(np.max(np.abs(value - actual))), float(np.max(np.abs(value)))
        if name == "loss" and error <= answer.off:  # of a loss that is 0 there is no share
            continue
        if not error <= size * 1e300:  # NaN, or an output that is zero and should not be
            return float("inf")
        most = max(most, error / size if error else 0.0)
    return most


def _share_used(subject: Subject, lines: Lines, answers: Sequence[_Answer]) -> float | None:
    """The greatest share of its budget that an output uses; None if some output exceeds it."""

    def solve(case: Case, a: Arithmetic, lead: tuple[int, ...] = ()) -> dict[str, Array]:
        return forward_outputs(case, lines, a, lead)

    dtype = precision_of(subject) or np.dtype(subject.abilities.dtypes[0])
    sides = 2 if dtype == np.float64 else 1
    most = 0.0
    for answer in answers:
        try:
            with np.errstate(all="ignore"):
                found = forward_outputs(answer.case, lines, FLOAT64)
                budget = error_budget(answer.case, dtype=dtype, sides=sides, equations=solve)
        except ValueError:
            return None
        factor = {"loss": answer.scale}
        comparison = compare_gradients(
            answer.outputs,
            {name: found[name] * factor.get(name, 1.0) for name in answer.outputs},
            {name: budget.allowed[name] * factor.get(name, 1.0) for name in answer.outputs},
        )
        if comparison.verdict == "disagree":
            return None
        most = max(most, *(tensor.used for tensor in comparison.tensors))
    return most
