"""A case: weights, inputs and upstream gradients, and what an implementation makes of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from manual_lstm.arrays import FloatArray, Gradients, Params
from manual_lstm.params import lstm_sizes
from torch_ref.oracles.variant import STANDARD, Variant, check_peepholes

Results = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """One problem that every side is given.

    With `targets` it is a character model's: the loss is the mean cross-entropy, its upstream
    gradient `dloss`, and the head is linear if `params` has a weight_out, otherwise bounded.
    Without, it is a stack's, with the upstream gradient `dy`.

    Attributes:
        params: the weights, of one dtype.
        x: (T, B, I). h0, c0: (L, B, H), of the same dtype.
        dh_n, dc_n: (L, B, H), the upstream gradients of the last states.
        dy: (T, B, H), or None where there are targets.
        targets: (T, B) whole numbers, or None.
        dloss: the upstream gradient of the loss; without targets of no effect.
        variant: the cell. A cell without biases is one whose biases are zero.

    Raises:
        ValueError: both dy and targets or neither, or peephole weights that do not go with the
            variant.
    """

    params: Params
    x: FloatArray
    h0: FloatArray
    c0: FloatArray
    dh_n: FloatArray
    dc_n: FloatArray
    dy: FloatArray | None = None
    targets: FloatArray | None = None
    dloss: float = 1.0
    variant: Variant = STANDARD

    def __post_init__(self) -> None:
        if (self.dy is None) == (self.targets is None):
            raise ValueError("a case must have either dy or targets, and not both.")
        check_peepholes(self.params, self.variant)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of every floating-point array of the case."""
        return self.x.dtype

    @property
    def head(self) -> Literal["linear", "bounded"] | None:
        """The head of a character model; None where dy is given."""
        if self.targets is None:
            return None
        return "linear" if "weight_out" in self.params else "bounded"

    @property
    def num_layers(self) -> int:
        """L."""
        return lstm_sizes(self.params)[2]

    def astype(self, dtype: Any) -> "Case":
        """The same numbers in another dtype: how a float32 case is given to a float64 side."""

        def cast(array: FloatArray) -> FloatArray:
            return array.astype(dtype)

        return Case(
            {name: cast(value) for name, value in self.params.items()},
            cast(self.x),
            cast(self.h0),
            cast(self.c0),
            cast(self.dh_n),
            cast(self.dc_n),
            None if self.dy is None else cast(self.dy),
            self.targets,
            self.dloss,
            self.variant,
        )


def stack_cases(cases: Sequence[Case]) -> Case:
    """Cases that differ in their numbers only, as one for `equations.solve` to broadcast.

    Returns:
        A case whose weights, h0 and c0 have an axis N in front of their own or, as x, dy and
        targets, behind the first: weight (N, 4H, I), bias (N, 4H), x (T, N, B, I),
        h0 (L, N, B, H). Only `equations.solve` understands it.
    """
    first = cases[0]

    def stack(name: str) -> Any:
        arrays = [getattr(case, name) for case in cases]
        return None if arrays[0] is None else np.stack(arrays, axis=1)

    return Case(
        {name: np.stack([case.params[name] for case in cases]) for name in first.params},
        stack("x"),
        stack("h0"),
        stack("c0"),
        stack("dh_n"),
        stack("dc_n"),
        stack("dy"),
        stack("targets"),
        first.dloss,
        first.variant,
    )


def run_case(case: Case, vjp: Callable[..., Any]) -> Results:
    """Everything that an implementation in the contract's vjp form makes of a case.

    Args:
        case: with `targets`, vjp(params, x, targets, h0, c0) -> ((loss, h_n, c_n), pullback);
            without, vjp(params, x, h0, c0) -> ((y, h_n, c_n), pullback).

    Returns:
        "loss" or "y", "h_n", "c_n", and every gradient under "d" + name.
    """
    if case.targets is None:
        outputs, pullback = vjp(case.params, case.x, case.h0, case.c0)
        gradients: Gradients = pullback(case.dy, case.dh_n, case.dc_n)
        return dict(zip(("y", "h_n", "c_n"), outputs, strict=True)) | gradients
    (loss, h_n, c_n), pullback = vjp(case.params, case.x, case.targets, case.h0, case.c0)
    gradients = pullback(case.dloss, case.dh_n, case.dc_n)
    return {"loss": np.asarray(loss, case.dtype), "h_n": h_n, "c_n": c_n} | gradients
