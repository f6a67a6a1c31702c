"""`manual-lstm diff`: the hand-written LSTM against its autograd twin."""

import shlex
import time
from enum import StrEnum
from typing import Annotated

import typer
from rich.console import Console

from manual_lstm.tasks import alphabet, read_text
from torch_ref.compare.diff import diff_gradients
from torch_ref.diagnosis.blind_spots import hides
from torch_ref.harness.cases import character_case
from torch_ref.reports.as_json import comparison_json, write_json
from torch_ref.reports.text import comparison_table, summary


class DType(StrEnum):
    """The precisions."""

    float32 = "float32"
    float64 = "float64"


class HeadName(StrEnum):
    """The heads."""

    bounded = "bounded"
    linear = "linear"


def diff(
    steps: Annotated[int, typer.Option(min=1, help="T, the steps of the window.")] = 26,
    batch: Annotated[int, typer.Option(min=1, help="B, the sequences side by side.")] = 1,
    inputs: Annotated[
        int | None, typer.Option(min=1, help="V, the symbols of the alphabet.  [default: 26]")
    ] = None,
    hidden: Annotated[
        int | None, typer.Option(min=1, help="H, units of a layer.  [default: as many as symbols]")
    ] = None,
    layers: Annotated[int, typer.Option(min=1, help="L, the layers of the stack.")] = 1,
    dtype: Annotated[DType, typer.Option(help="Precision of the LSTM.")] = DType.float64,
    head: Annotated[HeadName, typer.Option(help="From h to the logits.")] = HeadName.linear,
    text: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="A UTF-8 text; its characters are the symbols."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of weights, state and upstream.")] = 0,
    json: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write the report here; - is stdout.")
    ] = None,
) -> None:
    """Compare every gradient of the hand-written LSTM with its autograd twin's.

    Both are given the same weights, a window of text (a..z repeated, unless --text says
    otherwise), a state from the window before and gradients from the window after.
    Exit status 0: they agree. 1: they disagree. 2: wrong usage or input.
    """
    if text is not None and inputs is not None:
        raise ValueError("--inputs and --text both say what the symbols are: give one of them.")
    started = time.perf_counter()
    symbols = alphabet(26 if inputs is None else inputs) if text is None else read_text(text)
    case = character_case(
        symbols,
        steps=steps,
        batch=batch,
        hidden=hidden,
        layers=layers,
        head=head.value,
        dtype=dtype.value,
        seed=seed,
    )
    with Console(stderr=True).status("comparing"):
        comparison = diff_gradients(case)
    seconds = time.perf_counter() - started

    steps_count, batch_count, num_classes = case.x.shape
    options = {
        "--steps": steps,
        "--batch": batch,
        **({"--inputs": num_classes} if text is None else {"--text": text}),
        "--hidden": case.h0.shape[2],
        "--layers": layers,
        "--dtype": dtype.value,
        "--head": head.value,
        "--seed": seed,
    }
    words = [str(word) for option in options.items() for word in option]
    reproduce = shlex.join(["manual-lstm", "diff", *words])
    if json is not None:
        write_json(comparison_json(comparison, reproduce, hides(case)), json)
    if json != "-":
        console = Console(soft_wrap=False)
        twin = "autograd twin" if dtype is DType.float64 else "float64 autograd twin"
        console.print(
            f"manual_lstm and its {twin}   {dtype.value}   T={steps_count} B={batch_count} "
            f"V={num_classes}\nH={case.h0.shape[2]} L={layers}   {head.value} head   "
            f"{seconds:.1f} s\n",
            highlight=False,
        )
        console.print(comparison_table(comparison), highlight=False)
        console.print()
        console.print(summary(comparison, "manual_lstm", f"the {twin}"), highlight=False)
        if hides(case):
            console.print(f"What this case hides: {'; '.join(hides(case))}.", highlight=False)
        console.print(f"Again:  {reproduce}", highlight=False, soft_wrap=True)
    raise typer.Exit(0 if comparison.verdict == "agree" else 1)
