"""A diagnosis as a person and as a script reads it."""

from collections.abc import Iterator
from typing import Any

from rich.text import Text

from torch_ref.diagnosis.blind_spots import Blindness
from torch_ref.diagnosis.diagnose import Diagnosis
from torch_ref.diagnosis.matching.single import Finding

_EXAMPLES = 3
_UNEXPLAINED = (
    "No mistake in the catalogue explains this, nor do any two or three that were tried together."
)
_COUNTS = {2: "Two", 3: "Three", 4: "Four", 5: "Five", 6: "Six"}


def diagnosis_lines(diagnosis: Diagnosis) -> Iterator[Text]:
    """The finding with the line as it is and as it should be, or where to look."""
    finding = diagnosis.finding
    if finding is None:
        yield Text(diagnosis.located)
        if diagnosis.sought:
            yield Text(_UNEXPLAINED)
        return
    yield Text(f"{explained_by(finding)}:\n")
    for mistake in finding.mistakes:
        yield Text.assemble("  ", (mistake.sentence, "bold"), f"  equation {mistake.equation}")
        yield Text(f"      {mistake.wrong}\n        ->  {mistake.right}\n")
    for sentence in alternatives(finding):
        yield Text(f"  {sentence}")
    if diagnosis.first_wrong is not None:
        yield Text(f"  {diagnosis.first_wrong.sentence}")


def explained_by(finding: Finding) -> str:
    """How many mistakes explain it, the beginning of a sentence."""
    many = "mistakes together explain"
    count = len(finding.mistakes)
    what = "every output of the forward pass" if _is_forward(finding) else "every difference"
    whose = "One mistake explains" if count == 1 else f"{_COUNTS.get(count, count)} {many}"
    return f"{whose} {what} to rounding"


def _is_forward(finding: Finding) -> bool:
    return finding.mistakes[0].identifier.startswith("forward.")


def alternatives(finding: Finding) -> Iterator[str]:
    """The other mistakes that explain it as well, a sentence each, and what to mend first."""
    for other in finding.alternatives:
        sentences = " ".join(mistake.sentence for mistake in other)
        yield f"Or, which nothing that it returns can tell apart: {sentences}"
    if _is_forward(finding):
        yield "Mend that first: the gradients are compared with those of the right forward pass."


def diagnosis_json(diagnosis: Diagnosis | None) -> list[dict[str, Any]]:
    """Each mistake of the finding; without one, where to look, with null for the mistake."""
    if diagnosis is None or not (diagnosis.finding or diagnosis.located):
        return []
    if diagnosis.finding is None:
        sentence = diagnosis.located
        return [{"mistake": None, "sentence": sentence, "equation": None, "residual": None}]
    return [
        {
            "mistake": mistake.identifier,
            "sentence": mistake.sentence,
            "equation": mistake.equation,
            "residual": diagnosis.finding.residual,
            "wrong": mistake.wrong,
            "right": mistake.right,
        }
        for mistake in diagnosis.finding.mistakes
    ]


def blindness_text(blindness: Blindness) -> str:
    """What a case could not have seen, in a sentence or two."""
    count, total = len(blindness.blind), len(blindness.blind) + len(blindness.seen)
    if not count:
        return f"This case can tell every one of the {total} mistakes in the catalogue."
    why = f" It has {'; '.join(blindness.why)}." if blindness.why else ""
    some = " ".join(mistake.sentence for mistake in blindness.blind[:_EXAMPLES])
    return f"This case could not have seen {count} of {total} mistakes.{why} For instance: {some}"
