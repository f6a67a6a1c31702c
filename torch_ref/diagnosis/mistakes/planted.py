"""Implementations made from a table, right or wrong."""

from collections.abc import Callable
from typing import Any

import numpy as np

from torch_ref.diagnosis.backward.interpreter import gradients, run_table
from torch_ref.diagnosis.backward.quantities import quantities
from torch_ref.diagnosis.backward.table import Table
from torch_ref.oracles.case import Case
from torch_ref.oracles.equations import Array


def planted_vjp(table: Table, *, steps: bool = False) -> Callable[..., Any]:
    """An implementation in the contract's vjp form that computes a table; `steps` as elsewhere."""

    def vjp(params: Any, x: Any, h0: Any, c0: Any) -> Any:
        blank = Case(params, x, h0, c0, np.zeros_like(h0), np.zeros_like(c0),
                     dy=np.zeros((*x.shape[:2], h0.shape[-1]), x.dtype))  # fmt: skip
        outputs = quantities(blank).outputs

        def pullback(dy: Any, dh_n: Any, dc_n: Any) -> dict[str, Array]:
            case = Case(params, x, h0, c0, dh_n, dc_n, dy=dy)
            found = gradients(table, quantities(case), steps=steps)
            return {name: value.astype(x.dtype) for name, value in found.items()}

        return tuple(outputs[name].astype(x.dtype) for name in ("y", "h_n", "c_n")), pullback

    return vjp


def planted_loss(table: Table) -> Callable[..., Any]:
    """An implementation in the contract's loss form that computes a table."""

    def loss_and_grads(params: Any, x: Any, targets: Any, h0: Any, c0: Any) -> Any:
        case = Case(params, x, h0, c0, np.zeros_like(h0), np.zeros_like(c0), targets=targets)
        found = run_table(table, case)
        loss = found["loss"]
        return loss, {k: v.astype(x.dtype) for k, v in found.items() if k[0] == "d"}

    return loss_and_grads
