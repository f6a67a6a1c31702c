"""Small LSTMs as people write them, each in its own style and from scratch.

Each is in the vjp form on its own arrays: native(params, x, h0, c0) gives the outputs and, where
it has a backward, the function that makes the gradients.
"""

import numpy as np


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def course(params, x, h0, c0, order="ifog"):
    """x (N, T, D), Wx (D, 4H), Wh (H, 4H), b (4H,)."""
    Wx, Wh, b = params["Wx"], params["Wh"], params["b"]
    N, T, _ = x.shape
    H = h0.shape[1]
    at = {gate: slice(order.index(gate) * H, (order.index(gate) + 1) * H) for gate in "ifog"}
    h, c, caches, hs = h0, c0, [], np.zeros((N, T, H))
    for t in range(T):
        a = x[:, t].dot(Wx) + h.dot(Wh) + b
        i, f, o = (sigmoid(a[:, at[gate]]) for gate in "ifo")
        g = np.tanh(a[:, at["g"]])
        next_c = f * c + i * g
        next_h = o * np.tanh(next_c)
        caches.append((x[:, t], h, c, next_c, i, f, o, g))
        h, c = next_h, next_c
        hs[:, t] = h

    def backward(dhs, dh, dc):
        dx, dWx, dWh, db = np.zeros_like(x), np.zeros_like(Wx), np.zeros_like(Wh), np.zeros_like(b)
        for t in reversed(range(T)):
            x_t, prev_h, prev_c, next_c, i, f, o, g = caches[t]
            dh = dh + dhs[:, t]
            dc = dc + dh * o * (1 - np.tanh(next_c) ** 2)
            da = np.zeros((N, 4 * H))
            da[:, at["i"]] = dc * g * i * (1 - i)
            da[:, at["f"]] = dc * prev_c * f * (1 - f)
            da[:, at["o"]] = dh * np.tanh(next_c) * o * (1 - o)
            da[:, at["g"]] = dc * i * (1 - g**2)
            dx[:, t] = da.dot(Wx.T)
            dWx += x_t.T.dot(da)
            dWh += prev_h.T.dot(da)
            db += da.sum(axis=0)
            dh, dc = da.dot(Wh.T), dc * f
        return {"dx": dx, "dWx": dWx, "dWh": dWh, "db": db, "dh0": dh, "dc0": dc}

    return (hs, h, c), backward


def columns(params, x, a0, c0):
    """x (n_x, m, T_x), a0, c0 (n_a, m), W (n_a, n_a + n_x) and b (n_a, 1) for each gate."""
    _, m, T_x = x.shape
    n_a = a0.shape[0]
    a, c, caches, out = a0, c0, [], np.zeros((n_a, m, T_x))
    for t in range(T_x):
        concat = np.concatenate([a, x[:, :, t]])
        z = {gate: params[f"W{gate}"] @ concat + params[f"b{gate}"] for gate in "fico"}
        ft, it, ot = sigmoid(z["f"]), sigmoid(z["i"]), sigmoid(z["o"])
        cct = np.tanh(z["c"])
        c_next = ft * c + it * cct
        caches.append((concat, c, c_next, ft, it, cct, ot))
        c, a = c_next, ot * np.tanh(c_next)
        out[:, :, t] = a

    def backward(da_all, da, dc):
        gradients = {f"d{name}": np.zeros_like(value) for name, value in params.items()}
        gradients["dx"] = np.zeros_like(x)
        for t in reversed(range(T_x)):
            concat, c_prev, c_next, ft, it, cct, ot = caches[t]
            da = da + da_all[:, :, t]
            dc = dc + da * ot * (1 - np.tanh(c_next) ** 2)
            dz = {
                "f": dc * c_prev * ft * (1 - ft),
                "i": dc * cct * it * (1 - it),
                "c": dc * it * (1 - cct**2),
                "o": da * np.tanh(c_next) * ot * (1 - ot),
            }
            dconcat = np.zeros_like(concat)
            for gate, each in dz.items():
                gradients[f"dW{gate}"] += each @ concat.T
                gradients[f"db{gate}"] += each.sum(axis=1, keepdims=True)
                dconcat += params[f"W{gate}"].T @ each
            da, dc = dconcat[:n_a], dc * ft
            gradients["dx"][:, :, t] = dconcat[n_a:]
        return gradients | {"da0": da, "dc0": dc}

    return (out, a, c), backward


def bias_neuron(params, x, h0, c0):
    """Layers of W (H, I + 1) on [x; 1] and U (H, H) on h, a pair for each gate.

    x (T, I, B); h0, c0 (L, H, B). Where U has one more column it multiplies the neuron too.
    """
    L, H, B = h0.shape
    one = np.ones((1, B))
    below, h_n, c_n, tape = x, [], [], []
    for k in range(L):
        W, U = ({gate: params[f"{name}_{gate}_l{k}"] for gate in "ifgo"} for name in "WU")
        neuron_in_u = U["i"].shape[1] > H
        h, c, above, steps = h0[k], c0[k], [], []
        for x_t in below:
            inputs = np.vstack([x_t, one])
            own = np.vstack([h, one]) if neuron_in_u else h
            z = {gate: W[gate] @ inputs + U[gate] @ own for gate in "ifgo"}
            i, f, o, g = sigmoid(z["i"]), sigmoid(z["f"]), sigmoid(z["o"]), np.tanh(z["g"])
            c_before, c = c, f * c + i * g
            h = o * np.tanh(c)
            steps.append((inputs, own, c_before, c, i, f, g, o))
            above.append(h)
        below = np.stack(above)
        h_n.append(h)
        c_n.append(c)
        tape.append((W, U, steps))

    def backward(dy, dh_n, dc_n, leak=False):
        gradients = {f"d{name}": np.zeros_like(value) for name, value in params.items()}
        dh0, dc0, from_above = np.zeros_like(h0), np.zeros_like(c0), dy
        for k in reversed(range(L)):
            W, U, steps = tape[k]
            dh, dc, to_below = dh_n[k], dc_n[k], []
            for t in reversed(range(len(steps))):
                inputs, own, c_before, c, i, f, g, o = steps[t]
                dh = dh + from_above[t]
                dc = dc + dh * o * (1 - np.tanh(c) ** 2)
                dz = {
                    "i": dc * g * i * (1 - i),
                    "f": dc * c_before * f * (1 - f),
                    "g": dc * i * (1 - g**2),
                    "o": dh * np.tanh(c) * o * (1 - o),
                }
                dc = dc * f
                for gate in "ifgo":
                    gradients[f"dW_{gate}_l{k}"] += dz[gate] @ inputs.T
                    gradients[f"dU_{gate}_l{k}"][:, :H] += dz[gate] @ own[:H].T
                    if leak:
                        gradients[f"dU_{gate}_l{k}"][:, H:] += dz[gate] @ own[H:].T
                dh = sum(U[gate][:, :H].T @ dz[gate] for gate in "ifgo")
                to_below.insert(0, sum(W[gate][:, :-1].T @ dz[gate] for gate in "ifgo"))
            dh0[k], dc0[k], from_above = dh, dc, np.stack(to_below)
        return gradients | {"dx": from_above, "dh0": dh0, "dc0": dc0}

    return (below, np.stack(h_n), np.stack(c_n)), backward


def keras(params, x, h0, c0):
    """kernel (I, 4 units), recurrent_kernel (units, 4 units), bias (4 units,), i, f, c, o."""
    units, h, c, outputs = h0.shape[1], h0, c0, []
    for t in range(x.shape[1]):
        z = x[:, t] @ params["kernel"] + h @ params["recurrent_kernel"] + params["bias"]
        z0, z1, z2, z3 = (z[:, k * units : (k + 1) * units] for k in range(4))
        c = sigmoid(z1) * c + sigmoid(z0) * np.tanh(z2)
        h = sigmoid(z3) * np.tanh(c)
        outputs.append(h)
    return (np.stack(outputs, axis=1), h, c), None


def onnx(params, x, initial_h, initial_c):
    """W (1, 4H, I), R (1, 4H, H), B (1, 8H), i, o, f, c."""
    W, R, B = params["W"][0], params["R"][0], params["B"][0]
    H = R.shape[1]
    h, c, outputs = initial_h[0], initial_c[0], []
    for x_t in x:
        gates = x_t @ W.T + h @ R.T + B[: 4 * H] + B[4 * H :]
        i, o, f, c_tilde = np.split(gates, 4, axis=-1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(c_tilde)
        h = sigmoid(o) * np.tanh(c)
        outputs.append(h)
    return (np.stack(outputs), h[None], c[None]), None
