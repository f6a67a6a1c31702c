"""A reshape where the forward pass needs a transpose: of what it reads, or of what it returns."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from torch_ref.diagnosis.backward.reshaped import OF_MATRIX, OF_STEPS, RESHAPED, in_blocks
from torch_ref.diagnosis.backward.words import capitalised
from torch_ref.oracles.case import Case
from torch_ref.oracles.equations import Array

Reshaped = Sequence[tuple[str, str]]
# The arrays' names, how they are reshaped, a sentence, and the equation.
Found = Iterator[tuple[str, str, str, str]]


def as_read(case: Case, reshaped: Reshaped) -> Case:
    """A case, or a stack of them, with each array of `reshaped` as a reshape reads it."""
    for name, how in reshaped:
        if name.startswith("weight"):
            params = {
                key: in_blocks(value, how) if key.startswith(name) else value
                for key, value in case.params.items()
            }
            case = replace(case, params=params)
        elif name == "targets" and case.targets is not None:
            case = replace(case, targets=_first_behind(case.targets[..., None], how)[..., 0])
        elif name in ("x", "h0", "c0"):
            read: dict[str, Any] = {name: _first_behind(getattr(case, name), how)}
            case = replace(case, **read)
    return case


def _first_behind(array: Array, how: str) -> Array:
    """(T, ..., B, N) reshaped as (..., T, B, N)."""
    return np.moveaxis(RESHAPED[how](np.moveaxis(array, 0, -3)), -3, 0)


def as_returned(outputs: Mapping[str, Array], reshaped: Reshaped) -> dict[str, Array]:
    """Outputs, with each of `reshaped` as a reshape returns it."""
    how = {name: RESHAPED[key] for name, key in reshaped if name in outputs}
    return {name: how[name](y) if name in how else y for name, y in outputs.items()}


def reshape_mistakes(head: str | None) -> Found:
    """What a reshape may make of each array; `head` as for `forward_mistakes`."""
    sequences = [("x", "I", "(1)"), ("targets", "", "(25)") if head else ("y", "H", "(7)")]
    for name, size, number in sequences:
        for how in OF_STEPS:
            yield name, how, _sentence(name, how, size), number
    for name, size, number in (("x", "I", "(1)"), *([] if head else [("y", "H", "(7)")])):
        for how in OF_MATRIX:
            told = _sentence(f"{name} of a step", _named(how, "B", size))
            yield name, how, told, number
    for names in (("h0", "c0"), ("h_n", "c_n")):
        number = "(1)" if "h0" in names else "(7)"
        for how in (*OF_MATRIX, *OF_STEPS):
            shown = _named(how, "B", "H") if how in OF_MATRIX else how.replace("T", "L")
            of = " of a layer" * (how in OF_MATRIX)
            for name in (*names, " and ".join(names)):
                told = _sentence(f"{name}{of}", shown, "" if of else "H")
                yield name, how, told, number
    weights = [("weight_ih", "4H", "I"), ("weight_hh", "4H", "H")]
    for name, rows, columns in [*weights, *([("weight_out", "V", "H")] * (head == "linear"))]:
        number = "(19)" if name == "weight_out" else "(1)"
        for how in OF_MATRIX:
            told = _sentence(name, _named(how, rows, columns))
            yield name, how, told, number
            if name == "weight_ih":  # of weight_hh a gate's block is square
                told = _sentence(f"each gate's block of {name}", _named(how, "H", columns))
                yield name, f"block {how}", told, number


def _named(how: str, rows: str, columns: str) -> str:
    return how.replace("M", rows).replace("N", columns)


def _sentence(what: str, how: str, size: str = "") -> str:
    shown = how.replace(")", f", {size})") if size else how
    verb = "are" if " and " in what or what == "targets" else "is"
    return capitalised(f"{what} {verb} reshaped from {shown}, not transposed.")
