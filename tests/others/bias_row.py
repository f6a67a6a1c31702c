"""A batched LSTM with one matrix: rows for 1, x and h, gates i, f, o, g, arrays for all steps."""

import numpy as np


def forward(X, W, h0, c0):
    T, B, D = X.shape
    H = h0.shape[1]
    inputs = np.ones((T, B, W.shape[0]), X.dtype)
    gates, C, Ct, Y = (np.zeros((T, B, n), X.dtype) for n in (4 * H, H, H, H))
    for t in range(T):
        inputs[t, :, 1 : D + 1] = X[t]
        inputs[t, :, D + 1 :] = Y[t - 1] if t > 0 else h0
        z = inputs[t] @ W
        gates[t, :, : 3 * H] = 1 / (1 + np.exp(-z[:, : 3 * H]))
        gates[t, :, 3 * H :] = np.tanh(z[:, 3 * H :])
        i, f, o, g = np.split(gates[t], 4, axis=1)
        C[t] = i * g + f * (C[t - 1] if t > 0 else c0)
        Ct[t] = np.tanh(C[t])
        Y[t] = o * Ct[t]
    return Y, C, (X, W, c0, inputs, gates, C, Ct)


def backward(dY, dh_n, dc_n, cache):
    X, W, c0, inputs, gates, C, Ct = cache
    T, _, D = X.shape
    H = C.shape[2]
    dW, dX, dC, dY = np.zeros_like(W), np.zeros_like(X), np.zeros_like(C), dY.copy()
    dY[-1] += dh_n
    dC[-1] += dc_n
    for t in reversed(range(T)):
        i, f, o, g = np.split(gates[t], 4, axis=1)
        dC[t] += (1 - Ct[t] ** 2) * o * dY[t]
        if t > 0:
            df = C[t - 1] * dC[t]
            dC[t - 1] += f * dC[t]
        else:
            df = c0 * dC[t]
            dc0 = f * dC[t]
        d_gates = np.hstack([g * dC[t], df, Ct[t] * dY[t]])
        sigmoids = gates[t, :, : 3 * H]
        dz = np.hstack([sigmoids * (1 - sigmoids) * d_gates, (1 - g**2) * i * dC[t]])
        dW += inputs[t].T @ dz
        d_inputs = dz @ W.T
        dX[t] = d_inputs[:, 1 : D + 1]
        if t > 0:
            dY[t - 1] += d_inputs[:, D + 1 :]
        else:
            dh0 = d_inputs[:, D + 1 :]
    return {"dX": dX, "dW": dW, "dh0": dh0, "dc0": dc0}
