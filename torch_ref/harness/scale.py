"""One common ratio on all gradients, and gradients that were clipped."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from torch_ref.oracles.case import Case

Array = NDArray[Any]


@dataclass(frozen=True)
class Scale:
    """All gradients are this many times the true ones.

    Attributes:
        ratio: actual / true.
        words: what it is in the sizes of the cases, "1/T", or its value.
    """

    ratio: float
    words: str

    @property
    def sentence(self) -> str:
        """The finding for people."""
        if self.words == "-1":
            return (
                "Every gradient is exactly right but for its sign: it is minus the gradient "
                "(for instance target - predicted at the softmax)."
            )
        return f"Every gradient is exactly right but for one common factor: {self.words}."


def common_ratio(
    actual: Mapping[str, Array], expected: Mapping[str, Array], allowed: Mapping[str, Array]
) -> float | None:
    """The ratio other than 1 that explains every gradient, or None.

    Args:
        actual, expected, allowed: gradients of the same names; allowed for expected.

    Returns:
        The least-squares ratio, if with it every element is within its budget, scaled likewise,
        and without it one is not.
    """
    names = [name for name in actual if name in expected]
    weights = {name: 1 / np.square(allowed[name]) for name in names}
    over = sum(float(np.sum(weights[n] * actual[n] * expected[n])) for n in names)
    under = sum(float(np.sum(weights[n] * np.square(expected[n]))) for n in names)
    if not names or under == 0 or not np.isfinite(over):
        return None
    ratio = over / under
    # Each side is off by rounding: the actual by its own budget, the fitted ratio by less.
    explained = all(
        bool(np.all(np.abs(actual[n] - ratio * expected[n]) <= 2 * abs(ratio) * allowed[n]))
        for n in names
    )
    return ratio if explained and ratio != 0 else None


def in_words(ratios: list[tuple[Case, float]]) -> Scale | None:
    """One scale for the ratios found on several cases, in the sizes of those cases.

    Returns:
        None if neither a constant nor a quotient of sizes fits all of them.
    """
    if not ratios:
        return None
    candidates = {"-1": lambda _: -1.0}
    for name in ("T", "B", "V", "T*B"):
        for sign, prefix in ((1.0, ""), (-1.0, "-")):
            candidates[f"{prefix}{name}"] = _size(name, sign, 1)
            candidates[f"{prefix}1/({name})" if "*" in name else f"{prefix}1/{name}"] = _size(
                name, sign, -1
            )
    for words, value in candidates.items():
        if all(_close(ratio, value(case)) for case, ratio in ratios):
            return Scale(ratios[0][1], words)
    first = ratios[0][1]
    if all(_close(ratio, first) for _, ratio in ratios):
        return Scale(first, f"{first:.6g}")
    return None


def _size(name: str, sign: float, power: int) -> Any:
    def value(case: Case) -> float:
        steps, batch, classes = case.x.shape
        size = {"T": steps, "B": batch, "V": classes, "T*B": steps * batch}[name]
        return sign * float(size) ** power

    return value


def _close(a: float, b: float) -> bool:
    # The ratio is fitted over many elements: it has at least half of float32's digits.
    return bool(np.float32(a).astype(np.float16) == np.float32(b).astype(np.float16))
