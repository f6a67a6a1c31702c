"""The error budget: how far rounding alone may move each element of a result.

The equations are run once in float64 as they are and `2 * REPLICAS` times in a coarser arithmetic
that rounds after every operation, each replica on a grid of its own. The spread of an element over
the replicas, scaled to the unit roundoff of the dtype under test, is that element's standard error;
the budget is the multiple of it that a correct implementation exceeds with a probability of at most
`FALSE_ALARM`. docs/error_budget.md derives it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from torch_ref.oracles.case import Case, stack_cases
from torch_ref.oracles.equations import Arithmetic, Array, solve, unrounded

REPLICAS = 16
FALSE_ALARM = 1e-12
# float64 is emulated with fewer bits, so that float64 itself can tell the replicas apart.
_EMULATED_BITS = {np.dtype(np.float32): 24, np.dtype(np.float64): 43}


@dataclass(frozen=True)
class ErrorBudget:
    """What rounding explains in one case.

    Attributes:
        allowed: for "loss" or "y", "h_n", "c_n" and every gradient, an array of its shape: how
            far a correct implementation may be from the exact value, element by element.
        pre_activation: how far rounding may move the most uncertain gate before its activation.
    """

    allowed: dict[str, Array]
    pre_activation: float

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
) -> ErrorBudget:
    """How far rounding in `dtype` may move each result of a case.

    Args:
        case: what is computed.
        dtype: float32 or float64, the arithmetic under test; None is the case's own.
        sides: 1 for a result that is compared with the exact value, 2 for two results that both
            round, whose errors are independent.
        seed: of the replicas' grids. The same seed gives the same budget.
        equations: what is computed in the place of `equations.solve`, with its arguments.

    Returns:
        An array of allowed differences for every result. Where the exact value is 0 in every
        replica 0 is demanded, but for the dtype's smallest normal number: flushing a subnormal
        number is no mistake.
    """
    return error_budgets([case], dtype=dtype, sides=sides, seed=seed, equations=equations)[0]


def error_budgets(
    cases: Sequence[Case],
    *,
    dtype: Any = None,
    sides: int = 1,
    seed: int = 0,
    equations: Callable[..., dict[str, Array]] = solve,
) -> list[ErrorBudget]:
    """`error_budget` of many small cases of the same sizes and head at once, which is faster."""
    precision = np.dtype(cases[0].dtype if dtype is None else dtype)
    bits = _EMULATED_BITS[precision]
    stacked = stack_cases(cases)
    exact = equations(stacked, unrounded(np.float64))
    rounded = equations(
        stacked,
        rounding_arithmetic(bits, 2 * REPLICAS, np.random.default_rng(seed)),
        lead=(2 * REPLICAS,),
    )
    to_unit_roundoff = 2.0 ** (bits - 1) * float(np.finfo(precision).eps)
    smallest = float(np.finfo(precision).tiny)
    quantile = false_alarm_quantile()
    emulated = {
        name: quantile * _spread(rounded[name] - value)  # (N, ...)
        for name, value in exact.items()
    }
    gates = emulated.pop("z")
    return [
        ErrorBudget(
            {
                name: np.sqrt(sides) * to_unit_roundoff * each[n] + smallest
                for name, each in emulated.items()
            },
            float(gates[n].max()),
        )
        for n in range(len(cases))
    ]


def false_alarm_quantile(replicas: int = REPLICAS, probability: float = FALSE_ALARM) -> float:
    """How many spreads a correct result may be off, the spread being that of a few replicas.

    For Student's t with n degrees of freedom P(|t| > k) <= (1 + k^2/n)^(-n/2), so this k is on
    the safe side of the quantile.
    """
    return float(np.sqrt(replicas * (probability ** (-2 / replicas) - 1)))


def _spread(errors: Array) -> Array:
    """Root mean square over the replicas: of the repeating half or the other, the larger."""
    repeating, independent = np.square(errors).reshape(2, -1, *errors.shape[1:]).mean(axis=1)
    return np.asarray(np.sqrt(np.maximum(repeating, independent)))


def rounding_arithmetic(bits: int, replicas: int, rng: np.random.Generator) -> Arithmetic:
    """Arithmetic with `bits` significant bits, `replicas` times over, along the leading axis.

    A number is rounded so that its product with a scale from [1, 2) has `bits` bits, with a scale
    for each replica and place in an array's last axis. In the first half of the replicas a scale
    is drawn once: as in real arithmetic the same operands always round in the same way, so that
    errors which repeat at every step add up as they do in reality. In the second half it is drawn
    anew each time, so that errors which happen to cancel in the first half do not here.
    """
    splitter = float(2 ** (53 - bits) + 1)
    fresh = replicas - replicas // 2

    def new_rounding() -> Callable[[Array], Array]:
        scales: dict[int, Array] = {}

        def rnd(a: Array) -> Array:
            width = a.shape[-1]
            if width not in scales:
                scales[width] = rng.uniform(1.0, 2.0, (replicas, width))
            scales[width][-fresh:] = rng.uniform(1.0, 2.0, (fresh, width))
            scale = scales[width].reshape(replicas, *[1] * (a.ndim - 2), width)
            scaled = a * scale
            high = scaled * splitter  # Veltkamp's splitting keeps the upper bits
            np.subtract(high, scaled, out=scaled)
            high -= scaled
            high /= scale
            return np.asarray(high)

        return rnd

    rnd, rnd_sigmoid, rnd_tanh = new_rounding(), new_rounding(), new_rounding()

    def sigmoid(z: Array) -> Array:
        # The formula through tanh, which loses most where the gate is nearly shut: an absolute
        # error of a unit roundoff of 1. A correct implementation may use it.
        return rnd_sigmoid(0.5 + 0.5 * rnd_sigmoid(np.tanh(0.5 * z)))

    def matmul(a: Array, b: Array) -> Array:
        if a.shape[-1] == 1:
            return rnd(a @ b)
        exact = a @ b
        return exact + _summation_error(rnd, a, b, exact)

    def sum_over_steps(left: list[Array], right: list[Array]) -> Array:
        # Every other replica adds the steps up from the far end.
        m, p = np.stack(left), np.stack(right)  # (T, R, ..., B, M), (T, R, ..., B, P)
        m[:, ::2], p[:, ::2] = m[::-1, ::2].copy(), p[::-1, ::2].copy()
        total = rnd(np.swapaxes(m[0], -1, -2) @ p[0])  # (R, ..., M, P)
        for m_t, p_t in zip(m[1:], p[1:], strict=True):
            total = rnd(total + np.swapaxes(m_t, -1, -2) @ p_t)
        rows = np.swapaxes(_all_steps(m), -1, -2)  # (R, ..., M, T*B)
        columns = _all_steps(p)  # (R, ..., T*B, P)
        return total + _summation_error(rnd, rows, columns, rows @ columns)

    return Arithmetic(
        number=lambda a: np.asarray(a, np.float64),
        rnd=rnd,
        sigmoid=sigmoid,
        tanh=lambda z: rnd_tanh(np.tanh(z)),
        exp=np.exp,
        log=np.log,
        matmul=matmul,
        sum_over_steps=sum_over_steps,
    )


def _all_steps(m: Array) -> Array:
    """(T, ..., B, M) as (..., T*B, M)."""
    moved = np.moveaxis(m, 0, -3)
    return moved.reshape(*moved.shape[:-3], -1, moved.shape[-1])


def _summation_error(rnd: Callable[[Array], Array], a: Array, b: Array, exact: Array) -> Array:
    """An error of a @ b as large as that of n products p added up in random order.

    Each product rounds once, and so does each partial sum of k of them, whose mean square over
    all orders is k/n sum(p^2) + k(k-1)/(n(n-1)) ((sum p)^2 - sum(p^2)). Added up for k = 2..n
    that is the square below, in units of one rounding of the whole sum.
    """
    n = a.shape[-1]
    squares = np.square(a) @ np.square(b)  # sum(p^2)
    roundings = squares * (1 + (n + 1) / 6 - 1 / n) + np.square(exact) * ((n + 1) / 3)
    one = np.divide(rnd(exact) - exact, exact, out=np.zeros_like(exact), where=exact != 0)
    return np.asarray(one * np.sqrt(roundings))
