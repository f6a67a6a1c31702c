"""The autograd twin: the same mathematics from elementary torch operations, derived by torch.

Nothing here is taken from manual_lstm but the names and shapes of the weights, so that a mistake
there cannot be a mistake here. Only the forward is written down; autograd does the rest. It is
that of every variant: the standard cell's, or docs/variants.md's (31) to (34) and (38).
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from manual_lstm.arrays import Gradients, Params, check_array, check_number, check_targets
from manual_lstm.params import lstm_sizes
from torch_ref.oracles.variant import PEEPHOLES, STANDARD, Variant, check_peepholes

Array = NDArray[Any]


def share_params(params: Params) -> dict[str, Tensor]:
    """The weights as torch leaves that require a gradient, in the memory of the NumPy arrays.

    Args:
        params: name to array, float32 or float64.

    Returns:
        The same names. An update in place on either side is seen on the other; an array that is
        read-only or not C-contiguous, or has a negative stride, cannot be shared and is copied.
    """
    return {name: _tensor(value).requires_grad_() for name, value in params.items()}


def autograd_vjp(
    params: Params,
    x: ArrayLike,
    h0: ArrayLike | None = None,
    c0: ArrayLike | None = None,
    *,
    variant: Variant = STANDARD,
) -> tuple[tuple[Array, Array, Array], Callable[..., Gradients]]:
    """The twin in the contract that `manual_lstm.vjp` has too.

    Args:
        params: "weight_ih_lk" (4H, I or H), "weight_hh_lk" (4H, H), "bias_lk" (4H,), and where
            the variant has peepholes "weight_ci_lk", "weight_cf_lk", "weight_co_lk" (H,).
        x: (T, B, I), of the weights' dtype. h0, c0: (L, B, H); None is zero.
        variant: the cell.

    Returns:
        (y, h_n, c_n), and pullback(dy, dh_n, dc_n) -> {"d" + name: array}.

    Raises:
        ValueError: an array of the wrong rank, size or dtype, empty, or not finite; peephole
            weights that do not go with the variant.
    """
    leaves = _leaves(params, x, h0, c0, variant)
    outputs = _stack(leaves, variant)

    def pullback(dy: ArrayLike | None, dh_n: ArrayLike | None, dc_n: ArrayLike | None) -> Gradients:
        upstream = _upstream(outputs, ("dy", "dh_n", "dc_n"), (dy, dh_n, dc_n))
        return _gradients(outputs, upstream, leaves)

    y, h_n, c_n = (output.detach().numpy() for output in outputs)
    return (y, h_n, c_n), pullback


def autograd_model_vjp(
    params: Params,
    x: ArrayLike,
    targets: ArrayLike,
    h0: ArrayLike | None = None,
    c0: ArrayLike | None = None,
    *,
    variant: Variant = STANDARD,
) -> tuple[tuple[float, Array, Array], Callable[..., Gradients]]:
    """The character model's twin: stack, head and mean cross-entropy.

    Args:
        params: the stack's weights and, for the linear head, "weight_out" (V, H) and
            "bias_out" (V,). Without them the head is the bounded one: the logits are h.
        x, h0, c0, variant: as for `autograd_vjp`. targets: (T, B), from 0 to V - 1.

    Returns:
        (loss, h_n, c_n), and pullback(dloss, dh_n, dc_n) -> {"d" + name: array}.

    Raises:
        ValueError: as `autograd_vjp`, or targets of the wrong shape, not integer, out of range,
            or half a head.
    """
    head = _head_params(params)
    leaves = _leaves(params, x, h0, c0, variant) | share_params(head)
    y, h_n, c_n = _stack(leaves, variant)
    logits = y
    if head:
        logits = torch.einsum("tbh,vh->tbv", y, leaves["weight_out"]) + leaves["bias_out"]
    steps, batch, num_classes = logits.shape
    target = torch.from_numpy(
        check_targets(targets, num_classes, {"T": steps, "B": batch}).astype(np.int64)
    )
    greatest = logits.max(dim=-1, keepdim=True).values.detach()
    log_total = torch.log(torch.exp(logits - greatest).sum(dim=-1)) + greatest[..., 0]
    loss = (log_total - logits.gather(-1, target[..., None])[..., 0]).mean()
    outputs = (loss, h_n, c_n)

    def pullback(
        dloss: float, dh_n: ArrayLike | None = None, dc_n: ArrayLike | None = None
    ) -> Gradients:
        of_loss = torch.tensor(check_number("dloss", dloss), dtype=loss.dtype)
        of_states = _upstream((h_n, c_n), ("dh_n", "dc_n"), (dh_n, dc_n))
        return _gradients(outputs, [of_loss, *of_states], leaves)

    return (float(loss.detach()), h_n.detach().numpy(), c_n.detach().numpy()), pullback


def _stack(leaves: dict[str, Tensor], variant: Variant) -> tuple[Tensor, Tensor, Tensor]:
    below = list(leaves["x"])  # T tensors (B, I)
    last_h, last_c = [], []
    for layer in range(len(leaves["h0"])):
        weight_ih, weight_hh = leaves[f"weight_ih_l{layer}"], leaves[f"weight_hh_l{layer}"]
        bias = leaves[f"bias_l{layer}"]
        peepholes = [leaves[f"{kind}_l{layer}"] for kind in PEEPHOLES] if variant.peepholes else []
        h, c = leaves["h0"][layer], leaves["c0"][layer]  # (B, H)
        above = []
        for x_t in below:
            z = x_t @ weight_ih.T + h @ weight_hh.T + bias  # (B, 4H)
            h, c = _cell(z, c, peepholes, variant)
            above.append(h)
        last_h.append(h)
        last_c.append(c)
        below = above
    return torch.stack(below), torch.stack(last_h), torch.stack(last_c)


def _cell(z: Tensor, c: Tensor, peepholes: list[Tensor], variant: Variant) -> tuple[Tensor, Tensor]:
    z_i, z_f, z_g, z_o = z.chunk(4, dim=-1)  # each (B, H)
    if variant.peepholes:
        weight_ci, weight_cf, weight_co = peepholes  # each (H,)
        z_i, z_f = z_i + weight_ci * c, z_f + weight_cf * c
    f = torch.sigmoid(z_f)
    i = 1 - f if variant.coupled else torch.sigmoid(z_i)
    g = torch.sigmoid(z_g) if variant.candidate == "sigmoid" else torch.tanh(z_g)
    c = f * c + i * g
    if variant.state == "tanh":
        c = torch.tanh(c)
    if variant.peepholes:
        z_o = z_o + weight_co * c
    return torch.sigmoid(z_o) * (c if variant.output == "identity" else torch.tanh(c)), c


def _leaves(
    params: Params,
    x: ArrayLike,
    h0: ArrayLike | None,
    c0: ArrayLike | None,
    variant: Variant = STANDARD,
) -> dict[str, Tensor]:
    inputs, hidden, layers, dtype = lstm_sizes(params)
    check_peepholes(params, variant)
    kinds = ("weight_ih", "weight_hh", "bias", *(PEEPHOLES if variant.peepholes else ()))
    weights = {
        f"{kind}_l{layer}": np.asarray(params[f"{kind}_l{layer}"])
        for layer in range(layers)
        for kind in kinds
    }
    for name in weights:
        if name.startswith(PEEPHOLES):
            check_array(name, weights[name], "H", {"H": hidden}, dtype)
    x = check_array("x", x, "T,B,I", {"I": inputs}, dtype)
    sizes = {"L": layers, "B": x.shape[1], "H": hidden}
    zero = np.zeros((layers, x.shape[1], hidden), dtype)
    h0 = zero if h0 is None else check_array("h0", h0, "L,B,H", sizes, dtype)
    c0 = zero if c0 is None else check_array("c0", c0, "L,B,H", sizes, dtype)
    return share_params({**weights, "x": x, "h0": h0, "c0": c0})


def _head_params(params: Params) -> Params:
    """The linear head's weights, checked; empty for the bounded head."""
    if "weight_out" not in params and "bias_out" not in params:
        return {}
    _, hidden, _, dtype = lstm_sizes(params)
    for name in ("weight_out", "bias_out"):
        if name not in params:
            raise ValueError(f"params has no {name}, which the linear head needs.")
    weight = check_array("weight_out", params["weight_out"], "V,H", {"H": hidden}, dtype)
    bias = check_array("bias_out", params["bias_out"], "V", {"V": len(weight)}, dtype)
    return {"weight_out": weight, "bias_out": bias}


def _tensor(array: Array) -> Tensor:
    in_order = array.flags.c_contiguous and all(stride >= 0 for stride in array.strides)
    shareable = array.flags.writeable and in_order
    return torch.from_numpy(array if shareable else np.array(array, order="C"))


def _upstream(
    outputs: tuple[Tensor, ...], names: tuple[str, ...], values: tuple[ArrayLike | None, ...]
) -> list[Tensor]:
    upstream = []
    for output, name, value in zip(outputs, names, values, strict=True):
        axes = "T,B,H" if name == "dy" else "L,B,H"
        sizes = dict(zip(axes.split(","), output.shape, strict=True))
        zero = torch.zeros_like(output).numpy()
        array = zero if value is None else check_array(name, value, axes, sizes, zero.dtype)
        upstream.append(torch.from_numpy(np.array(array)))
    return upstream


def _gradients(
    outputs: tuple[Tensor, ...], upstream: list[Tensor], leaves: dict[str, Tensor]
) -> Gradients:
    found = torch.autograd.grad(
        outputs, list(leaves.values()), upstream, retain_graph=True, materialize_grads=True
    )
    return {f"d{name}": d.numpy() for name, d in zip(leaves, found, strict=True)}
