"""A campaign's report as a person reads it."""

from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

from torch_ref.compare.errors import Comparison
from torch_ref.harness.campaign import CheckReport
from torch_ref.reports.text import comparison_table


def print_check(console: Console, report: CheckReport, reproduce: str) -> None:
    """Header, table, findings, what is not verified, and how to run it again."""
    ran = len(report.passed) + len(report.failures) + len(report.expected_failures)
    console.print(
        f"{report.name}   {' and '.join(report.dtypes)}   {ran} checks   "
        f"{report.examples} cases   {report.seconds:.1f} s\n",
        highlight=False,
    )
    if report.tensors:
        console.print(comparison_table(Comparison(report.tensors)), highlight=False)
        console.print()
    for line in _lines(report):
        console.print(line, highlight=False)
    console.print(f"Again:  {reproduce}", highlight=False, soft_wrap=True)


def _lines(report: CheckReport) -> Iterator[Text]:
    if report.verdict == "agree":
        yield Text.assemble(
            ("AGREES. ", "bold green"),
            f"Rounding explains every difference in {len(report.tensors)} tensors.",
        )
    else:
        yield Text.assemble(("DISAGREES. ", "bold red"), _headline(report))
    for finding in (report.layout, report.clipping and report.clipping.sentence):
        if finding:
            yield Text(finding)
    if report.scale is None:
        for failure in report.failures:
            yield Text.assemble(("  fails  ", "red"), f"{failure.check}: {failure.sentence}")
    for check, reason in report.expected_failures.items():
        yield Text(f"  fails as expected  {check}: {reason}")
    if report.unverified:
        yield Text(f"Not verified: {'; '.join(report.unverified)}.")


def _headline(report: CheckReport) -> str:
    if not report.failures:
        return "No check could be run."
    if report.scale is not None:
        return report.scale.sentence
    first = report.failures[0]
    return f"The first check that fails is {first.check}, which is there to catch:\n{first.catches}"
