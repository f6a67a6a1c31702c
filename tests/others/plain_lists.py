"""An LSTM on lists of numbers, one sequence, every loop written out."""

from math import exp, tanh


def sigma(v):
    return 1.0 / (1.0 + exp(-v)) if v > -700 else 0.0


def dot(a, b):
    s = 0.0
    for p, q in zip(a, b, strict=True):
        s += p * q
    return s


def run(W, U, b, xs, h, c):
    """W: 4H rows of D, U: 4H rows of H, b: 4H; gates i f o g."""
    H = len(h)
    steps, ys = [], []
    for x in xs:
        z = [dot(W[r], x) + dot(U[r], h) + b[r] for r in range(4 * H)]
        gi = [sigma(z[j]) for j in range(H)]
        gf = [sigma(z[H + j]) for j in range(H)]
        go = [sigma(z[2 * H + j]) for j in range(H)]
        gg = [tanh(z[3 * H + j]) for j in range(H)]
        old_h, old_c = h, c
        c = [gf[j] * old_c[j] + gi[j] * gg[j] for j in range(H)]
        h = [go[j] * tanh(c[j]) for j in range(H)]
        steps.append((x, old_h, old_c, gi, gf, go, gg, c))
        ys.append(h)
    return ys, h, c, steps


def back(W, U, b, steps, dys, dh, dc):
    H, D = len(dh), len(steps[0][0])
    dW = [[0.0] * D for _ in range(4 * H)]
    dU = [[0.0] * H for _ in range(4 * H)]
    db = [0.0] * (4 * H)
    dxs = []
    dh, dc = list(dh), list(dc)
    for t in range(len(steps) - 1, -1, -1):
        x, old_h, old_c, gi, gf, go, gg, c = steps[t]
        dz = [0.0] * (4 * H)
        for j in range(H):
            dh[j] += dys[t][j]
            th = tanh(c[j])
            dc[j] += dh[j] * go[j] * (1 - th * th)
            dz[j] = dc[j] * gg[j] * gi[j] * (1 - gi[j])
            dz[H + j] = dc[j] * old_c[j] * gf[j] * (1 - gf[j])
            dz[2 * H + j] = dh[j] * th * go[j] * (1 - go[j])
            dz[3 * H + j] = dc[j] * gi[j] * (1 - gg[j] * gg[j])
            dc[j] *= gf[j]
        for r in range(4 * H):
            for k in range(D):
                dW[r][k] += dz[r] * x[k]
            for k in range(H):
                dU[r][k] += dz[r] * old_h[k]
            db[r] += dz[r]
        dx = [0.0] * D
        for k in range(D):
            for r in range(4 * H):
                dx[k] += W[r][k] * dz[r]
        dxs.insert(0, dx)
        for k in range(H):
            s = 0.0
            for r in range(4 * H):
                s += U[r][k] * dz[r]
            dh[k] = s
    return dW, dU, db, dxs, dh, dc
