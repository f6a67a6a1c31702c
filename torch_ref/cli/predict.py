"""`manual-lstm predict`: the next symbol, one by one, each fed back."""

from typing import Annotated

import numpy as np
import typer
from rich.console import Console

from manual_lstm.checkpoint import load_checkpoint
from manual_lstm.predict import predict as predictions
from torch_ref.cli.page import check_outputs
from torch_ref.reports.as_json import write_json


def predict(
    checkpoint: Annotated[str, typer.Argument(metavar="FILE.npz", help="From train.")],
    prompt: Annotated[
        str | None, typer.Option(help="What comes first.  [default: the text's next symbol]")
    ] = None,
    carry: Annotated[
        bool, typer.Option("--carry/--reset", help="The state: where training ended, or zero.")
    ] = False,
    count: Annotated[int, typer.Option(min=1, help="How many symbols.")] = 26,
    temperature: Annotated[
        float, typer.Option(min=0.0, help="0 takes the most probable; 1 draws as the model says.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Of what is drawn.")] = 0,
    top: Annotated[
        int, typer.Option(min=0, help="Print so many probabilities of each; 0 prints none.")
    ] = 4,
    json: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write the result here; - is stdout.")
    ] = None,
) -> None:
    """Predict what follows a prompt, one symbol after the other, each with its probabilities.

    It begins at the start of the text with a zero state or, with --carry, where training ended with
    the state that it ended with. The probabilities are the model's own, at a temperature of 1. Exit
    status 0: done. 2: wrong usage or input.
    """
    check_outputs(None, json, {"the checkpoint": checkpoint})
    schedule, text, state = load_checkpoint(checkpoint)
    symbols = text.symbols
    position = state.position if carry else 0
    first = symbols[int(text.indices[position])] if prompt is None else prompt
    unknown = sorted(set(first) - set(symbols))
    if unknown:
        raise ValueError(
            f"--prompt has {unknown[0]!r}, which is not one of the {len(symbols)} symbols that the "
            "model knows."
        )
    fed = [symbols.index(symbol) for symbol in first]
    rng = np.random.default_rng(seed)
    h, c = (state.h[:, :1], state.c[:, :1]) if carry else (None, None)  # of the first sequence
    model, params = schedule.model, state.params
    found = [*predictions(model, params, fed, count, temperature=temperature, rng=rng, h=h, c=c)]
    result = "".join(symbols[each.index] for each in found)
    if json is not None:
        report = {
            "prompt": first,
            "text": result,
            "symbols": list(symbols),
            "probabilities": [each.probabilities.astype(float).tolist() for each in found],
        }
        write_json(report, json)
    if json == "-":
        return
    console = Console(soft_wrap=True, highlight=False)
    before = first[-1:]
    for each in found if top else ():
        order = np.argsort(-each.probabilities, kind="stable")[:top]
        shares = ", ".join(f"{symbols[k]!r} {each.probabilities[k]:.4f}" for k in order)
        console.print(f"{before!r} -> {symbols[each.index]!r}   {shares}", markup=False)
        before = symbols[each.index]
    console.print(f"{first}{result}", markup=False)
