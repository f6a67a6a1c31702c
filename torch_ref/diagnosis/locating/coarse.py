"""Differences that are as small as another precision's rounding."""

from collections.abc import Sequence

import numpy as np

from torch_ref.diagnosis.backward.render import joined
from torch_ref.diagnosis.evidence import Evidence
from torch_ref.harness.judge import Subject

# A budget is proportional to the unit roundoff of what is computed.
_RATIO = float(np.finfo(np.float32).eps / np.finfo(np.float64).eps)


def as_of_float32(subject: Subject, evidence: Sequence[Evidence]) -> str:
    """That no difference in float64 exceeds what rounding to float32 can make; "" if one does.

    Args:
        evidence: what an implementation was seen to do; something is wrong in there.
    """
    if subject.abilities.dtypes[0] != "float64" or not all(map(_is_small, evidence)):
        return ""
    names = dict.fromkeys(name for each in evidence for name in each.wrong)
    held = [name for name in names if _is_float32(name, evidence)]
    told = (
        "No difference exceeds what rounding to float32 can make: look for a value that is "
        "computed or kept in float32, or for a small number that is added, as in log(p + 1e-8)."
    )
    if held:
        told += f" {joined(held)} {'hold' if held[1:] else 'holds'} float32 numbers only."
    return told


def _is_small(evidence: Evidence) -> bool:
    if any(off.any() for off in evidence.steps.values()):
        return False  # of which it is not known by how much
    gradients = (
        np.all(np.abs(actual - evidence.expected[name]) <= _RATIO * evidence.allowed[name])
        for name, actual in evidence.actual.items()
    )
    return all(gradients) and all(tensor.used <= _RATIO for tensor in evidence.forward.tensors)


def _is_float32(name: str, evidence: Sequence[Evidence]) -> bool:
    """Whether a gradient is of numbers that float32 has, where it should be of others."""
    actual = np.concatenate([each.actual[name].ravel() for each in evidence if name in each.actual])
    return bool(actual.any() and np.array_equal(actual, actual.astype(np.float32)))
