"""Gradients by central differences, for code that offers a forward pass and nothing else.

D(s) = (f(w + s) - f(w - s)) / 2s = f'(w) + a s^2 + b s^4 + ...: halving the step divides the error
by four, and Richardson's (4 D(s/2) - D(s)) / 3 is free of it. Whether the function under test does
behave like that is not assumed but tested, element by element, with four steps s, s/2, s/4, s/8.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from torch_ref.oracles.case import Case

Array = NDArray[Any]

CONFIRMED, ROUNDING, UNCONFIRMED = "confirmed", "rounding", "unconfirmed"
_STEPS = 4  # in one ladder, each half of the one before
_LADDERS = 3
# From step to step the change falls by four if the error is of the second order, by two if it is
# of the first. Halfway between the two, a quarter and a half, is three eighths.
_FALLS_BY = 8 / 3
# With steps s, s/2, s/4, s/8 rounding moves the changes by 3, 6 and 12 noise / s. The order can be
# told if change[1] - 6 >= 8/3 (change[1] / 4 + 12), so from 114, 19 times its own rounding, on.
_TOLD_FROM = 19


@dataclass(frozen=True)
class Differences:
    """The estimated gradient of one array, and how far it can be trusted.

    Attributes:
        gradient: float64, of the array's shape.
        error: how far each element may be from the derivative of the function that was given.
        verdict: of each element. "confirmed": halving the step divides the error by four, or
            more, and not by two, whatever rounding did. "rounding": the changes are too small
            beside the rounding of the forward pass for their order to be told; `error` allows for
            the first order. "unconfirmed": neither, with any step: the function is not smooth
            there, not the same at every call, or rounds more than was allowed; `error` then says
            nothing.
    """

    gradient: Array
    error: Array
    verdict: Array


def finite_differences(
    case: Case,
    forward: Callable[..., Any],
    allowed: Mapping[str, Array],
    names: list[str] | None = None,
) -> dict[str, Differences]:
    """Estimate every gradient of a case from calls of a forward pass.

    Args:
        case: the point. The function is <dy, y> + <dh_n, h_n> + <dc_n, c_n>, with dloss * loss in
            place of <dy, y> where the case has targets.
        forward: forward(params, x, h0, c0) -> (y, h_n, c_n); with targets
            forward(params, x, targets, h0, c0) -> (loss, h_n, c_n). It is called eight times for
            each element, twenty-four times at most.
        allowed: how far rounding may move each output, from `error_budget`.
        names: the arrays to differentiate by, among params, "x", "h0" and "c0"; None is all.

    Returns:
        The differences of each, under "d" + name.

    Raises:
        ValueError: a name that the case does not have.
    """
    leaves = {**case.params, "x": case.x, "h0": case.h0, "c0": case.c0}
    wanted = list(leaves) if names is None else names
    unknown = [name for name in wanted if name not in leaves]
    if unknown:
        raise ValueError(f"names has {unknown[0]!r} but must be among {', '.join(leaves)}.")
    upstream = _upstream(case)
    noise = float(sum(np.sum(np.abs(d) * allowed[name]) for name, d in upstream.items()))
    # At s = (noise / size)^(1/5) rounding, noise / s, is as large as the s^4 that Richardson
    # leaves. The ladder starts four halvings above that, where the order is to be seen.
    size = sum(np.sum(np.abs(d)) for d in upstream.values())
    first_step = 16 * float((noise / size) ** 0.2) if size > 0 else 1.0
    step = 2.0 ** round(math.log2(first_step))
    return {f"d{name}": _differences(case, forward, name, step, noise) for name in wanted}


def _differences(
    case: Case, forward: Callable[..., Any], name: str, step: float, noise: float
) -> Differences:
    value = {**case.params, "x": case.x, "h0": case.h0, "c0": case.c0}[name]
    gradient, error = np.zeros(value.shape), np.full(value.shape, np.inf)
    verdict = np.full(value.shape, UNCONFIRMED, dtype=object)
    for index in np.ndindex(value.shape):
        for ladder in range(_LADDERS):
            first = step * 2.0 ** (-_STEPS * ladder)
            found = _ladder(case, forward, name, index, first, noise)
            gradient[index], error[index], verdict[index] = found
            if found[2] != UNCONFIRMED:
                break
    return Differences(gradient, error, verdict.astype(np.str_))


def _ladder(
    case: Case,
    forward: Callable[..., Any],
    name: str,
    index: tuple[int, ...],
    step: float,
    noise: float,
) -> tuple[float, float, str]:
    steps = step / 2.0 ** np.arange(_STEPS)
    d = np.array([_central(case, forward, name, index, s) for s in steps])
    by_rounding = noise / steps  # of each difference
    change = np.abs(d[:-1] - d[1:])
    of_change = by_rounding[:-1] + by_rounding[1:]
    least, most = change - of_change, change + of_change  # what it is without rounding
    if least[1] >= _FALLS_BY * most[2] and most[0] >= _FALLS_BY * least[1]:
        extrapolated = (4 * d[1:] - d[:-1]) / 3
        error = abs(extrapolated[-1] - extrapolated[-2]) + 5 / 3 * by_rounding[-1]
        return float(extrapolated[-1]), float(error), CONFIRMED
    verdict = ROUNDING if np.all(change <= _TOLD_FROM * of_change) else UNCONFIRMED
    # Of any order from the first on, d[1] is not farther from the limit than from d[0].
    return float(d[1]), float(np.sum(change) + of_change[0] + by_rounding[1]), verdict


def _central(
    case: Case, forward: Callable[..., Any], name: str, index: tuple[int, ...], step: float
) -> float:
    values, places = [], []
    for sign in (1, -1):
        moved, place = _moved(case, name, index, sign * step)
        values.append(_objective(moved, forward))
        places.append(place)
    # The distance after rounding, which is exact.
    return float((values[0] - values[1]) / (places[0] - places[1]))


def _moved(case: Case, name: str, index: tuple[int, ...], by: float) -> tuple[Case, float]:
    arrays = {**case.params, "x": case.x, "h0": case.h0, "c0": case.c0}
    changed = arrays[name].copy()
    changed[index] += case.dtype.type(by)
    if name in case.params:
        return replace(case, params={**case.params, name: changed}), float(changed[index])
    x, h0, c0 = (changed if name == each else arrays[each] for each in ("x", "h0", "c0"))
    return replace(case, x=x, h0=h0, c0=c0), float(changed[index])


def _objective(case: Case, forward: Callable[..., Any]) -> Any:
    inputs = (case.x,) if case.targets is None else (case.x, case.targets)
    outputs = forward(case.params, *inputs, case.h0, case.c0)
    # Added up in longdouble: the sum adds nothing to the rounding of the outputs.
    return sum(
        np.sum(np.asarray(output, np.longdouble) * d)
        for output, d in zip(outputs, _upstream(case).values(), strict=True)
    )


def _upstream(case: Case) -> dict[str, Array]:
    first = {"loss": np.asarray(case.dloss)} if case.dy is None else {"y": case.dy}
    return {**first, "h_n": case.dh_n, "c_n": case.dc_n}
