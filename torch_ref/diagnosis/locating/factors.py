"""Gradients that are right but for a factor, which may be another one in each case."""

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from torch_ref.diagnosis.backward.render import joined
from torch_ref.diagnosis.evidence import Evidence
from torch_ref.diagnosis.locating.probing import Probes
from torch_ref.diagnosis.matching.unknown import simplest


class Factor(NamedTuple):
    """What gradients are multiplied by, known to an error, and their names."""

    value: float
    error: float
    names: tuple[str, ...]

    def apart(self, other: "Factor") -> bool:
        """Whether rounding cannot have made two of one factor."""
        return abs(self.value - other.value) > self.error + other.error

    def __str__(self) -> str:
        return f"{float(simplest(self.value, self.error)):.4g}"


def factors_in_words(evidence: Evidence) -> str:
    """By which factor each wrong gradient is off, if all its elements are by the same one.

    The gradients of two logits are each other's negative: there whatever is wrong is a factor.
    """
    if evidence.case.targets is not None and evidence.case.x.shape[-1] <= 2:
        return ""
    each = [f"of {joined(f.names)} is {f} times" for f in _factors(evidence) if str(f) != "1"]
    return f"Every element {joined(each)} what it must be." if each else ""


def another_factor(probes: Probes, sizes: Mapping[str, int], evidence: Evidence) -> str:
    """That one factor is common to all that is wrong, and another one in another case."""
    if evidence.case.targets is not None:
        sizes = {**sizes, "I": 4}
        wide = probes.run(None, **sizes)
        if wide is None or wide.case.x.shape[-1] <= 2:
            return ""
        evidence = wide
    found = _factors(evidence)
    if len(found) != 1 or len(evidence.wrong) < 2:
        return ""
    for draw in range(1, 4):
        beside = replace(probes, seed=probes.seed + draw).run(None, **sizes)
        others = [] if beside is None else _factors(beside)
        if len(others) == 1 and found[0].apart(others[0]) and str(found[0]) != str(others[0]):
            some = len(evidence.wrong) < len(evidence.actual)
            hint = ", as where gradients are clipped by the norm of only some of them" * some
            return (
                f"All that is wrong is {found[0]} times what it must be in one case, {others[0]} "
                f"times in another: a factor that comes of the case{hint}."
            )
    return ""


def _factors(evidence: Evidence) -> list[Factor]:
    """The factors of all that is wrong, those that rounding cannot tell apart as one.

    Empty if a gradient has none.
    """
    factors: list[Factor] = []
    for name in evidence.wrong:
        actual, expected = evidence.actual[name], evidence.expected[name]
        allowed = evidence.allowed[name]
        at = np.unravel_index(np.argmax(np.abs(expected)), expected.shape)
        if expected.size == 1 or expected[at] == 0 or not np.isfinite(actual[at]):
            return []
        factor = float(actual[at] / expected[at])
        error = float(allowed[at] / abs(expected[at]))  # by that element's rounding
        within = np.abs(actual - factor * expected) <= abs(factor) * allowed + (
            allowed + error * np.abs(expected)
        )
        if factor == 0 or not within.all():
            return []
        own = Factor(factor, error * (1 + abs(factor)), (name,))
        same = next((n for n, each in enumerate(factors) if not each.apart(own)), None)
        if same is None:
            factors.append(own)
        else:
            known = factors[same]
            best = min(known, own, key=lambda each: each.error)
            factors[same] = best._replace(names=(*known.names, name))
    return factors
