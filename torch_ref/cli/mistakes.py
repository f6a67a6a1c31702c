"""`manual-lstm mistakes`: the catalogue, and what a case can tell of it."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from torch_ref.cli.page import check_outputs
from torch_ref.cli.window import HeadOrNone
from torch_ref.diagnosis.blind_spots import blind_spots
from torch_ref.diagnosis.forward.mistakes import forward_mistakes
from torch_ref.diagnosis.mistakes.catalogue import Mistake, catalogue
from torch_ref.harness.exchange.files import load_case
from torch_ref.oracles.variant import STANDARD
from torch_ref.reports.as_json import write_json
from torch_ref.reports.diagnosis import blindness_text


def mistakes(
    case: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="Tell which of them this exchange file can show."),
    ] = None,
    head: Annotated[
        HeadOrNone | None,
        typer.Option(help="With a head and its loss.  [default: none, for code that is given dy]"),
    ] = None,
    json: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write the list here; - is stdout.")
    ] = None,
) -> None:
    """List the mistakes that a diagnosis can name, or which of them a case of yours can show.

    Exit status 0, or 1 for a case that some mistake would pass unseen.
    """
    check_outputs(None, json, {"--case": case})
    if case is not None and head is not None:
        raise ValueError("--head is for the list: a case has the head that it has.")
    console = Console()
    if case is None:
        of_head = None if head is None else head.inside
        known = catalogue(STANDARD, of_head).mistakes
        forward = [each.mistake for each in forward_mistakes(STANDARD, of_head)]
        if json is not None:
            write_json({"mistakes": [_as_json(each) for each in (*known, *forward)]}, json)
        if json != "-":
            console.print(_table((*known, *forward)))
            console.print(
                f"{len(known)} mistakes in the backward pass, no two of them the same "
                f"mathematics; {len(forward)} in the forward pass."
            )
        return
    blindness = blind_spots(load_case(case))
    if json is not None:
        report = {
            "case": case,
            "why": list(blindness.why),
            "blind_spots": [_as_json(each) for each in blindness.blind],
            "seen": [each.identifier for each in blindness.seen],
        }
        write_json(report, json)
    if json != "-":
        if blindness.blind:
            console.print(_table(blindness.blind))
        console.print(Text(blindness_text(blindness)))
    raise typer.Exit(1 if blindness.blind else 0)


def _table(listed: Sequence[Mistake]) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for header in ("mistake", "equation", "what is wrong"):
        table.add_column(header, overflow="fold")
    for each in listed:
        table.add_row(Text(each.identifier), each.equation, Text(each.sentence))
    return table


def _as_json(mistake: Mistake) -> dict[str, Any]:
    return {
        "mistake": mistake.identifier,
        "sentence": mistake.sentence,
        "equation": mistake.equation,
        "wrong": mistake.wrong,
        "right": mistake.right,
    }
