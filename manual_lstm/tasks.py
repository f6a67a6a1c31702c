"""What the character model learns from: alphabets and text files as sequences of indices."""

import os
import string
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from manual_lstm.arrays import FloatArray, check_count, check_indices, float_dtype

# Of a text file: it is kept in memory at about 13 bytes for each, and in every checkpoint.
MOST_BYTES = 2**28
_MARK = "\ufeff"  # the byte order mark
_SYMBOLS = string.ascii_lowercase + string.ascii_uppercase + string.digits + string.punctuation


@dataclass(frozen=True)
class Text:
    """A text as whole numbers, repeated without end: after the last character comes the first.

    Attributes:
        symbols: the V characters, in the order of their indices.
        indices: (N,), the text, each from 0 to V - 1.
    """

    symbols: tuple[str, ...]
    indices: NDArray[np.int64]


def alphabet(num_symbols: int) -> Text:
    """The symbols a, b, c, ... once each: 26 is a..z, 2 is "ab", 1 is "a".

    Raises:
        ValueError: fewer than one, or more than the printable ASCII symbols there are.
    """
    check_count("num_symbols", num_symbols)
    if num_symbols > len(_SYMBOLS):
        raise ValueError(
            f"num_symbols is {num_symbols} but must be at most {len(_SYMBOLS)}: "
            "for a larger alphabet give a text file."
        )
    return Text(tuple(_SYMBOLS[:num_symbols]), np.arange(num_symbols))


def read_text(path: str | os.PathLike[str]) -> Text:
    """A UTF-8 text file, the characters that occur in it as the alphabet, in code point order.

    A byte order mark in front is not one of them.

    Raises:
        ValueError: the file is missing, cannot be read, has more than `MOST_BYTES`, is not UTF-8,
            or is shorter than two characters (the second is what the first has to predict).
    """
    try:
        with open(path, "rb") as file:
            raw = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise ValueError(f"text file {str(path)!r} cannot be read: {error.strerror}.") from None
    if len(raw) > MOST_BYTES:
        raise ValueError(
            f"text file {str(path)!r} has more than {MOST_BYTES} bytes but must have at most so "
            "many: give a part of it."
        )
    try:
        text = raw.decode("utf-8").removeprefix(_MARK)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"text file {str(path)!r} is not UTF-8 (byte {error.start}) but must be."
        ) from None
    if len(text) < 2:
        raise ValueError(
            f"text file {str(path)!r} has {len(text)} characters but must have at least 2: "
            "each one has to predict the next."
        )
    codes = np.frombuffer(text.encode("utf-32-le"), np.dtype("<u4"))
    occurs = np.bincount(codes) > 0
    indices = (np.cumsum(occurs) - 1)[codes]
    return Text(tuple(map(chr, np.flatnonzero(occurs))), indices)


def window(
    text: Text, steps: int, batch: int = 1, start: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """One window of a text, and what follows each of its characters.

    Args:
        steps: T.
        batch: B. Member b starts b * N // B characters after the first.
        start: where the first member starts; past the end of the text it goes on from the start.

    Returns:
        indices (T, B) and targets (T, B), each target the index one step later.
    """
    check_count("steps", steps)
    check_count("batch", batch)
    length = len(text.indices)
    offsets = start + np.arange(batch) * length // batch  # (B,)
    places = offsets + np.arange(steps + 1)[:, None]  # (T + 1, B)
    indices = text.indices[places % length]
    return indices[:-1], indices[1:]


def one_hot(indices: NDArray[Any], num_classes: int, dtype: DTypeLike = np.float32) -> FloatArray:
    """Indices (T, B) as one-hot rows (T, B, V).

    Raises:
        ValueError: an index that is not a whole number from 0 to V - 1, or another dtype.
    """
    rows = np.eye(check_count("num_classes", num_classes), dtype=float_dtype(dtype))
    return np.asarray(rows[check_indices("indices", indices, num_classes)])
