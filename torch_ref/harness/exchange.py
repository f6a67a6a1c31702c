"""Cases and results as files that any language can read and write.

A case is case.json and the arrays of `Case` under their own names; a result is result.json and
"loss" or "y", the last states, and the gradients under "d" + name. Either is a folder of .npy
files, an .npz or a .safetensors: torch_ref/harness/archive.py.

case.json has format "manual-lstm-case", version 1, sizes (T, B, I, H, L and, with a head, V),
dtype, head ("linear", "bounded" or null), reduction ("mean" or null), layout and variant: objects
that are empty where the arrays are arranged, and the cell computed, as everywhere in this project.
result.json has format "manual-lstm-result", version 1; dtype and reduction may be repeated.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from manual_lstm.arrays import check_array, check_count, check_finite, check_targets
from manual_lstm.model import Head
from manual_lstm.params import lstm_sizes
from torch_ref.harness.archive import open_archive, write_archive
from torch_ref.harness.npy import Array
from torch_ref.oracles.case import Case, Results

VERSION = 1
CASE_FORMAT = "manual-lstm-case"
RESULT_FORMAT = "manual-lstm-result"

# What a program may leave out of its result; then it is not verified.
OPTIONAL_RESULTS = ("h_n", "c_n", "dx", "dh0", "dc0")

_CASE_FIELDS = {
    "format": CASE_FORMAT,
    "version": VERSION,
    "sizes": "an object of whole numbers",
    "dtype": "float32 or float64",
    "head": "'linear', 'bounded' or null",
    "reduction": "'mean' or, without a head, null",
    "layout": "an object",
    "variant": "an object",
}
_AXES = {"x": "T,B,I", "h0": "L,B,H", "c0": "L,B,H", "dh_n": "L,B,H", "dc_n": "L,B,H"}


@dataclass(frozen=True)
class CaseFile:
    """A case and what else its file says.

    Attributes:
        case: the arrays. If `layout` is not empty they are arranged as it says, if `variant` is
            not empty there may be others than here; either way nothing but their dtype and their
            being finite has been checked.
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
        path: ".npz" or ".safetensors" at its end says which file, else a folder. It must not
            exist, but for an empty folder.
        layout_json, variant_json: what the case's arrays differ in from this project's.
        sizes: T, B, I, H, L and, with a head, V; None reads them from the arrays, which needs
            this project's own layout.
        head: of a case with targets; None is "linear" if there is a weight_out, else "bounded".

    Raises:
        ValueError: the path exists or cannot be written, or the case's arrays do not fit together.
    """
    layout, variant = dict(layout_json or {}), dict(variant_json or {})
    if sizes is None and (layout or variant):
        raise ValueError("sizes is None but must be given with a layout or a variant.")
    document: dict[str, Any] = {
        "format": CASE_FORMAT,
        "version": VERSION,
        "sizes": dict(_own_sizes(case) if sizes is None else sizes),
        "dtype": str(case.dtype),
        "head": case.head if head is None else head,
        "reduction": None if case.targets is None else "mean",
        "layout": layout,
        "variant": variant,
    }
    arrays = _case_arrays(case)
    _check_document(document)
    document["sizes"] = {name: int(size) for name, size in document["sizes"].items()}
    _check_case_names(document, arrays)
    _check_case(document, arrays)
    write_archive(path, "case.json", document, arrays)


def load_case(path: str | Path) -> Case:
    """Read a case in this project's own layout; `read_case` reads every case.

    Raises:
        ValueError: as `read_case`, or the file has a layout or a variant.
    """
    stored = read_case(path)
    for name, value in (("layout", stored.layout), ("variant", stored.variant)):
        if value:
            raise ValueError(
                f"{path}: {name} in case.json is {value} but must be {{}}: read_case reads it."
            )
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
        _check_document(document)
        _check_case_names(document, archive.headers)
        arrays = {name: archive.read(name) for name in archive.headers}
        _check_case(document, arrays)
    x, h0, c0, dh_n, dc_n = (arrays.pop(name) for name in _AXES)
    dy, targets, dloss = (arrays.pop(name, None) for name in ("dy", "targets", "dloss"))
    if targets is None or dloss is None:
        case = Case(arrays, x, h0, c0, dh_n, dc_n, dy=dy)
    else:
        targets = targets.astype(np.int64)
        case = Case(arrays, x, h0, c0, dh_n, dc_n, targets=targets, dloss=float(dloss))
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
    _check_result_names(arrays, case)
    _check_result(arrays, case)
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
            stays in it.

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
        _check_fields(archive.document, "result.json", given, ("format", "version"))
        for name, value in archive.document.items():
            if isinstance(value, bool) or value != given[name]:
                raise ValueError(f"{name} in result.json is {value!r} but must be {given[name]!r}.")
        _check_result_names(archive.headers, case)
        shapes = _result_shapes(case) | _step_shapes(case)
        arrays = {n: _as_shape(archive.read(n), shapes[n]) for n in archive.headers}
        _check_result(arrays, case)
    return {name: arrays[name] for name in shapes if name in arrays}


@contextmanager
def _named(path: str | Path) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        text, name = str(error), str(Path(path))
        raise ValueError(text if text.startswith(f"{name} ") else f"{name}: {text}") from None


def _own_sizes(case: Case) -> dict[str, int]:
    inputs, hidden, layers, _ = lstm_sizes(case.params)
    sizes = {"T": case.x.shape[0], "B": case.x.shape[1], "I": inputs, "H": hidden, "L": layers}
    if case.head is None:
        return sizes
    return sizes | {"V": len(case.params["weight_out"]) if case.head == "linear" else hidden}


def _own_axes(document: Mapping[str, Any]) -> dict[str, str]:
    axes = {}
    for k in range(document["sizes"]["L"]):
        axes[f"weight_ih_l{k}"] = "4H,I" if k == 0 else "4H,H"
        axes[f"weight_hh_l{k}"] = "4H,H"
        axes[f"bias_l{k}"] = "4H"
    if document["head"] == "linear":
        axes |= {"weight_out": "V,H", "bias_out": "V"}
    return axes | _AXES | _loss_axes(document)


def _loss_axes(document: Mapping[str, Any]) -> dict[str, str]:
    return {"dy": "T,B,H"} if document["head"] is None else {"targets": "T,B", "dloss": ""}


def _case_arrays(case: Case) -> dict[str, Array]:
    arrays = dict(case.params) | {name: getattr(case, name) for name in _AXES}
    if case.targets is None:
        assert case.dy is not None
        return arrays | {"dy": case.dy}
    targets = np.asarray(case.targets)
    if np.issubdtype(targets.dtype, np.integer):
        targets = targets.astype(np.int64)
    return arrays | {"targets": targets, "dloss": np.array(case.dloss, np.float64)}


def _check_fields(
    document: Mapping[str, Any], where: str, known: Mapping[str, Any], required: tuple[str, ...]
) -> None:
    for name in required:
        if name not in document:
            raise ValueError(f"{name} is missing in {where} but must be {known[name]}.")
    for name in document:
        if name not in known:
            raise ValueError(
                f"{where} has a field {name[:80]!r} but must have none but {', '.join(known)}."
            )


def _check_document(document: Mapping[str, Any]) -> None:
    """case.json, field by field; the order matters where one decides what another must be."""
    for name, expected in (("format", CASE_FORMAT), ("version", VERSION)):
        found = document.get(name)
        if isinstance(found, bool) or found != expected:
            raise ValueError(f"{name} in case.json is {found!r} but must be {expected!r}.")
    _check_fields(document, "case.json", _CASE_FIELDS, tuple(_CASE_FIELDS))
    head = document["head"]
    valid = {
        "dtype": document["dtype"] in ("float32", "float64"),
        "head": head in ("linear", "bounded", None),
        "reduction": document["reduction"] == (None if head is None else "mean"),
        "sizes": isinstance(document["sizes"], dict),
        "layout": isinstance(document["layout"], dict),
        "variant": isinstance(document["variant"], dict),
    }
    for name, is_valid in valid.items():
        if not is_valid:
            raise ValueError(
                f"{name} in case.json is {str(document[name])[:80]!r} but must be "
                f"{_CASE_FIELDS[name]}."
            )
    sizes = document["sizes"]
    names = ("T", "B", "I", "H", "L") if head is None else ("T", "B", "I", "H", "L", "V")
    if set(sizes) != set(names):
        raise ValueError(f"sizes in case.json has {sorted(sizes)} but must have {list(names)}.")
    for name in names:
        check_count(f"{name} in case.json", sizes[name])
    if head == "bounded" and sizes["V"] != sizes["H"]:
        raise ValueError(
            f"V in case.json is {sizes['V']} but must be H = {sizes['H']} with the bounded head."
        )


def _is_own(document: Mapping[str, Any]) -> bool:
    return not document["layout"] and not document["variant"]


def _check_case_names(document: Mapping[str, Any], names: Mapping[str, Any]) -> None:
    axes = _AXES | _loss_axes(document)
    if _is_own(document):
        layers = document["sizes"]["L"]
        if layers > len(names):
            raise ValueError(f"L in case.json is {layers} but there are {len(names)} arrays.")
        axes = _own_axes(document)
    for name in axes:
        if name not in names:
            raise ValueError(f"{name} is missing but must be ({axes[name].replace(',', ', ')}).")
    for name in names:
        if name not in axes and (_is_own(document) or name in ("dy", "targets", "dloss")):
            raise ValueError(f"{name} is not expected: the arrays are {', '.join(axes)}.")


def _check_case(document: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
    dtype = np.dtype(document["dtype"])
    own = _is_own(document)
    axes = _own_axes(document) if own else {}
    sizes = document["sizes"] | {"4H": 4 * document["sizes"]["H"]}
    for name, array in arrays.items():
        if name == "targets":
            if own:
                check_targets(array, sizes["V"], sizes)
            elif not np.issubdtype(array.dtype, np.integer):
                raise ValueError(f"targets is {array.dtype} but must be whole numbers.")
            continue
        expected = np.dtype(np.float64) if name == "dloss" else dtype
        if array.dtype != expected:
            raise ValueError(f"{name} is {array.dtype} but must be {expected}.")
        if name == "dloss" and array.shape != ():
            raise ValueError(f"dloss has shape {array.shape} but must be ().")
        if axes.get(name):
            check_array(name, array, axes[name], sizes)
        else:
            check_finite(name, array)


def _as_shape(array: Array, shape: tuple[int, ...]) -> Array:
    """The array, but for axes of length 1 at the end, which some languages add or drop."""
    found = array.shape
    most = max(len(found), len(shape))
    same = found + (1,) * (most - len(found)) == shape + (1,) * (most - len(shape))
    return array.reshape(shape) if same else array


def _step_shapes(case: Case) -> dict[str, tuple[int, ...]]:
    """What a program may return beside a result: the gradients at every step of each layer."""
    if case.h0.ndim != 3 or "weight_hh_l0" not in case.params:  # the axes of another layout
        return {}
    layers, batch, hidden = case.h0.shape
    widths = {"dz": 4 * hidden, "dh": hidden, "dc": hidden}
    return {
        f"{kind}_l{k}": (len(case.x), batch, width)
        for k in range(layers)
        for kind, width in widths.items()
    }


def _result_shapes(case: Case) -> dict[str, tuple[int, ...]]:
    output = {"loss": ()} if case.dy is None else {"y": case.dy.shape}
    inputs = dict(case.params) | {"x": case.x, "h0": case.h0, "c0": case.c0}
    gradients = {f"d{name}": value.shape for name, value in inputs.items()}
    return {**output, "h_n": case.dh_n.shape, "c_n": case.dc_n.shape, **gradients}


def _check_result_names(names: Mapping[str, Any], case: Case) -> None:
    shapes = _result_shapes(case)
    for name, shape in shapes.items():
        if name not in names and name not in OPTIONAL_RESULTS:
            raise ValueError(f"{name} is missing but must be {shape}.")
    for name in names:
        if name not in shapes and name not in _step_shapes(case):
            raise ValueError(f"{name} is not expected: the arrays are {', '.join(shapes)}.")


def _check_result(arrays: Mapping[str, Array], case: Case) -> None:
    shapes = _result_shapes(case) | _step_shapes(case)
    for name, array in arrays.items():
        if array.shape != shapes[name]:
            raise ValueError(f"{name} has shape {array.shape} but must be {shapes[name]}.")
        if array.dtype != case.dtype:
            raise ValueError(f"{name} is {array.dtype} but must be {case.dtype}, the case's own.")
        # -log of a probability that rounds to 0 is infinite; whether it may be is judged later.
        if not (name == "loss" and np.isposinf(array)):
            check_finite(name, array)
