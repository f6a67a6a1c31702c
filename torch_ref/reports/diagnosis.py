"""A diagnosis as a person and as a script reads it."""

from collections.abc import Iterator
from typing import Any

from rich.text import Text

from torch_ref.diagnosis.blind_spots import Blindness
from torch_ref.diagnosis.diagnose import Diagnosis

_EXAMPLES = 3


def diagnosis_lines(diagnosis: Diagnosis) -> Iterator[Text]:
    """The finding with the line as it is and as it should be, or where to look."""
    finding = diagnosis.finding
    if finding is None:
        yield Text(
            "No single, double or triple mistake in the catalogue explains this. "
            + diagnosis.located
        )
        return
    many = "mistakes together explain"
    count = {1: "One mistake explains", 2: f"Two {many}", 3: f"Three {many}"}
    forward = finding.mistakes[0].identifier.startswith("forward.")
    what = "every output of the forward pass" if forward else "every difference"
    yield Text(f"{count[len(finding.mistakes)]} {what} to rounding:\n")
    for mistake in finding.mistakes:
        yield Text.assemble("  ", (mistake.sentence, "bold"), f"  equation {mistake.equation}")
        yield Text(f"      {mistake.wrong}\n        ->  {mistake.right}\n")
    for other in finding.alternatives:
        sentences = " ".join(mistake.sentence for mistake in other)
        yield Text(f"  Or, which nothing that it returns can tell apart: {sentences}")
    if diagnosis.first_wrong is not None:
        yield Text(f"  {diagnosis.first_wrong.sentence}")
    if forward:
        yield Text("Mend that first: of a wrong forward pass no gradient can be right.")


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
