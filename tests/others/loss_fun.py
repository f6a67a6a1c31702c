"""An LSTM as one lossFun over module globals: characters as indices, columns, [h; x], clipping."""

import numpy as np

hidden_size = 5
vocab_size = 4
Wf = Wi = Wc = Wo = np.zeros((hidden_size, hidden_size + vocab_size))
bf = bi = bc = bo = np.zeros((hidden_size, 1))
Why, by = np.zeros((vocab_size, hidden_size)), np.zeros((vocab_size, 1))


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def lossFun(inputs, targets, hprev, cprev):
    hs, cs, zs, gates, ps = {-1: hprev}, {-1: cprev}, {}, {}, {}
    loss = 0.0
    for t, index in enumerate(inputs):
        x = np.zeros((vocab_size, 1))
        x[index] = 1
        z = zs[t] = np.vstack([hs[t - 1], x])
        f, i = sigmoid(Wf @ z + bf), sigmoid(Wi @ z + bi)
        cbar, o = np.tanh(Wc @ z + bc), sigmoid(Wo @ z + bo)
        cs[t] = f * cs[t - 1] + i * cbar
        hs[t] = o * np.tanh(cs[t])
        gates[t] = f, i, cbar, o
        y = Why @ hs[t] + by
        ps[t] = np.exp(y) / np.sum(np.exp(y))
        loss += -np.log(ps[t][targets[t], 0])
    dWf, dWi, dWc, dWo = (np.zeros_like(Wf) for _ in range(4))
    dbf, dbi, dbc, dbo = (np.zeros_like(bf) for _ in range(4))
    dWhy, dby = np.zeros_like(Why), np.zeros_like(by)
    dhnext, dcnext = np.zeros_like(hprev), np.zeros_like(cprev)
    for t in reversed(range(len(inputs))):
        f, i, cbar, o = gates[t]
        dy = ps[t].copy()
        dy[targets[t]] -= 1
        dWhy += dy @ hs[t].T
        dby += dy
        dh = Why.T @ dy + dhnext
        dc = dh * o * (1 - np.tanh(cs[t]) ** 2) + dcnext
        do = dh * np.tanh(cs[t]) * o * (1 - o)
        di = dc * cbar * i * (1 - i)
        df = dc * cs[t - 1] * f * (1 - f)
        dcbar = dc * i * (1 - cbar**2)
        for dW, db, d in ((dWf, dbf, df), (dWi, dbi, di), (dWc, dbc, dcbar), (dWo, dbo, do)):
            dW += d @ zs[t].T
            db += d
        dz = Wf.T @ df + Wi.T @ di + Wc.T @ dcbar + Wo.T @ do
        dhnext, dcnext = dz[:hidden_size], dc * f
    gradients = [dWf, dWi, dWc, dWo, dbf, dbi, dbc, dbo, dWhy, dby]
    for gradient in gradients:
        np.clip(gradient, -5, 5, out=gradient)
    return loss, gradients, hs[len(inputs) - 1], cs[len(inputs) - 1]
