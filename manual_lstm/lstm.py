"""The LSTM, forward and backward by hand: one layer, then the stack. Equations (1) to (18).

T steps, B batch, I inputs, H hidden, L layers. Every array is time-major, gates are the blocks
i, f, g, o. A leading T + 1 holds the initial state at index 0, so that h[t] is the state
*before* step t and h[t + 1] the state after it.

At batch 1 the time goes into Python's calls, at size into the matrix products. So a step makes as
few calls as it can, into memory that is there already, and all that does not recur is done for
many steps in one.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from manual_lstm.arrays import FloatArray, Gradients, Params, check_array
from manual_lstm.params import lstm_sizes

# Of so many bytes the backward prepares its factors at once: they shall stay in a core's cache.
_CACHE = 2**18

Outputs = tuple[FloatArray, FloatArray, FloatArray]
Pullback = Callable[[ArrayLike | None, ArrayLike | None, ArrayLike | None], Gradients]


class LayerCache(NamedTuple):
    """What one layer's backward needs of its forward.

    Inside a layer, and so in `cell`, units come before sequences, so that z = W x reads as in (1)
    and a gate of the whole batch is one block of memory. The gates stand in the order o, i, f, g,
    and c[t-1] after them: whatever is subjected to the same operation stands together.
    """

    weight_ih: FloatArray  # (4H, I)
    weight_hh: FloatArray  # (4H, H)
    x: FloatArray  # (T, B, I)
    cell: FloatArray  # (T + 1, 5, H, B): o, i, f, g after their activation, and c before the step
    h: FloatArray  # (T + 1, B, H)


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
        h (T, B, H), a view of the cache, and the cache for `layer_backward`.
    """
    steps, batch, _ = x.shape
    hidden = weight_hh.shape[1]
    # sigmoid(z) = 1 / (1 + exp(-z)), with the minus sign in the weights of o, i and f.
    input_weights, recurrent, offset = (
        _negated(each.reshape(4, hidden, -1)) for each in (weight_ih, weight_hh, bias)
    )  # (4H, I), (4H, H), (4H, 1)

    cell = np.empty((steps + 1, 5, hidden, batch), x.dtype)
    h = np.empty((steps + 1, hidden, batch), x.dtype)
    c = cell[:, 4]  # (T + 1, H, B)
    h[0], c[0] = h0.T, c0.T
    z = cell[:-1, :4].reshape(steps, 4 * hidden, batch)
    np.matmul(input_weights, x.swapaxes(1, 2), out=z)  # (1), of all steps at once
    z += offset

    sigmoids, o, g = cell[:, :3], cell[:, 0], cell[:, 3]  # o, i and f; o; g
    i_f, g_c = cell[:, 1:3], cell[:, 3:]  # i and f; g and c[t-1]
    of_h = np.empty((4 * hidden, batch), x.dtype)
    tanh_c = np.empty((hidden, batch), x.dtype)
    i_g, f_c = terms = np.empty((2, hidden, batch), x.dtype)
    one = np.ones((), x.dtype)
    with np.errstate(over="ignore"):  # a gate that is shut for good is 1 / (1 + inf) = 0
        for z_t, sigmoid, g_t, i_f_t, g_c_t, o_t, c_t, h_before, h_t in zip(
            z, sigmoids, g, i_f, g_c, o, c[1:], h, h[1:], strict=False
        ):
            z_t += np.dot(recurrent, h_before, out=of_h)  # (1)
            np.exp(sigmoid, out=sigmoid)  # (2), (3), (5)
            sigmoid += one
            np.divide(one, sigmoid, out=sigmoid)
            np.tanh(g_t, out=g_t)  # (4)
            np.multiply(i_f_t, g_c_t, out=terms)
            np.add(i_g, f_c, out=c_t)  # (6)
            np.tanh(c_t, out=tanh_c)
            np.multiply(o_t, tanh_c, out=h_t)  # (7)
    h = np.ascontiguousarray(h.swapaxes(1, 2))  # (T + 1, B, H)
    return h[1:], LayerCache(weight_ih, weight_hh, x, cell, h)


class StepGradients(NamedTuple):
    """What one layer's backward finds at every step, for whoever wants to look at it."""

    dz: FloatArray  # (T, B, 4, H): i, f, g, o before their activation
    dh: FloatArray  # (T, B, H), all that h receives
    dc: FloatArray  # (T, B, H), all that c receives


def empty_step_gradients(cache: LayerCache) -> StepGradients:
    """Arrays of the layer's sizes and dtype for `layer_backward` to fill."""
    steps, batch, hidden = cache.h[1:].shape
    shapes = (steps, batch, 4, hidden), (steps, batch, hidden), (steps, batch, hidden)
    return StepGradients(*(np.empty(shape, cache.h.dtype) for shape in shapes))


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
    weight_ih, weight_hh, x, cell, h = cache
    steps, batch, inputs = x.shape
    hidden = weight_hh.shape[1]
    recurrent = weight_hh.T  # (H, 4H)
    if batch > 1:  # to BLAS a matrix product's operand is worth a copy, a vector's matrix is not
        recurrent = _transposed(weight_hh)
    dh, dc = dh_n.T.copy("C"), dc_n.T.copy("C")  # (H, B)
    dx = np.empty(x.shape, x.dtype)
    # dz is the largest array here: a quarter of the steps at a time, if the weights are smaller.
    length = steps if steps * batch <= inputs + hidden else -(-steps // 4)
    for start in reversed(range(0, steps, length)):
        part = slice(start, min(start + length, steps))
        seen_part = None if seen is None else StepGradients(*(each[part] for each in seen))
        states = cell[start : part.stop + 1]
        dz, dh, dc = _through_time(dy[part], dh, dc, states, recurrent, seen_part)
        flat = dz.reshape(4 * hidden, -1)  # (4H, n*B)
        np.dot(flat.T, weight_ih, out=dx[part].reshape(-1, inputs))  # (17)
        x_part, h_before = x[part].reshape(-1, inputs), h[part].reshape(-1, hidden)
        if part.stop == steps:
            dweight_ih = flat @ x_part  # (18a)
            dweight_hh = flat @ h_before  # (18b)
            dbias = flat.sum(axis=1)  # (18c)
        else:
            _add_product(dweight_ih, flat, x_part)
            _add_product(dweight_hh, flat, h_before)
            dbias += flat.sum(axis=1)
        del dz, flat  # the next part takes as much
    return dweight_ih, dweight_hh, dbias, dx, dh.T, dc.T


def _through_time(
    dy: FloatArray,
    dh: FloatArray,
    dc: FloatArray,
    cell: FloatArray,
    recurrent: FloatArray,
    seen: StepGradients | None,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """What recurs, over n steps from the last to the first: equations (9) to (16).

    Args:
        dy: (n, B, H). cell: (n + 1, 5, H, B), of these steps and the next. recurrent: (H, 4H).
        dh, dc: (H, B), handed back by the step after these. They are written to.
        seen: as for `layer_backward`, of these steps.

    Returns:
        dz (4, H, n, B) in blocks i, f, g, o, and what is handed on to the step before, dh and dc.
    """
    steps, batch, hidden = dy.shape
    dz = np.empty((4, hidden, steps, batch), dy.dtype)
    of_h = np.empty((hidden, batch), dy.dtype)
    at_once = min(steps, max(1, _CACHE // cell[0].nbytes))
    factors = np.empty((at_once, 5, hidden, batch), dy.dtype)
    for start in reversed(range(0, steps, at_once)):
        block = slice(start, min(start + at_once, steps))
        # What does not recur, for many steps at once: dz = dc * (i, f and g's factor), dh * (o's).
        o, i, f, g, c_before = cell[block].swapaxes(0, 1)  # each (n, H, B)
        tanh_c = np.tanh(cell[start + 1 : block.stop + 1, 4])  # a step's state is the next one's
        factor = factors[: len(o)]
        factor[:, 0] = f  # (16a)
        np.multiply(g, i * (1 - i), out=factor[:, 1])  # (12), (15)
        np.multiply(c_before, f * (1 - f), out=factor[:, 2])  # (14), (15)
        np.multiply(i, 1 - g * g, out=factor[:, 3])  # (13), (15)
        np.multiply(tanh_c, o * (1 - o), out=factor[:, 4])  # (10), (15)
        dc_dh = o * (1 - tanh_c * tanh_c)  # (11)
        dz_block = factor[:, 1:].reshape(-1, 4 * hidden, batch)
        of_steps = (dy[block].swapaxes(1, 2), dc_dh, factor[:, :4], factor[:, 4], dz_block)
        for t, dy_t, dc_dh_t, of_dc, dz_o, dz_t in zip(
            range(block.stop - 1, start - 1, -1), *(each[::-1] for each in of_steps), strict=True
        ):
            dh += dy_t  # (9)
            dc += np.multiply(dh, dc_dh_t, out=of_h)  # (11)
            if seen is not None:
                seen.dh[t], seen.dc[t] = dh.T, dc.T
            dz_o *= dh  # (10), (15)
            of_dc *= dc  # (16a), then (12) to (15)
            dc = of_dc[0]
            np.dot(recurrent, dz_t, out=dh)  # (16b)
        dc = dc.copy()  # the next block's factors take its place
        dz[:, :, block] = factor[:, 1:].transpose(1, 2, 0, 3)
    if seen is not None:
        seen.dz[...] = dz.transpose(2, 3, 0, 1)
    return dz, dh, dc


def _add_product(total: FloatArray, left: FloatArray, right: FloatArray) -> None:
    """`total += left @ right`, a gate at a time: the product takes memory of its own."""
    for part, rows in zip(np.split(total, 4), np.split(left, 4), strict=True):
        part += rows @ right


def _transposed(matrix: FloatArray) -> FloatArray:
    """A copy of the transpose, in strips of a cache line: of a large one faster than NumPy's."""
    transposed = np.empty(matrix.shape[::-1], matrix.dtype)
    for k in range(0, len(matrix), 16):
        transposed[:, k : k + 16] = matrix[k : k + 16].T
    return transposed


def _negated(weight: FloatArray) -> FloatArray:
    """(4, H, N) in blocks i, f, g, o as (4H, N) in blocks -o, -i, -f, g."""
    o_i_f_g = weight.take((3, 0, 1, 2), axis=0)
    np.negative(o_i_f_g[:3], out=o_i_f_g[:3])
    return o_i_f_g.reshape(-1, weight.shape[2])


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
        every step; h_n, c_n (L, B, H) are every layer's last states. The cache holds x and the
        weights themselves, no copies: they must stay as they are until the backward is done.

    Raises:
        ValueError: an array of the wrong rank, size or dtype, empty, or not finite.
    """
    inputs, hidden, layers, dtype = lstm_sizes(params)
    x = check_array("x", x, "T,B,I", {"I": inputs}, dtype)
    batch = x.shape[1]
    h0 = check_state("h0", h0, layers, batch, hidden, dtype)
    c0 = check_state("c0", c0, layers, batch, hidden, dtype)

    caches = []
    y = x
    h_n, c_n = np.empty_like(h0), np.empty_like(c0)
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
        h_n[k], c_n[k] = cache.h[-1], cache.cell[-1, 4].T
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
    steps, batch, hidden = cache[0].h[1:].shape
    dtype = cache[0].x.dtype
    if dy is None:
        dy = np.zeros((steps, batch, hidden), dtype)
    dy = check_array("dy", dy, "T,B,H", {"T": steps, "B": batch, "H": hidden}, dtype)
    dh_n = check_state("dh_n", dh_n, layers, batch, hidden, dtype)
    dc_n = check_state("dc_n", dc_n, layers, batch, hidden, dtype)

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
        (y, h_n, c_n), and pullback(dy, dh_n, dc_n) -> gradients as `lstm_backward` gives them,
        as long as params and x are not changed in place.

    Raises:
        ValueError: as `lstm_forward` and `lstm_backward`.
    """
    outputs, cache = lstm_forward(params, x, h0, c0)

    def pullback(dy: ArrayLike | None, dh_n: ArrayLike | None, dc_n: ArrayLike | None) -> Gradients:
        return lstm_backward(dy, dh_n, dc_n, cache)

    return outputs, pullback


def check_state(
    name: str,
    value: ArrayLike | None,
    layers: int,
    batch: int,
    hidden: int,
    dtype: np.dtype[np.floating],
) -> FloatArray:
    """A state (L, B, H) or its gradient, checked; None is zero."""
    if value is None:
        return np.zeros((layers, batch, hidden), dtype)
    return check_array(name, value, "L,B,H", {"L": layers, "B": batch, "H": hidden}, dtype)
