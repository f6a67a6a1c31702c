"""One case element by element: what was computed, what is right, and what rounding allows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from torch_ref.compare.errors import budget_shares
from torch_ref.harness.judge import Subject, expected_of
from torch_ref.oracles.case import Case
from torch_ref.oracles.equations import Array


@dataclass(frozen=True)
class Elements:
    """A case and what was made of it.

    Attributes:
        case: what was computed.
        actual, expected, allowed: results by name, outputs and gradients, of the side under test
            and of the right one, and how far each element may be off.
    """

    case: Case
    actual: Mapping[str, Array]
    expected: Mapping[str, Array]
    allowed: Mapping[str, Array]

    @property
    def names(self) -> tuple[str, ...]:
        """What can be compared element by element: arrays of numbers of the right shape."""
        return tuple(name for name in self.expected if self._comparable(name))

    def shares(self, name: str) -> Array:
        """Which share of its budget each element of a result uses; see `budget_shares`."""
        return budget_shares(self.actual[name], self.expected[name], self.allowed[name])

    def wrong(self, name: str) -> bool:
        """Whether an element of a result is off by more than is allowed; NaN is off."""
        return not bool(np.all(self.shares(name) <= 1))

    def _comparable(self, name: str) -> bool:
        actual, expected = self.actual.get(name), self.expected[name]
        return (
            name in self.allowed
            and isinstance(actual, np.ndarray)
            and np.issubdtype(actual.dtype, np.floating)
            and actual.shape == np.shape(expected)
            and actual.ndim > 0
            and actual.size > 0
        )


def elements_of(subject: Subject, case: Case) -> Elements | None:
    """A case run by an implementation; None where it cannot be run or judged."""
    try:
        expected, allowed = expected_of(subject, case)
        actual = subject.run(case)
    except Exception:  # a crash is a finding of the campaign's, here it is one case less
        return None
    return Elements(case, {k: np.asarray(v) for k, v in actual.items()}, expected, allowed)


def first_wrong(subject: Subject, cases: Sequence[Case]) -> Elements | None:
    """The first of several cases on which something is wrong.

    Returns:
        Where nothing is, the first that can be judged; None if none can.
    """
    right: Elements | None = None
    for case in cases:
        found = elements_of(subject, case)
        if found is not None and any(found.wrong(name) for name in found.names):
            return found
        right = right or found
    return right
