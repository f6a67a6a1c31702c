"""Groups of cases of one size, drawn from a seed: hard ones as often as ordinary ones."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike

from manual_lstm import init_params, one_hot
from manual_lstm.arrays import FloatArray
from manual_lstm.params import glorot_limit
from torch_ref import Case

GROUP = 16  # cases of one size that are computed together
WEIGHTS = ("glorot", "4x", "30x", "1e-6", "one gate 30x", "one unit 30x")
INPUTS = ("normal", "constant", "period 2", "period 3", "one-hot", "one-hot period 2", "large")


@dataclass(frozen=True)
class Sizes:
    """T, B, I, H, L and the head, None for upstream gradients of y; with a head V = I."""

    steps: int
    batch: int
    inputs: int
    hidden: int
    layers: int
    head: str | None


@dataclass(frozen=True)
class Drawn:
    """A case and, in words, how it was drawn."""

    case: Case
    origin: str


def draw_group(seed: int, dtype: DTypeLike) -> list[Drawn]:
    """`GROUP` cases of one size; T to 200, with T, B, I and H of 1 in one case out of eight."""
    rng = np.random.default_rng([seed, np.dtype(dtype).itemsize])
    shortest, longest = [(1, 1), (2, 12), (13, 50), (51, 200)][
        rng.choice(4, p=[0.1, 0.68, 0.18, 0.04])
    ]
    steps = int(rng.integers(shortest, longest + 1))
    largest = 24 if steps <= 12 and rng.random() < 0.1 else 6
    head = [None, "linear", "bounded"][rng.choice(3, p=[0.6, 0.25, 0.15])]

    def size(limit: int) -> int:
        return 1 if rng.random() < 0.125 else int(rng.integers(1, limit + 1))

    inputs = size(largest)
    hidden = inputs if head == "bounded" else size(largest)
    layers = int(rng.choice([1, 2, 3], p=[0.75, 0.2, 0.05]))
    sizes = Sizes(steps, size(4), inputs, hidden, layers, head)
    return [_draw(sizes, dtype, rng, f"seed {seed} {n}") for n in range(GROUP)]


def draw_plain(
    sizes: Sizes, dtype: DTypeLike, seed: int, gains: tuple[float, float] = (1.0, 1.0)
) -> Case:
    """A case with normal x and weights within a gain, drawn from `gains`, times Glorot's limit."""
    rng = np.random.default_rng([seed, 1])
    params = init_params(sizes.inputs, sizes.hidden, sizes.layers, dtype=np.float64, rng=rng)
    sigmoid_gain = np.repeat([4.0, 4.0, 1.0, 4.0], sizes.hidden)
    gain = rng.uniform(*gains)
    params = {
        name: gain * value / sigmoid_gain.reshape(-1, *[1] * (value.ndim - 1))
        for name, value in params.items()
    }
    return _finish(
        sizes, params, rng.normal(size=(sizes.steps, sizes.batch, sizes.inputs)), dtype, rng
    )


def _draw(sizes: Sizes, dtype: DTypeLike, rng: np.random.Generator, origin: str) -> Drawn:
    weights, inputs = str(rng.choice(WEIGHTS)), str(rng.choice(INPUTS))
    params = init_params(sizes.inputs, sizes.hidden, sizes.layers, dtype=np.float64, rng=rng)
    rows = np.ones(4 * sizes.hidden)
    if weights == "one gate 30x":
        gate = int(rng.integers(4))
        rows[gate * sizes.hidden : (gate + 1) * sizes.hidden] = 30
    elif weights == "one unit 30x":
        rows[int(rng.integers(sizes.hidden)) :: sizes.hidden] = 30
    else:
        rows *= {"glorot": 1, "4x": 4, "30x": 30, "1e-6": 1e-6}[weights]
    params = {
        name: value * rows.reshape(-1, *[1] * (value.ndim - 1)) for name, value in params.items()
    }
    x = _inputs(inputs, sizes, rng)
    return Drawn(
        _finish(sizes, params, x, dtype, rng), f"{origin}: {sizes}, weights {weights}, x {inputs}"
    )


def _inputs(kind: str, sizes: Sizes, rng: np.random.Generator) -> FloatArray:
    shape = (sizes.steps, sizes.batch, sizes.inputs)
    period = {"constant": 1, "period 2": 2, "period 3": 3, "one-hot period 2": 2}.get(kind)
    if kind.startswith("one-hot"):
        x = one_hot(rng.integers(sizes.inputs, size=shape[:2]), sizes.inputs, np.float64)
    else:
        x = rng.normal(size=shape) * (100 if kind == "large" else 1)
    if period is not None:
        x = x[np.arange(sizes.steps) % min(period, sizes.steps)]
    return x


def _finish(
    sizes: Sizes,
    params: dict[str, FloatArray],
    x: FloatArray,
    dtype: DTypeLike,
    rng: np.random.Generator,
) -> Case:
    state = (sizes.layers, sizes.batch, sizes.hidden)

    def sometimes_zero(array: FloatArray) -> FloatArray:
        return (array if rng.random() < 0.8 else np.zeros_like(array)).astype(dtype)

    h0, c0 = sometimes_zero(rng.uniform(-1, 1, state)), sometimes_zero(rng.normal(size=state))
    dh_n, dc_n = sometimes_zero(rng.normal(size=state)), sometimes_zero(rng.normal(size=state))
    if sizes.head == "linear":
        limit = glorot_limit(sizes.hidden, sizes.inputs)
        params["weight_out"] = rng.uniform(-limit, limit, (sizes.inputs, sizes.hidden))
        params["bias_out"] = rng.uniform(-limit, limit, sizes.inputs)
    weights = {name: value.astype(dtype) for name, value in params.items()}
    if sizes.head is None:
        dy = rng.normal(size=(sizes.steps, sizes.batch, sizes.hidden)).astype(dtype)
        return Case(weights, x.astype(dtype), h0, c0, dh_n, dc_n, dy=dy)
    targets = rng.integers(sizes.inputs, size=(sizes.steps, sizes.batch))
    if rng.random() < 0.5:
        targets = targets[np.arange(sizes.steps) % min(2, sizes.steps)]
    return Case(weights, x.astype(dtype), h0, c0, dh_n, dc_n, targets=targets)
