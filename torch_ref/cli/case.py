"""`manual-lstm case`: one case as files, for a program in any language."""

import shlex
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from manual_lstm.tasks import alphabet, read_text
from torch_ref.cli.diff import DType, HeadName
from torch_ref.harness.cases import character_case
from torch_ref.harness.exchange import save_case
from torch_ref.reports.as_json import write_json


class FormName(StrEnum):
    """The kinds of exchange files."""

    npy = "npy"
    npz = "npz"
    safetensors = "safetensors"


def case(
    out: Annotated[str, typer.Option(metavar="PATH", help="Where to; must not exist.")],
    form: Annotated[
        FormName | None,
        typer.Option(help="A folder of .npy, or one file.  [default: as PATH ends]"),
    ] = None,
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
        str | None, typer.Option(metavar="FILE", help="Write what was done here; - is stdout.")
    ] = None,
) -> None:
    """Write the case that `manual-lstm diff` would compare on: weights, inputs, upstream gradients.

    A folder of .npy files and case.json, or the same in one .npz or .safetensors file.
    """
    if text is not None and inputs is not None:
        raise ValueError("--inputs and --text both say what the symbols are: give one of them.")
    path = _path(out, form)
    symbols = alphabet(26 if inputs is None else inputs) if text is None else read_text(text)
    drawn = character_case(
        symbols,
        steps=steps,
        batch=batch,
        hidden=hidden,
        layers=layers,
        head=head.value,
        dtype=dtype.value,
        seed=seed,
    )
    save_case(drawn, path)

    num_classes, num_units = drawn.x.shape[2], drawn.h0.shape[2]
    options = {
        "--out": path,
        "--steps": steps,
        "--batch": batch,
        **({"--inputs": num_classes} if text is None else {"--text": text}),
        "--hidden": num_units,
        "--layers": layers,
        "--dtype": dtype.value,
        "--head": head.value,
        "--seed": seed,
    }
    words = [str(word) for option in options.items() for word in option]
    reproduce = shlex.join(["manual-lstm", "case", *words])
    if json is not None:
        write_json({"path": str(path), "reproduce": reproduce}, json)
    if json != "-":
        console = Console(soft_wrap=True, highlight=False)
        console.print(
            f"{path}: T={steps} B={batch} V={num_classes} H={num_units} L={layers}, "
            f"{dtype.value}, {head.value} head",
            markup=False,
        )
        console.print(f"Again:  {reproduce}", markup=False)


def _path(out: str, form: FormName | None) -> Path:
    """The path with the ending of its form; ValueError if it has another's."""
    path = Path(out)
    named = path.suffix[1:] if path.suffix in (".npz", ".safetensors") else "npy"
    if form is None or form.value == named:
        return path
    if named == "npy":
        return Path(f"{path}.{form.value}")
    raise ValueError(f"--out {out!r} ends in {path.suffix} but --form is {form.value}.")
