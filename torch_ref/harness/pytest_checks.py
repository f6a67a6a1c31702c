"""The checks for pytest: one test for each implementation and check."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from torch_ref.harness.checks import CHECKS, Check, not_applicable
from torch_ref.harness.contract import Implementation, as_implementation
from torch_ref.harness.layout_auto import with_layout_found
from torch_ref.harness.search import UNJUDGED, search
from torch_ref.harness.subject import subject_of


@dataclass(frozen=True)
class BoundCheck:
    """One check, to be called with the implementation; AssertionError where it fails."""

    check: Check
    examples: int
    seed: int

    def __call__(self, implementation: Implementation) -> None:
        """Run the check on drawn cases; skip it where the implementation cannot be asked."""
        __tracebackhide__ = True
        if implementation.layout == "auto":
            implementation, _ = with_layout_found(implementation)
        subject = subject_of(implementation)
        if (reason := not_applicable(self.check, subject)) is not None:
            pytest.skip(f"not verified: {reason}")
        found = search(self.check, subject, self.examples, self.seed, shrink=True)
        if not found.examples:
            pytest.skip(f"not verified: {UNJUDGED}")
        failure = found.failure
        if failure is None:
            return
        if failure.error is not None:
            raise failure.error
        steps, batch, inputs = failure.case.x.shape if failure.case is not None else (0, 0, 0)
        raise AssertionError(
            f"{failure.sentence} (T={steps}, B={batch}, I={inputs}; the check is there to catch: "
            f"{failure.catches})"
        )


def parametrize_with_checks(
    implementations: Sequence[Any],
    *,
    expected_failures: Mapping[str, str] | None = None,
    examples: int = 20,
    seed: int = 0,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A pytest decorator for `def test(implementation, check): check(implementation)`.

    Args:
        implementations: Implementations, or bare callables in the vjp or the loss form.
        expected_failures: check to reason. Such a test is an xfail, and one that passes an error.
        examples: cases for each check. seed: of the cases.

    Raises:
        ValueError: an expected failure of a check that there is not.
    """
    expected = dict(expected_failures or {})
    if unknown := set(expected) - {check.name for check in CHECKS}:
        raise ValueError(f"expected_failures names {min(unknown)!r}, which is not a check.")
    subjects = [as_implementation(each) for each in implementations]
    params = [
        pytest.param(
            subject,
            BoundCheck(check, examples, seed),
            id=f"{subject.name}-{check.name}",
            marks=[pytest.mark.xfail(strict=True, reason=expected[check.name])]
            if check.name in expected
            else [],
        )
        for subject in subjects
        for check in CHECKS
    ]
    return pytest.mark.parametrize(("implementation", "check"), params)
