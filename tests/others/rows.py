"""A batched LSTM on matrices only: a row for each sequence, its steps one behind the other."""

import numpy as np


def forward(X, W, b, T, h, c):
    """X (N, T D), W (D + H, 4H) on [x, h], b (1, 4H), gates i, f, o, g: y (N, T H), c, a tape."""
    D, tape, rows = X.shape[1] // T, [], []
    for t in range(T):
        inputs, c_prev = np.hstack([X[:, t * D : (t + 1) * D], h]), c
        *z, z_g = np.split(inputs @ W + b, 4, axis=1)
        (i, f, o), g = (1 / (1 + np.exp(-each)) for each in z), np.tanh(z_g)
        c = f * c_prev + i * g
        h = o * np.tanh(c)
        tape.append((inputs, c_prev, i, f, o, g, np.tanh(c)))
        rows.append(h)
    return np.hstack(rows), c, tape


def backward(dY, dc, W, tape):
    T, H = len(tape), W.shape[1] // 4
    dY, dX, dW, db, dh = dY.copy(), [], np.zeros_like(W), np.zeros_like(W[:1]), 0
    for t in reversed(range(T)):
        inputs, c_prev, i, f, o, g, squashed = tape[t]
        dh = dY[:, t * H : (t + 1) * H] + dh
        dc = dc + dh * o * (1 - squashed**2)
        di, df, do, dg = dc * g, dc * c_prev, dh * squashed, dc * i
        dz = np.hstack([di * i * (1 - i), df * f * (1 - f), do * o * (1 - o), dg * (1 - g**2)])
        dW += inputs.T @ dz
        db += dz.sum(axis=0, keepdims=True)
        back = dz @ W.T
        dX.insert(0, back[:, :-H])
        dh, dc = back[:, -H:], dc * f
    return np.hstack(dX), dW, db, dh, dc
