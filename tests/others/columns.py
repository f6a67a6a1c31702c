"""An LSTM as courses in columns teach it: a cell forward and backward, one W @ [a; x] a gate."""

import numpy as np


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def cell_forward(xt, a_prev, c_prev, p):
    concat = np.concatenate((a_prev, xt), axis=0)
    ft = sigmoid(p["Wf"] @ concat + p["bf"])
    it = sigmoid(p["Wi"] @ concat + p["bi"])
    cct = np.tanh(p["Wc"] @ concat + p["bc"])
    ot = sigmoid(p["Wo"] @ concat + p["bo"])
    c_next = ft * c_prev + it * cct
    a_next = ot * np.tanh(c_next)
    return a_next, c_next, (concat, c_prev, c_next, ft, it, cct, ot)


def cell_backward(da_next, dc_next, cache, p):
    concat, c_prev, c_next, ft, it, cct, ot = cache
    n_a = c_next.shape[0]
    through = ot * (1 - np.tanh(c_next) ** 2)
    dz = {
        "o": da_next * np.tanh(c_next) * ot * (1 - ot),
        "c": (dc_next * it + through * it * da_next) * (1 - cct**2),
        "i": (dc_next * cct + through * cct * da_next) * it * (1 - it),
        "f": (dc_next * c_prev + through * c_prev * da_next) * ft * (1 - ft),
    }
    gradients = {f"dW{gate}": dz[gate] @ concat.T for gate in dz}
    gradients |= {f"db{gate}": dz[gate].sum(axis=1, keepdims=True) for gate in dz}
    back = p["Wf"].T @ dz["f"] + p["Wi"].T @ dz["i"] + p["Wc"].T @ dz["c"] + p["Wo"].T @ dz["o"]
    da_prev, dxt = back[:n_a], back[n_a:]
    dc_prev = dc_next * ft + through * ft * da_next
    return dxt, da_prev, dc_prev, gradients


def lstm_forward(x, a0, p):
    _, m, T_x = x.shape
    a_next, c_next = a0, np.zeros_like(a0)
    a, caches = np.zeros((a0.shape[0], m, T_x)), []
    for t in range(T_x):
        a_next, c_next, cache = cell_forward(x[:, :, t], a_next, c_next, p)
        a[:, :, t] = a_next
        caches.append(cache)
    return a, caches


def lstm_backward(da, caches, p):
    n_a, m, T_x = da.shape
    da_prevt, dc_prevt = np.zeros((n_a, m)), np.zeros((n_a, m))
    total = {f"d{name}": np.zeros_like(value) for name, value in p.items()}
    dx = np.zeros((p["Wf"].shape[1] - n_a, m, T_x))
    for t in reversed(range(T_x)):
        dx[:, :, t], da_prevt, dc_prevt, gradients = cell_backward(
            da[:, :, t] + da_prevt, dc_prevt, caches[t], p
        )
        for name, gradient in gradients.items():
            total[name] += gradient
    return total | {"dx": dx, "da0": da_prevt}
