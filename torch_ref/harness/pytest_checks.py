"""The checks for pytest: one test for each implementation and check."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from torch_ref.harness.check_list import CHECKS, Check, not_applicable, reasons_by_check
from torch_ref.harness.checks import check_clipping
from torch_ref.harness.contract import Implementation, as_implementation
from torch_ref.harness.findings import find_clipping
from torch_ref.harness.judge import Subject
from torch_ref.harness.layout_auto import with_layout_found
from torch_ref.harness.search import UNJUDGED, Failure, Found, search
from torch_ref.harness.subject import subject_of
from torch_ref.harness.where_clipped import judged_as_clipped


@dataclass(frozen=True)
class BoundCheck:
    """One check, to be called with the implementation; AssertionError where it fails.

    Attributes:
        check: which. examples: on how many cases. seed: of the cases.
        expected: whether it is expected to fail.
    """

    check: Check
    examples: int
    seed: int
    expected: bool = False

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
        if failure is not None and failure.comparison is not None:
            failure = self._where_not_clipped(subject, found)
        if failure is None:
            return
        if failure.error is not None:
            raise failure.error
        steps, batch, inputs = failure.case.x.shape if failure.case is not None else (0, 0, 0)
        raise AssertionError(
            f"{failure.sentence} (T={steps}, B={batch}, I={inputs}; the check is there to catch: "
            f"{failure.catches})"
        )

    def _where_not_clipped(self, subject: Subject, found: Found) -> Failure | None:
        """The failure that is left where gradients are clipped inside, as the campaign has it."""
        clipping = find_clipping(subject)
        if clipping is None:
            return found.failure
        if self.check.function is check_clipping:
            if self.expected or {"unclipped", "all"} & subject.implementation.requires:
                return Failure(self.check.name, "", clipping.sentence)
            pytest.skip(f"not verified: {clipping.unverified}")
        return judged_as_clipped(self.check, found, replace(subject, clipping=clipping)).failure


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
        expected_failures: check to reason, "check_long" or "long". Such a test is an xfail, and one
            that passes an error.
        examples: cases for each check. seed: of the cases.

    Raises:
        ValueError: an expected failure of a check that there is not.
    """
    expected = reasons_by_check(expected_failures)
    subjects = [as_implementation(each) for each in implementations]
    params = [
        pytest.param(
            subject,
            BoundCheck(check, examples, seed, check.name in expected),
            id=f"{subject.name}-{check.name}",
            marks=[pytest.mark.xfail(strict=True, reason=expected[check.name])]
            if check.name in expected
            else [],
        )
        for subject in subjects
        for check in CHECKS
    ]
    return pytest.mark.parametrize(("implementation", "check"), params)
