"""How others check a backward pass, stated again: each says whether it notices something wrong.

All are given the same toy in float64, T other than B and I other than H, every array random and
none of them zero but where the check is known for its zeros. Where the original compares with
difference quotients that it computes in single precision, the exact gradient is put in their
place: what is then missed is missed by the tolerance or by what is compared, not by noise.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kill.target import Target
from torch_ref import Case
from torch_ref.compare.diff import run_twin
from torch_ref.oracles.case import Results

Array = NDArray[Any]
# What torch's own samples of nn.LSTM have, three steps, two inputs or three, two layers, but with
# a batch. Two layers and a batch are more than most give their gradient checks.
TOY = {"T": 3, "B": 2, "I": 3, "H": 2, "L": 2}


def gradcheck_slow(target: Target) -> bool:
    """`torch.autograd.gradcheck` as it is: every element of the Jacobian, eps 1e-6.

    The LSTM is a custom `autograd.Function`, as torch's tutorial on C++ extensions checks its
    LSTM-like cell: weights, x, h0 and c0 are inputs that require a gradient. Each element of each
    output gets an upstream gradient of 1 by itself; it is compared with central differences
    within 1e-5 + 1e-3 |numerical|, run twice for determinism (nondet_tol 0), and tried with
    undefined upstream gradients.
    """
    return not _gradcheck(target, fast_mode=False)


def gradcheck_fast(target: Target) -> bool:
    """`gradcheck(..., fast_mode=True)`: one random projection of each input's Jacobian block.

    For every pair of an input and an output v^T J u is compared, u and v random unit vectors,
    with the same eps and a tolerance scaled to the projection; the sums hide what cancels.
    """
    return not _gradcheck(target, fast_mode=True)


def one_projection(target: Target) -> bool:
    """One number: the gradient along one random direction against a directional difference.

    JAX's `check_grads(order=1, modes=["rev"])` with 64-bit numbers: normal tangents of all inputs
    and cotangents of all outputs from RandomState(0), a central difference with eps 1e-4,
    atol = rtol = 1e-5.
    """
    call, arrays = differentiable(target, target.case(TOY))
    rng = np.random.RandomState(0)  # as the original draws
    tangents = [rng.randn(*array.shape) for array in arrays]
    step = 1e-4
    above, _ = call(*(a + step * t for a, t in zip(arrays, tangents, strict=True)))
    below, _ = call(*(a - step * t for a, t in zip(arrays, tangents, strict=True)))
    outputs, pullback = call(*arrays)
    cotangents = [np.asarray(rng.randn(*np.shape(output))) for output in outputs]
    numerical = sum(
        np.vdot(v, (a - b) / (2 * step)) for v, a, b in zip(cotangents, above, below, strict=True)
    )
    along = sum(np.vdot(g, t) for g, t in zip(pullback(*cotangents), tangents, strict=True))
    return not np.isclose(along, numerical, rtol=1e-5, atol=1e-5)


def gradient_of_x(target: Target) -> bool:
    """`y.sum().backward()`, then x.grad against a reference's, and nothing else.

    The upstream gradient of y is all ones, that of the last states zero, and the states are not
    given, so they are zero. With a loss the upstream gradient is 1 as well. The reference is
    autograd's, within `torch.testing.assert_close`'s 1e-7 for float64.
    """
    case = _without_states(target.case(TOY))
    if case.dy is not None:
        case = replace(case, dy=np.ones_like(case.dy))
    actual, expected = _run(target, case), run_twin(case)
    return not _close(actual["dx"], expected["dx"])


def fixed_tolerance(target: Target) -> bool:
    """The weights' gradients of a mean loss, within an absolute 2e-2 whatever their size.

    C++ libraries that compute in single precision compare so (tiny-dnn's tests of its layers,
    the LSTM's among them, with 1e-2). The loss is the mean square distance of y from random
    targets, or the mean cross-entropy; the states begin at zero.
    """
    case = _without_states(target.case(TOY))
    if case.dy is not None:
        y = run_twin(case)["y"]
        case = replace(case, dy=2 * (y - case.dy) / y.size)
    actual, expected = _run(target, case), run_twin(case)
    near = [np.abs(actual[f"d{n}"] - expected[f"d{n}"]) <= 2e-2 for n in case.params]
    return not all(np.all(each) for each in near)


def one_step(target: Target) -> bool:
    """A single step from a zero state, every gradient of it against a reference's.

    A cell's own unit test, as exercises and libraries have it that test the cell and take the
    loop around it as given. Random upstream gradient of y, within 1e-7.
    """
    case = _without_states(target.case(TOY | {"T": 1}))
    actual, expected = _run(target, case), run_twin(case)
    names = [f"d{name}" for name in (*case.params, "x")]
    return not all(_close(actual[name], expected[name]) for name in names)


OTHERS: dict[str, Callable[[Target], bool]] = {
    "gradcheck, slow": gradcheck_slow,
    "gradcheck, fast": gradcheck_fast,
    "one projection": one_projection,
    "gradient of x, upstream ones": gradient_of_x,
    "absolute 2e-2, mean loss": fixed_tolerance,
    "one step, zero state": one_step,
}


def differentiable(target: Target, case: Case) -> tuple[Callable[..., Any], list[Array]]:
    """An LSTM as a function of all its inputs, and those inputs.

    Returns:
        function(*arrays) -> (outputs, pullback), pullback(*upstream) -> a gradient for each of
        the arrays; and the arrays of the case: weights, x, h0, c0.
    """
    names = (*case.params, "x", "h0", "c0")

    def call(*arrays: Array) -> Any:
        given = dict(zip(names, arrays, strict=True))
        params = {name: given.pop(name) for name in case.params}
        x, h0, c0 = given.values()
        if case.targets is None:
            outputs, pullback = target.plain(params, x, h0, c0)
        else:
            loss, gradients = target.plain(params, x, case.targets, h0, c0)
            outputs = (np.asarray(loss),)

            def pullback(dloss: Array) -> Any:
                return {name: dloss * value for name, value in gradients.items()}

        def pull(*upstream: Array) -> list[Array]:
            found = pullback(*upstream)
            return [np.asarray(found[f"d{name}"]) for name in names]

        return outputs, pull

    return call, [*case.params.values(), case.x, case.h0, case.c0]


class _Function(torch.autograd.Function):
    """A hand-written LSTM in torch: the call, then its inputs."""

    @staticmethod
    def forward(ctx: Any, call: Callable[..., Any], *tensors: torch.Tensor) -> Any:
        # Copies: gradcheck moves its inputs in place. An LSTM may itself use autograd inside.
        with torch.enable_grad():
            outputs, ctx.pullback = call(*(each.detach().numpy().copy() for each in tensors))
        return tuple(torch.from_numpy(np.array(output)) for output in outputs)

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> Any:
        with torch.enable_grad():
            found = ctx.pullback(*(each.numpy() for each in upstream))
        return (None, *(torch.from_numpy(np.array(gradient)) for gradient in found))


def _gradcheck(target: Target, *, fast_mode: bool) -> bool:
    call, arrays = differentiable(target, target.case(TOY))
    inputs = tuple(torch.from_numpy(array.copy()).requires_grad_() for array in arrays)

    def function(*tensors: torch.Tensor) -> Any:
        return _Function.apply(call, *tensors)

    return torch.autograd.gradcheck(function, inputs, fast_mode=fast_mode, raise_exception=False)


def _run(target: Target, case: Case) -> Results:
    call, arrays = differentiable(target, case)
    outputs, pullback = call(*arrays)
    upstream = (np.ones(()),) if case.targets is not None else (case.dy, case.dh_n, case.dc_n)
    names = [f"d{name}" for name in (*case.params, "x", "h0", "c0")]
    return dict(zip(names, pullback(*upstream[: len(outputs)]), strict=True))


def _without_states(case: Case) -> Case:
    zero = np.zeros_like(case.h0)
    return replace(case, h0=zero, c0=zero.copy(), dh_n=zero.copy(), dc_n=zero.copy())


def _close(actual: Array, expected: Array) -> bool:
    try:
        torch.testing.assert_close(actual, expected)
    except AssertionError:
        return False
    return True
