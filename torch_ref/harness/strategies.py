"""Hypothesis strategies: weights, upstream gradients and whole cases, for a stack and for a model.

Hypothesis draws the sizes, the magnitude, which tensors are zero, how many bits the numbers have,
and one seed; NumPy draws the numbers from it. Element by element through Hypothesis a case of a
thousand numbers costs ten to a hundred times more than the LSTM that is run on it, and what makes
a failing case readable is its size, its zeros and short numbers, not any single element. An
element does not depend on the sizes, so that a case keeps its numbers while it shrinks.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import DTypeLike

from manual_lstm.arrays import FloatArray, float_dtype
from manual_lstm.model import Head
from manual_lstm.params import glorot_limit
from manual_lstm.tasks import one_hot
from torch_ref.oracles.case import Case
from torch_ref.oracles.variant import PEEPHOLES, STANDARD, Variant

DTYPES = ("float32", "float64")
# The weights' limit in multiples of Glorot's: his own, that of the sigmoid gates, gates that are
# open or shut whatever comes, and (2^-20) weights of about 1e-6.
MAGNITUDES = (1.0, 4.0, 30.0, 2.0**-20)
HEADS: tuple[Head, ...] = ("linear", "bounded")

Draw = Callable[[st.SearchStrategy[Any]], Any]
Sizes = Mapping[str, int | tuple[int, int]]
Numbers = Callable[[str, tuple[int, ...], float], FloatArray]
_ONE_IN = 20


@st.composite
def parameters(
    draw: Draw,
    input_size: int,
    hidden_size: int,
    num_layers: int = 1,
    dtype: DTypeLike = "float64",
    *,
    magnitudes: Sequence[float] = MAGNITUDES,
) -> dict[str, FloatArray]:
    """The weights of a stack.

    Args:
        input_size, hidden_size, num_layers: I, H, L.
        dtype: float32 or float64.
        magnitudes: of which one is drawn: the weights' limit in multiples of Glorot's. The first
            counts as the simplest.

    Returns:
        A strategy of mappings as `init_params` returns them: "weight_ih_lk" (4H, I or H),
        "weight_hh_lk" (4H, H), "bias_lk" (4H,). A failing example shrinks to zero tensors.

    Raises:
        ValueError: another dtype.
    """
    numbers = _numbers(draw, dtype)
    return _stack(numbers, input_size, hidden_size, num_layers, draw(st.sampled_from(magnitudes)))


@st.composite
def upstreams(
    draw: Draw,
    steps: int,
    batch: int,
    hidden_size: int,
    num_layers: int = 1,
    dtype: DTypeLike = "float64",
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """The upstream gradients of a stack: a strategy of (dy, dh_n, dc_n).

    Returns:
        dy (T, B, H), dh_n and dc_n (L, B, H), between -1 and 1.

    Raises:
        ValueError: another dtype.
    """
    return _upstream(_numbers(draw, dtype), steps, batch, hidden_size, num_layers)


@st.composite
def cases(
    draw: Draw,
    *,
    max_steps: int = 12,
    max_batch: int = 4,
    max_inputs: int = 8,
    max_hidden: int = 8,
    max_layers: int = 3,
    sizes: Sizes | None = None,
    variant: Variant = STANDARD,
    dtypes: Sequence[DTypeLike] = DTYPES,
    magnitudes: Sequence[float] = MAGNITUDES,
) -> Case:
    """Cases of a stack: weights, inputs, initial states and an upstream gradient on every output.

    Args:
        max_steps, max_batch, max_inputs, max_hidden, max_layers: the greatest T, B, I, H and L;
            the least is 1.
        sizes: what overrides these: "T", "B", "I", "H" or "L" to a size, or to the least and the
            greatest.
        variant: the cell.
        dtypes: of which one is drawn for all arrays.
        magnitudes: of the weights, as for `parameters`.

    Returns:
        A strategy of cases with `dy`. With the greater magnitudes a case may leave rounding to
        decide what comes out: `assume(error_budget(case).conclusive)`.

    Raises:
        ValueError: a dtype other than float32 and float64.
    """
    most = {"T": max_steps, "B": max_batch, "I": max_inputs, "H": max_hidden, "L": max_layers}
    steps, batch, inputs, hidden, layers = (
        draw(_size(name, most[name], sizes)) for name in ("T", "B", "I", "H", "L")
    )
    numbers = _numbers(draw, draw(st.sampled_from(dtypes)))
    params = _stack(numbers, inputs, hidden, layers, draw(st.sampled_from(magnitudes)))
    params |= _peepholes(numbers, hidden, layers, variant)
    x = numbers("x", (steps, batch, inputs), 1.0)
    h0, c0 = _states(numbers, layers, batch, hidden)
    dy, dh_n, dc_n = _upstream(numbers, steps, batch, hidden, layers)
    return Case(params, x, h0, c0, dh_n, dc_n, dy=dy, variant=variant)


@st.composite
def model_cases(
    draw: Draw,
    *,
    heads: Sequence[Head] = HEADS,
    max_steps: int = 12,
    max_batch: int = 4,
    max_classes: int = 8,
    max_hidden: int = 8,
    max_layers: int = 3,
    sizes: Sizes | None = None,
    variant: Variant = STANDARD,
    dtypes: Sequence[DTypeLike] = DTYPES,
    magnitudes: Sequence[float] = MAGNITUDES,
    only_one_hot: bool = False,
) -> Case:
    """Cases of a character model: targets, and one-hot inputs or, now and then, any others.

    Args:
        heads: of which one is drawn. The bounded head has as many units as classes, at most the
            smaller of max_classes and max_hidden.
        max_classes: the greatest V, which is I too. The other arguments are those of `cases`.
        only_one_hot: for an implementation that reads the input as an index: no other inputs,
            and the loss is the end, with an upstream gradient of 1.

    Returns:
        A strategy of cases with `targets`, and of upstream gradients for the loss and for the
        last states.

    Raises:
        ValueError: a dtype other than float32 and float64.
    """
    head = draw(st.sampled_from(heads))
    bounded = head == "bounded"
    most = {"T": max_steps, "B": max_batch, "H": max_hidden, "L": max_layers}
    most["I"] = min(max_classes, max_hidden) if bounded else max_classes
    steps, batch, classes, layers = (
        draw(_size(name, most[name], sizes)) for name in ("T", "B", "I", "L")
    )
    hidden = classes if bounded else draw(_size("H", max_hidden, sizes))
    dtype = float_dtype(draw(st.sampled_from(dtypes)))
    numbers = _numbers(draw, dtype)
    magnitude = draw(st.sampled_from(magnitudes))
    params = _stack(numbers, classes, hidden, layers, magnitude)
    params |= _peepholes(numbers, hidden, layers, variant)
    if not bounded:
        limit = _few_bits(magnitude * glorot_limit(hidden, classes))
        params["weight_out"] = numbers("weight_out", (classes, hidden), limit)
        params["bias_out"] = numbers("bias_out", (classes,), limit)
    any_inputs = not only_one_hot and draw(st.integers(0, _ONE_IN - 1)) == _ONE_IN - 1
    symbols = np.random.default_rng(draw(_SEEDS)).integers(0, classes, (steps + 1, batch))
    x = one_hot(symbols[:-1], classes, dtype)
    h0, c0 = _states(numbers, layers, batch, hidden)
    _, dh_n, dc_n = _upstream(numbers, steps, batch, hidden, layers)
    return Case(
        params,
        numbers("x", x.shape, 1.0) if any_inputs else x,
        h0,
        c0,
        dh_n,
        dc_n,
        targets=symbols[1:],
        dloss=1.0 if only_one_hot else draw(st.sampled_from((1.0, -0.75, 3.0, 0.0))),
        variant=variant,
    )


_SEEDS = st.integers(0, 2**16 - 1)


def _size(name: str, most: int, sizes: Sizes | None) -> st.SearchStrategy[int]:
    wanted = (sizes or {}).get(name, (1, most))
    return st.just(wanted) if isinstance(wanted, int) else st.integers(*wanted)


def _numbers(draw: Draw, dtype: DTypeLike) -> Numbers:
    """A function (name, shape, limit) -> array: zero, or numbers in (-limit, limit).

    Most cases have odd multiples of limit / 16, which are short to read and the same in float32
    and float64; the others have all the bits that the dtype keeps, and so round everywhere.
    """
    precision = float_dtype(dtype)
    seed = draw(_SEEDS)
    all_bits = draw(st.booleans())

    def numbers(name: str, shape: tuple[int, ...], limit: float) -> FloatArray:
        if draw(st.integers(0, _ONE_IN - 1)) == 0:
            return np.zeros(shape, precision)
        rng = np.random.default_rng([seed, *name.encode()])
        # A grid that is larger than the array: an element is the same for every size of it.
        grid = (shape[0], *(max(8, 1 << (n - 1).bit_length()) for n in shape[1:]))
        inside = tuple(slice(n) for n in shape)
        if all_bits:
            return (limit * rng.uniform(-1, 1, grid)[inside]).astype(precision)
        return (limit * (2 * rng.integers(-8, 8, grid)[inside] + 1) / 16).astype(precision)

    return numbers


def _stack(
    numbers: Numbers, inputs: int, hidden: int, layers: int, magnitude: float
) -> dict[str, FloatArray]:
    params = {}
    for layer in range(layers):
        fan_in = inputs if layer == 0 else hidden
        into = _few_bits(magnitude * glorot_limit(fan_in, hidden))
        recurrent = _few_bits(magnitude * glorot_limit(hidden, hidden))
        for name, shape, limit in (
            (f"weight_ih_l{layer}", (4, hidden, fan_in), into),
            (f"weight_hh_l{layer}", (4, hidden, hidden), recurrent),
            (f"bias_l{layer}", (4, hidden), into),
        ):
            params[name] = numbers(name, shape, limit).reshape(4 * hidden, *shape[2:])
    return params


def _peepholes(
    numbers: Numbers, hidden: int, layers: int, variant: Variant
) -> dict[str, FloatArray]:
    names = PEEPHOLES if variant.peepholes else ()
    return {f"{name}_l{k}": numbers(name, (hidden,), 1.0) for k in range(layers) for name in names}


def _states(
    numbers: Numbers, layers: int, batch: int, hidden: int
) -> tuple[FloatArray, FloatArray]:
    shape = (layers, batch, hidden)
    return numbers("h0", shape, 1.0), numbers("c0", shape, 2.0)


def _upstream(
    numbers: Numbers, steps: int, batch: int, hidden: int, layers: int
) -> tuple[FloatArray, FloatArray, FloatArray]:
    state = (layers, batch, hidden)
    return (
        numbers("dy", (steps, batch, hidden), 1.0),
        numbers("dh_n", state, 1.0),
        numbers("dc_n", state, 1.0),
    )


def _few_bits(limit: float) -> float:
    """The nearest number with two significant bits: 2^k or 1.5 * 2^k."""
    mantissa, exponent = np.frexp(limit)
    return float(np.ldexp(np.round(mantissa * 4) / 4, exponent))
