"""Gradients that are right but for a factor, which may be another one in each case."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from torch_ref.diagnosis.backward.render import joined
from torch_ref.diagnosis.evidence import Evidence
from torch_ref.diagnosis.locating.probing import Probes


def factors_in_words(evidence: Evidence) -> str:
    """By which factor each wrong gradient is off, if all its elements are by the same one.

    The gradients of two logits are each other's negative: there whatever is wrong is a factor.
    """
    if evidence.case.targets is not None and evidence.case.x.shape[-1] <= 2:
        return ""
    each = [f"of {joined(names)} is {factor} times" for factor, names in _factors(evidence).items()]
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
        others = {} if beside is None else _factors(beside)
        if len(others) == 1 and others.keys() != found.keys():
            (here,), (there,) = found, others
            return (
                f"All that is wrong is {here} times what it must be in one case, {there} times in "
                "another: a factor that comes of the case, as where gradients are clipped by the "
                "norm of only some of them."
            )
    return ""


def _factors(evidence: Evidence) -> dict[str, list[str]]:
    """The factors, as they are told, and the gradients off by each; {} if one has none."""
    factors: dict[str, list[str]] = {}
    for name in evidence.wrong:
        actual, expected = evidence.actual[name], evidence.expected[name]
        allowed = evidence.allowed[name]
        at = np.unravel_index(np.argmax(np.abs(expected)), expected.shape)
        if expected.size == 1 or expected[at] == 0 or not np.isfinite(actual[at]):
            return {}
        factor = float(actual[at] / expected[at])
        error = allowed[at] / abs(expected[at])  # of the factor, by that element's rounding
        within = np.abs(actual - factor * expected) <= abs(factor) * allowed + (
            allowed + error * np.abs(expected)
        )
        if factor == 0 or not within.all():
            return {}
        factors.setdefault(f"{factor:.4g}", []).append(name)
    return factors
