"""`manual-lstm plateau`: which closed form a loss sits on, and what can lower it."""

import math
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from manual_lstm.history import read_history
from manual_lstm.plateau import (
    Level,
    Position,
    ab_attractors,
    explain,
    levels,
    locate,
    lowest_loss,
)
from manual_lstm.tasks import read_text
from torch_ref.cli.page import check_outputs
from torch_ref.cli.window import HeadName
from torch_ref.reports.as_json import write_json
from torch_ref.reports.text import NARROW

# Of a history, the last tenth is what the loss is now.
_LAST = 10


def plateau(
    classes: Annotated[int | None, typer.Option(min=1, help="V.  [default: 26]")] = None,
    loss: Annotated[
        str | None, typer.Option(metavar="NUMBER", help="As it was printed: 2.35 is 2.35 +- 0.005.")
    ] = None,
    history: Annotated[
        str | None, typer.Option(metavar="FILE.jsonl", help="From train: the last tenth counts.")
    ] = None,
    head: Annotated[HeadName, typer.Option(help="From h to the logits.")] = HeadName.bounded,
    text: Annotated[
        str | None, typer.Option(metavar="FILE", help="What is learnt; otherwise the alphabet.")
    ] = None,
    json: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write the result here; - is stdout.")
    ] = None,
) -> None:
    """Say on or between which levels a loss lies, what can and cannot lower it, what to change.

    The levels are closed forms: the head's floor, uniform and unigram guessing, and where training
    on an alphabet can stay. Exit status 0: done. 2: wrong usage or input.
    """
    if loss is None and history is None:
        raise ValueError("plateau needs --loss or --history: the loss that does not fall.")
    check_outputs(None, json, {"--history": history, "--text": text})
    if classes is not None and text is not None:
        raise ValueError("--classes and --text both say how many classes there are: give one.")
    learnt = None if text is None else read_text(text)
    num_classes = (26 if classes is None else classes) if learnt is None else len(learnt.symbols)
    known = levels(num_classes, head.value, text=None if learnt is None else learnt.indices)
    now, uncertainty, trend, pace = _loss(loss, history)
    position = locate(now, known, uncertainty)
    bounded = head is HeadName.bounded
    floor = lowest_loss(num_classes) if bounded else 0.0
    if bounded and num_classes == 2 and learnt is None:
        floor = ab_attractors()[0].loss  # (46)
    if pace > 0 and position.on is None and position.below is not None:
        windows = (now - position.below.loss) / pace
        trend.append(f"At that pace the level below is {windows:,.0f} windows away.")
    sentences = [*explain(position, head.value, floor), *trend]
    if json is not None:
        report = {
            "loss": now,
            "uncertainty": uncertainty,
            "on": position.on and position.on.name,
            "below": position.below and position.below.name,
            "above": position.above and position.above.name,
            "levels": [asdict(level) for level in known],
            "sentences": sentences,
        }
        write_json(report, json)
    if json != "-":
        console = Console(highlight=False)
        console.print(_table(known, position, console.width))
        console.print()
        for sentence in sentences:
            console.print(sentence, markup=False)


def _loss(loss: str | None, history: str | None) -> tuple[float, float, list[str], float]:
    """The loss, how far it may be off, what a history says of its trend, its fall in a window."""
    trend: list[str] = []
    now = uncertainty = pace = 0.0
    if history is not None:
        losses = [entry.loss for entry in read_history(history)]
        if not losses:
            raise ValueError(f"history {history!r} has no window.")
        count = max(1, len(losses) // _LAST)
        last, before = losses[-count:], losses[-2 * count : -count] or losses[-count:]
        now = sum(last) / count
        # No nearer than train prints it: a limit is never reached, and rounding ends the way to it.
        uncertainty = max((max(last) - min(last)) / 2, _half_a_digit(f"{now:#.5g}"))
        fall = sum(before) / len(before) - now
        pace = fall / count
        trend.append(
            f"Over the last {count} of {len(losses)} windows the loss lies between {min(last):.5g} "
            f"and {max(last):.5g}; its mean {'fell' if fall >= 0 else 'rose'} by {abs(fall):.2g} "
            "from those before."
        )
    if loss is not None:
        try:
            now = float(loss)
        except ValueError:
            raise ValueError(
                f"--loss is {loss!r} but must be a number, for instance 2.35."
            ) from None
        if math.isfinite(now):  # else it is inf or nan, which have no digits
            uncertainty = _half_a_digit(loss)
        if not math.isfinite(now + uncertainty):
            raise ValueError(f"--loss is {loss} but must be finite: look for a division by zero.")
    return now, uncertainty, trend, pace


def _half_a_digit(printed: str) -> float:
    """Half a unit of the last digit of a finite number."""
    digits, _, exponent = printed.lower().partition("e")
    decimals = len(digits.partition(".")[2]) - int(exponent or 0)
    return float(f"0.5e{-decimals}")


def _table(known: tuple[Level, ...], position: Position, width: int) -> Table:
    """The levels and the loss, the lowest first; below NARROW columns what matters most of them."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    shown = (0, 2) if width < NARROW else (0, 1, 2, 3)
    for k in shown:
        header, number = ("loss", "p(target)", "level", "equation")[k], k < 2
        table.add_column(header, justify="right" if number else "left", no_wrap=number)
    rows = [
        (
            level.loss,
            f"{level.loss:.5f}",
            ", ".join(f"{p:.4f}" for p in level.probabilities),
            level.name,
            level.equation,
        )
        for level in known
    ]
    rows.append((position.loss, f"{position.loss:.5f}", "", "<- the loss", ""))
    for _, *cells in sorted(rows, key=lambda row: row[0]):
        table.add_row(*(cells[k] for k in shown))
    return table
