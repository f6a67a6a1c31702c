"""What the files of a case and of a result must hold: fields, names, shapes, dtypes."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from manual_lstm.arrays import check_array, check_count, check_finite, check_targets
from torch_ref.harness.exchange.npy import Array
from torch_ref.oracles.case import Case
from torch_ref.oracles.variant import PEEPHOLES, Variant

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
AXES = {"x": "T,B,I", "h0": "L,B,H", "c0": "L,B,H", "dh_n": "L,B,H", "dc_n": "L,B,H"}


def own_axes(document: Mapping[str, Any]) -> dict[str, str]:
    axes, variant = {}, Variant.from_json(document["variant"])
    for k in range(document["sizes"]["L"]):
        axes[f"weight_ih_l{k}"] = "4H,I" if k == 0 else "4H,H"
        axes[f"weight_hh_l{k}"] = "4H,H"
        axes[f"bias_l{k}"] = "4H"
        axes |= {f"{name}_l{k}": "H" for name in PEEPHOLES if variant.peepholes}
    if document["head"] == "linear":
        axes |= {"weight_out": "V,H", "bias_out": "V"}
    return axes | AXES | loss_axes(document)


def loss_axes(document: Mapping[str, Any]) -> dict[str, str]:
    return {"dy": "T,B,H"} if document["head"] is None else {"targets": "T,B", "dloss": ""}


def check_fields(
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


def check_document(document: Mapping[str, Any]) -> None:
    """case.json, field by field; the order matters where one decides what another must be."""
    for name, expected in (("format", CASE_FORMAT), ("version", VERSION)):
        found = document.get(name)
        if isinstance(found, bool) or found != expected:
            raise ValueError(f"{name} in case.json is {found!r} but must be {expected!r}.")
    check_fields(document, "case.json", _CASE_FIELDS, tuple(_CASE_FIELDS))
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


def is_own(document: Mapping[str, Any]) -> bool:
    """Whether the arrays are arranged, and their cell is one, as in this project."""
    try:
        Variant.from_json(document["variant"])
    except ValueError:
        return False
    return not document["layout"]


def check_case_names(document: Mapping[str, Any], names: Mapping[str, Any]) -> None:
    axes = AXES | loss_axes(document)
    if is_own(document):
        layers = document["sizes"]["L"]
        if layers > len(names):
            raise ValueError(f"L in case.json is {layers} but there are {len(names)} arrays.")
        axes = own_axes(document)
    for name in axes:
        if name not in names:
            raise ValueError(f"{name} is missing but must be ({axes[name].replace(',', ', ')}).")
    for name in names:
        if name not in axes and (is_own(document) or name in ("dy", "targets", "dloss")):
            raise ValueError(f"{name} is not expected: the arrays are {', '.join(axes)}.")


def check_case(document: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
    dtype = np.dtype(document["dtype"])
    own = is_own(document)
    axes = own_axes(document) if own else {}
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


def as_shape(array: Array, shape: tuple[int, ...]) -> Array:
    """The array, but for axes of length 1 at the end, which some languages add or drop, and for
    all its numbers in one axis, row by row.
    """
    found = array.shape
    if found == (math.prod(shape),):
        return array.reshape(shape)
    most = max(len(found), len(shape))
    same = found + (1,) * (most - len(found)) == shape + (1,) * (most - len(shape))
    return array.reshape(shape) if same else array


def step_shapes(case: Case) -> dict[str, tuple[int, ...]]:
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


def result_shapes(case: Case) -> dict[str, tuple[int, ...]]:
    output = {"loss": ()} if case.dy is None else {"y": case.dy.shape}
    inputs = dict(case.params) | {"x": case.x, "h0": case.h0, "c0": case.c0}
    gradients = {f"d{name}": value.shape for name, value in inputs.items()}
    return {**output, "h_n": case.dh_n.shape, "c_n": case.dc_n.shape, **gradients}


def check_result_names(names: Mapping[str, Any], case: Case) -> None:
    shapes = result_shapes(case)
    for name, shape in shapes.items():
        if name not in names and name not in OPTIONAL_RESULTS:
            raise ValueError(f"{name} is missing but must be {shape}.")
    for name in names:
        if name not in shapes and name not in step_shapes(case):
            raise ValueError(f"{name} is not expected: the arrays are {', '.join(shapes)}.")


def check_result(arrays: Mapping[str, Array], case: Case) -> None:
    shapes = result_shapes(case) | step_shapes(case)
    for name, array in arrays.items():
        if array.shape != shapes[name]:
            raise ValueError(f"{name} has shape {array.shape} but must be {shapes[name]}.")
        if array.dtype != case.dtype:
            raise ValueError(f"{name} is {array.dtype} but must be {case.dtype}, the case's own.")
        # -log of a probability that rounds to 0 is infinite; whether it may be is judged later.
        if not (name == "loss" and np.isposinf(array)):
            check_finite(name, array)
