"""torch.nn.LSTM as the second reference, and its state_dict in and out."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from manual_lstm.arrays import Gradients, Params, check_array
from manual_lstm.params import lstm_sizes
from torch_ref.oracles.twin import _gradients, _leaves, _upstream

Array = NDArray[Any]
_TORCH_NAME = re.compile(r"(weight_ih|weight_hh|bias_ih|bias_hh)_l(\d+)")


def params_from_state_dict(state: Mapping[str, Tensor]) -> dict[str, Array]:
    """The weights of a `torch.nn.LSTM`, its two biases as their sum.

    Args:
        state: `nn.LSTM.state_dict()`; one direction, no projection, with or without biases.

    Returns:
        "weight_ih_lk", "weight_hh_lk" and "bias_lk", copies of the same dtype; a bias that the
        module does not have is zero.

    Raises:
        ValueError: a name that such a module does not have, or an array of the wrong shape.
    """
    for name in state:
        if not _TORCH_NAME.fullmatch(name):
            raise ValueError(
                f"state_dict has {name} but must hold a plain nn.LSTM: weight_ih_lk, weight_hh_lk, "
                "bias_ih_lk, bias_hh_lk; no second direction, no projection, no prefix."
            )
    arrays = _arrays(state)
    params = {}
    for name, value in arrays.items():
        if name.startswith("weight"):
            rows = len(check_array(name, value, "4H,I" if "ih" in name else "4H,H", {}))
            params[name] = value.copy()
            layer = name.rsplit("_l", 1)[1]
            params[f"bias_l{layer}"] = _bias_sum(arrays, layer, rows, value.dtype)
    lstm_sizes(params)
    return params


def state_dict_from_params(
    params: Params, like: Mapping[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """The weights as a `torch.nn.LSTM` loads them.

    Args:
        params: the stack's weights; names that are not a layer's are left out.
        like: a state_dict to return to. A pair of biases whose sum is still bias_lk stays as it
            is, so that a state_dict goes in and out without loss; otherwise bias_ih_lk takes up
            the change. None puts all of bias_lk in bias_ih_lk and leaves bias_hh_lk zero.

    Returns:
        Copies, in torch's own order of names.

    Raises:
        ValueError: params are not a stack's, or `like` has no bias but bias_lk is not zero.
    """
    layers = lstm_sizes(params)[2]
    state: dict[str, Array] = {}
    for k in range(layers):
        weight = params[f"weight_ih_l{k}"]
        bias = params[f"bias_l{k}"]
        state[f"weight_ih_l{k}"] = weight
        state[f"weight_hh_l{k}"] = params[f"weight_hh_l{k}"]
        if like is None:
            state[f"bias_ih_l{k}"], state[f"bias_hh_l{k}"] = bias, np.zeros_like(bias)
            continue
        arrays = _arrays(like)
        changed = bias - _bias_sum(arrays, str(k), len(bias), bias.dtype)
        if f"bias_ih_l{k}" in like:
            first = arrays[f"bias_ih_l{k}"]
            state[f"bias_ih_l{k}"] = np.where(changed == 0, first, first + changed)  # keeps -0.0
            state[f"bias_hh_l{k}"] = arrays[f"bias_hh_l{k}"]
        elif changed.any():
            raise ValueError(f"bias_l{k} is not zero but the module of `like` has no bias.")
    return {name: torch.from_numpy(np.array(value)) for name, value in state.items()}


def torch_lstm_vjp(
    params: Params, x: ArrayLike, h0: ArrayLike | None = None, c0: ArrayLike | None = None
) -> tuple[tuple[Array, Array, Array], Callable[..., Gradients]]:
    """torch.nn.LSTM in the contract that `manual_lstm.vjp` has too; see `autograd_vjp`."""
    leaves = _leaves(params, x, h0, c0)
    module = nn.LSTM(
        leaves["x"].shape[2], leaves["h0"].shape[2], len(leaves["h0"]), dtype=leaves["x"].dtype
    )
    module.load_state_dict(state_dict_from_params(params))
    y, (h_n, c_n) = module(leaves["x"], (leaves["h0"], leaves["c0"]))
    outputs = (y, h_n, c_n)
    # bias_hh has the gradient of bias_ih, which is that of their sum.
    inside = {
        name.replace("bias_ih", "bias"): value
        for name, value in module.named_parameters()
        if not name.startswith("bias_hh")
    }
    wanted = inside | {name: leaves[name] for name in ("x", "h0", "c0")}

    def pullback(dy: ArrayLike | None, dh_n: ArrayLike | None, dc_n: ArrayLike | None) -> Gradients:
        upstream = _upstream(outputs, ("dy", "dh_n", "dc_n"), (dy, dh_n, dc_n))
        return _gradients(outputs, upstream, wanted)

    # torch keeps y for its backward: a caller who changes the outputs gets copies to change.
    return tuple(output.detach().numpy().copy() for output in outputs), pullback


def _arrays(state: Mapping[str, Tensor]) -> dict[str, Array]:
    for name, value in state.items():
        if value.dtype not in (torch.float32, torch.float64):
            raise ValueError(f"{name} is {value.dtype} but must be float32 or float64.")
    return {name: value.detach().cpu().numpy() for name, value in state.items()}


def _bias_sum(arrays: Mapping[str, Array], layer: str, rows: int, dtype: np.dtype[Any]) -> Array:
    bias = np.zeros(rows, dtype)
    for name in (f"bias_ih_l{layer}", f"bias_hh_l{layer}"):
        if name in arrays:
            bias += check_array(name, arrays[name], "4H", {"4H": rows}, dtype)
    return bias
