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
        f"{report.name}\n{' and '.join(report.dtypes) or 'not run'}   {ran} checks   "
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
    if report.layout:
        yield Text(report.layout)
    if report.clipping is not None:
        yield Text(report.clipping.sentence)
    if len(report.failures) > 1 and report.scale is None:
        yield Text(f"Fails too: {', '.join(failure.check for failure in report.failures[1:])}.")
    if report.failures and report.passed and report.scale is None:
        yield Text(f"Holds: {', '.join(report.passed)}.")
    for check, reason in report.expected_failures.items():
        yield Text(f"Fails as expected: {check} ({reason}).")
    if report.unverified:
        yield Text(f"Not verified: {'; '.join(report.unverified)}.")


def _headline(report: CheckReport) -> str:
    if not report.failures:
        return "No check could be run."
    if report.scale is not None:
        return report.scale.sentence
    first = report.failures[0]
    catches = f" It is there to catch:\n  {first.catches}" if first.catches else ""
    return f"{first.check} fails: {first.sentence}{catches}"
