"""`manual-lstm diff`: the hand-written LSTM against its autograd twin."""

import time
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from torch_ref.cli.page import Html, check_outputs
from torch_ref.cli.progress import doing, measuring
from torch_ref.cli.window import (
    Batch,
    DType,
    HeadOption,
    HeadOrNone,
    Hidden,
    Inputs,
    Layers,
    Precision,
    Seed,
    Steps,
    TextFile,
    Window,
)
from torch_ref.compare.diff import diff_gradients, sides_of
from torch_ref.diagnosis.blind_spots import Blindness, blind_spots, hides
from torch_ref.diagnosis.maps import maps_of_diff
from torch_ref.interrupts import leaving_at_once
from torch_ref.oracles.case import Case
from torch_ref.reports.as_json import comparison_json, write_json
from torch_ref.reports.diagnosis import blindness_text
from torch_ref.reports.html import diff_page, write_html
from torch_ref.reports.text import comparison_table, summary

# Of a case whose blind spots are looked for without being asked: about ten seconds.
MOST_STEPS, MOST_PRODUCTS = 64, 2**20


def diff(
    steps: Steps = 26,
    batch: Batch = 1,
    inputs: Inputs = None,
    hidden: Hidden = None,
    layers: Layers = 1,
    dtype: Precision = DType.float64,
    head: HeadOption = HeadOrNone.linear,
    text: TextFile = None,
    seed: Seed = 0,
    blind: Annotated[
        bool,
        typer.Option("--blind-spots/--no-blind-spots", help="Tell what this case cannot show."),
    ] = True,
    json: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write the report here; - is stdout.")
    ] = None,
    html: Html = None,
) -> None:
    """Compare every gradient of the hand-written LSTM with its autograd twin's.

    Both are given the same weights, a window of text (a..z repeated, unless --text says
    otherwise), a state from the window before and gradients from the window after; with
    --head none, inputs and the gradient of every output, all drawn at random.

    Exit status 0: they agree. 1: they disagree. 2: wrong usage or input.
    """
    check_outputs(html, json, {"--text": text})
    window = Window(steps, batch, inputs, hidden, layers, dtype, head, text, seed)
    case = window.case()
    with leaving_at_once():
        import torch_ref.oracles.twin as _  # noqa: F401  and torch, which takes seconds
    started = time.perf_counter()
    with measuring("comparing") as progress:
        comparison = diff_gradients(case, progress=progress)
    seconds = time.perf_counter() - started
    reproduce = window.again("diff", case) + ("" if blind else " --no-blind-spots")
    blindness = _blindness(case) if blind else None
    twin = "autograd twin" if dtype is DType.float64 else "float64 autograd twin"
    sides = ("manual_lstm", f"the {twin}")
    first, second = window.sizes_of(case)
    if html is not None:
        facts = (dtype.value, f"{first} {second}", head.words, f"{seconds:.1f} s")
        page = diff_page(comparison, facts, sides, hides(case), reproduce, maps_of_diff(case))
        write_html(page, html)
    if json is not None:
        spots = [mistake.identifier for mistake in blindness.blind] if blindness else ()
        write_json(comparison_json(comparison, reproduce, spots), json)
    if json != "-":
        console = Console(soft_wrap=False)
        console.print(
            f"manual_lstm and its {twin}   {dtype.value}   {first}\n{second}   {head.words}   "
            f"{seconds:.1f} s\n",
            highlight=False,
        )
        console.print(comparison_table(comparison, width=console.width), highlight=False)
        console.print()
        console.print(summary(comparison, *sides), highlight=False)
        if blindness is not None:
            console.print(Text(blindness_text(blindness)))
        elif blind and hides(case):
            console.print(Text(f"What this case hides: {'; '.join(hides(case))}."))
        console.print(f"Again:  {reproduce}", markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(0 if comparison.verdict == "agree" else 1)


def _blindness(case: Case) -> Blindness | None:
    """The case's blind spots; None where a thousand backward passes would take minutes."""
    steps, batch, inputs = case.x.shape
    layers, _, hidden = case.h0.shape
    products = layers * steps * batch * 4 * hidden * (inputs + hidden)
    if layers * steps > MOST_STEPS or products > MOST_PRODUCTS:
        return None
    with doing("looking for what this case cannot show"):
        return blind_spots(case, sides=sides_of(case))
