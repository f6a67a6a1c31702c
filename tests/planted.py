"""Wrong lines, planted in the source of manual_lstm."""

import ast
import inspect
import sys
import textwrap
from collections.abc import Callable
from typing import Any

import pytest

from manual_lstm import (
    CharModel,
    cross_entropy,
    cross_entropy_backward,
    linear_backward,
    linear_forward,
    lstm_backward,
    lstm_forward,
)
from manual_lstm.head import bounded_backward
from manual_lstm.lstm import (
    _add_product,
    _negated,
    _through_time,
    _transposed,
    layer_backward,
    layer_forward,
)


def plant(patch: pytest.MonkeyPatch, function: Callable[..., Any], old: str, new: str) -> None:
    """Give `function` the body that it has with `old` replaced by `new`, wherever it is known.

    Raises:
        AssertionError: `old` does not occur exactly once in the function's source.
    """
    source = textwrap.dedent(inspect.getsource(function))
    assert source.count(old) == 1, f"{old!r} occurs {source.count(old)} times"
    namespace = dict(vars(sys.modules[function.__module__]))
    changed = ast.parse(source.replace(old, new))
    exec(compile(changed, f"<planted in {function.__name__}>", "exec"), namespace)
    patch.setattr(function, "__code__", namespace[function.__name__].__code__)


# pieces of the backward: c after the steps of a block, tanh's slope, x and h before every step
AFTER = "cell[block.start + 1 :][: len(o), 4]"
SLOPE = "o * (1 - tanh_c * tanh_c)"
HH = "h[part].reshape(-1, hidden)"
IH = " x[part].reshape(-1, inputs)"
PULLBACK = "return lstm_backward(dy, dh_n, dc_n, cache) | head_gradients"

# identifier: function, the right text, the wrong text
MISTAKES = {
    # the gates' gradients, equations (10) to (15)
    "df takes c[t] for c[t-1]": (_through_time, "c_before, f", AFTER + ", f"),
    "df takes c[t-2] for c[t-1]": (
        _through_time,
        "c_before, f",
        "cell[[max(t - 1, 0) for t in range(block.start, block.stop)], 4], f",
    ),
    "df takes tanh(c)": (_through_time, "c_before, f", "np.tanh(c_before), f"),
    "di takes c for g": (_through_time, "g, i * (1 - i)", AFTER + ", i * (1 - i)"),
    "di takes f's derivative": (_through_time, "g, i * (1 - i)", "g, f * (1 - f)"),
    "di without i's derivative": (_through_time, "g, i * (1 - i)", "g, 1"),
    "di with half of i's derivative": (_through_time, "g, i * (1 - i)", "g, i"),
    "df without f's derivative": (_through_time, "c_before, f * (1 - f)", "c_before, 1"),
    "dg takes f for i": (_through_time, "i, 1 - g * g", "f, 1 - g * g"),
    "dg without the square": (_through_time, "i, 1 - g * g", "i, 1 - g"),
    "dg without g's derivative": (_through_time, "i, 1 - g * g", "i, 1"),
    "dg with sigmoid's derivative": (_through_time, "i, 1 - g * g", "i, g * (1 - g)"),
    "do takes c for tanh(c)": (
        _through_time,
        "tanh_c, o * (1 - o)",
        AFTER + ", o * (1 - o)",
    ),
    "do without o's derivative": (_through_time, "tanh_c, o * (1 - o)", "tanh_c, 1"),
    "do multiplied by dc": (_through_time, "dz_o *= dh", "dz_o *= dc"),
    "di and df exchanged": (
        _through_time,
        "dc_dh = o",
        "factor[:, 1:3] = factor[:, 2:0:-1].copy(); dc_dh = o",
    ),
    # the recurrence, equations (9), (11), (16)
    "dc without o": (_through_time, SLOPE, SLOPE[4:]),
    "dc without tanh's derivative": (_through_time, SLOPE, "o"),
    "dc without the square": (_through_time, SLOPE, "o * (1 - tanh_c)"),
    "dc takes tanh's derivative twice": (
        _through_time,
        SLOPE,
        SLOPE + " ** 2",
    ),
    "dc = for +=": (_through_time, "dc += np", "dc[:] = np"),
    "dc from dy without the recurrent dh": (
        _through_time,
        "np.multiply(dh, dc_dh_t",
        "np.multiply(dy_t, dc_dh_t",
    ),
    "dc's carry dropped": (_through_time, "dc = of_dc[0]", "dc = 0 * dc"),
    "dc's carry without f": (_through_time, "factor[:, 0] = f", "factor[:, 0] = 1"),
    "dc's carry takes i for f": (_through_time, "factor[:, 0] = f", "factor[:, 0] = i"),
    "dc's carry takes f[t-1]": (
        _through_time,
        "factor[:, 0] = f",
        "factor[:, 0] = cell[[t - 1 for t in range(block.start, block.stop)], 2]",
    ),
    "dc's carry takes f[t+1]": (
        _through_time,
        "factor[:, 0] = f",
        "factor[:, 0] = cell[[min(t + 1, steps - 1) for t in range(block.start, block.stop)], 2]",
    ),
    "dh = for +=": (_through_time, "dh += dy_t", "dh[:] = dy_t"),
    "dh takes dy[t-1]": (_through_time, "dh += dy_t", "dh += dy[t - 1].T"),
    "dh only from the last step": (_through_time, "dh += dy_t", "dh += dy_t * (t == steps - 1)"),
    "dh subtracted": (_through_time, "dh += dy_t", "dh -= dy_t"),
    "dh's carry dropped": (layer_backward, "_transposed(weight_hh)", "0 * _transposed(weight_hh)"),
    "dh's carry without the output gate": (
        _through_time,
        "np.dot(recurrent, dz_t, out=dh)",
        "dh[:] = recurrent[:, : 3 * hidden] @ dz_t[: 3 * hidden]",
    ),
    "dh's carry through a transposed block": (
        layer_backward,
        "_transposed(weight_hh)",
        "weight_hh.reshape(4, hidden, hidden).swapaxes(1, 2).reshape(weight_hh.shape).T",
    ),
    "dh's carry through i and f exchanged": (
        layer_backward,
        "_transposed(weight_hh)",
        "np.concatenate((np.roll(weight_hh[: 2 * hidden], hidden, 0), weight_hh[2 * hidden :])).T",
    ),
    "dh's carry through a strip turned over": (_transposed, "k + 16].T", "k + 16][::-1].T"),
    "the first step's gates left out": (
        layer_backward,
        "flat = dz",
        "dz[:, :, 0] *= start > 0; flat = dz",
    ),
    "the loop runs forwards": (_through_time, "each[::-1] for each", "each for each"),
    "dh_n ignored": (layer_backward, "dh_n.T.copy(", "0 * dh_n.T.copy("),
    "dc_n ignored": (layer_backward, "dc_n.T.copy(", "0 * dc_n.T.copy("),
    "dh_n and dc_n exchanged": (layer_backward, "dh, dc = dh_n", "dc, dh = dh_n"),
    "dc0 one forget gate too many": (
        layer_backward,
        "dx, dh.T, dc.T\n",
        "dx, dh.T, (dc * cell[0, 2]).T\n",
    ),
    "dh0 and dc0 exchanged": (layer_backward, "dx, dh.T, dc.T\n", "dx, dc.T, dh.T\n"),
    # the sums over the steps, equations (17) and (18)
    "dweight_hh takes h[t] for h[t-1]": (layer_backward, HH, f"h[1:]{HH[1:]}"),
    "dweight_hh forgets the initial state": (
        layer_backward,
        HH,
        f"({HH} * (np.arange(steps)[part].repeat(batch) > 0)[:, None])",
    ),
    "dweight_hh from the last step only": (
        layer_backward,
        HH,
        f"({HH} * (np.arange(steps)[part].repeat(batch) == steps - 1)[:, None])",
    ),
    "dweight_hh transposed block by block": (
        layer_backward,
        "return dweight_ih, dweight_hh,",
        "return dweight_ih, dweight_hh.reshape(4, hidden, hidden).swapaxes(1, 2)"
        ".reshape(-1, hidden),",
    ),
    "dweight_ih from the first step only": (
        layer_backward,
        IH,
        " (x[part] * (np.arange(steps)[part, None, None] == 0)).reshape(-1, inputs)",
    ),
    "dweight_ih divided by T": (
        layer_backward,
        "return dweight_ih,",
        "return dweight_ih / steps,",
    ),
    "dweight_ih with members of the batch mixed": (
        layer_backward,
        IH,
        " np.roll(x, 1, 1)[part].reshape(-1, inputs)",
    ),
    "dbias missing": (layer_backward, "dbias, dx", "0 * dbias, dx"),
    "dbias a mean": (layer_backward, "dbias, dx", "dbias / (steps * batch), dx"),
    "dbias from the last step only": (
        layer_backward,
        "dbias += flat.sum(axis=1)",
        "pass",
    ),
    "dx from the wrong rows": (
        layer_backward,
        "flat.T, weight_ih,",
        "flat.T, np.roll(weight_ih, hidden, axis=0),",
    ),
    "dx without the output gate": (
        layer_backward,
        "flat.T, weight_ih,",
        "flat[: 3 * hidden].T, weight_ih[: 3 * hidden],",
    ),
    "dx from weight_hh": (layer_backward, "flat.T, weight_ih,", "flat.T, weight_hh,"),
    # the same, added up from one part of the steps to the next
    "dweight_ih of the first part only": (
        layer_backward,
        "_add_product(dweight_ih, flat, x_part)",
        "pass",
    ),
    "dweight_hh of the first part only": (
        layer_backward,
        "_add_product(dweight_hh, flat, h_before)",
        "pass",
    ),
    "dbias = for +=": (layer_backward, "dbias += flat", "dbias = flat"),
    "dweight = for +=": (_add_product, "part += rows", "part[:] = rows"),
    "dh dropped between two parts": (
        layer_backward,
        "_through_time(dy[part], dh,",
        "_through_time(dy[part], dh * (part.stop == steps),",
    ),
    "dc dropped between two parts": (
        layer_backward,
        "dy[part], dh, dc, states",
        "dy[part], dh, dc * (part.stop == steps), states",
    ),
    "c of another part's steps": (
        layer_backward,
        "cell[start : part.stop + 1]",
        "cell[max(start - 1, 0) : part.stop + 1]",
    ),
    "dc dropped between two blocks": (_through_time, "dc = dc.copy()", "dc = 0 * dc"),
    # the stack, equation (8)
    "dy given to every layer": (
        lstm_backward,
        'layer_backward(gradients["dx"], ',
        "layer_backward(dy, ",
    ),
    "dh_n of another layer": (lstm_backward, "dh_n[k], dc_n[k]", "dh_n[k - 1], dc_n[k]"),
    "dc_n of another layer": (lstm_backward, "dh_n[k], dc_n[k]", "dh_n[k], dc_n[k - 1]"),
    "dh0 of another layer": (lstm_backward, 'gradients["dh0"][k]', 'gradients["dh0"][k - 1]'),
    # the forward, equations (1) to (8)
    "forward without the bias": (layer_forward, "z += offset", "z += 0"),
    "forward with a soft candidate": (
        layer_forward,
        "np.tanh(g_t, out=g_t)",
        "np.tanh(0.5 * g_t, out=g_t)",
    ),
    "forward with c = tanh(c)": (
        layer_forward,
        "np.tanh(c_t, out=tanh_c)",
        "np.tanh(c_t, out=tanh_c); c_t[:] = tanh_c",
    ),
    "forward with h = o * c": (
        layer_forward,
        "np.multiply(o_t, tanh_c, out=h_t)",
        "np.multiply(o_t, c_t, out=h_t)",
    ),
    "forward with gates i, f, o, g": (_negated, "(3, 0, 1, 2)", "(2, 0, 1, 3)"),
    "forward with i and f exchanged": (_negated, "(3, 0, 1, 2)", "(3, 1, 0, 2)"),
    "forward without the state before": (
        layer_forward,
        "h[0], c[0] = h0.T, c0.T",
        "h[0], c[0] = 0, 0",
    ),
    "forward with h0 and c0 exchanged": (
        layer_forward,
        "h[0], c[0] = h0.T, c0.T",
        "h[0], c[0] = c0.T, h0.T",
    ),
    "forward with the cell overwritten": (layer_forward, "np.add(i_g, f_c", "np.add(i_g, 0"),
    "forward with f * c lost": (layer_forward, "np.add(i_g, f_c", "np.add(0, f_c"),
    "forward with every layer reading x": (
        lstm_forward,
        "            y,\n            h0[k]",
        "            x,\n            h0[k]",
    ),
    "h_n the first state": (lstm_forward, "cache.h[-1]", "cache.h[0]"),
    "c_n taken from h": (lstm_forward, "cache.cell[-1, 4].T", "cache.h[-1]"),
    # the head and the loss, equations (19) to (26)
    "softmax target sign": (cross_entropy_backward, "targets] -= 1", "targets] += 1"),
    "softmax gradient of the opposite sign": (
        cross_entropy_backward,
        "dlogits *= dloss",
        "dlogits *= -dloss",
    ),
    "loss summed where the mean is meant": (
        cross_entropy_backward,
        "dloss / (steps * batch)",
        "dloss",
    ),
    "loss averaged over the steps only": (
        cross_entropy_backward,
        "dloss / (steps * batch)",
        "dloss / steps",
    ),
    "dloss ignored": (cross_entropy_backward, "dloss / (steps", "1 / (steps"),
    "loss with the sum reported": (cross_entropy, "np.mean(np.log", "np.sum(np.log"),
    "loss of the target one step earlier": (
        cross_entropy,
        "targets[:, :, None]",
        "np.roll(targets, 1, axis=0)[:, :, None]",
    ),
    "head without its bias": (linear_forward, " + bias", " + 0 * bias"),
    "head bias gradient missing": (linear_backward, "flat.sum(axis=0)", "0 * flat[0]"),
    "head bias gradient a mean": (linear_backward, "flat.sum(axis=0)", "flat.mean(axis=0)"),
    "head weight gradient of h one step earlier": (
        linear_backward,
        "flat.T @ h.reshape",
        "flat.T @ np.roll(h, 1, axis=0).reshape",
    ),
    "head passes nothing on at the first step": (
        linear_backward,
        "return dh, {",
        "dh[0] = 0\n    return dh, {",
    ),
    "model drops dh_n": (CharModel.vjp, PULLBACK, PULLBACK.replace("dh_n", "None")),
    "model drops dc_n": (CharModel.vjp, PULLBACK, PULLBACK.replace("dc_n", "None")),
}
ON_THE_BOUNDED_HEAD = {
    "bounded head's sign": (bounded_backward, "return dlogits", "return -dlogits"),
    "bounded head drops dc_n": (
        CharModel.vjp,
        "lstm_backward(bounded_backward(dlogits), dh_n, dc_n, cache)",
        "lstm_backward(bounded_backward(dlogits), dh_n, None, cache)",
    ),
}
