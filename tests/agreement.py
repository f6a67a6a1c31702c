"""What the tests compare with, and how they say what is wrong."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from torch_ref import Case, compare_gradients
from torch_ref.oracles.equations import solve, unrounded


def truth(case: Case) -> dict[str, Any]:
    """Outputs and gradients of a case in extended precision."""
    results = solve(case, unrounded(np.longdouble))
    del results["z"]
    return results


def assert_agree(
    actual: Mapping[str, Any], expected: Mapping[str, Any], allowed: Mapping[str, Any], who: str
) -> None:
    """Every tensor agrees, or the failure names those that do not."""
    comparison = compare_gradients(actual, expected, allowed)
    wrong = [tensor for tensor in comparison.tensors if tensor.verdict == "disagree"]
    assert comparison.verdict == "agree", f"{who}: {wrong}"


def assert_same_bits(actual: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """The same names, dtypes, shapes and bits."""
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        a, e = np.asarray(actual[name]), np.asarray(value)
        assert (a.dtype, a.shape) == (e.dtype, e.shape), name
        assert a.tobytes() == e.tobytes(), name


def with_upstream(case: Case, dy: Any, dh_n: Any, dc_n: Any) -> Case:
    """The case with other upstream gradients."""
    return replace(case, dy=dy, dh_n=dh_n, dc_n=dc_n)
