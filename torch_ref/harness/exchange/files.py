"""Cases and results as files that any language can read and write.

A case is case.json and the arrays of `Case` under their own names; a result is result.json and
"loss" or "y", the last states, and the gradients under "d" + name. Either is a folder of .npy
files, an .npz, a .safetensors or a .json: torch_ref/harness/exchange/archive.py.

case.json has format "manual-lstm-case", version 1, sizes (T, B, I, H, L and, with a head, V),
dtype, head ("linear", "bounded" or null), reduction ("mean" or null), layout and variant: objects
that are empty where the arrays are arranged, and the cell computed, as everywhere in this project.
A variant has what it differs in: {"output": "identity"}; one with peepholes has their weights too.
result.json has format "manual-lstm-result", version 1; dtype and reduction may be repeated.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from manual_lstm.model import Head
from manual_lstm.params import lstm_sizes
from torch_ref.harness.exchange.archive import open_archive, write_archive
from torch_ref.harness.exchange.npy import Array
from torch_ref.harness.exchange.rules import (
    AXES,
    CASE_FORMAT,
    RESULT_FORMAT,
    VERSION,
    as_shape,
    check_case,
    check_case_names,
    check_document,
    check_fields,
    check_result,
    check_result_names,
    is_own,
    result_shapes,
    step_shapes,
)
from torch_ref.oracles.case import Case, Results
from torch_ref.oracles.variant import STANDARD, Variant


@dataclass(frozen=True)
class CaseFile:
    """A case and what else its file says.

    Attributes:
        case: the arrays. If `layout` is not empty they are arranged as it says, if `variant` is
            none of `Variant` there may be others than here; either way nothing but their dtype and
            their being finite has been checked, and the case's own variant is the standard one.
        sizes: T, B, I, H, L and, with a head, V.
        head: "linear", "bounded", or None where there are no targets.
        layout, variant: as they stand in case.json.
    """

    case: Case
    sizes: Mapping[str, int]
    head: Head | None
    layout: Mapping[str, Any]
    variant: Mapping[str, Any]


def save_case(
    case: Case,
    path: str | Path,
    *,
    layout_json: Mapping[str, Any] | None = None,
    variant_json: Mapping[str, Any] | None = None,
    sizes: Mapping[str, int] | None = None,
    head: Head | None = None,
) -> None:
    """Write a case, whole or not at all.

    Args:
        path: ".npz", ".safetensors" or ".json" at its end says which file, else a folder. It
            must not exist, but for an empty folder.
        layout_json: what the case's arrays differ in from this project's. variant_json: its cell;
            None is the case's own variant.
        sizes: T, B, I, H, L and, with a head, V; None reads them from the arrays, which needs
            this project's own layout.
        head: of a case with targets; None is "linear" if there is a weight_out, else "bounded".

    Raises:
        ValueError: the path exists or cannot be written, or the case's arrays do not fit together.
    """
    own = {name: v for name, v in asdict(case.variant).items() if v != getattr(STANDARD, name)}
    layout, variant = dict(layout_json or {}), dict(own if variant_json is None else variant_json)
    if sizes is None and (layout or variant != own):
        raise ValueError("sizes is None but must be given with a layout or another variant.")
    document: dict[str, Any] = {
        "format": CASE_FORMAT,
        "version": VERSION,
        "sizes": dict(own_sizes(case) if sizes is None else sizes),
        "dtype": str(case.dtype),
        "head": case.head if head is None else head,
        "reduction": None if case.targets is None else "mean",
        "layout": layout,
        "variant": variant,
    }
    arrays = _case_arrays(case)
    check_document(document)
    document["sizes"] = {name: int(size) for name, size in document["sizes"].items()}
    check_case_names(document, arrays)
    check_case(document, arrays)
    write_archive(path, "case.json", document, arrays)


def load_case(path: str | Path) -> Case:
    """Read a case in this project's own layout, of any variant; `read_case` reads every case.

    Raises:
        ValueError: as `read_case`, or the file has a layout, or a variant that there is not.
    """
    stored = read_case(path)
    if stored.layout:
        raise ValueError(
            f"{path}: layout in case.json is {stored.layout} but must be {{}}: read_case reads it."
        )
    with _named(path):
        Variant.from_json(stored.variant)
    return stored.case


def read_case(path: str | Path) -> CaseFile:
    """Read a case and what else its file says.

    Raises:
        ValueError: the file cannot be read or is damaged, its format, version or a field is
            unknown, or an array is missing, unexpected, misshapen, of another dtype or not finite.
    """
    archive = open_archive(path, "case.json")
    document = archive.document
    with _named(path):
        check_document(document)
        check_case_names(document, archive.headers)
        arrays = {name: archive.read(name) for name in archive.headers}
        if not archive.typed:
            own = {"targets": arrays["targets"].dtype} if "targets" in arrays else {}
            arrays = _typed(arrays, document["dtype"], own | {"dloss": np.dtype(np.float64)})
        check_case(document, arrays)
    x, h0, c0, dh_n, dc_n = (arrays.pop(name) for name in AXES)
    dy, targets, dloss = (arrays.pop(name, None) for name in ("dy", "targets", "dloss"))
    cell = Variant.from_json(document["variant"]) if is_own(document) else STANDARD
    with _named(path):
        if targets is None or dloss is None:
            case = Case(arrays, x, h0, c0, dh_n, dc_n, dy=dy, variant=cell)
        else:
            targets = targets.astype(np.int64)
            numbers = (arrays, x, h0, c0, dh_n, dc_n)
            case = Case(*numbers, targets=targets, dloss=float(dloss), variant=cell)
    return CaseFile(
        case, document["sizes"], document["head"], document["layout"], document["variant"]
    )


def save_result(results: Results, case: Case, path: str | Path) -> None:
    """Write what an implementation made of a case, whole or not at all.

    Args:
        results: "loss" or "y" and the gradients under "d" + name; OPTIONAL_RESULTS may be missing,
            and the gradients at every step may be there.
        path: as for `save_case`.

    Raises:
        ValueError: the path exists or cannot be written, or an array is missing, unexpected,
            misshapen, of another dtype or not finite.
    """
    arrays = {name: np.asarray(value) for name, value in results.items()}
    if isinstance(results.get("loss"), float):
        arrays["loss"] = arrays["loss"].astype(case.dtype)
    check_result_names(arrays, case)
    check_result(arrays, case)
    document = {
        "format": RESULT_FORMAT,
        "version": VERSION,
        "dtype": str(case.dtype),
        "reduction": None if case.targets is None else "mean",
    }
    write_archive(path, "result.json", document, arrays)


def load_result(path: str | Path, case: Case) -> Results:
    """Read what a program made of a case.

    Args:
        case: what the program was given; every array must have the dtype and, but for axes of
            length 1 at the end, the shape that follow from it, so a result in the case's layout
            stays in it; or be one axis of all its numbers, row by row. In JSON they have no dtype.

    Returns:
        As `run_case`, less those of OPTIONAL_RESULTS that the program left out, and the gradients
        at every step, "dz_l0", "dh_l0", "dc_l0" and so on, as far as it returned them.

    Raises:
        ValueError: as `read_case`.
    """
    archive = open_archive(path, "result.json")
    with _named(path):
        given = {
            "format": RESULT_FORMAT,
            "version": VERSION,
            "dtype": str(case.dtype),
            "reduction": None if case.targets is None else "mean",
        }
        check_fields(archive.document, "result.json", given, ("format", "version"))
        for name, value in archive.document.items():
            if isinstance(value, bool) or value != given[name]:
                raise ValueError(f"{name} in result.json is {value!r} but must be {given[name]!r}.")
        check_result_names(archive.headers, case)
        shapes = result_shapes(case) | step_shapes(case)
        arrays = {n: as_shape(archive.read(n), shapes[n]) for n in archive.headers}
        if not archive.typed:
            arrays = _typed(arrays, case.dtype, {})
        check_result(arrays, case)
    return {name: arrays[name] for name in shapes if name in arrays}


def _typed(
    arrays: Mapping[str, Array], dtype: Any, others: Mapping[str, np.dtype[Any]]
) -> dict[str, Array]:
    with np.errstate(over="ignore"):  # an infinity is refused as one
        return {n: value.astype(others.get(n, dtype)) for n, value in arrays.items()}


@contextmanager
def _named(path: str | Path) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        text, name = str(error), str(Path(path))
        raise ValueError(text if text.startswith(f"{name} ") else f"{name}: {text}") from None


def own_sizes(case: Case) -> dict[str, int]:
    """T, B, I, H, L and, with a head, V, of a case in this project's own layout."""
    inputs, hidden, layers, _ = lstm_sizes(case.params)
    sizes = {"T": case.x.shape[0], "B": case.x.shape[1], "I": inputs, "H": hidden, "L": layers}
    if case.head is None:
        return sizes
    return sizes | {"V": len(case.params["weight_out"]) if case.head == "linear" else hidden}


def _case_arrays(case: Case) -> dict[str, Array]:
    arrays = dict(case.params) | {name: getattr(case, name) for name in AXES}
    if case.targets is None:
        assert case.dy is not None
        return arrays | {"dy": case.dy}
    targets = np.asarray(case.targets)
    if np.issubdtype(targets.dtype, np.integer):
        targets = targets.astype(np.int64)
    return arrays | {"targets": targets, "dloss": np.array(case.dloss, np.float64)}
