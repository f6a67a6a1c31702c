"""Arrays and one JSON document, in a folder of .npy files, an .npz, a .safetensors or a .json.

Whoever wrote the archive is not trusted: nothing is unpickled, no name leads out of the folder,
and what the headers promise is added up before an array is read. Every refusal is a ValueError
whose sentence begins with the path.
"""

import errno
import io
import json
import os
import re
import secrets
import shutil
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import safetensors
import safetensors.numpy

from torch_ref.harness.exchange.document import (
    MAX_DOCUMENT,
    MAX_TEXT,
    parse_archive,
    parse_document,
    with_arrays,
)
from torch_ref.harness.exchange.npy import (
    Array,
    ArrayHeader,
    little_endian,
    read_array,
    read_header,
    to_bytes,
)

ENDINGS = (".npz", ".safetensors", ".json")  # of one file; what ends otherwise is a folder
MAX_BYTES = 2**30  # of all arrays of an archive together, expanded
MAX_ARRAYS = 10_000
_MAX_DIRECTORY = 2**22

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]{0,199}")
_SAFETENSORS_TYPES = {
    **{f"F{8 * n}": np.dtype(f"<f{n}") for n in (2, 4, 8)},
    **{f"{sign}{8 * n}": np.dtype(f"<{sign}{n}".lower()) for sign in "IU" for n in (1, 2, 4, 8)},
}


@dataclass(frozen=True)
class Archive:
    """An archive whose headers have been read and whose arrays have not.

    Attributes:
        document: the JSON object.
        headers: name to header; together at most MAX_BYTES.
        read: name to an array of its own, native byte order, C order; ValueError if it is damaged.
        typed: whether the arrays have a dtype in the archive. In JSON numbers are numbers.
    """

    document: dict[str, Any]
    headers: dict[str, ArrayHeader]
    read: Callable[[str], Array]
    typed: bool = True


def open_archive(path: str | Path, document_name: str) -> Archive:
    """Read the document and every array's header.

    Args:
        path: a folder, or a file that ends in .npz, .safetensors or .json.
        document_name: "case.json" or "result.json": a file of the folder, a member of the .npz,
            a key of the .safetensors' metadata. A .json file is the document, with the arrays.

    Raises:
        ValueError: it cannot be read, is damaged, has a link or a name that is not an array's, or
            expands to more than MAX_BYTES.
    """
    target = Path(path)
    with _refusals(target):
        mode = target.stat().st_mode
        if stat.S_ISDIR(mode):
            archive = _open_folder(target, document_name)
        elif not stat.S_ISREG(mode) or target.suffix not in ENDINGS:
            raise ValueError("must be a folder or a file that ends in .npz, .safetensors or .json")
        elif target.suffix == ".npz":
            archive = _open_npz(target, document_name)
        elif target.suffix == ".json":
            archive = _open_json(target)
        else:
            archive = _open_safetensors(target, document_name)
        for name in archive.headers:
            if not _NAME.fullmatch(name):
                raise ValueError(
                    f"has an array {name[:80]!r} but a name must begin with a letter and go on "
                    "with letters, digits, '_', '.' and '-'"
                )
        total = sum(header.nbytes for header in archive.headers.values())
        if total > MAX_BYTES:
            raise ValueError(f"expands to {total} bytes but must stay within {MAX_BYTES}")

    def read(name: str) -> Array:
        with _refusals(target):
            array = archive.read(name)
            if array.shape != archive.headers[name].shape:
                raise ValueError(f"changed {name} while it was read")
            return array

    return Archive(archive.document, archive.headers, read, archive.typed)


def write_archive(
    path: str | Path, document_name: str, document: Mapping[str, Any], arrays: Mapping[str, Array]
) -> None:
    """Write an archive whole or not at all: a temporary sibling is renamed when it is complete.

    An empty folder is filled where it stands, and the document, without which nothing is read,
    comes last: it may be the current folder, or a mounted one, of which nothing can take the place.

    Args:
        path: must not exist, or be an empty folder where a folder is to be written. One of
            ENDINGS says which file; otherwise a folder. Folders above it are made.
        document_name, document: as `open_archive` has them. arrays: name to array.

    Raises:
        ValueError: the path exists or cannot be written, a name is not an array's, the document
            is not JSON, or the arrays exceed MAX_BYTES.
    """
    target = Path(path)
    temporary = target.parent / f".{target.name}-{secrets.token_hex(8)}"
    with _refusals(target, "written"):
        if os.path.lexists(target) and not (target.suffix not in _PACKERS and _is_empty(target)):
            raise ValueError("exists already: choose another path or remove it")
        for name in arrays:
            if not _NAME.fullmatch(name):
                raise ValueError(f"cannot hold an array named {name[:80]!r}")
        total = sum(array.nbytes for array in arrays.values())
        if total > MAX_BYTES:
            raise ValueError(f"would expand to {total} bytes but must stay within {MAX_BYTES}")
        try:
            text = json.dumps(document, indent=2, allow_nan=False) + "\n"
        except (TypeError, ValueError) as error:
            raise ValueError(f"cannot hold {document_name} as JSON ({error})") from None
        if target.is_dir():
            _fill(target, document_name, text, arrays)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            if target.suffix in _PACKERS:
                temporary.write_bytes(_PACKERS[target.suffix](document_name, text, arrays))
            else:
                temporary.mkdir()
                _write_files(temporary, document_name, text, arrays)
            temporary.rename(target)  # a folder that has been filled meanwhile refuses it
        finally:
            if temporary.is_dir():
                shutil.rmtree(temporary, ignore_errors=True)
            else:
                temporary.unlink(missing_ok=True)


def _fill(folder: Path, document_name: str, text: str, arrays: Mapping[str, Array]) -> None:
    """The files into an empty folder; whatever happens, all of them or none."""
    temporary = folder / ".manual-lstm-writing"
    temporary.mkdir()  # one of two that write to the same folder is refused here
    moved: list[Path] = []
    try:
        _write_files(temporary, document_name, text, arrays)
        _require_alone(folder)
        for name in (*(f"{name}.npy" for name in arrays), document_name):
            moved.append(folder / name)
            (temporary / name).rename(folder / name)
    except BaseException:
        for path in moved:
            path.unlink(missing_ok=True)
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _require_alone(folder: Path) -> None:
    if len(os.listdir(folder)) > 1:
        raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY))


def _write_files(folder: Path, document_name: str, text: str, arrays: Mapping[str, Array]) -> None:
    for name, array in arrays.items():
        (folder / f"{name}.npy").write_bytes(to_bytes(array))
    (folder / document_name).write_text(text, encoding="utf-8")


def _is_empty(folder: Path) -> bool:
    """Whether it is a folder, no link to one, with nothing in it."""
    if folder.is_symlink() or not folder.is_dir():
        return False
    with os.scandir(folder) as entries:
        return next(entries, None) is None


@contextmanager
def _refusals(path: Path, verb: str = "read") -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ValueError(f"{path} cannot be {verb}: {error.strerror or error}.") from None
    except ValueError as error:
        raise ValueError(f"{path} {error}.") from None


def _open_folder(folder: Path, document_name: str) -> Archive:
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if entry.name.endswith(".npy"))
    _check_count(len(names))

    @contextmanager
    def opened(name: str) -> Iterator[tuple[IO[bytes], int]]:
        path = folder / name
        if path.is_symlink():
            raise ValueError(f"has {name} as a symbolic link but it must be a file in the folder")
        if not path.is_file():
            found = "but not as a file" if path.exists() else "missing"
            raise ValueError(f"has {name} {found}")
        with path.open("rb") as file:
            yield file, os.fstat(file.fileno()).st_size

    def header(name: str) -> ArrayHeader:
        with opened(name) as (file, size):
            return read_header(file, name, size)

    def read(name: str) -> Array:
        with opened(f"{name}.npy") as (file, size):
            return read_array(file, f"{name}.npy", size)

    with opened(document_name) as (file, _):
        document = parse_document(file.read(MAX_DOCUMENT + 1), document_name)
    return Archive(document, {name.removesuffix(".npy"): header(name) for name in names}, read)


def _open_npz(path: Path, document_name: str) -> Archive:
    _check_zip_directory(path)

    @contextmanager
    def opened(archive: zipfile.ZipFile, name: str) -> Iterator[tuple[IO[bytes], int]]:
        info = archive.getinfo(name)
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"has {name} compressed by another method than deflate")
        with archive.open(info) as file:
            yield file, info.file_size

    def header(archive: zipfile.ZipFile, name: str) -> ArrayHeader:
        with opened(archive, name) as (file, size):
            return read_header(file, name, size)

    def read(name: str) -> Array:
        name = f"{name}.npy"
        with _zip_errors(), zipfile.ZipFile(path) as archive, opened(archive, name) as (file, size):
            return read_array(file, name, size)

    with _zip_errors(), zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        _check_count(len(names))
        if len(set(names)) < len(names):
            raise ValueError("has one name twice")
        if document_name not in names:
            raise ValueError(f"has {document_name} missing")
        names.remove(document_name)
        for name in names:
            if not name.endswith(".npy"):
                raise ValueError(f"has {name[:80]!r} but must hold .npy and {document_name}")
        with opened(archive, document_name) as (file, _):
            document = parse_document(file.read(MAX_DOCUMENT + 1), document_name)
        headers = {name.removesuffix(".npy"): header(archive, name) for name in names}
    return Archive(document, headers, read)


@contextmanager
def _zip_errors() -> Iterator[None]:
    damaged = (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        KeyError,  # a member that was there a moment ago
        RuntimeError,  # encrypted; its NotImplementedError is a feature that zipfile lacks
    )
    try:
        yield
    except damaged as error:
        raise ValueError(f"is not a sound .npz file ({error})") from None


def _check_zip_directory(path: Path) -> None:
    """zipfile reads a central directory of any size and makes an object of every entry."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 2**16 - 42))
        tail = file.read()
    place = tail.rfind(b"PK\x05\x06")
    if place < 0 or len(tail) < place + 22:
        raise ValueError("is not a sound .npz file (no end of a zip directory)")
    directory = int.from_bytes(tail[place + 12 : place + 16], "little")
    zip64 = b"PK\x06\x07" in tail[max(0, place - 20) : place]
    if zip64 or directory > _MAX_DIRECTORY:
        raise ValueError(f"has a zip directory of more than {_MAX_DIRECTORY} bytes")


def _open_safetensors(path: Path, document_name: str) -> Archive:
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        header_size = int.from_bytes(file.read(8), "little")
    if header_size > min(size - 8, _MAX_DIRECTORY):
        raise ValueError(f"has a safetensors header of {header_size} bytes in a file of {size}")

    def header(name: str, kind: str, shape: list[int]) -> ArrayHeader:
        if kind not in _SAFETENSORS_TYPES:
            raise ValueError(f"has {name} of dtype {kind} but it must be a float or integer one")
        if 0 in shape:
            raise ValueError(
                f"has {name} of shape {tuple(shape)} but every axis must have at least one element"
            )
        return ArrayHeader(_SAFETENSORS_TYPES[kind], tuple(shape))

    def read(name: str) -> Array:
        with _safetensors_errors(), safetensors.safe_open(path, framework="numpy") as file:
            return np.array(file.get_tensor(name))

    with _safetensors_errors(), safetensors.safe_open(path, framework="numpy") as file:
        metadata = file.metadata() or {}
        names = list(file.keys())
        _check_count(len(names))
        slices = {name: file.get_slice(name) for name in names}
        headers = {
            name: header(name, part.get_dtype(), part.get_shape()) for name, part in slices.items()
        }
    if document_name not in metadata:
        raise ValueError(f"has {document_name} missing in its metadata")
    return Archive(parse_document(metadata[document_name].encode(), document_name), headers, read)


@contextmanager
def _safetensors_errors() -> Iterator[None]:
    try:
        yield
    except safetensors.SafetensorError as error:
        raise ValueError(f"is not a sound .safetensors file ({error})") from None


def _open_json(path: Path) -> Archive:
    with path.open("rb") as file:
        document, arrays = parse_archive(file.read(MAX_TEXT + 1))
    _check_count(len(arrays))
    headers = {name: ArrayHeader(array.dtype, array.shape) for name, array in arrays.items()}
    return Archive(document, headers, lambda name: arrays[name], typed=False)


def _check_count(count: int) -> None:
    if count > MAX_ARRAYS:
        raise ValueError(f"has {count} arrays but must have at most {MAX_ARRAYS}")


def _pack_npz(document_name: str, text: str, arrays: Mapping[str, Array]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo(document_name), text)
        for name, array in arrays.items():
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), to_bytes(array))
    return buffer.getvalue()


def _pack_safetensors(document_name: str, text: str, arrays: Mapping[str, Array]) -> bytes:
    plain = {name: little_endian(array) for name, array in arrays.items()}
    return bytes(safetensors.numpy.save(plain, {document_name: text}))


def _pack_json(document_name: str, text: str, arrays: Mapping[str, Array]) -> bytes:
    return with_arrays(text, arrays).encode()


_PACKERS = dict(zip(ENDINGS, (_pack_npz, _pack_safetensors, _pack_json), strict=True))
