"""A character model that holds its state between windows; its loss is summed over the steps."""

import numpy as np


class CharModel:
    def __init__(self, Wx, Wh, b, Wy, by):
        self.Wx, self.Wh, self.b, self.Wy, self.by = Wx, Wh, b, Wy, by
        self.h = self.c = None

    def loss(self, inputs, targets):
        N, T = inputs.shape
        H = self.h.shape[1]
        hs, cs, gates, ps = [self.h], [self.c], [], []
        loss = 0.0
        for t in range(T):
            a = self.Wx[inputs[:, t]] + hs[-1] @ self.Wh + self.b
            s, g = 1 / (1 + np.exp(-a[:, : 3 * H])), np.tanh(a[:, 3 * H :])
            i, f, o = s[:, :H], s[:, H : 2 * H], s[:, 2 * H :]
            cs.append(f * cs[-1] + i * g)
            hs.append(o * np.tanh(cs[-1]))
            gates.append((i, f, o, g))
            scores = hs[-1] @ self.Wy + self.by
            e = np.exp(scores - scores.max(axis=1, keepdims=True))
            ps.append(e / e.sum(axis=1, keepdims=True))
            loss -= np.log(ps[-1][np.arange(N), targets[:, t]]).sum() / N
        grads = {name: np.zeros_like(getattr(self, name)) for name in ("Wx", "Wh", "b", "Wy", "by")}
        dh, dc = np.zeros_like(self.h), np.zeros_like(self.c)
        for t in reversed(range(T)):
            i, f, o, g = gates[t]
            dscores = ps[t].copy()
            dscores[np.arange(N), targets[:, t]] -= 1
            dscores /= N
            grads["Wy"] += hs[t + 1].T @ dscores
            grads["by"] += dscores.sum(axis=0)
            dh = dh + dscores @ self.Wy.T
            tanh_c = np.tanh(cs[t + 1])
            dc = dc + dh * o * (1 - tanh_c**2)
            di, df = dc * g * i * (1 - i), dc * cs[t] * f * (1 - f)
            do, dg = dh * tanh_c * o * (1 - o), dc * i * (1 - g**2)
            da = np.hstack([di, df, do, dg])
            np.add.at(grads["Wx"], inputs[:, t], da)
            grads["Wh"] += hs[t].T @ da
            grads["b"] += da.sum(axis=0)
            dh, dc = da @ self.Wh.T, dc * f
        self.h, self.c = hs[-1], cs[-1]
        return loss, grads
