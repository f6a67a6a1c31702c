"""`manual-lstm case`: one case as files, for a program in any language."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from torch_ref.cli.page import check_outputs
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
from torch_ref.harness.arranged_program import arranged
from torch_ref.harness.exchange.archive import ENDINGS
from torch_ref.harness.exchange.files import own_sizes, save_case
from torch_ref.harness.layouts.layout import Layout
from torch_ref.harness.layouts.presets import preset
from torch_ref.reports.as_json import write_json


class FormName(StrEnum):
    """The kinds of exchange files."""

    npy = "npy"
    npz = "npz"
    safetensors = "safetensors"
    json = "json"


def case(
    out: Annotated[
        str, typer.Option(metavar="PATH", help="Where to; must not exist, or be empty.")
    ],
    form: Annotated[
        FormName | None,
        typer.Option(help="A folder of .npy, or one file.  [default: as PATH ends]"),
    ] = None,
    steps: Steps = 26,
    batch: Batch = 1,
    inputs: Inputs = None,
    hidden: Hidden = None,
    layers: Layers = 1,
    dtype: Precision = DType.float64,
    head: HeadOption = HeadOrNone.linear,
    text: TextFile = None,
    seed: Seed = 0,
    layout: Annotated[
        str | None,
        typer.Option(help="Arranged as this preset says, to see what a program is handed."),
    ] = None,
    json: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write what was done here; - is stdout.")
    ] = None,
) -> None:
    """Write the case that `manual-lstm diff` would compare on: weights, inputs, upstream gradients.

    A folder of .npy files and case.json, or the same in one .npz, .safetensors or .json file. With
    --head none it has dy, the upstream gradient of every output, in place of targets. With
    --layout its arrays are those that `manual-lstm check --command ... --layout` hands over.
    """
    path = _path(out, form)
    check_outputs(None, json, {"--text": text, "--out": str(path)})
    window = Window(steps, batch, inputs, hidden, layers, dtype, head, text, seed)
    drawn = window.case()
    named = {} if layout is None else {"layout": layout}
    theirs = Layout() if layout is None else preset(layout)
    written = arranged(drawn, theirs)
    about = {} if theirs == Layout() else theirs.to_json()
    save_case(written, path, layout_json=about, sizes=own_sizes(drawn), head=drawn.head)
    reproduce = window.again("case", drawn, out=path, **named)
    if json is not None:
        write_json({"path": str(path), "reproduce": reproduce}, json)
    if json != "-":
        console = Console(soft_wrap=True, highlight=False)
        console.print(
            f"{path}: {' '.join(window.sizes_of(drawn))}, {dtype.value}, {head.words}",
            markup=False,
        )
        if layout is not None:
            for name, array in {**written.params, "x": written.x}.items():
                console.print(f"  {name} {array.shape}", markup=False)
        console.print(f"Again:  {reproduce}", markup=False)


def _path(out: str, form: FormName | None) -> Path:
    """The path with the ending of its form; ValueError if it has another's."""
    path = Path(out)
    named = path.suffix[1:] if path.suffix in ENDINGS else "npy"
    if form is None or form.value == named:
        return path
    if named == "npy":
        return Path(f"{path}.{form.value}")
    raise ValueError(f"--out {out!r} ends in {path.suffix} but --form is {form.value}.")
