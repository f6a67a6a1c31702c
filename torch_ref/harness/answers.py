"""What an implementation returns, read as arrays of numbers."""

import sys
from typing import Any

import numpy as np

from manual_lstm.arrays import FloatArray


class MalformedAnswer(Exception):
    """An implementation returned something that the contract has no place for."""


def numbers(name: str, value: Any) -> FloatArray:
    """A result as an array of floating-point numbers, of whatever precision.

    Args:
        name: of the result.
        value: an array of either byte order, nested lists of floats, a torch tensor, also one that
            wants a gradient, or a list of those.

    Raises:
        MalformedAnswer: it is something else.
    """
    try:
        array = np.asarray(_plain(value))
    except (TypeError, ValueError, RuntimeError):
        message = f"{name} is {kind_of(value)} but must be an array of numbers."
        raise MalformedAnswer(message) from None
    if array.dtype.kind != "f":
        raise MalformedAnswer(f"{name} is {array.dtype} but must be floating-point numbers.")
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def loaded_torch() -> Any:
    """The module torch, if anybody has imported it, or None: then nothing is of a type of its own.

    It takes longer to import than everything else here together, and most LSTMs need none of it. A
    torch.py of somebody's own is another module.
    """
    found = sys.modules.get("torch")
    return found if hasattr(found, "nn") and hasattr(found, "Tensor") else None


def kind_of(value: object) -> str:
    """What came, in the words of an error: its type, and of a tuple or list how many it has."""
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    return type(value).__name__


def _plain(value: Any) -> Any:
    torch = loaded_torch()
    if torch is not None and isinstance(value, torch.Tensor):
        return value.detach().cpu().numpy()
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value
