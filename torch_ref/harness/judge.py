"""One case, one implementation, one verdict: what it made of the case against the truth."""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from torch_ref.compare.budget import error_budget
from torch_ref.compare.errors import Comparison, compare_gradients
from torch_ref.harness.abilities import OUTPUTS, SIZE_WORDS, Abilities
from torch_ref.harness.contract import (
    Answer,
    Implementation,
    pullback_answers,
    run_implementation,
)
from torch_ref.harness.given import restricted, without_biases
from torch_ref.harness.layouts.layout import Layout
from torch_ref.oracles.case import Case, Results
from torch_ref.oracles.equations import Arithmetic, is_step_gradient, solve
from torch_ref.oracles.truth import truth

Array = NDArray[Any]
Equations = Callable[..., dict[str, Array]]
_OTHER_LAYER = re.compile(r"_l[0-9]+$")


OF_WEIGHTS = ("dweight_", "dbias_")


@dataclass(frozen=True)
class Clipping:
    """Gradients are cut off inside, by value or by norm, at `limit`; perhaps the weights' only.

    Attributes:
        eps: is added to the norm. uncertainty: of the limit, relative to it.
    """

    kind: Literal["value", "norm"]
    limit: float
    weights_only: bool = False
    eps: float = 0.0
    uncertainty: float = 0.0

    @property
    def sentence(self) -> str:
        """The finding for people."""
        whose = "The gradients of the weights" if self.weights_only else "Gradients"
        return (
            f"{whose} are clipped inside, by {self.kind} at {self.limit:.6g}, and right where "
            "they are smaller."
        )

    @property
    def unverified(self) -> str:
        """What is not compared for its sake."""
        return f"gradients beyond a {self.kind} of {self.limit:.6g}: they are clipped"

    def __call__(self, gradients: Mapping[str, Array]) -> dict[str, Array]:
        """The gradients as they come out clipped: equation (29) or (28)."""
        if self.weights_only:
            of_weights = {name: g for name, g in gradients.items() if name.startswith(OF_WEIGHTS)}
            return {**gradients, **replace(self, weights_only=False)(of_weights)}
        if self.kind == "value":
            return {name: np.clip(g, -self.limit, self.limit) for name, g in gradients.items()}
        norm = norm_of(gradients)
        factor = min(1.0, self.limit / (norm + self.eps)) if norm > 0 else 1.0
        return {name: g * factor for name, g in gradients.items()}


def norm_of(gradients: Mapping[str, Array]) -> float:
    """The norm of all gradients together, in float64."""
    squares = (float(np.sum(np.square(g, dtype=np.float64))) for g in gradients.values())
    return float(np.sqrt(sum(squares)))


@dataclass(frozen=True)
class Subject:
    """An implementation whose layout is known, and what was found out about it.

    Attributes:
        implementation: itself. abilities: what it can do.
        clipping: how its gradients are cut off, if they are.
        coarse_tanh: whether its tanh is off by a unit roundoff of 1, as 2 sigmoid(2z) - 1 is.
    """

    implementation: Implementation
    abilities: Abilities
    clipping: Clipping | None = None
    coarse_tanh: bool = False

    @property
    def lacking_required(self) -> tuple[str, ...]:
        """Phrases for what it lacks and is required to have, but for sizes of which it raises."""
        required, lacking = self.implementation.requires, self.abilities.lacking
        raising = {SIZE_WORDS[size] for size in self.abilities.meant}
        return tuple(
            phrase
            for name, phrase in lacking.items()
            if name not in raising and ({"all", name, name.partition(" ")[0]} & required)
        )

    def answer(self, case: Case) -> Answer:
        """What it makes of a case, and what it did to it."""
        return run_implementation(self.implementation, case)

    def run(self, case: Case) -> Results:
        """What it makes of a case, in manual_lstm's arrangement."""
        return self.answer(case).results

    def run_pullback(self, cases: Sequence[Case]) -> list[Results]:
        """Gradients of cases that differ in their upstream gradients only, of one forward pass."""
        return pullback_answers(self.implementation, cases)


def given_case(subject: Subject, case: Case) -> Case:
    """The case that an implementation is really given by one: what it ignores is zero.

    A loss that is a sum has the upstream gradient T B, as the mean's gradient is that of 1.
    """
    real = restricted(case, subject.abilities.ignored)
    real = without_biases(real, subject.implementation.layout)
    count = 1 if case.targets is None else case.targets.size
    scale = float(count) if subject.implementation.reduction == "sum" else 1.0
    return replace(real, dloss=real.dloss * scale)


def precision_of(subject: Subject) -> np.dtype | None:
    """The only dtype that an implementation computes in; None where it is the case's."""
    dtypes = subject.abilities.dtypes
    return np.dtype(dtypes[0]) if len(dtypes) == 1 else None


class Inconclusive(Exception):
    """Rounding alone decides what comes out of this case."""


def expected_of(subject: Subject, case: Case) -> tuple[Results, dict[str, np.ndarray]]:
    """The true results of a case for this implementation, and how far each may be off.

    What the implementation ignores is zero, and its loss is a mean or a sum as it says. The
    gradients at every step are there for one that returns any of them.

    Raises:
        Inconclusive: the error budget is.
    """
    real = given_case(subject, case)
    scale = real.dloss / case.dloss
    steps = any(map(is_step_gradient, subject.abilities.returned))
    equations = rounding_as(subject, partial(solve, steps=steps))
    budget = error_budget(real, dtype=precision_of(subject), equations=equations)
    if not budget.conclusive:
        raise Inconclusive
    expected, allowed = dict(truth(real, steps=steps)), dict(budget.allowed)
    if "loss" in expected:
        expected["loss"], allowed["loss"] = expected["loss"] * scale, allowed["loss"] * scale
    layout = subject.implementation.layout
    if isinstance(layout, Layout):
        # What only this layout has: a second bias's gradient, what leaks through a bias neuron.
        expected, allowed = layout.complete(expected), layout.complete(allowed)
    if subject.clipping is not None:
        # What it can do was found with one layer: what it returns of the first it does of others.
        names = [
            name
            for name in expected
            if name not in OUTPUTS
            and not is_step_gradient(name)
            and _OTHER_LAYER.sub("_l0", name) in subject.abilities.returned
        ]
        clipped = subject.clipping({name: expected[name] for name in names})
        expected |= clipped
        # The limit is as uncertain as it was measured.
        share = subject.clipping.uncertainty
        allowed |= {name: allowed[name] + share * np.abs(clipped[name]) for name in names}
    return expected, allowed


def rounding_as(subject: Subject, equations: Equations) -> Equations:
    """Equations for `error_budget` with the tanh that an implementation has.

    A coarse one is off as 2 sigmoid(2z) - 1 is.
    """

    def solve_coarsely(case: Case, a: Arithmetic, *args: Any, **options: Any) -> dict[str, Array]:
        coarse = replace(a, tanh=lambda z: a.rnd(2 * a.sigmoid(2 * z) - 1))
        return equations(case, coarse, *args, **options)

    return solve_coarsely if subject.coarse_tanh else equations


def apart(first: Array, second: Array, allowed: ArrayLike) -> bool:
    """Whether two runs of one case are further apart than rounding can be.

    They need not be equal to the bit: threads add up in another order each time.

    Args:
        first, second: one result of both runs.
        allowed: how far each of them may be from the truth.
    """
    if first.shape != second.shape:
        return True
    with np.errstate(invalid="ignore"):
        near = np.abs(first - second) <= 2 * np.asarray(allowed)
    same = (first == second) | (np.isnan(first) & np.isnan(second))
    return not np.all(near | same)


def judge(subject: Subject, case: Case, only: Collection[str] | None = None) -> Comparison:
    """Run a case and compare what comes back with the truth.

    Args:
        only: the names to compare; None is everything that the implementation returns.

    Raises:
        Inconclusive: as `expected_of`.
    """
    expected, allowed = expected_of(subject, case)
    actual = subject.run(case)
    names = [
        name
        for name in expected
        if (name in actual or name in subject.abilities.returned) and (only is None or name in only)
    ]
    return compare_gradients(
        {name: actual[name] for name in names if name in actual},
        {name: expected[name] for name in names},
        allowed,
    )
