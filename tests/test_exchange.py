"""Exchange files: what is written is read back bit for bit, and what is wrong is named."""

import json
import os
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from exchange_files import (
    FORMS,
    NAN,
    SIZES,
    X,
    arrays_of,
    assert_same_bits,
    edit,
    loss_case,
    npy,
    put,
    raw,
    remove,
    stack_case,
)

from torch_ref.compare.diff import run_manual
from torch_ref.harness.exchange.archive import write_archive
from torch_ref.harness.exchange.files import (
    load_case,
    load_result,
    read_case,
    save_case,
    save_result,
)
from torch_ref.harness.exchange.rules import OPTIONAL_RESULTS

CASES = {
    "stack": stack_case,
    "bounded": lambda dtype: loss_case("bounded", dtype),
    "linear": lambda dtype: loss_case("linear", dtype),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", CASES)
def test_no_bit_is_lost_on_the_way(tmp_path: Path, kind: str, dtype: Any, form: str) -> None:
    """A case and a result come back with the same dtypes, shapes and bits."""
    case = CASES[kind](dtype)
    save_case(case, tmp_path / f"case{form}")
    loaded = load_case(tmp_path / f"case{form}")
    assert_same_bits(arrays_of(loaded), arrays_of(case))
    assert loaded.dloss == case.dloss
    assert (loaded.dy is None) == (case.dy is None)

    results = run_manual(case)
    save_result(results, case, tmp_path / f"result{form}")
    assert_same_bits(load_result(tmp_path / f"result{form}", loaded), results)
    assert len(os.listdir(tmp_path)) == 2


def test_a_case_in_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    """`--out DIR/case` is refused until somebody has made DIR."""
    case, path = stack_case(), tmp_path / "new" / "newer" / "case"
    save_case(case, path)
    np.testing.assert_array_equal(load_case(path).x, case.x)


def test_files_are_what_every_reader_of_their_format_reads(tmp_path: Path) -> None:
    """np.load and safetensors' own reader find the arrays, little-endian and in C order."""
    case = loss_case()
    fortran = replace(case, x=np.asfortranarray(case.x), h0=case.h0.astype(case.h0.dtype, "F"))
    for form in FORMS:
        save_case(fortran, tmp_path / f"case{form}")
    folder = {p.stem: np.load(p) for p in (tmp_path / "case").glob("*.npy")}
    with np.load(tmp_path / "case.npz") as archived:
        npz = {name: archived[name] for name in archived.files if name != "case.json"}
    tensors = safetensors.numpy.load_file(tmp_path / "case.safetensors")
    expected = arrays_of(case) | {"dloss": np.array(0.1)}
    for found in (folder, npz, tensors):
        assert_same_bits(found, expected)
    assert b"'descr': '<f4', 'fortran_order': False" in (tmp_path / "case/x.npy").read_bytes()
    document = json.loads((tmp_path / "case/case.json").read_text())
    assert document == {
        "format": "manual-lstm-case",
        "version": 1,
        "sizes": SIZES,
        "dtype": "float32",
        "head": "linear",
        "reduction": "mean",
        "layout": {},
        "variant": {},
    }


def shuffled_header(array: np.ndarray) -> bytes:
    header = f"{{'shape': {array.shape},'fortran_order':False , \"descr\":'<f4'}}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + array.tobytes()


@pytest.mark.parametrize(
    "encode",
    [
        lambda a: npy(a.astype(">f4")),
        lambda a: npy(np.asfortranarray(a)),
        lambda a: npy(np.asfortranarray(a.astype(">f4"))),
        lambda a: npy(a, (2, 0)),
        lambda a: npy(a, (3, 0)),
        shuffled_header,
    ],
    ids=["big-endian", "fortran", "both", "version 2", "version 3", "other order of keys"],
)
def test_another_byte_or_element_order_is_not_misread(
    tmp_path: Path, encode: Callable[[np.ndarray], bytes]
) -> None:
    """The same numbers come out, in native byte order, however .npy stored them."""
    case = stack_case()
    save_case(case, tmp_path / "case")
    for name in ("x", "weight_ih_l0"):
        (tmp_path / f"case/{name}.npy").write_bytes(encode(arrays_of(case)[name]))
    assert_same_bits(arrays_of(load_case(tmp_path / "case")), arrays_of(case))


def test_layout_and_variant_come_back_and_are_never_dropped(tmp_path: Path) -> None:
    """read_case returns both; load_case, which cannot, refuses the file."""
    case = loss_case()
    theirs = replace(case, params={"kernel": np.ones((9, 20), np.float32)})
    layout, variant = {"gates": "ifog", "deep": [1, {"a": None}]}, {"peepholes": True}
    save_case(
        theirs,
        tmp_path / "a",
        layout_json=layout,
        variant_json=variant,
        sizes={name: np.int64(size) for name, size in SIZES.items()},
        head="linear",
    )
    stored = read_case(tmp_path / "a")
    assert (stored.layout, stored.variant) == (layout, variant)
    assert (stored.sizes, stored.head) == (SIZES, "linear")
    assert_same_bits(arrays_of(stored.case), arrays_of(theirs))
    with pytest.raises(ValueError, match=r"layout in case.json is .* but must be {}: read_case"):
        load_case(tmp_path / "a")
    with pytest.raises(ValueError, match=r"sizes is None but must be given"):
        save_case(theirs, tmp_path / "b", layout_json=layout)
    for foreign in ({"gates": {"i"}}, {"gates": float("nan")}):
        with pytest.raises(ValueError, match=r"b cannot hold case.json as JSON \("):
            save_case(theirs, tmp_path / "b", layout_json=foreign, sizes=SIZES, head="linear")
    assert os.listdir(tmp_path) == ["a"]
    results = {"dkernel": theirs.params["kernel"], "loss": np.float32(1)}
    save_result(results, theirs, tmp_path / "r")
    assert set(load_result(tmp_path / "r", theirs)) == {"dkernel", "loss"}


def test_what_a_program_left_out_stays_missing_and_the_rest_is_demanded(tmp_path: Path) -> None:
    """Only the optional results may be missing, and nothing is filled in for them."""
    case = loss_case()
    results = run_manual(case)
    some = {name: value for name, value in results.items() if name not in OPTIONAL_RESULTS}
    save_result(some, case, tmp_path / "some")
    assert set(load_result(tmp_path / "some", case)) == set(some)
    for name in some:
        save_result(some, case, tmp_path / f"no-{name}")
        (tmp_path / f"no-{name}/{name}.npy").unlink()
        with pytest.raises(ValueError, match=rf"no-{name}: {name} is missing but must be \("):
            load_result(tmp_path / f"no-{name}", case)


@pytest.mark.parametrize("axes", [-1, 2])
def test_axes_of_length_one_at_the_end_are_no_fault(tmp_path: Path, axes: int) -> None:
    """A language without scalars and vectors, or that drops such axes, can write a result."""
    case = stack_case()
    params = {**case.params, "weight_ih_l0": case.params["weight_ih_l0"][:, :1].copy()}
    one = replace(case, x=case.x[..., :1].copy(), params=params)
    results = run_manual(one)
    save_result(results, one, tmp_path / "result")
    for name, value in results.items():
        other = value.reshape(*value.shape, *(1,) * axes) if axes > 0 else value
        other = other[..., 0] if axes < 0 and value.shape[-1] == 1 else other
        np.save(tmp_path / f"result/{name}.npy", np.asfortranarray(other))
    assert np.load(tmp_path / "result/dx.npy").ndim == (5 if axes > 0 else 2)
    assert_same_bits(load_result(tmp_path / "result", one), results)


BAD_CASES: list[tuple[str, Callable[[Path], None], str]] = [
    ("missing", remove("c0.npy"), r"case: c0 is missing but must be \(L, B, H\)\."),
    ("missing scalar", remove("dloss.npy"), r"dloss is missing but must be \(\)\."),
    ("extra", put("weight_foo.npy", X), r"weight_foo is not expected: the arrays are weight_ih_l0"),
    ("both ends", put("dy.npy", X), r"dy is not expected"),
    ("misshapen", put("x.npy", X[0]), r"x has shape \(2, 4\) but must be \(T, B, I\): three axes"),
    ("other size", put("x.npy", X[:2]), r"x has shape \(2, 2, 4\) but must be .* with T = 3"),
    ("weights", put("bias_l1.npy", X[0, 0]), r"bias_l1 has shape \(4,\) but must be .* 4H = 20"),
    ("precision", put("x.npy", X.astype("f8")), r"x is float64 but must be float32"),
    ("integers", put("x.npy", X.astype("i4")), r"x is int32 but must be float32"),
    ("half", put("x.npy", X.astype("f2")), r"x is float16 but must be float32"),
    ("text", put("x.npy", np.array(["a"])), r"case has x.npy of dtype '<U1' but it must be"),
    ("objects", put("x.npy", np.array([None])), r"case has x.npy of dtype '\|O' but it must be"),
    ("void", put("x.npy", np.zeros(1, "f4,f4")), r"case has x.npy without descr"),
    ("NaN", put("x.npy", NAN), r"x\[1, 0, 1\] is nan but every element must be finite \(1 of 24"),
    ("dloss", put("dloss.npy", np.array(np.inf)), r"dloss\[\] is inf but every element"),
    ("dloss shape", put("dloss.npy", np.ones(1)), r"dloss has shape \(1,\) but must be \(\)"),
    ("targets", put("targets.npy", np.full((3, 2), 4)), r"targets\[0, 0\] is 4 but must be from 0"),
    ("one-hot", put("targets.npy", X), r"targets is float32 but must be whole numbers"),
    ("empty", put("x.npy", X[:0]), r"x.npy of shape \(0, 2, 4\) but every axis must have"),
    ("version", edit(version=2), r"version in case.json is 2 but must be 1\."),
    ("true", edit(version=True), r"version in case.json is True but must be 1\."),
    ("format", edit(format="foo"), r"format in case.json is 'foo' but must be 'manual-lstm-case'"),
    ("result", edit(format="manual-lstm-result"), r"must be 'manual-lstm-case'"),
    ("field", edit(colour="red"), r"case.json has a field 'colour' but must have none but format"),
    ("no field", edit(dtype="absent"), r"dtype is missing in case.json but must be float32 or"),
    ("dtype", edit(dtype="float16"), r"dtype in case.json is 'float16' but must be float32 or"),
    ("other dtype", edit(dtype="float64"), r"is float32 but must be float64"),
    ("head", edit(head="softmax"), r"head in case.json is 'softmax' but must be 'linear', 'bound"),
    ("other head", edit(head="bounded"), r"V in case.json is 4 but must be H = 5 with the bounded"),
    ("reduction", edit(reduction="sum"), r"reduction in case.json is 'sum' but must be 'mean'"),
    ("layout", edit(layout="keras"), r"layout in case.json is 'keras' but must be an object"),
    ("sizes", edit(sizes={"T": 3}), r"sizes in case.json has \['T'\] but must have \['T', 'B'"),
    ("L", edit(sizes=SIZES | {"L": 10**15}), r"L in case.json is 1000000000000"),
    ("T", edit(sizes=SIZES | {"T": -3}), r"T in case.json is -3 but must be"),
    ("no json", remove("case.json"), r"case has case.json missing\."),
    ("not json", raw("case.json", b"{"), r"case has case.json that is not JSON"),
    ("no object", raw("case.json", b"[]"), r"case has case.json that is not a JSON object"),
    ("twice", raw("case.json", b'{"a": 1, "a": 2}'), r"not JSON \(one key twice\)"),
    ("no number", raw("case.json", b'{"version": NaN}'), r"not JSON \(the word NaN\)"),
    ("deep", raw("case.json", b"[" * 2**19), r"not JSON"),
    ("long", raw("case.json", b" " * 2**20 + b"{}"), r"case.json of more than 1048576 bytes"),
    ("bytes", raw("case.json", b"\xff"), r"not JSON"),
    ("short", raw("x.npy", npy(X)[:-1]), r"x.npy of 223 bytes but its header promises 224\."),
    ("tail", raw("x.npy", npy(X) + b"\0"), r"x.npy of 225 bytes but its header promises 224\."),
    ("no npy", raw("x.npy", b"MZ" + bytes(200)), r"x.npy that does not begin as .npy"),
    ("odd name", put("a b.npy", X), r"case has an array 'a b' but a name must begin"),
]


@pytest.mark.parametrize(
    ("change", "sentence"), [b[1:] for b in BAD_CASES], ids=[b[0] for b in BAD_CASES]
)
def test_a_wrong_case_is_refused_in_a_sentence_that_names_it(
    tmp_path: Path, change: Callable[[Path], None], sentence: str
) -> None:
    """Whatever is wrong, the error says which array or field, and what was expected."""
    save_case(loss_case(), tmp_path / "case")
    change(tmp_path / "case")
    with pytest.raises(ValueError, match=sentence) as caught:
        load_case(tmp_path / "case")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / "case"))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (put("dx.npy", X[0]), r"dx has shape \(2, 4\) but must be \(3, 2, 4\)\."),
        (put("loss.npy", np.zeros(2, "f4")), r"loss has shape \(2,\) but must be \(\)\."),
        (put("dx.npy", X.astype("f8")), r"dx is float64 but must be float32, the case's own"),
        (put("dx.npy", NAN), r"dx\[1, 0, 1\] is nan but every element must be finite"),
        (
            put("loss.npy", np.float32(-np.inf)),
            r"loss\[\] is -inf but every element must be finite",
        ),
        (put("dweight.npy", X), r"dweight is not expected: the arrays are loss, h_n"),
        (put("y.npy", X), r"y is not expected"),
        (edit("result.json", version=2), r"version in result.json is 2 but must be 1\."),
        (edit("result.json", dtype="float64"), r"dtype in result.json is 'float64' but must be"),
        (edit("result.json", reduction="sum"), r"reduction in result.json is 'sum' but must be"),
        (edit("result.json", note="hi"), r"result.json has a field 'note' but must have none but"),
        (edit("result.json", format="absent"), r"format is missing in result.json but must be man"),
        (remove("result.json"), r"result has result.json missing\."),
    ],
)
def test_a_wrong_result_is_refused_in_a_sentence_that_names_it(
    tmp_path: Path, change: Callable[[Path], None], sentence: str
) -> None:
    """A result is held to the shapes and the dtype of its case."""
    case = loss_case()
    save_result(run_manual(case), case, tmp_path / "result")
    change(tmp_path / "result")
    with pytest.raises(ValueError, match=sentence):
        load_result(tmp_path / "result", case)


@pytest.mark.parametrize("ending", ["", ".npz", ".safetensors"])
def test_numbers_of_a_program_that_knows_no_axes_are_refused(tmp_path: Path, ending: str) -> None:
    """One axis, row by row, as memory holds them, is refused where JSON has it as one list."""
    case, folder = stack_case(), tmp_path / f"result{ending}"
    right = run_manual(case)
    flat = {name: value.ravel() for name, value in right.items()}
    document = {"format": "manual-lstm-result", "version": 1}
    write_archive(folder, "result.json", document, flat)
    assert_same_bits(load_result(folder, case), right)


def test_infinite_loss_of_an_improbable_target_that_is_refused(tmp_path: Path) -> None:
    """-log of a probability that rounds to 0, as the honest program writes it."""
    case = loss_case()
    save_result(run_manual(case) | {"loss": np.float32(np.inf)}, case, tmp_path / "result")
    assert np.isposinf(load_result(tmp_path / "result", case)["loss"])
