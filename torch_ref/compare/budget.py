"""The error budget: how far rounding alone may move each element of a result.

The equations are run once in float64 as they are and `2 * REPLICAS` times in a coarser arithmetic
that rounds after every operation, each replica on a grid of its own. The spread of an element over
the replicas, scaled to the unit roundoff of the dtype under test, is that element's standard error;
the budget is the multiple of it that a correct implementation exceeds with a probability of at most
`FALSE_ALARM`. A gradient's that is looser than wanted, if more replicas can mend it, is measured
anew with `2 * MORE_REPLICAS`. docs/error_budget.md derives all this.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from torch_ref.oracles.case import Case, stack_cases
from torch_ref.oracles.equations import Arithmetic, Array, solve, unrounded

REPLICAS = 16
MORE_REPLICAS = 128
FALSE_ALARM = 1e-12
# Numbers that agree in so many bits have the same error in the replicas whose errors repeat.
_REPEATING_BITS = 16
_DRAWN_AT_ONCE = 2**14
_SAFE_TO_SQUARE = 2.0**-450
# float64 is emulated with fewer bits, so that float64 itself can tell the replicas apart.
_EMULATED_BITS = {np.dtype(np.float32): 24, np.dtype(np.float64): 43}
# What is wanted of a gradient's budget: that a change of an element by so much of itself is seen,
# if the element is at least such a share of its tensor's largest.
WANTED = {np.dtype(np.float32): (1e-3, 0.1), np.dtype(np.float64): (1e-9, 1e-3)}
# How many gates of how many replicas are in memory at once, and how many elements of sums in cache.
_GATES_AT_ONCE = 2**22
_IN_CACHE = 2**15


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
    exact = equations(stack_cases(cases), unrounded(np.float64))

    def measure(chosen: list[int], count: int, entropy: list[int]) -> list[ErrorBudget]:
        spreads = _measure_spreads(
            stack_cases([cases[n] for n in chosen]),
            {name: value[chosen] for name, value in exact.items()},
            precision,
            count,
            np.random.default_rng(entropy),
            equations,
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
) -> dict[str, Array]:
    """The spread (N, ...) of every result over `replicas` of each kind, one rounding being 2^-p."""
    at_once = 2 * replicas
    while at_once > 4 and at_once * exact["z"].size > _GATES_AT_ONCE:
        at_once //= 2
    rounds = 2 * replicas // at_once
    found: dict[str, list[Array]] = {name: [] for name in exact}
    for _ in range(rounds):
        arithmetic = rounding_arithmetic(_EMULATED_BITS[precision], at_once, rng)
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
    to_unit_roundoff = 2.0 ** (_EMULATED_BITS[precision] - 1) * float(np.finfo(precision).eps)
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


def rounding_arithmetic(bits: int, replicas: int, rng: np.random.Generator) -> Arithmetic:
    """Arithmetic with `bits` significant bits, `replicas` times over, along the leading axis.

    A number's product with a scale from [1, 2) is split after some of its bits; what is cut off
    is the error. In the first half of the replicas, where errors repeat, the split is a coarse
    one and the error what it cuts off, reduced to the size of a rounding: an error that depends
    on the number alone and is the same for all numbers that agree in their first bits, so that
    errors which repeat at every step, or in every sequence of the batch, add up as they do in
    reality. Its scale belongs to the place in an array's last axis. In the second half the
    number is rounded to `bits` bits, with a scale drawn anew for each operation, row and place,
    so that errors which happen to cancel in the first half do not here.
    """
    repeating = replicas // 2
    fresh = replicas - repeating
    by_half = np.repeat([_REPEATING_BITS, bits], [repeating, fresh])[:, None, None]
    splitter = 2.0 ** (53 - by_half) + 1
    reduced = 2.0 ** (by_half - bits)
    factors = _uniform(rng, 1.0, float(np.sqrt(2.0)))

    def new_rounding() -> Callable[[Array], Array]:
        columns: dict[int, Array] = {}
        scales: dict[tuple[int, int], Array] = {}

        def rnd(a: Array) -> Array:
            if a.ndim < 3:  # a bias, a loss: one row
                return rnd(a.reshape(replicas, 1, -1)).reshape(a.shape)
            rows, width = a.shape[-2:]
            if (rows, width) not in scales:
                if width not in columns:
                    columns[width] = rng.uniform(1.0, 2.0, (repeating, 1, width))
                scales[rows, width] = np.empty((replicas, rows, width))
                scales[rows, width][:repeating] = columns[width]
            scale = scales[rows, width]
            # The product of a row's factor and a place's is a scale of its own for each.
            np.multiply(factors(fresh, rows, 1), factors(fresh, 1, width), out=scale[repeating:])
            axes = (replicas, *[1] * (a.ndim - 3), rows, width)
            back = (reduced / scale).reshape(axes)
            scaled = a * scale.reshape(axes)
            high = scaled * splitter.reshape(replicas, *[1] * (a.ndim - 1))
            low = high - scaled  # Veltkamp's splitting keeps the upper bits
            high -= low
            high -= scaled
            high *= back
            high += a
            return np.asarray(high)

        return rnd

    rnd, rnd_sigmoid, rnd_tanh = new_rounding(), new_rounding(), new_rounding()
    relative_errors = _uniform(rng, -(2.0**-bits), 2.0**-bits)
    own_errors: dict[int, Array] = {}

    def library(a: Array) -> Array:
        # A library's function is right to one unit in the last place, not to half of one. What
        # its own error adds to the rounding of the result is smooth in the argument: as good as
        # constant at a place.
        rows, width = a.shape[-2:]
        if width not in own_errors:
            own_errors[width] = rng.uniform(-(2.0**-bits), 2.0**-bits, (repeating, 1, width))
        error = np.empty((replicas, rows, width))
        error[:repeating] = own_errors[width]
        error[repeating:] = relative_errors(fresh, rows, width)
        return np.asarray(a * (1 + error.reshape(replicas, *[1] * (a.ndim - 3), rows, width)))

    def sigmoid(z: Array) -> Array:
        # The formula through tanh, which loses most where the gate is nearly shut: an absolute
        # error of a unit roundoff of 1. A correct implementation may use it. The other formula,
        # 1 / (1 + exp(-z)), rounds once more.
        return rnd(rnd_sigmoid(0.5 + 0.5 * rnd_tanh(library(np.tanh(0.5 * z)))))

    def matmul(a: Array, b: Array) -> Array:
        if a.shape[-1] == 1:
            return rnd(a @ b)
        exact = a @ b
        return exact + _summation_error(rnd, a, b, exact)

    def sum_over_steps(left: list[Array], right: list[Array]) -> Array:
        rows = np.swapaxes(_all_steps(left), -1, -2)  # (R, ..., M, T*B)
        columns = _all_steps(right)  # (R, ..., T*B, P)
        exact = rows @ columns
        error = _summation_error(rnd, rows, columns, exact)
        scale = rng.uniform(1.0, 2.0, (repeating, columns.shape[-1]))
        error[:repeating] = _error_in_order(rows[:repeating], columns[:repeating], scale, bits)
        return np.asarray(exact + error)

    return Arithmetic(
        number=lambda a: np.asarray(a, np.float64),
        rnd=rnd,
        sigmoid=sigmoid,
        tanh=lambda z: rnd_tanh(library(np.tanh(z))),
        exp=lambda z: library(np.exp(z)),
        log=lambda z: library(np.log(z)),
        matmul=matmul,
        sum_over_steps=sum_over_steps,
    )


def _uniform(rng: np.random.Generator, low: float, high: float) -> Callable[..., Array]:
    """Arrays of a given shape with elements from [low, high), drawn many at a time."""
    drawn, used = rng.uniform(low, high, _DRAWN_AT_ONCE), 0

    def take(*shape: int) -> Array:
        nonlocal drawn, used
        count = math.prod(shape)
        if used + count > len(drawn):
            drawn, used = rng.uniform(low, high, max(count, _DRAWN_AT_ONCE)), 0
        used += count
        return drawn[used - count : used].reshape(shape)

    return take


def _all_steps(steps: list[Array]) -> Array:
    """T of (..., B, M) as (..., T*B, M)."""
    stacked = np.stack(steps, axis=-3)
    return stacked.reshape(*stacked.shape[:-3], -1, stacked.shape[-1])


def _error_in_order(rows: Array, columns: Array, scale: Array, bits: int) -> Array:
    """The error of rows @ columns, one product added after the other, each sum rounded.

    Where a sequence repeats, so do the terms, and the same term added again and again rounds in
    the same direction each time: the error grows with the number of terms, not with its root.
    That depends on how many units of the sum's last place a term has, so the rounding is that of
    the precision itself: `bits` bits on the grid of a replica and column, or, in place of an
    emulated float64, float64's own, whose error is enlarged.
    """
    scale = scale.reshape(len(scale), *[1] * (rows.ndim - 2), -1)
    rows, columns = rows.copy(), columns * scale
    # Every other replica adds up from the far end.
    rows[::2], columns[::2] = rows[::2, ..., ::-1].copy(), columns[::2, ..., ::-1, :].copy()
    in_float64 = bits == _EMULATED_BITS[np.dtype(np.float64)]
    height = max(1, _IN_CACHE // (math.prod(rows.shape[:-2]) * columns.shape[-1]))
    blocks = [rows[..., m : m + height, :] for m in range(0, rows.shape[-2], height)]
    lost = [_lost_in_order(block, columns, in_float64, bits) for block in blocks]
    error = np.concatenate(lost, axis=-2)
    enlarged = 2.0 ** (53 - bits) if in_float64 else 1.0
    return np.asarray(error * (enlarged / scale))


def _lost_in_order(rows: Array, columns: Array, in_float64: bool, bits: int) -> Array:
    """The total of what each addition of rows @ columns in order loses: (R, ..., M, P)."""
    splitter = 2.0 ** (53 - bits) + 1
    shape = (*rows.shape[:-1], columns.shape[-1])
    total, error = np.zeros(shape), np.zeros(shape)
    term, after, part = np.empty(shape), np.empty(shape), np.empty(shape)
    for k in range(rows.shape[-1]):
        np.multiply(rows[..., k, None], columns[..., k, None, :], out=term)
        np.add(total, term, out=after)
        if in_float64:  # Knuth's two-sum: what the addition loses, exactly
            np.subtract(after, total, out=part)
            term -= part
            np.subtract(after, part, out=part)
            total -= part
            total += term
            error -= total
            total, after = after, total
        else:
            np.multiply(after, splitter, out=total)
            np.subtract(total, after, out=part)
            total -= part
            np.subtract(total, after, out=part)
            error += part
    return error


def _summation_error(rnd: Callable[[Array], Array], a: Array, b: Array, exact: Array) -> Array:
    """An error of a @ b as large as that of n products p added up in random order.

    Each product rounds once, and so does each partial sum of k of them, whose mean square over
    all orders is k/n sum(p^2) + k(k-1)/(n(n-1)) ((sum p)^2 - sum(p^2)). Added up for k = 2..n
    that is the square below, in units of one rounding of the whole sum.
    """
    size = _summation_size(a, b, exact)
    if np.any((size < _SAFE_TO_SQUARE) & (exact != 0)):
        rows = np.abs(a).max(axis=-1, keepdims=True)
        columns = np.abs(b).max(axis=-2, keepdims=True)
        rows, columns = (np.where(each > 0, each, 1) for each in (rows, columns))
        size = _summation_size(a / rows, b / columns, exact / rows / columns) * rows * columns
    one = np.divide(rnd(exact) - exact, exact, out=np.zeros_like(exact), where=exact != 0)
    return np.asarray(one * size)


def _summation_size(a: Array, b: Array, exact: Array) -> Array:
    n = a.shape[-1]
    squares = np.square(a) @ np.square(b)  # sum(p^2)
    mean_square = squares * (1 + (n + 1) / 6 - 1 / n) + np.square(exact) * ((n + 1) / 3)
    return np.asarray(np.sqrt(mean_square))
