"""From h to the loss: bounded and linear heads, softmax, cross-entropy. Equations (19) to (26)."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from manual_lstm.arrays import (
    FloatArray,
    Params,
    check_count,
    check_finite,
    check_number,
    check_targets,
)

LinearCache = tuple[FloatArray, FloatArray]
LossCache = tuple[FloatArray, NDArray[np.integer]]


def linear_forward(params: Params, h: FloatArray) -> tuple[FloatArray, LinearCache]:
    """Unactivated output layer, equation (19).

    Args:
        params: "weight_out" (V, H) and "bias_out" (V,).
        h: (T, B, H), the top layer's output.

    Returns:
        logits (T, B, V), and the cache for `linear_backward`.
    """
    weight, bias = np.asarray(params["weight_out"]), np.asarray(params["bias_out"])
    flat = h.reshape(-1, h.shape[-1])  # (T*B, H)
    logits = flat @ weight.T + bias  # (19) (T*B, V)
    return logits.reshape(*h.shape[:-1], -1), (weight, h)


def linear_backward(
    dlogits: FloatArray, cache: LinearCache
) -> tuple[FloatArray, dict[str, FloatArray]]:
    """Gradients of (19): equations (20) to (22).

    Args:
        dlogits: (T, B, V).

    Returns:
        dh (T, B, H), and "dweight_out" (V, H) and "dbias_out" (V,).
    """
    weight, h = cache
    flat = dlogits.reshape(-1, dlogits.shape[-1])  # (T*B, V)
    dh = (flat @ weight).reshape(h.shape)  # (20) (T, B, H)
    return dh, {
        "dweight_out": flat.T @ h.reshape(-1, h.shape[-1]),  # (21) (V, H)
        "dbias_out": flat.sum(axis=0),  # (22) (V,)
    }


def bounded_forward(h: FloatArray) -> FloatArray:
    """No output layer: h itself is the logits, equation (23), so every logit is in (-1, 1).

    Args:
        h: (T, B, H) with H = V.
    """
    return h


def bounded_backward(dlogits: FloatArray) -> FloatArray:
    """Gradient of (23): dh is dlogits, (T, B, V)."""
    return dlogits


def bounded_probability_range(num_classes: int) -> tuple[float, float]:
    """Between which values every probability of the bounded head lies: (30).

    Args:
        num_classes: V, at least 1.

    Returns:
        e^-1 / (e^-1 + (V-1) e) and e / (e + (V-1) e^-1), the values at logits of -1 and 1.

    Raises:
        ValueError: num_classes below 1.
    """
    others = check_count("num_classes", num_classes) - 1
    return float(1 / (1 + others * np.exp(2.0))), float(1 / (1 + others * np.exp(-2.0)))


def softmax(logits: ArrayLike) -> FloatArray:
    """Probabilities over the last axis, shifted by the greatest logit: (24).

    Args:
        logits: (..., V), float32 or float64. -inf is a class that cannot be.

    Returns:
        (..., V), of the same dtype; each in [0, 1], each row's sum 1.

    Raises:
        ValueError: not floating-point, no class, NaN or +inf, or a row with nothing but -inf.
    """
    exponentials, total, _ = _exponentials(_check_logits(logits))
    return np.divide(exponentials, total, out=exponentials)


def cross_entropy(logits: ArrayLike, targets: ArrayLike) -> tuple[float, LossCache]:
    """Mean over steps and batch of -log p[target], from log-sum-exp: (25).

    Args:
        logits: (T, B, V), float32 or float64. -inf is a class that cannot be.
        targets: (T, B), whole numbers from 0 to V - 1.

    Returns:
        The loss in nats, and the cache for `cross_entropy_backward`. A target whose probability
        rounds to 0 counts with its true, finite loss; one whose logit is -inf makes it infinite.

    Raises:
        ValueError: as `softmax`, or targets of the wrong shape, not integer or out of range.
    """
    logits = _check_logits(logits)
    if logits.ndim != 3:
        raise ValueError(f"logits has shape {logits.shape} but must be (T, B, V): three axes.")
    steps, batch, num_classes = logits.shape
    targets = check_targets(targets, num_classes, {"T": steps, "B": batch})
    exponentials, total, shifted = _exponentials(logits)
    picked = np.take_along_axis(shifted, targets[:, :, None], axis=-1)  # (T, B, 1)
    loss = float(np.mean(np.log(total) - picked))  # (25)
    return loss, (np.divide(exponentials, total, out=exponentials), targets)


def cross_entropy_backward(dloss: float, cache: LossCache) -> FloatArray:
    """Gradient of (25) for the logits: equation (26).

    Args:
        dloss: the upstream gradient of the loss; 1 when the loss is the end.

    Returns:
        dlogits (T, B, V): dloss * (p - one_hot(target)) / (T B).

    Raises:
        ValueError: dloss is not one finite number.
    """
    dloss = check_number("dloss", dloss)
    probabilities, targets = cache
    dlogits = probabilities.copy()
    steps, batch, _ = dlogits.shape
    dlogits[np.arange(steps)[:, None], np.arange(batch), targets] -= 1  # (26)
    dlogits *= dloss / (steps * batch)
    return dlogits


def _check_logits(logits: ArrayLike) -> FloatArray:
    array = np.asarray(logits)
    if array.dtype not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise ValueError(f"logits is {array.dtype} but must be float32 or float64.")
    if array.ndim == 0 or array.size == 0:
        raise ValueError(
            f"logits has shape {array.shape} but must be (..., V) with at least one of each."
        )
    impossible = np.isneginf(array)
    if impossible.any():
        check_finite("logits", np.where(impossible, array.dtype.type(0), array))
        if impossible.all(axis=-1).any():
            raise ValueError("logits has a row with nothing but -inf: one class must be possible.")
    else:
        check_finite("logits", array)
    return array


def _exponentials(logits: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    with np.errstate(under="ignore", over="ignore"):
        shifted = logits - logits.max(axis=-1, keepdims=True)
        exponentials = np.exp(shifted)
    return exponentials, exponentials.sum(axis=-1, keepdims=True), shifted
