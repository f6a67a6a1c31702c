"""An LSTM of any number of layers as two plain functions, in manual_lstm's own arrangement."""

import numpy as np

CALLS = []


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def tanh(z):
    return np.tanh(z)


def forward(params, x, h0, c0):
    layers, tapes = len(h0), []
    h_n, c_n = h0.copy(), c0.copy()
    for k in range(layers):
        W, U, b = (params[f"{name}_l{k}"] for name in ("weight_ih", "weight_hh", "bias"))
        h, c, tape, y = h0[k], c0[k], [], []
        for t in range(len(x)):
            z = x[t] @ W.T + h @ U.T + b
            zi, zf, zg, zo = np.split(z, 4, axis=1)
            i, f, g, o = sigmoid(zi), sigmoid(zf), tanh(zg), sigmoid(zo)
            c_next = f * c + i * g
            tc = tanh(c_next)
            tape.append((x[t], h, c, i, f, g, o, tc))
            h, c = o * tc, c_next
            y.append(h)
        x = np.array(y)
        h_n[k], c_n[k] = h, c
        tapes.append(tape)
    return (x, h_n, c_n), tapes


def backward(params, tapes, dy, dh_n, dc_n):
    grads = {"dh0": np.zeros_like(dh_n), "dc0": np.zeros_like(dc_n)}
    for k in reversed(range(len(tapes))):
        W, U, b = (params[f"{name}_l{k}"] for name in ("weight_ih", "weight_hh", "bias"))
        dW, dU, db = np.zeros_like(W), np.zeros_like(U), np.zeros_like(b)
        dh_next, dc_next, T = dh_n[k], dc_n[k], len(tapes[k])
        dx = [None] * T
        for t in reversed(range(T)):
            x, h, c, i, f, g, o, tc = tapes[k][t]
            dh = dy[t] + dh_next
            dc = dc_next + dh * o * (1 - tc**2)
            di = dc * g * i * (1 - i)
            df = dc * c * f * (1 - f)
            dg = dc * i * (1 - g**2)
            do = dh * tc * o * (1 - o)
            dz = np.concatenate([di, df, dg, do], axis=1)
            dW += dz.T @ x
            dU += dz.T @ h
            db += dz.sum(axis=0)
            dx[t] = dz @ W
            dh_next = dz @ U
            dc_next = dc * f
        dy = np.array(dx)
        grads |= {f"dweight_ih_l{k}": dW, f"dweight_hh_l{k}": dU, f"dbias_l{k}": db}
        grads["dh0"][k], grads["dc0"][k] = dh_next, dc_next
    return grads | {"dx": dy}


def vjp(params, x, h0, c0):
    outputs, tapes = forward(params, x, h0, c0)
    return outputs, lambda dy, dh_n, dc_n: backward(params, tapes, dy, dh_n, dc_n)
