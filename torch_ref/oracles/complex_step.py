"""Derivatives of the forward pass alone, by the complex step: exact to rounding, no backward.

f(w + ih) = f(w) + ih f'(w) - h^2 f''(w)/2 - ..., so that Im f(w + ih) / h is f'(w) without the
subtraction that spoils a finite difference, and with h^2 below every rounding error (Squire and
Trapp, "Using complex variables to estimate derivatives of real functions", SIAM Review 40, 1998).
It needs a forward pass that is analytic: sums, products, tanh, exp, log, and a shift of the
log-sum-exp by the real part, which is a constant.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from torch_ref.oracles.case import Case, Results
from torch_ref.oracles.equations import (
    Forward,
    loss_forward,
    lstm_forward,
    unrounded,
)

Array = NDArray[Any]

# A power of two, by which division is exact, whose square is nothing beside any rounding error
# and which is still far above the smallest number for derivatives as small as 1e-270.
STEP = 2.0**-100
_BYTES_AT_ONCE = 2**21  # of perturbed weights, or of gates: what stays in a cache
_COMPLEX = unrounded(np.complex128)


def complex_step(case: Case) -> Results:
    """Outputs and gradients of a case from forward passes alone.

    The gradients are those of <dy, y> + <dh_n, h_n> + <dc_n, c_n>, with dloss * loss in place of
    <dy, y> where the case has targets. Many elements of one array are perturbed at once, each in
    a pass of its own along a leading axis.

    Args:
        case: float32 or float64; its numbers are taken as they are.

    Returns:
        "loss" or "y", "h_n", "c_n" and every gradient under "d" + name, float64. They are right to
        float64's rounding on the way forward: where contributions to a gradient cancel that a
        backward pass adds up before it multiplies, they may be off by more than its budget.
    """
    leaves = {
        name: np.asarray(value, np.complex128)
        for name, value in {**case.params, "x": case.x, "h0": case.h0, "c0": case.c0}.items()
    }
    results = _outputs(case, leaves)
    for name, value in leaves.items():
        derivative = np.empty(value.size)
        for where in _chunks(case, name, value):
            perturbed = _perturbed(name, value, where)
            derivative[where] = _derivative(case, {**leaves, name: perturbed})
        results[f"d{name}"] = derivative.reshape(value.shape)
    return results


def _forward(case: Case, leaves: dict[str, Array]) -> Forward:
    x, h0, c0 = (leaves[name] for name in ("x", "h0", "c0"))
    return lstm_forward(leaves, x, h0, c0, _COMPLEX, case.variant)


def _outputs(case: Case, leaves: dict[str, Array]) -> Results:
    forward = _forward(case, leaves)
    results: Results = {
        "h_n": np.stack(forward.h_n).real.copy(),
        "c_n": np.stack(forward.c_n).real.copy(),
    }
    if case.targets is None:
        return results | {"y": np.stack(forward.y).real.copy()}
    loss, _ = loss_forward(leaves, forward.y, case.targets, _COMPLEX)
    return results | {"loss": np.asarray(loss.real)}


def _chunks(case: Case, name: str, value: Array) -> Iterator[slice]:
    gates = 4 * case.h0[0].size  # of one step: B 4H
    each = max(gates, value.size if name in case.params else gates) * value.itemsize
    count = max(1, _BYTES_AT_ONCE // each)
    for start in range(0, value.size, count):
        yield slice(start, min(start + count, value.size))


def _perturbed(name: str, value: Array, where: slice) -> Array:
    """`value` once for each element of `where`, that element with an imaginary part.

    The axis of the copies comes first in a weight and second in x, h0 and c0, whose first is T
    or L.
    """
    count = where.stop - where.start
    copies = np.broadcast_to(value, (count, *value.shape)).copy()
    copies.reshape(count, -1)[np.arange(count), np.arange(where.start, where.stop)] += 1j * STEP
    return np.swapaxes(copies, 0, 1) if name in ("x", "h0", "c0") else copies


def _derivative(case: Case, leaves: dict[str, Array]) -> Array:
    forward = _forward(case, leaves)
    outputs = list(zip(forward.h_n, np.asarray(case.dh_n, np.float64), strict=True))
    outputs += zip(forward.c_n, np.asarray(case.dc_n, np.float64), strict=True)
    if case.dy is not None:
        dy = np.array(case.dy, np.float64)
        # The top layer's last h is the last y: upstream gradients that cancel do so exactly.
        dy[-1] += outputs.pop(len(forward.h_n) - 1)[1]
        outputs += zip(forward.y, dy, strict=True)
    # A copy that nothing has reached yet has no leading axis: it is a constant.
    total = sum(((out.imag / STEP) * upstream).sum(axis=(-2, -1)) for out, upstream in outputs)
    if case.targets is not None:
        loss, _ = loss_forward(leaves, forward.y, case.targets, _COMPLEX)
        total += case.dloss * (loss.imag / STEP)
    return np.asarray(total)
