"""Exchange files from somebody who is careless, or worse: refused, unread, in a sentence."""

import json
import os
import resource
import struct
import tracemalloc
import zipfile
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
    loss_case,
    npy,
    put,
    stack_case,
)
from hypothesis import given
from hypothesis import strategies as st

from manual_lstm import alphabet
from torch_ref import character_case
from torch_ref.harness.exchange import archive
from torch_ref.harness.exchange.files import (
    load_case,
    save_case,
)


class Detonator:
    """Unpickling it creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("form", ["", ".npz"])
def test_nothing_is_unpickled(tmp_path: Path, form: str) -> None:
    """A pickle inside an array of objects is refused unread."""
    bomb = np.array([Detonator(tmp_path / "went off")], dtype=object)
    save_case(loss_case(), tmp_path / "case")
    put("x.npy", bomb)(tmp_path / "case")
    if form:
        with zipfile.ZipFile(tmp_path / "case.npz", "w") as made:
            for file in (tmp_path / "case").iterdir():
                made.write(file, file.name)
    with pytest.raises(ValueError, match=r"x.npy of dtype '\|O'"):
        load_case(tmp_path / f"case{form}")
    assert not (tmp_path / "went off").exists()


def test_no_link_leads_out_of_the_folder_and_no_pipe_is_waited_for(tmp_path: Path) -> None:
    """A symbolic link, a device or a pipe in the place of an array is refused unopened."""
    save_case(loss_case(), tmp_path / "case")
    x = tmp_path / "case/x.npy"
    x.rename(tmp_path / "elsewhere.npy")
    x.symlink_to("../elsewhere.npy")
    with pytest.raises(ValueError, match=r"case has x.npy as a symbolic link"):
        load_case(tmp_path / "case")
    x.unlink()
    os.mkfifo(x)
    with pytest.raises(ValueError, match=r"case has x.npy but not as a file"):
        load_case(tmp_path / "case")
    os.mkfifo(tmp_path / "pipe.npz")
    with pytest.raises(ValueError, match=r"pipe.npz must be a folder or a file that ends in"):
        load_case(tmp_path / "pipe.npz")


@pytest.mark.parametrize("name", ["../x", "/tmp/x", "a/b", "..", "", "x\n", ".x"])
def test_no_name_in_an_archive_is_a_path(tmp_path: Path, name: str) -> None:
    """Names that would lead out of a folder are refused, read or written."""
    case = loss_case()
    save_case(case, tmp_path / "case.npz")
    with zipfile.ZipFile(tmp_path / "case.npz", "a") as made:
        made.writestr(f"{name}.npy", npy(X))
    with pytest.raises(ValueError, match=r"has an array .* but a name must begin with a letter"):
        load_case(tmp_path / "case.npz")
    arrays = safetensors.numpy.save({name: X}, {"case.json": "{}"})
    (tmp_path / "case.safetensors").write_bytes(arrays)
    with pytest.raises(ValueError, match=r"has an array .* but a name must begin with a letter"):
        load_case(tmp_path / "case.safetensors")
    theirs = replace(case, params={name: X})
    with pytest.raises(ValueError, match="cannot hold an array named"):
        save_case(theirs, tmp_path / "case", layout_json={"a": 1}, sizes=SIZES, head="linear")


def npy_header(shape: str) -> bytes:
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header


def refuse_without_reading(path: Path, sentence: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=sentence):
            load_case(path)
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


def test_an_archive_that_expands_beyond_the_limit_is_not_expanded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than MAX_BYTES is refused from the headers alone, whatever the kind of file."""
    count = archive.MAX_BYTES // 4
    for form in FORMS:
        save_case(loss_case(), tmp_path / f"case{form}")
    with (tmp_path / "case/x.npy").open("wb") as file:
        file.write(npy_header(f"({count},)"))
        file.truncate(file.tell() + 4 * count)  # sparse
    refuse_without_reading(
        tmp_path / "case", r"case expands to 10737\d+ bytes but must stay within"
    )

    tensors = json.dumps(
        {
            "__metadata__": {"case.json": "{}"},
            "x": {"dtype": "F32", "shape": [count + 1], "data_offsets": [0, 4 * count + 4]},
        }
    ).encode()
    with (tmp_path / "case.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(tensors)) + tensors)
        file.truncate(8 + len(tensors) + 4 * count + 4)
    refuse_without_reading(tmp_path / "case.safetensors", r"case.safetensors expands to 107374182")

    zeros = np.zeros(2**20, np.float32)
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("case.json", "{}")
        for k in range(20):
            made.writestr(f"x{k}.npy", npy(zeros))
    assert (tmp_path / "bomb.npz").stat().st_size < 2**17
    monkeypatch.setattr(archive, "MAX_BYTES", 2**26)
    refuse_without_reading(tmp_path / "bomb.npz", r"expands to 83886080 bytes but must stay within")
    with pytest.raises(ValueError, match=r"big would expand to \d+ bytes but must stay within"):
        save_case(
            replace(stack_case(), x=zeros.repeat(17)[None, None]),
            tmp_path / "big",
            layout_json={"a": 1},
            sizes={"T": 1, "B": 1, "I": 1, "H": 1, "L": 1},
        )


@pytest.mark.parametrize(
    "content",
    [
        npy_header("(999999999999999999, 999999999999999999)"),
        npy_header("(" + "9" * 5000 + ",)"),
        npy_header("(-24,)"),
        npy_header("(0, 99999999999)"),
        npy_header("(" * 5000),
        npy_header("(24,,)"),
        npy_header("(24, 'a')"),
        npy_header("(24,), 'shape': (24,)"),
        b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + bytes(100),
        b"\x93NUMPY\x09\x00" + bytes(100),
        b"\x93NUMPY",
        b"",
    ],
)
def test_an_absurd_header_takes_no_memory(tmp_path: Path, content: bytes) -> None:
    """A shape or a header length that no file has is refused before anything is allocated."""
    save_case(loss_case(), tmp_path / "case")
    (tmp_path / "case/x.npy").write_bytes(content + bytes(96))
    refuse_without_reading(tmp_path / "case", r"case has x\.npy")


def test_a_zip_with_a_directory_bomb_or_another_method_is_refused(tmp_path: Path) -> None:
    """zipfile would hold every entry in memory, and lzma asks for a dictionary of any size."""
    save_case(loss_case(), tmp_path / "case.npz")
    sound = (tmp_path / "case.npz").read_bytes()
    end = sound.rfind(b"PK\x05\x06")
    large = sound[: end + 12] + struct.pack("<I", 2**30) + sound[end + 16 :]
    (tmp_path / "case.npz").write_bytes(large)
    refuse_without_reading(tmp_path / "case.npz", "has a zip directory of more than 4194304 bytes")
    zip64 = sound[:end] + b"PK\x06\x07" + bytes(16) + sound[end:]
    (tmp_path / "case.npz").write_bytes(zip64)
    refuse_without_reading(tmp_path / "case.npz", "has a zip directory of more than 4194304 bytes")
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        with zipfile.ZipFile(tmp_path / "case.npz", "w", method) as made:
            made.writestr("case.json", "{}")
        refuse_without_reading(tmp_path / "case.npz", "compressed by another method than deflate")
    header = struct.pack("<Q", 2**40) + sound
    (tmp_path / "case.safetensors").write_bytes(header)
    refuse_without_reading(
        tmp_path / "case.safetensors", "has a safetensors header of 1099511627776"
    )
    long = json.dumps({"__metadata__": {"case.json": "{}"}}).encode().ljust(2**22 + 8)
    (tmp_path / "case.safetensors").write_bytes(struct.pack("<Q", len(long)) + long)
    refuse_without_reading(tmp_path / "case.safetensors", "has a safetensors header of 4194312")


def overwrite(content: bytes, place: int, new: bytes) -> bytes:
    return content[:place] + new + content[place + len(new) :]


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda z: z.replace(b"h0.npy", b"c0.npy"), "has one name twice"),
        (
            lambda z: overwrite(z, z.find(b"x.npy") + 5, b"\xff" * 20),
            "Error -3 while",
        ),
        (lambda z: overwrite(z, z.rfind(b"x.npy") - 38, b"\x01"), r"x\.npy.* is encrypted"),
        (lambda z: overwrite(z, z.rfind(b"x.npy") - 40, b"\xff"), r"\(zip file version 25\.5"),
        (lambda z: overwrite(z, z.rfind(b"x.npy") - 30, b"\0" * 4), r"\(Bad CRC-32"),
        (lambda z: z[:-1], "no end of a zip directory"),
    ],
    ids=["same name twice", "deflate", "encrypted", "version", "checksum", "no end"],
)
def test_a_damaged_zip_is_refused_whatever_zipfile_raises(
    tmp_path: Path, damage: Callable[[bytes], bytes], sentence: str
) -> None:
    """Each kind of exception that the zip reader has for a damaged file becomes a sentence."""
    save_case(loss_case(), tmp_path / "case")
    with zipfile.ZipFile(tmp_path / "case.npz", "w", zipfile.ZIP_DEFLATED) as made:
        for file in sorted((tmp_path / "case").iterdir()):
            made.write(file, file.name)
    sound = (tmp_path / "case.npz").read_bytes()
    assert load_case(tmp_path / "case.npz").x.shape == (3, 2, 4)
    (tmp_path / "case.npz").write_bytes(damage(sound))
    with pytest.raises(ValueError, match=sentence):
        load_case(tmp_path / "case.npz")


@pytest.mark.parametrize("form", FORMS)
def test_a_full_disk_is_one_sentence_and_leaves_nothing_behind(tmp_path: Path, form: str) -> None:
    """The write fails in the middle; neither the target nor the temporary file is there."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (300, hard))
        with pytest.raises(ValueError, match=rf"case{form} cannot be written: File too large\."):
            save_case(loss_case(), tmp_path / f"case{form}")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("form", FORMS)
def test_an_interrupted_write_leaves_nothing_behind(
    tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C after some arrays, or just before the rename, is as if nothing had been written."""

    def interrupt(*_: Any) -> None:
        assert len(os.listdir(tmp_path)) == 1
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "rename", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save_case(loss_case(), tmp_path / f"case{form}")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("form", FORMS)
def test_nothing_is_overwritten(tmp_path: Path, form: str) -> None:
    """A path that exists, even a link to nowhere, is refused and stays as it was."""
    path = tmp_path / f"case{form}"
    path.symlink_to("nowhere")
    with pytest.raises(ValueError, match=r"exists already: choose another path or remove it\."):
        save_case(loss_case(), path)
    assert os.listdir(tmp_path) == [path.name]
    assert path.is_symlink()


@pytest.mark.parametrize(
    "broken",
    [
        {"x": NAN},
        {"x": X[0]},
        {"params": {"weight_ih_l0": X[0]}},
        {"targets": np.full((3, 2), 9)},
        {"dloss": float("nan")},
        {"h0": np.zeros((2, 2, 5))},
    ],
)
def test_a_case_that_could_not_be_read_is_not_written(
    tmp_path: Path, broken: dict[str, Any]
) -> None:
    """save_case holds what it writes to the same rules as load_case."""
    with pytest.raises(ValueError, match=r"must be|which a stack"):
        save_case(replace(loss_case(), **broken), tmp_path / "case")
    assert os.listdir(tmp_path) == []


@pytest.fixture(scope="module")
def sound_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, bytes]]:
    """For each kind of file: file name to bytes, "" for the only one."""
    folder = tmp_path_factory.mktemp("sound")
    case = character_case(alphabet(2), steps=1, hidden=1)
    for form in FORMS:
        save_case(case, folder / f"case{form}")
    files = {form: {"": (folder / f"case{form}").read_bytes()} for form in FORMS if form}
    with zipfile.ZipFile(folder / "deflated.npz", "w", zipfile.ZIP_DEFLATED) as made:
        for file in sorted((folder / "case").iterdir()):
            made.write(file, file.name)
    files["deflated.npz"] = {"": (folder / "deflated.npz").read_bytes()}
    files[""] = {file.name: file.read_bytes() for file in sorted((folder / "case").iterdir())}
    return files


@pytest.mark.parametrize("form", [*FORMS, "deflated.npz"])
@given(data=st.data())
def test_a_damaged_file_gives_a_value_error_and_nothing_else(
    form: str,
    sound_files: dict[str, dict[str, bytes]],
    tmp_path_factory: pytest.TempPathFactory,
    data: st.DataObject,
) -> None:
    """Bytes flipped, cut off, put in or taken out anywhere: a case, or one sentence."""
    files = sound_files[form]
    name = data.draw(st.sampled_from(sorted(files)))
    content = bytearray(files[name])
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(content)))
        match data.draw(st.sampled_from(["flip", "cut", "put", "take"])):
            case "flip":
                content[place : place + 1] = data.draw(st.binary(min_size=1, max_size=1))
            case "cut":
                del content[place:]
            case "put":
                content[place:place] = data.draw(st.binary(min_size=1, max_size=8))
            case "take":
                del content[place : place + data.draw(st.integers(1, 8))]
    path = tmp_path_factory.mktemp("damaged") / f"case{form}"
    if form:
        path.write_bytes(content)
    else:
        path.mkdir()
        for each, sound in files.items():
            (path / each).write_bytes(content if each == name else sound)
    try:
        loaded = load_case(path)
    except ValueError as error:
        sentence = str(error)
    else:
        sentence = f"{path} is sound."
        assert all(np.isfinite(array).all() for array in arrays_of(loaded).values())
    assert sentence.startswith(str(path))
    assert "\n" not in sentence
