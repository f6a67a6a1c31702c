"""An LSTM that classifies sequences: batch first, a softmax and its loss after the last step."""

import numpy as np


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def softmax(scores):
    e = np.exp(scores - scores.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


class Classifier:
    def __init__(self, weights, decay=0.0):
        self.weights, self.decay = weights, decay

    def forward(self, X):
        w = self.weights
        h = c = np.zeros((len(X), len(w["bi"])), X.dtype)
        self.tape, hs = [], []
        for t in range(X.shape[1]):
            i, f, o, g = (
                act(X[:, t] @ w[f"W{gate}"] + h @ w[f"U{gate}"] + w[f"b{gate}"])
                for gate, act in zip("ifog", (sigmoid, sigmoid, sigmoid, np.tanh), strict=True)
            )
            before, c = (h, c), f * c + i * g
            h = o * np.tanh(c)
            self.tape.append((X[:, t], *before, i, f, o, g, np.tanh(c)))
            hs.append(h)
        return np.stack(hs, axis=1), h @ w["Wy"] + w["by"]

    def loss_and_grads(self, X, y):
        w = self.weights
        hs, scores = self.forward(X)
        N, probs = len(X), softmax(scores)
        loss = -np.log(probs[np.arange(N), y]).mean()
        dscores = probs.copy()
        dscores[np.arange(N), y] -= 1
        dscores /= N
        grads = {name: self.decay * value for name, value in w.items()}
        grads["Wy"] = grads["Wy"] + hs[:, -1].T @ dscores
        grads["by"] = grads["by"] + dscores.sum(axis=0)
        dh, dc = dscores @ w["Wy"].T, 0
        for x, h_prev, c_prev, i, f, o, g, tc in reversed(self.tape):
            dc = dc + dh * o * (1 - tc**2)
            dz = {
                "i": dc * g * i * (1 - i),
                "f": dc * c_prev * f * (1 - f),
                "o": dh * tc * o * (1 - o),
                "g": dc * i * (1 - g**2),
            }
            for gate, d in dz.items():
                grads[f"W{gate}"] += x.T @ d
                grads[f"U{gate}"] += h_prev.T @ d
                grads[f"b{gate}"] += d.sum(axis=0)
            dh = sum(d @ w[f"U{gate}"].T for gate, d in dz.items())
            dc = dc * f
        return loss, grads
