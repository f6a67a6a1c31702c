"""An LSTM as a class: one sequence, step by step, [x, h] weights for each gate, accumulators."""

import numpy as np


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


class Cell:
    def __init__(self, inputs, hidden):
        self.inputs, self.hidden = inputs, hidden
        self.wg, self.wi, self.wf, self.wo = (np.zeros((hidden, inputs + hidden)) for _ in range(4))
        self.bg, self.bi, self.bf, self.bo = (np.zeros(hidden) for _ in range(4))
        self.clear()

    def clear(self):
        shape = (self.hidden, self.inputs + self.hidden)
        self.wg_diff, self.wi_diff, self.wf_diff, self.wo_diff = (np.zeros(shape) for _ in range(4))
        self.bg_diff, self.bi_diff, self.bf_diff, self.bo_diff = (
            np.zeros(self.hidden) for _ in range(4)
        )
        self.nodes = []

    def forward(self, x, h, s):
        xh = np.hstack([x, h])
        g = np.tanh(self.wg @ xh + self.bg)
        i = sigmoid(self.wi @ xh + self.bi)
        f = sigmoid(self.wf @ xh + self.bf)
        o = sigmoid(self.wo @ xh + self.bo)
        new_s = g * i + s * f
        self.nodes.append((xh, s, g, i, f, o, np.tanh(new_s)))
        return o * np.tanh(new_s), new_s

    def backward(self, dh, ds):
        xh, s_before, g, i, f, o, tanh_s = self.nodes.pop()
        ds = ds + dh * o * (1 - tanh_s**2)
        dg_in = ds * i * (1 - g**2)
        di_in = ds * g * i * (1 - i)
        df_in = ds * s_before * f * (1 - f)
        do_in = dh * tanh_s * o * (1 - o)
        dxh = np.zeros_like(xh)
        for name, d in (("g", dg_in), ("i", di_in), ("f", df_in), ("o", do_in)):
            diff = getattr(self, f"w{name}_diff")
            diff += np.outer(d, xh)
            diff = getattr(self, f"b{name}_diff")
            diff += d
            dxh += getattr(self, f"w{name}").T @ d
        return dxh[: self.inputs], dxh[self.inputs :], ds * f
