"""What remains of a failure once the truth is clipped as an implementation's gradients are."""

from dataclasses import replace

from torch_ref.harness.check_list import Check
from torch_ref.harness.checks import (
    check_batch_is_sum_of_members,
    check_carried_state,
    check_clipping,
    check_linearity,
)
from torch_ref.harness.judge import Subject
from torch_ref.harness.search import Found, try_check

# What these hold against each other is no longer equal once it is clipped.
_LINEAR = (check_linearity, check_clipping, check_batch_is_sum_of_members, check_carried_state)


def judged_as_clipped(check: Check, found: Found, subject: Subject) -> Found:
    """What a check found, on the case on which it failed, of a subject whose clipping is known."""
    if found.failure is None or found.failure.case is None:
        return found
    if check.function in _LINEAR:
        return replace(found, failure=None, tensors=())
    again = try_check(check, subject, found.failure.case)
    return replace(found, failure=again.failure, tensors=again.tensors)
