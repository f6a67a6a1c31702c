"""What the maps of a report are drawn from: one case element by element, and its steps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch_ref.compare.diff import diff_arrays
from torch_ref.diagnosis.diagnose import as_subject
from torch_ref.diagnosis.elements import Elements, first_wrong
from torch_ref.diagnosis.evidence import draw_case
from torch_ref.diagnosis.step_gradients import StepErrors, step_errors, subject_step_errors
from torch_ref.harness.campaign import CheckReport
from torch_ref.harness.dump import dump_arrays
from torch_ref.oracles.case import Case

# Steps enough to see an error grow, units enough to see a block, and for a character model, whose
# inputs are its classes, as many inputs as there are steps and members.
_SIZES: Mapping[str, int] = {"T": 8, "B": 2, "I": 3, "H": 4, "L": 1}
_CLASSES = _SIZES["T"] * _SIZES["B"]
_LARGER: Sequence[Mapping[str, int]] = ({}, {"L": 2}, {"T": 50, "B": 1, "H": 2})


@dataclass(frozen=True)
class Maps:
    """What is drawn.

    Attributes:
        of: which case it is, a phrase.
        elements: that case.
        steps: the gates' gradients at every step; empty where they cannot be read.
        steps_case: the case that they are of: `elements.case`, or that with inputs of its own.
    """

    of: str
    elements: Elements
    steps: tuple[StepErrors, ...]
    steps_case: Case

    @property
    def steps_of(self) -> str:
        """How the steps' case differs from the other, a sentence; "" where it does not."""
        if self.steps_case is self.elements.case:
            return ""
        (steps, batch, _), (all_steps, all_members, _) = (
            case.x.shape for case in (self.steps_case, self.elements.case)
        )
        part = "" if steps == all_steps else f"the first {steps} of {all_steps} steps"
        if batch < all_members:
            part += f"{' and ' * bool(part)}the first {batch} of {all_members} members"
        cut = f" It is {part} of the case, as a window of their own." if part else ""
        return (
            "Read from outside: in a run with a one-hot input for each step and member, and "
            f"weight_ih_l0 @ x as weights, each column of dweight_ih_l0 is one dz, exactly.{cut}"
        )


def maps_of(
    implementation: Any, report: CheckReport, *, given: Case | None = None, seed: int = 0
) -> Maps | None:
    """The maps of an implementation after a campaign.

    Args:
        implementation: what the campaign was of.
        report: of the campaign.
        given: the case that was asked for; None draws a few cases larger than the smallest that a
            search leaves, and takes the first on which something is wrong, or the failing one.
        seed: of the cases that are drawn.

    Returns:
        None where the implementation raises, or no case can be run and judged.
    """
    if not report.dtypes or any(failure.error is not None for failure in report.failures):
        return None
    subject = replace(as_subject(implementation), clipping=report.clipping)
    failing = next((f.case for f in report.failures if f.comparison is not None), None)
    if given is not None:
        elements = first_wrong(subject, [given])
    else:
        sizes = _SIZES if subject.implementation.head_inside is None else {**_SIZES, "I": _CLASSES}
        drawn = [draw_case(subject, {**sizes, **more}, seed) for more in _LARGER]
        elements = first_wrong(subject, drawn + ([] if failing is None else [failing]))
    if elements is None:
        return None
    of = "a drawn case"
    if elements.case is given:
        of = "the given case"
    elif elements.case is failing:
        of = "the failing case"
    steps_case, steps = subject_step_errors(subject, elements.case)
    return Maps(of, elements, steps, steps_case)


def maps_of_diff(case: Case) -> Maps:
    """The maps of manual_lstm against its twin.

    Raises:
        ValueError: as `diff_gradients`.
    """

    def run(given: Case) -> Elements:
        return Elements(given, *diff_arrays(given))

    elements = run(case)
    steps_case, steps = step_errors(
        lambda given: elements if given is case else run(given), case, case.x.shape[-1]
    )
    return Maps("the compared case", elements, steps, steps_case)


def maps_of_dump(folder: str | Path) -> Maps:
    """The maps of a result that lies in a folder beside its case.

    Raises:
        ValueError: as `check_dump`.
    """
    elements = Elements(*dump_arrays(folder))
    steps_case, steps = step_errors(
        lambda given: elements if given is elements.case else None, elements.case
    )
    return Maps("the dumped case", elements, steps, steps_case)
