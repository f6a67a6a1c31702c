"""The LSTM, forward and backward by hand: one layer, then the stack. Equations (1) to (18).

T steps, B batch, I inputs, H hidden, L layers. Every array is time-major, gates are the blocks
i, f, g, o. A leading T + 1 holds the initial state at index 0, so that h[t] is the state
*before* step t and h[t + 1] the state after it.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from manual_lstm.arrays import FloatArray, Gradients, Params, check_array
from manual_lstm.params import lstm_sizes

Outputs = tuple[FloatArray, FloatArray, FloatArray]
Pullback = Callable[[ArrayLike | None, ArrayLike | None, ArrayLike | None], Gradients]


class LayerCache(NamedTuple):
    """What one layer's backward needs of its forward."""

    weight_ih: FloatArray  # (4H, I)
    weight_hh: FloatArray  # (4H, H)
    x: FloatArray  # (T, B, I)
    gates: FloatArray  # (T, B, 4, H): i, f, g, o after their activation
    h: FloatArray  # (T + 1, B, H)
    c: FloatArray  # (T + 1, B, H)
    tanh_c: FloatArray  # (T, B, H)


def layer_forward(
    weight_ih: FloatArray,
    weight_hh: FloatArray,
    bias: FloatArray,
    x: FloatArray,
    h0: FloatArray,
    c0: FloatArray,
) -> tuple[FloatArray, LayerCache]:
    """One layer over T steps: equations (1) to (7).

    Args:
        weight_ih: (4H, I). weight_hh: (4H, H). bias: (4H,).
        x: (T, B, I). h0, c0: (B, H). All of one dtype; nothing is checked here.

    Returns:
        h (T, B, H), and the cache for `layer_backward`; the last states are its h[-1] and c[-1].
    """
    steps, batch, inputs = x.shape
    hidden = weight_hh.shape[1]
    # sigmoid(z) = 1 / (1 + exp(-z)), with the minus sign in the weights of i, f and o.
    sign = np.repeat(np.array([-1, -1, 1, -1], x.dtype), hidden)  # (4H,)
    recurrent = np.ascontiguousarray((weight_hh * sign[:, None]).T)  # (H, 4H)
    z = x.reshape(-1, inputs) @ weight_ih.T  # (T*B, 4H)
    z += bias
    z *= sign
    z = z.reshape(steps, batch, 4 * hidden)

    h = np.empty((steps + 1, batch, hidden), x.dtype)
    c = np.empty_like(h)
    tanh_c = np.empty((steps, batch, hidden), x.dtype)
    h[0], c[0] = h0, c0
    product = np.empty((batch, 4 * hidden), x.dtype)
    candidate = np.empty((batch, hidden), x.dtype)
    gates = z.reshape(steps, batch, 4, hidden)
    i, f, g, o = gates.transpose(2, 0, 1, 3)  # each (T, B, H), views that fill with z
    with np.errstate(over="ignore"):  # a gate that is shut for good is 1 / (1 + inf) = 0
        for t in range(steps):
            a = z[t]  # (B, 4H)
            a += np.matmul(h[t], recurrent, out=product)  # (1), i, f and o negated
            np.tanh(g[t], out=candidate)  # (4)
            np.exp(a, out=a)  # (2), (3), (5), and g's block to no purpose
            a += 1
            np.reciprocal(a, out=a)
            g[t] = candidate
            np.multiply(f[t], c[t], out=c[t + 1])  # (6)
            c[t + 1] += i[t] * candidate
            np.tanh(c[t + 1], out=tanh_c[t])
            np.multiply(o[t], tanh_c[t], out=h[t + 1])  # (7)
    return h[1:], LayerCache(weight_ih, weight_hh, x, gates, h, c, tanh_c)


class StepGradients(NamedTuple):
    """What one layer's backward finds at every step, for whoever wants to look at it."""

    dz: FloatArray  # (T, B, 4, H): i, f, g, o before their activation
    dh: FloatArray  # (T, B, H), all that h receives
    dc: FloatArray  # (T, B, H), all that c receives


def layer_backward(
    dy: FloatArray,
    dh_n: FloatArray,
    dc_n: FloatArray,
    cache: LayerCache,
    seen: StepGradients | None = None,
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray, FloatArray, FloatArray]:
    """Gradients of one layer: equations (9) to (18).

    Args:
        dy: (T, B, H), what the layer above or the loss sends to h at every step.
        dh_n, dc_n: (B, H), what comes to the last h and c from beyond the window.
        seen: arrays to be filled with the gradients at every step.

    Returns:
        dweight_ih (4H, I), dweight_hh (4H, H), dbias (4H,), dx (T, B, I), dh0 and dc0 (B, H).
    """
    weight_ih, weight_hh, x, gates, h, c, tanh_c = cache
    steps, batch, inputs = x.shape
    hidden = weight_hh.shape[1]
    i, f, g, o = gates.transpose(2, 0, 1, 3)  # each (T, B, H)

    # What does not recur, for all steps at once: dz = dc * (i, f and g's factor), dh * (o's).
    factor = np.empty_like(gates)  # (T, B, 4, H)
    factor[:, :, 0] = g * (i * (1 - i))  # (12), (15)
    factor[:, :, 1] = c[:-1] * (f * (1 - f))  # (14), (15)
    factor[:, :, 2] = i * (1 - g * g)  # (13), (15)
    factor[:, :, 3] = tanh_c * (o * (1 - o))  # (10), (15)
    dc_dh = o * (1 - tanh_c * tanh_c)  # (11)

    dz = np.empty_like(gates)  # (T, B, 4, H)
    dh, dc = dh_n.copy(), dc_n.copy()  # (B, H)
    for t in reversed(range(steps)):
        dh += dy[t]  # (9)
        dc += dh * dc_dh[t]  # (11)
        np.multiply(dc[:, None], factor[t, :, :3], out=dz[t, :, :3])  # (12) to (15)
        np.multiply(dh, factor[t, :, 3], out=dz[t, :, 3])  # (10), (15)
        if seen is not None:
            seen.dh[t], seen.dc[t] = dh, dc
        np.matmul(dz[t].reshape(batch, 4 * hidden), weight_hh, out=dh)  # (16b)
        dc *= f[t]  # (16a)

    if seen is not None:
        seen.dz[...] = dz
    flat = dz.reshape(-1, 4 * hidden)  # (T*B, 4H)
    dx = (flat @ weight_ih).reshape(steps, batch, inputs)  # (17)
    dweight_ih = flat.T @ x.reshape(-1, inputs)  # (18a)
    dweight_hh = flat.T @ h[:-1].reshape(-1, hidden)  # (18b)
    dbias = flat.sum(axis=0)  # (18c)
    return dweight_ih, dweight_hh, dbias, dx, dh, dc


def lstm_forward(
    params: Params, x: ArrayLike, h0: ArrayLike | None = None, c0: ArrayLike | None = None
) -> tuple[Outputs, list[LayerCache]]:
    """A stack of layers, each feeding the next: equations (1) to (8).

    Args:
        params: as `init_params` returns them; float32 or float64.
        x: (T, B, I), of the weights' dtype.
        h0, c0: (L, B, H), the state before the first step; None is zero.

    Returns:
        (y, h_n, c_n) and the cache for `lstm_backward`: y (T, B, H) is the top layer's h at
        every step; h_n, c_n (L, B, H) are every layer's last states.

    Raises:
        ValueError: an array of the wrong rank, size or dtype, empty, or not finite.
    """
    inputs, hidden, layers, dtype = lstm_sizes(params)
    x = check_array("x", x, "T,B,I", {"I": inputs}, dtype)
    batch = x.shape[1]
    h0 = _state("h0", h0, layers, batch, hidden, dtype)
    c0 = _state("c0", c0, layers, batch, hidden, dtype)

    caches = []
    y = x
    for k in range(layers):  # (8)
        y, cache = layer_forward(
            np.asarray(params[f"weight_ih_l{k}"]),
            np.asarray(params[f"weight_hh_l{k}"]),
            np.asarray(params[f"bias_l{k}"]),
            y,
            h0[k],
            c0[k],
        )
        caches.append(cache)
    h_n = np.stack([cache.h[-1] for cache in caches])
    c_n = np.stack([cache.c[-1] for cache in caches])
    return (y.copy(), h_n, c_n), caches


def lstm_backward(
    dy: ArrayLike | None,
    dh_n: ArrayLike | None,
    dc_n: ArrayLike | None,
    cache: list[LayerCache],
) -> Gradients:
    """Gradients of the stack: equations (9) to (18), from the top layer down.

    Args:
        dy: (T, B, H), the upstream gradient of y; None is zero.
        dh_n, dc_n: (L, B, H), those of the last states; None is zero.
        cache: what `lstm_forward` returned. It is not changed: a second call gives the same bits.

    Returns:
        "dx" (T, B, I), "dh0", "dc0" (L, B, H), and for every layer k "dweight_ih_lk",
        "dweight_hh_lk", "dbias_lk", each shaped as the array that it is the gradient of.

    Raises:
        ValueError: an array of the wrong rank, size or dtype, or not finite.
    """
    layers = len(cache)
    steps, batch, hidden = cache[0].tanh_c.shape
    dtype = cache[0].x.dtype
    if dy is None:
        dy = np.zeros((steps, batch, hidden), dtype)
    dy = check_array("dy", dy, "T,B,H", {"T": steps, "B": batch, "H": hidden}, dtype)
    dh_n = _state("dh_n", dh_n, layers, batch, hidden, dtype)
    dc_n = _state("dc_n", dc_n, layers, batch, hidden, dtype)

    gradients: Gradients = {"dx": dy, "dh0": np.empty_like(dh_n), "dc0": np.empty_like(dc_n)}
    for k in reversed(range(layers)):  # (8): dx of a layer is dy of the one below
        (
            gradients[f"dweight_ih_l{k}"],
            gradients[f"dweight_hh_l{k}"],
            gradients[f"dbias_l{k}"],
            gradients["dx"],
            gradients["dh0"][k],
            gradients["dc0"][k],
        ) = layer_backward(gradients["dx"], dh_n[k], dc_n[k], cache[k])
    return gradients


def vjp(
    params: Params, x: ArrayLike, h0: ArrayLike | None = None, c0: ArrayLike | None = None
) -> tuple[Outputs, Pullback]:
    """`lstm_forward` and `lstm_backward` as outputs and a pullback.

    Args:
        params, x, h0, c0: as for `lstm_forward`.

    Returns:
        (y, h_n, c_n), and pullback(dy, dh_n, dc_n) -> gradients as `lstm_backward` gives them.

    Raises:
        ValueError: as `lstm_forward` and `lstm_backward`.
    """
    outputs, cache = lstm_forward(params, x, h0, c0)

    def pullback(dy: ArrayLike | None, dh_n: ArrayLike | None, dc_n: ArrayLike | None) -> Gradients:
        return lstm_backward(dy, dh_n, dc_n, cache)

    return outputs, pullback


def _state(
    name: str,
    value: ArrayLike | None,
    layers: int,
    batch: int,
    hidden: int,
    dtype: np.dtype[np.floating],
) -> FloatArray:
    if value is None:
        return np.zeros((layers, batch, hidden), dtype)
    return check_array(name, value, "L,B,H", {"L": layers, "B": batch, "H": hidden}, dtype)
