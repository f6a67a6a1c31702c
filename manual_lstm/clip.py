"""Gradient clipping by global norm, equation (28), and by value, equation (29)."""

from collections.abc import Mapping

import numpy as np

from manual_lstm.arrays import FloatArray, Gradients

TORCH_EPS = 1e-6


def clip_grad_norm(
    gradients: Mapping[str, FloatArray],
    max_norm: float,
    *,
    eps: float = TORCH_EPS,
    error_if_nonfinite: bool = False,
) -> tuple[Gradients, float]:
    """Shorten all gradients by one factor so that their joint norm is at most max_norm: (28).

    Args:
        gradients: arrays of any shapes; they are not changed.
        max_norm: the limit, greater than 0.
        eps: added to the norm before the division. torch.nn.utils.clip_grad_norm_ adds 1e-6,
            and so shortens a gradient of exactly max_norm by 1e-6 / max_norm; 0 does not.
        error_if_nonfinite: refuse a norm that is NaN or infinite. Otherwise, as in torch, an
            infinite element turns into NaN and every finite one into 0.

    Returns:
        The clipped gradients, each in its own dtype, and the norm before clipping.

    Raises:
        ValueError: max_norm not above 0, a gradient that is not floating-point, or a norm that
            is refused.
    """
    _check_limit("max_norm", max_norm)
    _check_floating(gradients)
    norm = global_norm(gradients)
    if error_if_nonfinite and not np.isfinite(norm):
        raise ValueError(f"the gradients' norm is {norm}, so they cannot be clipped.")
    # np.minimum passes NaN on, which min does not.
    factor = 1.0 if norm + eps == 0 else float(np.minimum(1.0, max_norm / (norm + eps)))
    with np.errstate(invalid="ignore"):
        return {name: g * g.dtype.type(factor) for name, g in gradients.items()}, norm


def clip_grad_value(gradients: Mapping[str, FloatArray], limit: float) -> Gradients:
    """Bound every element to [-limit, limit]: (29). NaN stays NaN.

    Args:
        gradients: arrays of any shapes; they are not changed.
        limit: greater than 0.

    Raises:
        ValueError: limit not above 0, or a gradient that is not floating-point.
    """
    _check_limit("limit", limit)
    _check_floating(gradients)
    return {
        name: np.clip(g, g.dtype.type(-limit), g.dtype.type(limit)) for name, g in gradients.items()
    }


def global_norm(gradients: Mapping[str, FloatArray]) -> float:
    """The Euclidean norm of all elements of all gradients together, summed in float64."""
    sizes = [float(np.abs(g).max()) for g in gradients.values() if g.size]
    largest = float(np.max(sizes, initial=0.0))
    if largest == 0.0 or not np.isfinite(largest):
        return largest
    # Divided by the largest element first, so that no square overflows or underflows.
    squares = [np.square(g.astype(np.float64) / largest).sum() for g in gradients.values()]
    return float(largest * np.sqrt(np.sum(squares)))


def _check_limit(name: str, limit: float) -> None:
    if not limit > 0:
        raise ValueError(f"{name} is {limit} but must be greater than 0.")


def _check_floating(gradients: Mapping[str, FloatArray]) -> None:
    for name, value in gradients.items():
        dtype = np.asarray(value).dtype
        if not np.issubdtype(dtype, np.floating):
            raise ValueError(f"{name} is {dtype} but must be float32 or float64.")
