"""Other forms of an LSTM made into the contract: steps, accumulators, updates, torch modules.

Each function returns a callable in the contract's vjp form, for `Implementation(vjp=...)` or to be
checked as it is. The layout stays the implementation's own: params are its arrays, by its names.
"""

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from torch_ref.harness.signature import arguments_taken

Array = NDArray[Any]
Vjp = Callable[..., Any]
TorchCall = Callable[..., Tensor | tuple[Tensor, ...]]


def from_steps(
    forward_step: Callable[..., Any],
    backward_step: Callable[..., Any],
    *,
    begin: Callable[[Mapping[str, Any]], None] | None = None,
    gradients: Callable[[], Mapping[str, Any]] | None = None,
) -> Vjp:
    """An LSTM that goes one step at a time, as a vjp.

    Args:
        forward_step: forward_step(params, x_t, h, c) -> (h, c, cache) for one step of one layer.
        backward_step: backward_step(params, dh, dc, cache) -> (dx_t, dh, dc, step_gradients).
            The dh it is given is the whole of equation (9), dy[t] included; one that adds them
            itself takes both, backward_step(params, dy_t, dh, dc, cache). The dh and dc it
            returns go to the step before. Without step_gradients, (dx_t, dh, dc), the gradients
            are read from the accumulators after the last step.
        begin: called with params before the first step: loads the weights where the LSTM keeps
            its own, and sets its accumulators to zero.
        gradients: reads the accumulators, as a mapping from "d" + name to array.

    Returns:
        A vjp of one layer; more than one is refused with NotImplementedError. x is iterated over
        its first axis, so the layout must have time first; h0 and c0 are given to the first step
        as the layout arranges them.
    """

    # (params, dy_t, dh, dc, cache); what has a default is the step's own.
    of_step = inspect.signature(backward_step).parameters.values()
    apart = sum(each.default is each.empty for each in of_step) == 5

    def forward(params: Mapping[str, Any], x: Any, h0: Any, c0: Any) -> Any:
        if begin is not None:
            begin(params)
        # The states and their gradients are the loop's own: a step may change them in place.
        h, c, ys, caches = copy.deepcopy(h0), copy.deepcopy(c0), [], []
        for x_t in x:
            h, c, cache = forward_step(params, x_t, h, c)
            ys.append(np.array(h))
            caches.append(cache)
        return (np.array(ys), h, c), caches

    def vjp(params: Mapping[str, Any], x: Any, h0: Any, c0: Any) -> Any:
        outputs, _ = forward(params, x, h0, c0)

        def pullback(dy: Any, dh_n: Any, dc_n: Any) -> dict[str, Any]:
            # Again, since the LSTM may keep its caches itself, and use them up.
            _, caches = forward(params, x, h0, c0)
            dh, dc = copy.deepcopy(dh_n), copy.deepcopy(dc_n)
            total: dict[str, Any] = {}
            dx = []
            for dy_t, cache in zip(reversed(list(dy)), reversed(caches), strict=True):
                of_h = (dy_t, dh) if apart else (dh + dy_t,)
                dx_t, dh, dc, *rest = backward_step(params, *of_h, dc, cache)
                dx.append(dx_t)
                for name, value in (rest[0] if rest else {}).items():
                    total[name] = total[name] + value if name in total else np.array(value)
            if gradients is not None:
                total |= {name: np.array(value) for name, value in gradients().items()}
            return {"dx": np.array(dx[::-1]), "dh0": dh, "dc0": dc, **total}

        return outputs, pullback

    return vjp


def from_object(make: Callable[[Mapping[str, Any]], Any], gradient: str = "d{name}") -> Vjp:
    """An object with one-step methods, weights and accumulators as attributes, as a vjp.

    Args:
        make: make(params) -> a new object of the right size, its accumulators zero; the weights
            are then set as attributes. It must have forward(x_t, h, c) -> (h, c), which keeps
            what it needs, and backward(dh, dc) -> (dx_t, dh, dc), called from the last step on.
        gradient: what its accumulators are called, "{name}_diff" for instance.

    Returns:
        A vjp of one layer; see `from_steps`.
    """
    held: list[Any] = []
    names: list[str] = []

    def begin(params: Mapping[str, Any]) -> None:
        held[:], names[:] = [make(params)], list(params)
        for name, value in params.items():
            setattr(held[0], name, np.array(value))

    def gradients() -> dict[str, Any]:
        return {f"d{name}": getattr(held[0], gradient.format(name=name)) for name in names}

    return from_steps(
        lambda params, x_t, h, c: (*held[0].forward(x_t, h, c), None),
        lambda params, dh, dc, cache: held[0].backward(dh, dc),
        begin=begin,
        gradients=gradients,
    )


def update_learning_rate(dtype: Any) -> float:
    """The learning rate at which an update `w -= learning_rate * gradient` is the gradient.

    So large that of a gradient the rounding of a weight up to 1 loses no more than the smallest
    normal number; one of more than 1e7 in float32, of 1e16 in float64, has no room beside it.

    Args:
        dtype: float32 or float64, the weights'.
    """
    info = np.finfo(dtype)
    return float(info.epsneg) / float(info.tiny)


def gradients_from_update(
    before: Mapping[str, Any], after: Mapping[str, Any], learning_rate: float | None = None
) -> dict[str, Array]:
    """Gradients that show only as what an update `w -= learning_rate * gradient` did.

    Args:
        before, after: the weights on either side of the update.
        learning_rate: of the update; None is `update_learning_rate` of their dtype, with which
            recovering the gradient costs no more than two roundings of the gradient itself.

    Returns:
        "d" + name for every name.
    """
    found = {}
    for name, value in before.items():
        old = np.asarray(value)
        rate = update_learning_rate(old.dtype) if learning_rate is None else learning_rate
        found[f"d{name}"] = (old - np.asarray(after[name])) / old.dtype.type(rate)
    return found


def from_torch(call: TorchCall) -> Vjp:
    """Torch code that is differentiated by autograd, a custom autograd.Function included.

    Args:
        call: call(params, x, h0, c0) -> (y, h_n, c_n), everything tensors, params by name. What
            it does not take (h0, c0) or return (c_n, h_n) is left out; y alone needs no tuple.

    Returns:
        A vjp with the parameters of `call`. A gradient of x, h0 or c0 that autograd has none of
        is left out; a weight's is zero.
    """
    names = arguments_taken(call, 2, ("h0", "c0"))

    def vjp(params: Mapping[str, Array], x: Array, *states: Array) -> Any:
        given = {"x": x, **dict(zip(names, states, strict=True))}
        leaves = _leaves({**params, **given})
        returned = call({name: leaves[name] for name in params}, *(leaves[name] for name in given))
        outputs = returned if isinstance(returned, tuple) else (returned,)
        return _torch_outputs(outputs), _torch_pullback(outputs, leaves, list(given))

    vjp.__signature__ = inspect.signature(call)  # type: ignore[attr-defined]
    return vjp


def from_module(module: nn.Module, prefix: str = "") -> Vjp:
    """A torch module with nn.LSTM's signature: `module(x, (h0, c0)) -> (y, (h_n, c_n))`.

    Args:
        module: an nn.LSTM, a scripted or exported one, or a module of your own. The names of its
            parameters are those that the layout gives. A copy of it is run, with the case's weights
            and dtype; of a scripted or exported one, which torch does not copy, itself.
        prefix: what stands in front of those names: "lstm." for a module that holds its LSTM as
            `self.lstm`. (torch cannot call a bare nn.LSTM that was scripted, only one inside.)
    """

    if not isinstance(module, torch.jit.ScriptModule | torch.fx.GraphModule):
        module = copy.deepcopy(module)

    def vjp(params: Mapping[str, Array], x: Array, h0: Array, c0: Array) -> Any:
        module.to(torch.from_numpy(np.array(x)).dtype)
        named = {name.removeprefix(prefix): p for name, p in module.named_parameters()}
        if set(named) != set(params):
            raise NotImplementedError(
                f"the module has the parameters {sorted(named)}, the case {sorted(params)}"
            )
        with torch.no_grad():
            for name, value in params.items():
                named[name].copy_(torch.from_numpy(np.array(value)))
        leaves = _leaves({"x": x, "h0": h0, "c0": c0})
        y, (h_n, c_n) = module(leaves["x"], (leaves["h0"], leaves["c0"]))
        outputs = (y, h_n, c_n)
        return _torch_outputs(outputs), _torch_pullback(outputs, named | leaves)

    return vjp


def _leaves(arrays: Mapping[str, Array]) -> dict[str, Tensor]:
    return {
        name: torch.from_numpy(np.array(value)).requires_grad_() for name, value in arrays.items()
    }


def _torch_outputs(outputs: tuple[Tensor, ...]) -> tuple[Array, ...]:
    return tuple(output.detach().numpy() for output in outputs)


def _torch_pullback(
    outputs: tuple[Tensor, ...], leaves: Mapping[str, Tensor], optional: Sequence[str] = ()
) -> Callable[..., dict[str, Array]]:
    def pullback(*upstream: Array) -> dict[str, Array]:
        found = torch.autograd.grad(
            outputs,
            list(leaves.values()),
            [torch.from_numpy(np.array(d)) for d in upstream],
            retain_graph=True,
            allow_unused=True,
        )
        return {
            f"d{name}": (torch.zeros_like(leaf) if d is None else d).numpy()
            for (name, leaf), d in zip(leaves.items(), found, strict=True)
            if d is not None or name not in optional
        }

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    upstream = [inspect.Parameter(name, kind) for name in ("dy", "dh_n", "dc_n")[: len(outputs)]]
    pullback.__signature__ = inspect.Signature(upstream)  # type: ignore[attr-defined]
    return pullback
