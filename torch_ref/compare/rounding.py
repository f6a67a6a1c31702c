"""Arithmetic that rounds as a dtype does, many times over: what the error budget is measured with.

docs/error_budget.md derives it.
"""

import math
from collections.abc import Callable

import numpy as np

from torch_ref.oracles.equations import Arithmetic, Array

# Numbers that agree in so many bits have the same error in the replicas whose errors repeat.
_REPEATING_BITS = 16
_DRAWN_AT_ONCE = 2**14
_SAFE_TO_SQUARE = 2.0**-450
# float64 is emulated with fewer bits, so that float64 itself can tell the replicas apart.
EMULATED_BITS = {np.dtype(np.float32): 24, np.dtype(np.float64): 43}
_IN_CACHE = 2**15  # elements of sums


def rounding_arithmetic(
    bits: int,
    replicas: int,
    rng: np.random.Generator,
    tell: Callable[[int], object] = lambda _: None,
) -> Arithmetic:
    """Arithmetic with `bits` significant bits, `replicas` times over, along the leading axis.

    A number's product with a scale from [1, 2) is split after some of its bits; what is cut off
    is the error. In the first half of the replicas, where errors repeat, the split is a coarse
    one and the error what it cuts off, reduced to the size of a rounding: an error that depends
    on the number alone and is the same for all numbers that agree in their first bits, so that
    errors which repeat at every step, or in every sequence of the batch, add up as they do in
    reality. Its scale belongs to the place in an array's last axis. In the second half the
    number is rounded to `bits` bits, with a scale drawn anew for each operation, row and place,
    so that errors which happen to cancel in the first half do not here.

    Args:
        tell: is told how many elements of sums over the steps are done, as they are, of a replica.
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
        error[:repeating] = _error_in_order(
            rows[:repeating], columns[:repeating], scale, bits, tell=tell
        )
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


def _error_in_order(
    rows: Array,
    columns: Array,
    scale: Array,
    bits: int,
    tell: Callable[[int], object] = lambda _: None,
) -> Array:
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
    in_float64 = bits == EMULATED_BITS[np.dtype(np.float64)]
    height = max(1, _IN_CACHE // (math.prod(rows.shape[:-2]) * columns.shape[-1]))
    blocks = [rows[..., m : m + height, :] for m in range(0, rows.shape[-2], height)]
    lost = []
    for block in blocks:
        lost.append(_lost_in_order(block, columns, in_float64, bits))
        tell(lost[-1][0].size)
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
