"""Ball arithmetic: a number and how far any rounded evaluation of its formula may be from it."""

from dataclasses import dataclass
from typing import Any

import numpy as np

Array = Any


@dataclass(frozen=True)
class Balls:
    """Numbers in extended precision, each with a radius.

    Every operation adds one rounding of `dtype` to the radii that it is given, and what falls
    below the smallest normal number. An evaluation in `dtype` in the same order of operations lies
    within the radius of the exact value, and so does one that fuses a product with a sum, which
    rounds less often.
    """

    value: Array
    radius: Array
    dtype: Any

    def _rounded(self, value: Array, radius: Array) -> "Balls":
        info = np.finfo(self.dtype)
        # The unit roundoff of the dtype, and that of longdouble, in which the centre is kept.
        unit = np.longdouble(info.eps) / 2 + np.finfo(np.longdouble).eps
        return Balls(value, radius + unit * (abs(value) + radius) + info.tiny, self.dtype)

    def __add__(self, other: "Balls") -> "Balls":
        return self._rounded(self.value + other.value, self.radius + other.radius)

    def __sub__(self, other: "Balls") -> "Balls":
        return self._rounded(self.value - other.value, self.radius + other.radius)

    def __mul__(self, other: "Balls") -> "Balls":
        radius = abs(self.value) * other.radius + self.radius * (abs(other.value) + other.radius)
        return self._rounded(self.value * other.value, radius)

    def __truediv__(self, other: "Balls") -> "Balls":
        value = self.value / other.value
        smallest = abs(other.value) - other.radius
        with np.errstate(divide="ignore", invalid="ignore"):
            radius = (self.radius + abs(value) * other.radius) / smallest
        return self._rounded(value, np.where(smallest > 0, radius, np.inf))

    def sqrt(self) -> "Balls":
        """The square root of what is not negative."""
        value = np.sqrt(self.value)
        lowest = np.sqrt(np.maximum(self.value - self.radius, 0))
        highest = np.sqrt(self.value + self.radius)
        return self._rounded(value, np.maximum(value - lowest, highest - value))


def balls(value: Array, dtype: Any) -> Balls:
    """Numbers of `dtype`, exactly."""
    exact = np.asarray(value, np.longdouble)
    return Balls(exact, np.zeros_like(exact), dtype)


def scalar(value: float, dtype: Any) -> Balls:
    """A setting, computed in float64 in a few operations and then rounded to `dtype`."""
    exact = np.longdouble(value)
    radius = 4 * np.longdouble(np.finfo(np.float64).eps) * abs(exact)
    return Balls(exact, radius, dtype)._rounded(exact, radius)
