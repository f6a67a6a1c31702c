"""Cases that are built rather than drawn."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import DTypeLike

from manual_lstm import CharModel, Text, init_params, one_hot, window
from manual_lstm.arrays import FloatArray, float_dtype
from manual_lstm.model import Head
from torch_ref.oracles.case import Case
from torch_ref.oracles.variant import PEEPHOLES, STANDARD, Variant


def character_case(
    text: Text,
    *,
    steps: int = 26,
    batch: int = 1,
    hidden: int | None = None,
    layers: int = 1,
    head: Head = "linear",
    dtype: DTypeLike = np.float32,
    seed: int = 0,
) -> Case:
    """One window of a text in the middle of truncated back-propagation.

    The state that comes in from the window before and the gradients that come back from the
    window after are drawn at random, so that no path of the backward pass is left unused.

    Args:
        text: the symbols, V of them, and their sequence.
        steps, batch: T and B. layers: L.
        hidden: H; None is V, the only H that the bounded head can have.
        head: "linear" or "bounded".
        dtype: float32 or float64.
        seed: of the weights, states and gradients. The numbers of a float32 case are those of
            the float64 case with the same seed, rounded.

    Raises:
        ValueError: a size below 1, a seed below 0, or a bounded head with H other than V.
    """
    dtype = float_dtype(dtype)
    num_classes = len(text.symbols)
    model = CharModel(num_classes, num_classes if hidden is None else hidden, layers, head)
    indices, targets = window(text, steps, batch)
    if not isinstance(seed, int | np.integer) or isinstance(seed, bool) or seed < 0:
        raise ValueError(f"seed is {seed} but must be a whole number of at least 0.")
    rng = np.random.default_rng(seed)
    params = model.init_params(dtype=dtype, rng=rng)

    def draw(scale: float) -> FloatArray:
        return rng.uniform(-scale, scale, (layers, batch, model.hidden_size)).astype(dtype)

    upstream = 1 / (steps * batch)  # the size that each step's own gradient has
    return Case(
        params,
        one_hot(indices, num_classes, dtype),
        h0=draw(0.75),
        c0=draw(1.0),
        dh_n=draw(upstream),
        dc_n=draw(upstream),
        targets=targets,
    )


def sized_case(
    sizes: Mapping[str, int],
    *,
    dtype: DTypeLike = np.float64,
    targets: bool = False,
    head: Head | None = "linear",
    variant: Variant = STANDARD,
    seed: int = 0,
) -> Case:
    """A case of given sizes, every tensor of it random and none of it zero.

    Args:
        sizes: "T", "B", "I", "H" and "L". With targets the classes are the inputs, V = I, which
            are one-hot, and with the bounded head H is V too.
        targets: whether it is a character model's case.
        head: of that model; a case without targets has none.
        variant: the cell.
        dtype: float32 or float64.

    Raises:
        ValueError: a size below 1, or another dtype.
    """
    dtype = float_dtype(dtype)
    steps, batch, inputs, hidden, layers = (sizes[name] for name in ("T", "B", "I", "H", "L"))
    rng = np.random.default_rng(seed)

    def draw(*shape: int) -> FloatArray:
        return rng.uniform(-1, 1, shape).astype(dtype)

    def peepholes() -> dict[str, FloatArray]:
        names = PEEPHOLES if variant.peepholes else ()
        return {f"{name}_l{k}": draw(hidden) for k in range(layers) for name in names}

    if not targets:
        params = init_params(inputs, hidden, layers, dtype=dtype, rng=rng) | peepholes()
        x, dy = draw(steps, batch, inputs), draw(steps, batch, hidden)
        h0, c0, dh_n, dc_n = (draw(layers, batch, hidden) for _ in range(4))
        return Case(params, x, h0, c0, dh_n, dc_n, dy=dy, variant=variant)
    assert head is not None
    hidden = inputs if head == "bounded" else hidden
    params = CharModel(inputs, hidden, layers, head).init_params(dtype=dtype, rng=rng)
    params |= peepholes()
    symbols = rng.integers(0, inputs, (steps + 1, batch))
    h0, c0, dh_n, dc_n = (draw(layers, batch, hidden) for _ in range(4))
    x = one_hot(symbols[:-1], inputs, dtype)
    return Case(params, x, h0, c0, dh_n, dc_n, targets=symbols[1:], variant=variant)


def with_head(sizes: Mapping[str, int], head: Head | None) -> Mapping[str, int]:
    """Bound sizes with what a head adds: H of the bounded one is V, which is I, so one says both.

    Raises:
        ValueError: I and H are both bound, to different sizes, with a bounded head.
    """
    tied = {name: sizes[name] for name in ("I", "H") if name in sizes}
    if head != "bounded" or not tied:
        return sizes
    if len({*tied.values()}) > 1:
        raise ValueError(
            f"sizes has I = {tied['I']} and H = {tied['H']} but with the bounded head they must be "
            "equal."
        )
    return {**sizes, **dict.fromkeys(("I", "H"), next(iter(tied.values())))}


def loud_head(case: Case, factor: float) -> Case:
    """The case with output weights so large that gradients of the cell are, if it has any.

    One class keeps the logit 0 and no other exceeds it, so that a softmax which does not subtract
    the greatest logit computes the same as one which does, and nothing overflows.

    Args:
        case: with targets. factor: by how much the output weights grow.
    """
    weight = case.params.get("weight_out")
    if weight is None or case.targets is None:
        return case
    highest = 1.0 if case.variant.output == "tanh" else len(case.x) + float(np.abs(case.c0).max())
    loud = weight * case.dtype.type(factor)
    bias = -np.abs(loud).sum(axis=1) * case.dtype.type(highest)
    rarest = np.bincount(case.targets.ravel(), minlength=len(weight)).argmin()
    loud[rarest], bias[rarest] = 0, 0
    return replace(case, params={**case.params, "weight_out": loud, "bias_out": bias})


def member_of(case: Case, b: int) -> Case:
    """The case with the sequence b of its batch alone."""
    one = slice(b, b + 1)
    return replace(
        case,
        x=case.x[:, one],
        h0=case.h0[:, one],
        c0=case.c0[:, one],
        dh_n=case.dh_n[:, one],
        dc_n=case.dc_n[:, one],
        dy=None if case.dy is None else case.dy[:, one],
        targets=None if case.targets is None else case.targets[:, one],
    )
