"""An LSTM with an output after its last step, columns on [h; x], that updates itself at once."""

import numpy as np


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


class Regressor:
    def __init__(self, weights, limit=np.inf):
        self.limit, self.by = limit, np.zeros((1, 1))
        vars(self).update(weights)

    def forward(self, xs):
        h = c = np.zeros_like(self.bi)
        self.tape, self.hs = [], []
        for x in xs:
            z = np.vstack([h, x[:, None]])
            i, f = sigmoid(self.Wi @ z + self.bi), sigmoid(self.Wf @ z + self.bf)
            g, o = np.tanh(self.Wc @ z + self.bc), sigmoid(self.Wo @ z + self.bo)
            before, c = c, f * c + i * g
            h = o * np.tanh(c)
            self.tape.append((z, before, i, f, g, o, np.tanh(c)))
            self.hs.append(h)
        return self.Wy @ h + self.by

    def backward(self, dy, rate):
        names = [f"{kind}{gate}" for kind in "Wb" for gate in "ifco"]
        grads = {name: np.zeros_like(getattr(self, name)) for name in names}
        grads |= {"Wy": dy @ self.hs[-1].T, "by": dy.sum(axis=0, keepdims=True)}
        dh, dc = self.Wy.T @ dy, 0
        for z, before, i, f, g, o, tc in reversed(self.tape):
            dc = dc + dh * o * (1 - tc**2)
            dz = {
                "i": dc * g * i * (1 - i),
                "f": dc * before * f * (1 - f),
                "c": dc * i * (1 - g**2),
                "o": dh * tc * o * (1 - o),
            }
            for gate, d in dz.items():
                grads[f"W{gate}"] += d @ z.T
                grads[f"b{gate}"] += d
            dh = sum(getattr(self, f"W{gate}").T @ d for gate, d in dz.items())[: len(dh)]
            dc = dc * f
        for name, grad in grads.items():
            weight = getattr(self, name)
            weight -= rate * np.clip(grad, -self.limit, self.limit)
