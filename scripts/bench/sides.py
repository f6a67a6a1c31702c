"""One forward and backward of the same LSTM, by everything that a user might pick for it.

Each side is a function without arguments that runs y, and the gradients of all weights and of x
from a given dy, once, and returns x's gradient (T, B, I). Weights, x and dy are the same numbers.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import nn

from manual_lstm import init_params, lstm_backward, lstm_forward
from torch_ref import autograd_vjp
from torch_ref.oracles.torch_lstm import state_dict_from_params

Run = Callable[[], Any]
MANUAL, TORCH, TWIN, JAX, PRODUCTS = "manual_lstm", "nn.LSTM", "twin", "JAX", "products"


@dataclass(frozen=True)
class Sizes:
    """T steps, B batch, I inputs, H hidden, L layers."""

    steps: int
    batch: int
    inputs: int
    hidden: int
    layers: int = 1

    def __str__(self) -> str:
        return f"({self.steps}, {self.batch}, {self.inputs}, {self.hidden})"


@dataclass(frozen=True)
class Work:
    """The arrays that every side is given."""

    sizes: Sizes
    dtype: str
    params: dict[str, Any]
    x: Any
    dy: Any


def work_of(sizes: Sizes, dtype: str) -> Work:
    """Weights as `init_params` draws them, x and dy normal."""
    rng = np.random.default_rng(0)
    params = init_params(sizes.inputs, sizes.hidden, sizes.layers, dtype=dtype, rng=rng)
    x = rng.normal(size=(sizes.steps, sizes.batch, sizes.inputs)).astype(dtype)
    dy = rng.normal(size=(sizes.steps, sizes.batch, sizes.hidden)).astype(dtype)
    return Work(sizes, dtype, params, x, dy)


def sides_of(work: Work, *, without: tuple[str, ...] = ()) -> dict[str, Run]:
    """Every side that is installed, by name."""
    makers = {MANUAL: by_hand, TORCH: by_nn_lstm, TWIN: by_twin}
    if work.sizes.layers == 1:
        makers[PRODUCTS] = products_alone
        if find_spec("jax") is not None:
            makers[JAX] = by_jax
    return {name: maker(work) for name, maker in makers.items() if name not in without}


def by_hand(work: Work) -> Run:
    """manual_lstm, its arguments checked as always."""

    def run() -> Any:
        _, cache = lstm_forward(work.params, work.x)
        return lstm_backward(work.dy, None, None, cache)["dx"]

    return run


def by_nn_lstm(work: Work) -> Run:
    """torch.nn.LSTM: oneDNN's fused kernel in float32, ATen's own loop in float64."""
    sizes = work.sizes
    kind = getattr(torch, work.dtype)
    lstm = nn.LSTM(sizes.inputs, sizes.hidden, sizes.layers, dtype=kind)
    lstm.load_state_dict(state_dict_from_params(work.params))
    x = torch.from_numpy(work.x).requires_grad_()
    dy = torch.from_numpy(work.dy)
    leaves = [x, *lstm.parameters()]

    def run() -> Any:
        return torch.autograd.grad(lstm(x)[0], leaves, dy)[0].numpy()

    return run


def by_twin(work: Work) -> Run:
    """The autograd twin of elementary torch operations."""
    sizes = work.sizes
    zero = np.zeros((sizes.layers, sizes.batch, sizes.hidden), work.dtype)

    def run() -> Any:
        return autograd_vjp(work.params, work.x, zero, zero)[1](work.dy, zero, zero)["dx"]

    return run


def by_jax(work: Work) -> Run:
    """A scan of the same cell under jit, compiled before it is timed."""
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    hidden = work.sizes.hidden
    names = ("weight_ih_l0", "weight_hh_l0", "bias_l0")

    def forward(weight_ih: Any, weight_hh: Any, bias: Any, x: Any) -> Any:
        projected = x @ weight_ih.T + bias  # (T, B, 4H), what does not recur at once

        def step(state: Any, projected_t: Any) -> Any:
            h, c = state
            z = projected_t + h @ weight_hh.T
            i, f, g, o = (z[:, k * hidden : (k + 1) * hidden] for k in range(4))
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        zero = jnp.zeros((x.shape[1], hidden), x.dtype)
        return jax.lax.scan(step, (zero, zero), projected)[1]

    @jax.jit
    def both(weight_ih: Any, weight_hh: Any, bias: Any, x: Any, dy: Any) -> Any:
        _, pullback = jax.vjp(forward, weight_ih, weight_hh, bias, x)
        return pullback(dy)

    arrays = [jax.device_put(each) for each in (*(work.params[n] for n in names), work.x, work.dy)]
    jax.block_until_ready(both(*arrays))

    def run() -> Any:
        return np.asarray(jax.block_until_ready(both(*arrays))[3])

    return run


def products_alone(work: Work) -> Run:
    """Every matrix product that manual_lstm's one layer computes, into memory that is there."""
    sizes = work.sizes
    steps, batch, inputs, hidden = sizes.steps, sizes.batch, sizes.inputs, sizes.hidden
    weight_ih, weight_hh = (np.asarray(work.params[f"weight_{kind}_l0"]) for kind in ("ih", "hh"))
    recurrent = np.ascontiguousarray(weight_hh.T)
    z = np.empty((steps, 4 * hidden, batch), work.dtype)
    h = work.dy.reshape(steps, hidden, batch)
    flat = np.ascontiguousarray(np.resize(work.x, (4 * hidden, steps * batch)))
    h_before = h.reshape(-1, hidden)
    of_h = np.empty((4 * hidden, batch), work.dtype)
    dh = np.empty((hidden, batch), work.dtype)
    dx = np.empty((steps * batch, inputs), work.dtype)
    dweight_ih, dweight_hh = np.empty_like(weight_ih), np.empty_like(weight_hh)

    def run() -> Any:
        np.matmul(weight_ih, work.x.swapaxes(1, 2), out=z)
        for t in range(steps):
            np.dot(weight_hh, h[t], out=of_h)
        for t in range(steps):
            np.dot(recurrent, z[t], out=dh)
        np.dot(flat.T, weight_ih, out=dx)
        np.dot(flat, work.x.reshape(-1, inputs), out=dweight_ih)
        np.dot(flat, h_before, out=dweight_hh)
        return dx

    return run
