"""The exact values of a case: the equations in more digits than float64 has.

In NumPy's longdouble where that is wider than float64 (64 bits on x86, 113 on 64-bit ARM under
Linux), in 40 decimal digits where it is not (Windows, macOS on ARM).
"""

import decimal
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from torch_ref.oracles.case import Case, Results
from torch_ref.oracles.equations import Arithmetic, solve, sum_over_steps, unrounded

Array = NDArray[Any]
Wide = Literal["longdouble", "decimal"]

_DIGITS = 40
_CONTEXT = decimal.Context(
    prec=_DIGITS,
    rounding=decimal.ROUND_HALF_EVEN,
    Emin=decimal.MIN_EMIN,
    Emax=decimal.MAX_EMAX,
    traps=[decimal.InvalidOperation, decimal.DivisionByZero, decimal.Overflow],
)


def truth(case: Case, arithmetic: Wide | None = None, *, steps: bool = False) -> Results:
    """Outputs and gradients of a case, exact but for the last digits of a wider arithmetic.

    Args:
        case: float32 or float64; its numbers are taken as they are.
        arithmetic: "longdouble" or "decimal"; None is the first of them that is wider than
            float64 here. "decimal" is some hundred times slower.
        steps: whether the gradients at every step are wanted too; see `equations.solve`.

    Returns:
        "loss" or "y", "h_n", "c_n" and every gradient under "d" + name, as longdouble. Where
        longdouble is no wider than float64, each is the float64 nearest to the exact value.

    Raises:
        ValueError: longdouble was asked for and is no wider than float64 here.
    """
    if arithmetic is None:
        arithmetic = "longdouble" if longdouble_is_wider() else "decimal"
    if arithmetic == "longdouble":
        if not longdouble_is_wider():
            raise ValueError(
                "longdouble is no wider than float64 on this machine: use 'decimal' or None."
            )
        results = solve(case, unrounded(np.longdouble), steps=steps)
    else:
        with decimal.localcontext(_CONTEXT):
            found = solve(case, decimal_arithmetic(), steps=steps)
            results = {name: _nearest(value) for name, value in found.items()}
    del results["z"]
    return results


def longdouble_is_wider() -> bool:
    """Whether NumPy's longdouble has more significant bits than float64 on this machine."""
    return bool(np.finfo(np.longdouble).nmant > np.finfo(np.float64).nmant)


def decimal_arithmetic() -> Arithmetic:
    """Python's decimal numbers in object arrays, with the digits of the current context."""
    return Arithmetic(
        number=_decimals,
        rnd=lambda a: a,
        sigmoid=np.vectorize(_sigmoid, otypes=[object]),
        tanh=np.vectorize(_tanh, otypes=[object]),
        exp=np.exp,  # of an object array: each element's method exp
        log=np.vectorize(lambda number: number.ln(), otypes=[object]),
        matmul=np.matmul,
        sum_over_steps=sum_over_steps,
    )


def _decimals(array: Any) -> Array:
    # A float32 is a float64 exactly, and a float64 is a decimal number exactly.
    values = np.asarray(array, dtype=np.float64)
    exact = np.empty(values.shape, dtype=object)
    exact.reshape(-1)[:] = [decimal.Decimal(float(value)) for value in values.flat]
    return exact


def _nearest(value: Any) -> Array:
    numbers = np.asarray(value, dtype=object)
    flat = [np.longdouble(str(number)) for number in numbers.flat]
    return np.array(flat, dtype=np.longdouble).reshape(numbers.shape)


def _sigmoid(z: decimal.Decimal) -> decimal.Decimal:
    decay = (-abs(z)).exp()
    return (1 if z >= 0 else decay) / (1 + decay)


def _tanh(z: decimal.Decimal) -> decimal.Decimal:
    if z.adjusted() < -_DIGITS:
        return z  # what follows, z^3 / 3, is beyond the last digit
    with decimal.localcontext() as context:
        # 1 - exp(-2|z|) loses as many leading digits as |z| has zeros behind the point.
        context.prec += max(0, -z.adjusted())
        decay = (-2 * abs(z)).exp()
        size = (1 - decay) / (1 + decay)
    return (+size).copy_sign(z)
