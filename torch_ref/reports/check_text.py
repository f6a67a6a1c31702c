"""A campaign's report as a person reads it."""

from collections.abc import Iterator

import numpy as np
from rich.console import Console
from rich.text import Text

from torch_ref.compare.errors import Comparison
from torch_ref.diagnosis.blind_spots import Blindness
from torch_ref.diagnosis.diagnose import Diagnosis
from torch_ref.harness.campaign import CheckReport
from torch_ref.harness.search import Failure
from torch_ref.harness.subject import COARSE_TANH
from torch_ref.reports.diagnosis import blindness_text, diagnosis_lines
from torch_ref.reports.text import comparison_table, printable


def print_check(
    console: Console,
    report: CheckReport,
    reproduce: str,
    diagnosis: Diagnosis | None = None,
    blindness: Blindness | None = None,
) -> None:
    """Header, table, diagnosis or findings, what is not verified, and how to run it again."""
    console.print(Text(f"{printable(report.name)}\n{'   '.join(facts(report))}\n"))
    if report.tensors:
        console.print(
            comparison_table(Comparison(report.tensors), report.arrangement, console.width),
            highlight=False,
        )
        console.print()
    for line in _lines(report, diagnosis):
        line.plain = printable(line.plain)
        console.print(line, highlight=False)
    if report.unverified:
        console.print(Text(printable(f"Not verified: {'; '.join(report.unverified)}.")))
    for note in report.notes:
        console.print(Text(printable(note)))
    if blindness is not None:
        console.print(Text(blindness_text(blindness)))
    console.print(f"Again:  {reproduce}", markup=False, highlight=False, soft_wrap=True)


def facts(report: CheckReport) -> tuple[str, ...]:
    """What was run, in phrases; where not even the plainest case could be, that alone."""
    seconds = f"{report.seconds:.1f} s"
    if not report.dtypes:
        return "not run", seconds
    ran = len(report.passed) + len(report.failures) + len(report.expected_failures)
    counts = (f"{n} {of}{'s' * (n != 1)}" for n, of in ((ran, "check"), (report.examples, "case")))
    return " and ".join(report.dtypes), *counts, seconds


def _lines(report: CheckReport, diagnosis: Diagnosis | None) -> Iterator[Text]:
    if report.verdict == "agree":
        yield Text.assemble(("AGREES. ", "bold green"), *headline(report, diagnosis))
    else:
        first, *rest = headline(report, diagnosis)
        yield Text.assemble(("DISAGREES. ", "bold red"), first)
        yield from rest
    for remark in remarks(report, diagnosis):
        yield Text(remark)


def _tells_more(failure: Failure, explained: bool) -> bool:
    """Whether it is of another kind than what a diagnosis says of the numbers.

    A wrong gradient may round more than the right one, whose budget it is: by a little even linear
    code is not linear.
    """
    if failure.check == "check_inputs_unmodified":
        return True
    if failure.check != "check_linearity" or failure.comparison is None or explained:
        return False
    by_much = float(np.sqrt(np.finfo(np.float32).eps))
    return any(tensor.max_rel > by_much for tensor in failure.comparison.tensors)


def remarks(report: CheckReport, diagnosis: Diagnosis | None) -> Iterator[str]:
    """What is to be said beside the verdict: layout, clipping, and the other checks."""
    explained = diagnosis is not None and diagnosis.finding is not None
    if report.layout:
        yield report.layout
    clipping = report.clipping
    if clipping is not None and all(clipping.sentence != f.sentence for f in report.failures):
        yield clipping.sentence
    if report.coarse_tanh:
        yield COARSE_TANH
    if explained and not report.dtypes:  # nothing could be compared
        yield f"First of all: {report.failures[0].sentence} What is said here is of I = H."
    for failure in report.failures[0 if explained else 1 :]:
        if failure.error is not None or _tells_more(failure, explained):
            if failure.check == "check_inputs_unmodified":
                yield f"First mend this, {failure.check}: {failure.sentence}"
            else:
                yield f"{failure.check} fails: {failure.sentence}"
    for tensor in report.tensors:
        if tensor.worst_index is None:
            yield f"{'Beside that, ' * explained}{tensor.name}: {tensor.reason}."
    if len(report.failures) > 1 and report.scale is None and not explained:
        yield f"Fails too: {', '.join(failure.check for failure in report.failures[1:])}."
    if report.failures and report.passed and report.scale is None and not explained:
        yield f"Holds: {', '.join(report.passed)}."
    for check, reason in report.expected_failures.items():
        yield f"Fails as expected: {check} ({reason})."


def headline(report: CheckReport, diagnosis: Diagnosis | None) -> list[Text]:
    """What follows the verdict: the diagnosis where there is one, else the first failed check."""
    if report.verdict == "agree":
        where = " where nothing is clipped" if report.clipping is not None else ""
        return [
            Text(f"Rounding explains every difference in {len(report.tensors)} tensors{where}.")
        ]
    if not report.failures:
        return [Text("No check could be run.")]
    found = diagnosis is not None and diagnosis.finding is not None
    if diagnosis is not None and found:
        return list(diagnosis_lines(diagnosis))
    if report.scale is not None:
        return [Text(report.scale.sentence)]
    first = report.failures[0]
    catches = f" It is there to catch:\n  {first.catches}" if first.catches else ""
    failed = Text(f"{first.check} fails: {first.sentence}{catches}")
    if diagnosis is not None and diagnosis.located and report.clipping is None:
        return [*diagnosis_lines(diagnosis), failed]
    return [failed]
