"""Whether an implementation gives the same numbers when it is called again."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from torch_ref.compare.errors import Comparison, TensorError, compare_gradients
from torch_ref.oracles.case import Case, Results, run_case


def run_twice(case: Case, vjp: Callable[..., Any]) -> tuple[Results, Comparison]:
    """Run an implementation twice on a case, and its first pullback twice.

    The same arithmetic on the same numbers gives the same bits: no difference at all is allowed.
    What differs is memory that was not initialised, a gradient that goes on accumulating from one
    call to the next, an input that was overwritten, or a random number.

    Args:
        case, vjp: as for `run_case`.

    Returns:
        The first run's results, copied before anything else was called, and their comparison
        with the others: the verdict is "disagree" and the fault "not repeatable" where they
        differ; "missing", "shape" and "dtype" are what they are for `compare_gradients`.
    """
    again: Results = {}

    def pulled_back_twice(*inputs: Any) -> Any:
        outputs, pullback = vjp(*inputs)
        outputs = tuple(_copy(output) for output in outputs)

        def both(*upstream: Any) -> Results:
            first = _copies(pullback(*upstream))
            again.update(_copies(pullback(*upstream)))
            return first

        return outputs, both

    first = run_case(case, pulled_back_twice)
    second = run_case(case, vjp)
    pullbacks = _same_numbers({name: first[name] for name in again}, again, "pullback")
    return first, Comparison((*_same_numbers(first, second, "call"), *pullbacks))


def _same_numbers(
    first: Mapping[str, Any], second: Mapping[str, Any], what: str
) -> list[TensorError]:
    found = compare_gradients(second, first, dict.fromkeys(first, 0.0)).tensors
    return [_named(tensor, first, second, what) for tensor in found]


def _named(
    tensor: TensorError, first: Mapping[str, Any], second: Mapping[str, Any], what: str
) -> TensorError:
    """An element that is NaN both times is that fault, and not one of repeating."""
    if tensor.fault not in ("value", "nan", "infinite"):
        return tensor
    runs = (first, second)
    before, after = (float(np.asarray(run[tensor.name])[tensor.worst_index]) for run in runs)
    if np.isnan(before) and np.isnan(after):
        return tensor
    reason = f"{after!r} in a second {what}, {before!r} in the first"
    return replace(tensor, fault="not repeatable", reason=reason)


def _copies(results: Mapping[str, Any]) -> Results:
    """Copies: an array that the implementation writes to again must not meet itself."""
    return {name: _copy(value) for name, value in results.items()}


def _copy(value: Any) -> Any:
    try:
        return np.array(value)
    except (TypeError, ValueError, RuntimeError):
        return value  # no array: `compare_gradients` says so
