"""The weights: names, shapes and initialisation, equation (27)."""

# numpy.random is imported when it is used: an eighth of the time that NumPy takes to import.
from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from manual_lstm.arrays import FloatArray, Params, check_array, check_count, float_dtype

GATES = ("i", "f", "g", "o")
_LSTM_NAME = re.compile(r"(weight_ih|weight_hh|bias)_l(\d+)")


def init_params(
    input_size: int,
    hidden_size: int,
    num_layers: int = 1,
    *,
    dtype: DTypeLike = np.float32,
    rng: np.random.Generator,
    forget_bias: float | None = None,
) -> dict[str, FloatArray]:
    """Glorot uniform weights for a stack, four times the limit for sigmoid gates: (27).

    Args:
        input_size: I.
        hidden_size: H, the same in every layer.
        num_layers: L.
        dtype: float32 or float64.
        rng: where the numbers come from.
        forget_bias: the value of every forget gate's bias; None draws it like the others,
            as the weight of an input that is always 1.

    Returns:
        For each layer k: "weight_ih_lk" (4H, I) or (4H, H) above the first layer,
        "weight_hh_lk" (4H, H) and "bias_lk" (4H,), rows in blocks i, f, g, o.

    Raises:
        ValueError: a size below 1, another dtype, or a forget_bias that is not finite.
    """
    check_count("input_size", input_size)
    check_count("hidden_size", hidden_size)
    check_count("num_layers", num_layers)
    dtype = float_dtype(dtype)
    if forget_bias is not None and not np.isfinite(forget_bias):
        raise ValueError(f"forget_bias is {forget_bias} but must be finite.")

    gain = np.repeat([4.0, 4.0, 1.0, 4.0], hidden_size)[:, None]  # (4H, 1): i, f, g, o
    params: dict[str, FloatArray] = {}
    for layer in range(num_layers):
        fan_in = input_size if layer == 0 else hidden_size
        limit_ih = gain * glorot_limit(fan_in, hidden_size)  # (4H, 1)
        limit_hh = gain * glorot_limit(hidden_size, hidden_size)  # (4H, 1)
        weight_ih = rng.uniform(-limit_ih, limit_ih, (4 * hidden_size, fan_in))
        weight_hh = rng.uniform(-limit_hh, limit_hh, (4 * hidden_size, hidden_size))
        bias = rng.uniform(-limit_ih[:, 0], limit_ih[:, 0])
        if forget_bias is not None:
            bias[hidden_size : 2 * hidden_size] = forget_bias
        params[f"weight_ih_l{layer}"] = weight_ih.astype(dtype)
        params[f"weight_hh_l{layer}"] = weight_hh.astype(dtype)
        params[f"bias_l{layer}"] = bias.astype(dtype)
    return params


def glorot_limit(fan_in: int, fan_out: int) -> float:
    """Half the width of Glorot's uniform distribution, sqrt(6 / (fan_in + fan_out)): (27)."""
    return float(np.sqrt(6.0 / (fan_in + fan_out)))


def lstm_sizes(params: Params) -> tuple[int, int, int, np.dtype[Any]]:
    """Check a stack's weights and read its sizes from them.

    Args:
        params: as `init_params` returns them. Names that are not an LSTM layer's are left alone.

    Returns:
        I, H, L and the dtype.

    Raises:
        ValueError: no layer, a gap between layers, or an array that is missing, misshapen, of
            another dtype than the first, or not finite.
    """
    layers = {int(match[2]) for name in params if (match := _LSTM_NAME.fullmatch(name))}
    if not layers:
        raise ValueError("params has no weight_ih_l0: a stack needs at least one layer.")
    num_layers = max(layers) + 1
    for layer in range(num_layers):
        for kind in ("weight_ih", "weight_hh", "bias"):
            if f"{kind}_l{layer}" not in params:
                raise ValueError(
                    f"params has no {kind}_l{layer}, which a stack of {num_layers} needs."
                )
    first = check_array("weight_ih_l0", params["weight_ih_l0"], "4H,I", {})
    if first.shape[0] % 4:
        raise ValueError(
            f"weight_ih_l0 has shape {first.shape} but must be (4H, I): "
            "its rows are the blocks i, f, g, o, of H rows each."
        )
    input_size, hidden_size, dtype = first.shape[1], first.shape[0] // 4, first.dtype
    sizes = {"4H": 4 * hidden_size, "H": hidden_size}
    for layer in range(num_layers):
        if layer > 0:
            check_array(f"weight_ih_l{layer}", params[f"weight_ih_l{layer}"], "4H,H", sizes, dtype)
        check_array(f"weight_hh_l{layer}", params[f"weight_hh_l{layer}"], "4H,H", sizes, dtype)
        check_array(f"bias_l{layer}", params[f"bias_l{layer}"], "4H", sizes, dtype)
    return input_size, hidden_size, num_layers, dtype
