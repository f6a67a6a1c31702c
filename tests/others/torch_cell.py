"""One step of an LSTM as an autograd.Function with a backward of its own."""

import torch


class Cell(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, h, c, w_ih, w_hh, b):
        i, f, g, o = (x @ w_ih.T + h @ w_hh.T + b).chunk(4, dim=1)
        i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
        c_new = f * c + i * g
        ctx.save_for_backward(x, h, c, w_ih, w_hh, i, f, g, o, c_new.tanh())
        return o * c_new.tanh(), c_new

    @staticmethod
    def backward(ctx, dh, dc):
        x, h, c, w_ih, w_hh, i, f, g, o, tc = ctx.saved_tensors
        dc = dc + dh * o * (1 - tc**2)
        di, df, dg, do = dc * g, dc * c, dc * i, dh * tc
        dz = [di * i * (1 - i), df * f * (1 - f), dg * (1 - g**2), do * o * (1 - o)]
        dz = torch.cat(dz, dim=1)
        return dz @ w_ih, dz @ w_hh, dc * f, dz.T @ x, dz.T @ h, dz.sum(dim=0)
