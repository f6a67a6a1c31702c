"""Long sequences in little memory: the forward is computed again, segment by segment."""

import math

import numpy as np
from numpy.typing import ArrayLike

from manual_lstm.arrays import FloatArray, Gradients, Params, check_array, check_count
from manual_lstm.lstm import Outputs, Pullback, check_state, lstm_backward, lstm_forward
from manual_lstm.params import lstm_sizes


def recomputing_vjp(
    params: Params,
    x: ArrayLike,
    h0: ArrayLike | None = None,
    c0: ArrayLike | None = None,
    *,
    segment: int | None = None,
) -> tuple[Outputs, Pullback]:
    """`vjp` that stores the states between segments only, and computes each segment again.

    T steps at once are the same as T steps in segments with the state carried on, (8), and so are
    their gradients, with dh0 and dc0 of a segment as dh_n and dc_n of the one before it and the
    weights' gradients added up. With segments of about sqrt(T) steps, T/segment states and one
    segment's cache are alive at a time: memory grows like sqrt(T), but for x, y and their
    gradients, for the price of one more forward.

    Args:
        params, x, h0, c0: as for `lstm_forward`.
        segment: steps in a segment; None is the square root of T, rounded up.

    Returns:
        (y, h_n, c_n), and pullback(dy, dh_n, dc_n) -> gradients as `lstm_backward` gives them.

    Raises:
        ValueError: as `lstm_forward` and `lstm_backward`, or a segment below 1.
    """
    inputs, hidden, layers, dtype = lstm_sizes(params)
    x = check_array("x", x, "T,B,I", {"I": inputs}, dtype)
    steps, batch, _ = x.shape
    h = check_state("h0", h0, layers, batch, hidden, dtype)
    c = check_state("c0", c0, layers, batch, hidden, dtype)
    length = math.isqrt(steps - 1) + 1 if segment is None else check_count("segment", segment)
    segments = [slice(t, min(t + length, steps)) for t in range(0, steps, length)]

    y = np.empty((steps, batch, hidden), dtype)
    before: list[tuple[FloatArray, FloatArray]] = []
    for one in segments:
        before.append((h, c))
        (y[one], h, c), _ = lstm_forward(params, x[one], h, c)

    def pullback(dy: ArrayLike | None, dh_n: ArrayLike | None, dc_n: ArrayLike | None) -> Gradients:
        if dy is not None:
            dy = check_array("dy", dy, "T,B,H", {"T": steps, "B": batch, "H": hidden}, dtype)
        dh = check_state("dh_n", dh_n, layers, batch, hidden, dtype)
        dc = check_state("dc_n", dc_n, layers, batch, hidden, dtype)
        total: Gradients = {"dx": np.empty_like(x)}
        for one, state in zip(reversed(segments), reversed(before), strict=True):
            _, cache = lstm_forward(params, x[one], *state)
            found = lstm_backward(None if dy is None else dy[one], dh, dc, cache)
            total["dx"][one] = found.pop("dx")
            dh, dc = found.pop("dh0"), found.pop("dc0")
            for name, gradient in found.items():
                total[name] = np.add(total[name], gradient) if name in total else gradient
        return total | {"dh0": dh, "dc0": dc}

    return (y, h, c), pullback
