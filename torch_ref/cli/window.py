"""The options that say which window of which text: those of `diff` and of `case`."""

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

import numpy as np
import typer

from manual_lstm.model import Head
from manual_lstm.tasks import alphabet, read_text
from torch_ref.harness.cases import character_case, sized_case
from torch_ref.oracles.case import Case

_GIB = 2**30


class DType(StrEnum):
    """The precisions."""

    float32 = "float32"
    float64 = "float64"


class HeadName(StrEnum):
    """The heads."""

    bounded = "bounded"
    linear = "linear"


class HeadOrNone(StrEnum):
    """The heads, and code that is given dy instead."""

    bounded = "bounded"
    linear = "linear"
    none = "none"

    @property
    def inside(self) -> Head | None:
        """The head, or None."""
        if self is HeadOrNone.none:
            return None
        return "bounded" if self is HeadOrNone.bounded else "linear"

    @property
    def words(self) -> str:
        """As a report has it."""
        return "no head" if self is HeadOrNone.none else f"{self.value} head"


Steps = Annotated[int, typer.Option(min=1, help="T, the steps of the window.")]
Batch = Annotated[int, typer.Option(min=1, help="B, the sequences side by side.")]
Inputs = Annotated[
    int | None, typer.Option(min=1, help="V, the symbols of the alphabet, or I.  [default: 26]")
]
Hidden = Annotated[
    int | None, typer.Option(min=1, help="H, units of a layer.  [default: as many as inputs]")
]
Layers = Annotated[int, typer.Option(min=1, help="L, the layers of the stack.")]
Precision = Annotated[DType, typer.Option(help="Precision of the LSTM.")]
HeadOption = Annotated[
    HeadOrNone, typer.Option(help="From h to the logits; none: given dy, and x of any numbers.")
]
TextFile = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="A UTF-8 text; its characters are the symbols."),
]
Seed = Annotated[int, typer.Option(min=0, help="Of weights, state and upstream.")]


def require_memory(sizes: Mapping[str, int], dtype: str) -> None:
    """Before anything is made: whether the weights, x and h alone are more than the machine holds.

    Args:
        sizes: of T, B, I, H and L; those that are not known count as 1.

    Raises:
        MemoryError: they are.
    """
    steps, batch, inputs, hidden, layers = (sizes.get(name, 1) for name in "TBIHL")
    weights = 4 * hidden * (inputs + hidden + 1 + (layers - 1) * (2 * hidden + 1))
    numbers = weights + steps * batch * (inputs + layers * hidden)
    needed = numbers * np.dtype(dtype).itemsize
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > there:
        raise MemoryError(
            f"the weights, x and h alone are {needed // _GIB} GiB, of {there // _GIB} there are"
        )


@dataclass(frozen=True)
class Window:
    """What these options say.

    Raises:
        ValueError: from `case`: both symbols and a text, a text without a head, one that cannot
            be read, or sizes that do not go together.
    """

    steps: int
    batch: int
    inputs: int | None
    hidden: int | None
    layers: int
    dtype: DType
    head: HeadOrNone
    text: str | None
    seed: int

    def case(self) -> Case:
        """The character case of this window; without a head, one of which every number is drawn."""
        if self.text is not None and self.inputs is not None:
            raise ValueError("--inputs and --text both say what the symbols are: give one of them.")
        head = self.head.inside
        if head is None:
            return self._without_head()
        symbols = read_text(self.text) if self.text is not None else alphabet(self.inputs or 26)
        require_memory(self._sizes(len(symbols.symbols)), self.dtype.value)
        return character_case(
            symbols,
            steps=self.steps,
            batch=self.batch,
            hidden=self.hidden,
            layers=self.layers,
            head=head,
            dtype=self.dtype.value,
            seed=self.seed,
        )

    def _without_head(self) -> Case:
        if self.text is not None:
            raise ValueError(
                f"--text is {self.text!r} but there is none with --head none, whose x is drawn: "
                "leave one of them out."
            )
        sizes = self._sizes(self.inputs or 26)
        require_memory(sizes, self.dtype.value)
        return sized_case(sizes, dtype=self.dtype.value, seed=self.seed)

    def _sizes(self, inputs: int) -> dict[str, int]:
        hidden = self.hidden or inputs
        return {"T": self.steps, "B": self.batch, "I": inputs, "H": hidden, "L": self.layers}

    def sizes_of(self, case: Case) -> tuple[str, str]:
        """T, B and what x has, then H and L, as a report has them."""
        inputs = "I" if case.targets is None else "V"
        return (
            f"T={self.steps} B={self.batch} {inputs}={case.x.shape[2]}",
            f"H={case.h0.shape[2]} L={self.layers}",
        )

    def again(self, command: str, case: Case, **first: object) -> str:
        """The command line that gives `case` again, every option named."""
        options = {
            **{f"--{name}": value for name, value in first.items()},
            "--steps": self.steps,
            "--batch": self.batch,
            **({"--inputs": case.x.shape[2]} if self.text is None else {"--text": self.text}),
            "--hidden": case.h0.shape[2],
            "--layers": self.layers,
            "--dtype": self.dtype.value,
            "--head": self.head.value,
            "--seed": self.seed,
        }
        words = [str(word) for option in options.items() for word in option]
        return shlex.join(["manual-lstm", command, *words])
