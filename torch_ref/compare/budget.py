"""The error budget: how far rounding alone may move each element of a result.

The equations are run once in float64 as they are and `2 * REPLICAS` times in a coarser arithmetic
that rounds after every operation, each replica on a grid of its own. The spread of an element over
the replicas, scaled to the unit roundoff of the dtype under test, is that element's standard error;
the budget is the multiple of it that a correct implementation exceeds with a probability of at most
`FALSE_ALARM`. A gradient's that is looser than wanted, if more replicas can mend it, is measured
anew with `2 * MORE_REPLICAS`. docs/error_budget.md derives all this.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from torch_ref.compare.rounding import EMULATED_BITS, rounding_arithmetic
from torch_ref.oracles.case import Case, stack_cases
from torch_ref.oracles.equations import Array, solve, unrounded

REPLICAS = 16
MORE_REPLICAS = 128
FALSE_ALARM = 1e-12
# What is wanted of a gradient's budget: that a change of an element by so much of itself is seen,
# if the element is at least such a share of its tensor's largest.
WANTED = {np.dtype(np.float32): (1e-3, 0.1), np.dtype(np.float64): (1e-9, 1e-3)}
_GATES_AT_ONCE = 2**22  # of all replicas that are in memory together
_SUMS = ("dweight", "dbias", "loss")  # over the steps: of a large case nearly all the work
Progress = Callable[[float, int], object]


@dataclass(frozen=True)
class ErrorBudget:
    """What rounding explains in one case.

    Attributes:
        allowed: for "loss" or "y", "h_n", "c_n" and every gradient, an array of its shape: how
            far a correct implementation may be from the exact value, element by element.
        pre_activation: how far rounding may move the most uncertain gate before its activation.
        refined: the gradients whose budget `MORE_REPLICAS` of each kind measured.
    """

    allowed: dict[str, Array]
    pre_activation: float
    refined: tuple[str, ...] = ()

    @property
    def conclusive(self) -> bool:
        """Whether the case can be judged at all in this dtype.

        Where a gate's argument is uncertain by one or more, so is the gate's whole value: the
        weights amplify rounding until correct implementations have nothing left in common.
        """
        return self.pre_activation < 1


def error_budget(
    case: Case,
    *,
    dtype: Any = None,
    sides: int = 1,
    seed: int = 0,
    equations: Callable[..., dict[str, Array]] = solve,
    progress: Progress | None = None,
) -> ErrorBudget:
    """How far rounding in `dtype` may move each result of a case.

    Args:
        case: what is computed.
        dtype: float32 or float64, the arithmetic under test; None is the case's own.
        sides: 1 for a result that is compared with the exact value, 2 for two results that both
            round, whose errors are independent.
        seed: of the replicas' grids. The same seed gives the same budget.
        equations: what is computed in the place of `equations.solve`, with its arguments.
        progress: is told as it goes on how many replicas are done, and of how many: of more from
            when a budget is measured anew.

    Returns:
        An array of allowed differences for every result. Where the exact value is 0 in every
        replica 0 is demanded, but for the dtype's smallest normal number: flushing a subnormal
        number is no mistake.
    """
    return error_budgets(
        [case], dtype=dtype, sides=sides, seed=seed, equations=equations, progress=progress
    )[0]


def error_budgets(
    cases: Sequence[Case],
    *,
    dtype: Any = None,
    sides: int = 1,
    seed: int = 0,
    equations: Callable[..., dict[str, Array]] = solve,
    progress: Progress | None = None,
) -> list[ErrorBudget]:
    """`error_budget` of many small cases of the same sizes and head at once, which is faster."""
    precision = np.dtype(cases[0].dtype if dtype is None else dtype)
    exact = equations(stack_cases(cases), unrounded(np.float64))
    done = 0

    def measure(chosen: list[int], count: int, entropy: list[int]) -> list[ErrorBudget]:
        nonlocal done
        before, done = done, done + count
        of_all = done

        def tell(share: float) -> None:
            if progress is not None:
                progress(before + share * count, of_all)

        spreads = _measure_spreads(
            stack_cases([cases[n] for n in chosen]),
            {name: value[chosen] for name, value in exact.items()},
            precision,
            count,
            np.random.default_rng(entropy),
            equations,
            tell,
        )
        return _budgets(spreads, precision, sides, count)

    budgets = measure(list(range(len(cases))), REPLICAS, [seed])
    loose = {n: _loose(budget, exact, n, precision) for n, budget in enumerate(budgets)}
    again = [n for n, names in loose.items() if names]
    if again:
        for n, fresh in zip(again, measure(again, MORE_REPLICAS, [seed, 1]), strict=True):
            tighter = {name: fresh.allowed[name] for name in loose[n]}
            budgets[n] = replace(budgets[n], allowed=budgets[n].allowed | tighter, refined=loose[n])
    return budgets


def _measure_spreads(
    stacked: Case,
    exact: Mapping[str, Array],
    precision: np.dtype[Any],
    replicas: int,
    rng: np.random.Generator,
    equations: Callable[..., dict[str, Array]],
    tell: Callable[[float], object],
) -> dict[str, Array]:
    """The spread (N, ...) of every result over `replicas` of each kind, one rounding being 2^-p."""
    at_once = 2 * replicas
    while at_once > 4 and at_once * exact["z"].size > _GATES_AT_ONCE:
        at_once //= 2
    rounds = 2 * replicas // at_once
    found: dict[str, list[Array]] = {name: [] for name in exact}
    done, sums = 0, rounds * sum(v.size for n, v in exact.items() if n.startswith(_SUMS))

    def tell_of(elements: int) -> None:
        nonlocal done
        done += elements
        tell(min(1.0, done / max(1, sums)))  # other equations may have other sums

    for _ in range(rounds):
        arithmetic = rounding_arithmetic(EMULATED_BITS[precision], at_once, rng, tell_of)
        rounded = equations(stacked, arithmetic, lead=(at_once,))
        for name, value in exact.items():
            found[name].append(_spreads(rounded[name] - value))
    of_kinds = {name: np.hypot.reduce(each) / np.sqrt(rounds) for name, each in found.items()}
    return {name: np.asarray(each.max(axis=0)) for name, each in of_kinds.items()}


def _budgets(
    spreads: Mapping[str, Array], precision: np.dtype[Any], sides: int, replicas: int
) -> list[ErrorBudget]:
    """The budgets of N cases from their spreads (N, ...)."""
    quantile = false_alarm_quantile(replicas)
    to_unit_roundoff = 2.0 ** (EMULATED_BITS[precision] - 1) * float(np.finfo(precision).eps)
    smallest = float(np.finfo(precision).tiny)
    return [
        ErrorBudget(
            {
                name: np.sqrt(sides) * to_unit_roundoff * (quantile * each[n]) + smallest
                for name, each in spreads.items()
                if name != "z"
            },
            float(quantile * gates.max()),
        )
        for n, gates in enumerate(spreads["z"])
    ]


def _loose(
    budget: ErrorBudget, exact: Mapping[str, Array], n: int, precision: np.dtype[Any]
) -> tuple[str, ...]:
    """The gradients of case n whose budget is looser than wanted, if more replicas can mend that.

    A change of twice the budget is seen whatever else rounds. With more replicas a budget falls
    by the ratio of the quantiles; where that does not bring all of it below the change, even if
    the first replicas took the spread for twice what it is, nothing is to be gained.
    """
    if not budget.conclusive:
        return ()
    change, share = WANTED[precision]
    gain = false_alarm_quantile(REPLICAS) / false_alarm_quantile(MORE_REPLICAS)
    names = []
    for name, allowed in budget.allowed.items():
        if name.startswith("d"):
            size = np.abs(exact[name][n])
            large = size >= share * size.max()
            wanted, granted = change * size[large], allowed[large]
            if np.any(granted > wanted / 2) and np.all(granted < 2 * gain * wanted):
                names.append(name)
    return tuple(names)


def false_alarm_quantile(replicas: int = REPLICAS, probability: float = FALSE_ALARM) -> float:
    """How many spreads a correct result may be off, the spread being that of a few replicas.

    For Student's t with n degrees of freedom P(|t| > k) <= (1 + k^2/n)^(-n/2), so this k is on
    the safe side of the quantile.
    """
    return float(np.sqrt(replicas * (probability ** (-2 / replicas) - 1)))


def _spread(errors: Array) -> Array:
    """Root mean square over the replicas: of the repeating half or the other, the larger."""
    return np.asarray(_spreads(errors).max(axis=0))


def _spreads(errors: Array) -> Array:
    """Root mean square over the replicas, of the repeating half and of the other: (2, ...)."""
    largest = np.abs(errors).max(axis=0)
    # Divided by the largest first, so that no square underflows.
    relative = np.divide(errors, largest, out=np.zeros_like(errors), where=largest > 0)
    mean_squares = np.square(relative).reshape(2, -1, *errors.shape[1:]).mean(axis=1)
    return np.asarray(largest * np.sqrt(mean_squares))
