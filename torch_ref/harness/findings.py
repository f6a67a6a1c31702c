"""Findings that stand for a hundred wrong elements: one common ratio, and clipped gradients."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from torch_ref.harness.abilities import OUTPUTS
from torch_ref.harness.cases import loud_head, sized_case
from torch_ref.harness.judge import (
    OF_WEIGHTS,
    Clipping,
    Inconclusive,
    Subject,
    expected_of,
    norm_of,
)
from torch_ref.oracles.case import Case
from torch_ref.oracles.equations import is_step_gradient

Array = NDArray[Any]
# Sizes that no two of T, B, V and T*B share, so that 1/T is not taken for 1/B.
_SIZES = ({"T": 3, "B": 2, "I": 4}, {"T": 5, "B": 3, "I": 7}, {"T": 7, "B": 5, "I": 2})
# An upstream gradient so many times louder is clipped, if anything is.
_LOUD = 2.0**10
# What is added to a norm before it divides: nothing, torch's, and others' small numbers.
_EPSILONS = (0.0, 1e-6, 1e-5, 1e-7, 1e-8, 1e-10, 1e-12)


@dataclass(frozen=True)
class Scale:
    """Every gradient is `ratio` times the true one; `words` says what that is, "1/T" or "-1"."""

    ratio: float
    words: str

    @property
    def sentence(self) -> str:
        """The finding for people."""
        if self.words == "-1":
            return (
                "Every gradient is right but for its sign. At the softmax the gradient is "
                "(p - onehot) / (T B), equation (26), not (onehot - p)."
            )
        sentence = f"Every gradient is right but for one factor common to all: {self.words}."
        if self.words in ("T", "T B"):
            return f'{sentence} Of a loss that is a sum it is right: reduction="sum" says so.'
        return sentence


@dataclass(frozen=True)
class _Ratio:
    case: Case
    value: float
    uncertainty: float

    def may_be(self, other: float) -> bool:
        return abs(self.value - other) <= self.uncertainty


def find_scale(subject: Subject) -> Scale | None:
    """The one ratio other than 1 by which all gradients differ from the truth, on every case.

    Returns:
        None if there is no such ratio, or if it is 1. A ratio that changes from case to case is
        one of sizes (T, B, V, T*B, or one divided by it) or none.
    """
    ratios = []
    for seed, sizes in enumerate(_SIZES):
        case = _case_of(subject, sizes, seed)
        actual, expected, allowed = _gradients(subject, case)
        ratio = _common_ratio(case, actual, expected, allowed)
        if ratio is None:
            return None
        ratios.append(ratio)
    if not ratios or all(ratio.may_be(1.0) for ratio in ratios):
        return None
    return _in_words(ratios)


def find_clipping(subject: Subject) -> Clipping | None:
    """Whether gradients are cut off inside at one limit and right where nothing is cut.

    The loss form has no upstream gradient to enlarge: there the output weights are.
    """
    cases = [_case_of(subject, sizes, k) for k, sizes in enumerate(_SIZES)]
    found = {clipping_of(*_gradients(subject, _louder(case, _LOUD))) for case in cases}
    if len(found) != 1:
        return None
    (clipping,) = found
    if clipping is None or clipping.kind == "value":
        return clipping
    return _measured(subject, clipping, cases)


def _measured(subject: Subject, rough: Clipping, cases: Sequence[Case]) -> Clipping:
    """A clipping by norm with its limit to all digits, and what is added to the norm.

    Where a norm n is clipped, what comes out has the norm a = limit n / (n + eps): the limit is the
    same for all a and n by the right eps. That shows best where n is little above the limit, so
    each case is made as quiet as it can be and still be clipped.
    """
    norms = []
    for case in cases:
        # The output layer's own gradients stay, however quiet what it hands on: hence an end.
        quieter = (_norms(subject, rough, _louder(case, _LOUD / 2**k)) for k in range(20))
        norms += list(itertools.takewhile(lambda found: found is not None, quieter))[-1:]
    if not norms:  # another answer each time: what is known has to do
        return rough
    actual, true = np.array(norms).T
    limits = [actual * (true + eps) / true for eps in _EPSILONS]
    spreads = [float(np.ptp(each) / np.min(each)) for each in limits]
    best = int(np.argmin(spreads))
    limit = float(np.median(limits[best]))
    for digits in range(1, 7):  # a limit that somebody wrote down, if it is one within the spread
        short = float(f"{limit:.{digits}g}")
        if abs(short - limit) <= spreads[best] * limit:
            limit = short
            break
    return replace(rough, limit=limit, eps=_EPSILONS[best], uncertainty=spreads[best])


def _norms(subject: Subject, rough: Clipping, case: Case) -> tuple[float, float] | None:
    """The norm of what is clipped as it comes out, and as it is; None if it is not clipped."""
    actual, expected, allowed = _gradients(subject, case)
    if clipping_of(actual, expected, allowed) != rough:
        return None
    names = [n for n in actual if not rough.weights_only or n.startswith(OF_WEIGHTS)]
    return norm_of({n: actual[n] for n in names}), norm_of({n: expected[n] for n in names})


def clipping_of(
    actual: Mapping[str, Array], expected: Mapping[str, Array], allowed: Mapping[str, Array]
) -> Clipping | None:
    """At what limit gradients are cut off that else are the expected ones; None if they are not.

    All of them, or, where the others are right, those of the weights.
    """
    found = _cut_off(list(actual), actual, expected, allowed)
    others = [name for name in actual if not name.startswith(OF_WEIGHTS)]
    if found or any(np.any(~(abs(actual[n] - expected[n]) <= allowed[n])) for n in others):
        return found
    weights = [name for name in actual if name.startswith(OF_WEIGHTS)]
    found = _cut_off(weights, actual, expected, allowed)
    return found and replace(found, weights_only=True)


def _cut_off(
    names: Sequence[str],
    actual: Mapping[str, Array],
    expected: Mapping[str, Array],
    allowed: Mapping[str, Array],
) -> Clipping | None:
    if not names:
        return None
    a, e, b = (
        np.concatenate([np.ravel(each[name]) for name in names])
        for each in (actual, expected, allowed)
    )
    limit = float(np.max(np.abs(a)))
    if limit == 0:
        return None
    right = np.abs(a - e) <= b
    several = np.sum(np.abs(a) == limit) > 1
    if several and not right.all() and np.all(right | (a == np.clip(e, -limit, limit))):
        return Clipping("value", limit)
    ratio = float(a @ e / (e @ e)) if np.any(e) else 1.0
    if 0 < ratio < 1 and np.all(np.abs(a - ratio * e) <= 2 * ratio * b):
        norm = float(np.linalg.norm(a))
        return Clipping("norm", float(f"{norm:.4g}"))
    return None


def _louder(case: Case, factor: float) -> Case:
    if case.dy is not None:
        names = ("dy", "dh_n", "dc_n")
        louder = case.dtype.type(factor)
        return replace(case, **{name: getattr(case, name) * louder for name in names})
    return loud_head(case, factor / 16)


def _case_of(subject: Subject, wanted: Mapping[str, int], seed: int) -> Case:
    implementation, abilities = subject.implementation, subject.abilities
    sizes = {"H": 3, "L": 1, **wanted} | dict(implementation.sizes)
    sizes["B"] = sizes["B"] if abilities.batches else 1
    case = sized_case(
        sizes,
        dtype=abilities.dtypes[0],
        targets=implementation.head_inside is not None,
        head=implementation.head_inside,
        variant=implementation.variant,
        seed=seed,
    )
    if case.targets is None:
        return case
    # What comes through the last states does not have the loss's scale.
    return replace(case, dh_n=np.zeros_like(case.dh_n), dc_n=np.zeros_like(case.dc_n))


def _gradients(
    subject: Subject, case: Case
) -> tuple[dict[str, Array], dict[str, Array], dict[str, Array]]:
    try:
        expected, allowed = expected_of(subject, case)
        actual = subject.run(case)
    except (Inconclusive, NotImplementedError):
        return {}, {}, {}
    names = [
        name
        for name in actual
        if name in expected
        and name not in OUTPUTS
        and not is_step_gradient(name)
        and np.shape(actual[name]) == np.shape(expected[name])
    ]
    return (
        {name: np.asarray(actual[name], np.float64) for name in names},
        {name: np.asarray(expected[name], np.float64) for name in names},
        {name: np.asarray(allowed[name]) for name in names},
    )


def _common_ratio(
    case: Case,
    actual: Mapping[str, Array],
    expected: Mapping[str, Array],
    allowed: Mapping[str, Array],
) -> _Ratio | None:
    """The least-squares ratio, each element weighted by its budget, if it explains every one."""
    if not actual:
        return None
    a, e, b = (
        np.concatenate([np.ravel(each[name]) for name in actual])
        for each in (actual, expected, allowed)
    )
    fixed = b == 0  # nothing is allowed: what leaks through a bias neuron, by any factor
    if (a[fixed] != e[fixed]).any():
        return None
    a, e, b = a[~fixed], e[~fixed], b[~fixed]
    under = float(np.sum(np.square(e / b)))
    if under == 0 or not np.isfinite(a).all():
        return None
    value = float(np.sum((a / b) * (e / b))) / under
    # Every element may be off by |value| * b, so the ratio by no more than their weighted sum.
    uncertainty = abs(value) * float(np.sum(np.abs(e) / b)) / under
    off = np.abs(a - value * e)
    explained = bool(np.all(off <= abs(value) * b + uncertainty * np.abs(e)))
    return _Ratio(case, value, uncertainty) if explained and value != 0 else None


def _in_words(ratios: Sequence[_Ratio]) -> Scale | None:
    for words, value in _candidates().items():
        if all(ratio.may_be(value(ratio.case)) for ratio in ratios):
            return Scale(ratios[0].value, words)
    first = ratios[0]
    if all(abs(r.value - first.value) <= r.uncertainty + first.uncertainty for r in ratios):
        return Scale(first.value, f"{first.value:.6g}")
    return None


def _candidates() -> dict[str, Callable[[Case], float]]:
    sizes: dict[str, Callable[[Case], int]] = {
        "T": lambda case: case.x.shape[0],
        "B": lambda case: case.x.shape[1],
        "V": lambda case: case.x.shape[2],
        "T B": lambda case: case.x.shape[0] * case.x.shape[1],
    }
    candidates: dict[str, Callable[[Case], float]] = {"-1": lambda _: -1.0}
    for name, size in sizes.items():
        inverse = f"1/({name})" if " " in name else f"1/{name}"
        candidates[name] = lambda case, size=size: float(size(case))  # type: ignore[misc]
        candidates[f"-{name}"] = lambda case, size=size: -float(size(case))  # type: ignore[misc]
        candidates[inverse] = lambda case, size=size: 1 / size(case)  # type: ignore[misc]
        candidates[f"-{inverse}"] = lambda case, size=size: -1 / size(case)  # type: ignore[misc]
    return candidates
