"""What a check requires of results, and how it fails where they are not so."""

from collections.abc import Iterable

import numpy as np

from manual_lstm.arrays import FloatArray
from torch_ref.compare.errors import Comparison
from torch_ref.oracles.case import Case, Results


class CheckFailed(AssertionError):
    """A property does not hold.

    Attributes:
        sentence: what was found.
        comparison: the tensors, where some were compared.
    """

    def __init__(self, sentence: str, comparison: Comparison | None = None) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.comparison = comparison


def require(comparison: Comparison, sentence: str) -> Comparison:
    """The comparison if it agrees.

    Raises:
        CheckFailed: it does not; `sentence` and which tensors are wrong.
    """
    if comparison.verdict == "agree":
        return comparison
    wrong = [tensor.name for tensor in comparison.tensors if tensor.verdict == "disagree"]
    raise CheckFailed(f"{sentence}: {', '.join(wrong) or 'nothing was returned'}.", comparison)


def _require_there(name: str, results: Results) -> None:
    if name not in results:
        raise CheckFailed(f"{name} is not returned in every case.")


def _require_shape(name: str, array: FloatArray, shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise CheckFailed(f"{name} has shape {array.shape} but must be {shape}.")


def require_shapes(names: Iterable[str], like: Results, *all_results: Results) -> None:
    """That results of several calls can be added up: another shape is no crash of that."""
    for name in names:
        for results in all_results:
            _require_there(name, results)
            _require_shape(name, np.asarray(results[name]), np.shape(like[name]))


def require_sound(name: str, array: FloatArray, shape: tuple[int, ...], dtype: np.dtype) -> None:
    """That a result has the right shape and dtype, and finite elements only."""
    _require_shape(name, array, shape)
    if array.dtype != dtype:
        known = array.dtype in (np.float32, np.float64)
        declare = f', or declare dtype="{array.dtype}"' if known else ""
        raise CheckFailed(
            f"{name} is {array.dtype} but the case is {dtype}: compute in the dtype that comes in"
            f"{declare}."
        )
    if not np.isfinite(array).all():
        bad = array[~np.isfinite(array)][0]
        raise CheckFailed(f"{name} has an element that is {bad} where the truth is finite.")


def with_sound_states(results: Results, case: Case) -> Results:
    """Results whose states can be handed on to another call: a wrong one is no crash of that."""
    for name in ("h_n", "c_n", "dh0", "dc0"):
        _require_there(name, results)
        require_sound(name, np.asarray(results[name]), case.h0.shape, case.dtype)
    return results
