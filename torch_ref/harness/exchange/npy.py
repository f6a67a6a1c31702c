"""The .npy format, for files whose writer is not trusted: no pickles, no surprise in size."""

import io
import math
import re
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_MAGIC = b"\x93NUMPY"
_MAX_HEADER = 2**16
_ITEM = (
    r"\s*['\"](?P<key{0}>descr|fortran_order|shape)['\"]\s*:"
    r"\s*(?P<value{0}>['\"][^'\"]*['\"]|True|False|\([0-9,\s]*\))\s*"
)
_HEADER = re.compile(r"\{" + ",".join(_ITEM.format(k) for k in range(3)) + r",?\s*\}\s*")
_NUMBER_TYPE = re.compile(r"['\"]([<>=|]?(?:f[248]|[iu][1248]))['\"]")


@dataclass(frozen=True)
class ArrayHeader:
    """What a file says about an array before it is read.

    Attributes:
        dtype: a float or integer dtype with the file's byte order.
        shape: every axis at least 1.
        fortran: whether the elements stand in Fortran order.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    fortran: bool = False

    @property
    def nbytes(self) -> int:
        """The bytes of all elements."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_header(stream: IO[bytes], name: str, size: int) -> ArrayHeader:
    """The header at the start of an .npy stream.

    Args:
        stream: at its start; on return it is at the first element.
        name: what to call it in an error.
        size: the bytes of the whole stream, header included.

    Raises:
        ValueError: not .npy, no float or integer dtype, an empty axis, or another size than the
            header promises.
    """
    start = stream.read(8)
    wide = start[6:7] in (b"\x02", b"\x03")
    if start[:6] != _MAGIC or not (wide or start[6:7] == b"\x01"):
        raise ValueError(f"has {name} that does not begin as .npy of version 1, 2 or 3")
    length_bytes = stream.read(4 if wide else 2)
    length = int.from_bytes(length_bytes, "little")
    if length > _MAX_HEADER:
        raise ValueError(f"has {name} with a header of {length} bytes, more than {_MAX_HEADER}")
    text = stream.read(length)
    match = _HEADER.fullmatch(text.decode("latin-1"))
    items = {match[f"key{k}"]: match[f"value{k}"] for k in range(3)} if match else {}
    if len(items) < 3 or items["fortran_order"] not in ("True", "False"):
        raise ValueError(f"has {name} without descr, fortran_order and shape in its header")
    number_type = _NUMBER_TYPE.fullmatch(items["descr"])
    if number_type is None:
        raise ValueError(
            f"has {name} of dtype {items['descr'][:40]} but it must be a float or integer one"
        )
    header = ArrayHeader(
        np.dtype(number_type[1]), _shape(items["shape"], name), items["fortran_order"] == "True"
    )
    promised = 8 + len(length_bytes) + length + header.nbytes
    if size != promised:
        raise ValueError(f"has {name} of {size} bytes but its header promises {promised}")
    return header


def read_array(stream: IO[bytes], name: str, size: int) -> Array:
    """A whole .npy stream as an array of its own, native byte order, C order; see `read_header`."""
    header = read_header(stream, name, size)
    data = stream.read(header.nbytes)
    if len(data) < header.nbytes:
        raise ValueError(f"has {name} that ends before its last element")
    flat = np.frombuffer(data, header.dtype)
    array = flat.reshape(header.shape, order="F" if header.fortran else "C")
    return np.array(array, header.dtype.newbyteorder("="), order="C")


def little_endian(array: Array) -> Array:
    """The array in C order and little-endian: the one form in which archives are written."""
    return np.asarray(array, array.dtype.newbyteorder("<"), order="C")


def to_bytes(array: Array) -> bytes:
    """An array as .npy, version 1.0 and little-endian."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, little_endian(array), (1, 0), allow_pickle=False)
    return buffer.getvalue()


def _shape(text: str, name: str) -> tuple[int, ...]:
    words = text[1:-1].replace(",", " ").split()
    if text.count(",") > len(words) or any(len(word) > 18 or int(word) == 0 for word in words):
        raise ValueError(
            f"has {name} of shape {text[:40]} but every axis must have at least one element"
        )
    return tuple(int(word) for word in words)
