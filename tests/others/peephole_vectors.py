"""A cell with peepholes on one sequence, vectors throughout, p (3, H) for i, f and o."""

import numpy as np


def sigma(z):
    return 0.5 * (1 + np.tanh(0.5 * z))


def forward(W, R, b, p, x, y0, c0):
    T, H = len(x), len(y0)
    z, i, f, o, c, y = (np.zeros((T, H)) for _ in range(6))
    for t in range(T):
        y_prev, c_prev = (y[t - 1], c[t - 1]) if t else (y0, c0)
        a_i, a_f, a_z, a_o = np.split(W @ x[t] + R @ y_prev + b, 4)
        i[t] = sigma(a_i + p[0] * c_prev)
        f[t] = sigma(a_f + p[1] * c_prev)
        z[t] = np.tanh(a_z)
        c[t] = z[t] * i[t] + c_prev * f[t]
        o[t] = sigma(a_o + p[2] * c[t])
        y[t] = np.tanh(c[t]) * o[t]
    return z, i, f, o, c, y


def backward(W, R, b, p, x, y0, c0, state, deltas, dy_n, dc_n):
    z, i, f, o, c, y = state
    dW, dR, db, dp, dx = (np.zeros_like(each) for each in (W, R, b, p, x))
    dy_next, dc_next = dy_n, dc_n
    for t in reversed(range(len(x))):
        y_prev, c_prev = (y[t - 1], c[t - 1]) if t else (y0, c0)
        dy = deltas[t] + dy_next
        do = dy * np.tanh(c[t]) * o[t] * (1 - o[t])
        dc = dy * o[t] * (1 - np.tanh(c[t]) ** 2) + p[2] * do + dc_next
        df = dc * c_prev * f[t] * (1 - f[t])
        di = dc * z[t] * i[t] * (1 - i[t])
        dz = dc * i[t] * (1 - z[t] ** 2)
        da = np.concatenate([di, df, dz, do])
        dc_next = dc * f[t] + p[0] * di + p[1] * df
        dy_next, dx[t] = R.T @ da, W.T @ da
        dW += np.outer(da, x[t])
        dR += np.outer(da, y_prev)
        db += da
        dp[0] += di * c_prev
        dp[1] += df * c_prev
        dp[2] += do * c[t]
    return dW, dR, db, dp, dx, dy_next, dc_next
