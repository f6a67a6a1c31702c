"""The JSON of an archive: its document, and a whole archive as one JSON file for any language.

Such a file is the document with one field more, "arrays": name to the numbers, in lists of lists
along the axes.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from torch_ref.harness.exchange.npy import Array

MAX_DOCUMENT = 2**20
MAX_TEXT = 2**26  # of a whole archive: as Python's objects it takes many times that
_ARRAYS = "arrays"
_TOO_LONG = "JSON of more than {} bytes: use .npy files for so much"


def parse_document(text: bytes, name: str) -> dict[str, Any]:
    """The document, an object, from its bytes, of which one beyond the limit is enough.

    Raises:
        ValueError: too long, no JSON object, or one key twice.
    """
    if len(text) > MAX_DOCUMENT:
        raise ValueError(f"has {name} of more than {MAX_DOCUMENT} bytes")

    def not_json(word: str) -> float:
        raise ValueError(f"the word {word}")

    return _object(text, f"has {name} that is", not_json)


def parse_archive(text: bytes) -> tuple[dict[str, Any], dict[str, Array]]:
    """The document and the arrays of one JSON file, float64 or, of whole numbers that fit, int64.

    NaN and Infinity may stand as words, and null is NaN, as JavaScript writes it.

    Raises:
        ValueError: too long, no JSON object, one key twice, no arrays, or one that has other
            than numbers in it, lists of unequal lengths or an empty one.
    """
    if len(text) > MAX_TEXT:
        raise ValueError(f"is {_TOO_LONG}".format(MAX_TEXT))
    document = _object(text, "is", float)
    arrays = document.pop(_ARRAYS, None)
    if not isinstance(arrays, dict):
        raise ValueError(f'has no object "{_ARRAYS}", which one file of JSON must have')
    return document, {name: _array(name, value) for name, value in arrays.items()}


def with_arrays(document: str, arrays: Mapping[str, Array]) -> str:
    """A document's text with the arrays in it, each in a line.

    Raises:
        ValueError: longer than `parse_archive` takes.
    """
    lines = [f"    {json.dumps(name)}: {json.dumps(a.tolist())}" for name, a in arrays.items()]
    inside = document.rstrip().removesuffix("}").rstrip()
    text = f'{inside},\n  "{_ARRAYS}": {{\n' + ",\n".join(lines) + "\n  }\n}\n"
    if len(text) > MAX_TEXT:  # json.dumps writes ASCII alone
        raise ValueError(f"would be {_TOO_LONG}".format(MAX_TEXT))
    return text


def _object(text: bytes, what: str, constant: Callable[[str], float]) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) < len(pairs):
            raise ValueError("one key twice")
        return dict(pairs)

    try:
        found = json.loads(text, object_pairs_hook=unique, parse_constant=constant)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{what} not JSON ({error})") from None
    if not isinstance(found, dict):
        raise ValueError(f"{what} not a JSON object")
    return found


def _array(name: str, value: Any) -> Array:
    shape, first = [], value
    while isinstance(first, list):
        shape.append(len(first))
        if not first:
            raise ValueError(
                f"has {name} of shape {tuple(shape)} but every axis must have at least one element"
            )
        first = first[0]
    numbers: list[Any] = []
    _take(name, value, shape, numbers)
    limits = np.iinfo(np.int64)
    # JavaScript writes 1e20 as a whole number.
    whole = all(type(each) is int and limits.min <= each <= limits.max for each in numbers)
    try:
        return np.array(numbers, np.int64 if whole else np.float64).reshape(shape)
    except OverflowError:
        raise ValueError(f"has {name} with a whole number beyond float64") from None


def _take(name: str, value: Any, shape: list[int], numbers: list[Any]) -> None:
    """Add the numbers of nested lists of this shape."""
    if not shape:
        if value is not None and type(value) not in (int, float):
            found = "a list" if isinstance(value, list) else repr(value)[:40]
            raise ValueError(f"has {name} with {found} where a number must be")
        numbers.append(np.nan if value is None else value)
        return
    if not isinstance(value, list) or len(value) != shape[0]:
        raise ValueError(f"has {name} in lists of unequal lengths")
    for each in value:
        _take(name, each, shape[1:], numbers)
