"""The PyTorch reference for a hand-written LSTM, and everything that compares.

| name | what it is |
|---|---|
| `Case`, `run_case` | weights, inputs, upstream gradients; what a side makes of them |
| `Variant`, `STANDARD` | the cell that a case is of |
| `character_case` | the character model on a text, as a case |
| `autograd_vjp`, `autograd_model_vjp` | the twin: elementary torch operations and autograd |
| `torch_lstm_vjp` | torch.nn.LSTM, the second reference |
| `truth` | the exact values: the equations in extended precision |
| `complex_step` | derivatives of the forward pass alone, exact to rounding |
| `finite_differences`, `Differences` | gradients of a forward pass alone, with their errors |
| `share_params` | NumPy weights as torch leaves in the same memory |
| `params_from_state_dict`, `state_dict_from_params` | torch.nn.LSTM's weights in and out |
| `error_budget`, `ErrorBudget` | how far rounding may move each element |
| `compare_gradients`, `Comparison`, `TensorError` | the comparison |
| `arbitrate` | which of two sides that differ is right |
| `diff_gradients` | manual_lstm against the twin, on one case |
| `diagnose`, `Diagnosis` | the mistake that explains wrong gradients, or where it is |
| `Implementation`, `Layout`, `preset` | somebody's LSTM, and how its arrays are arranged |
| `check_implementation`, `parametrize_with_checks` | all checks on it; the same for pytest |
| `save_case`, `load_case`, `save_result`, `load_result` | exchange files |
| `cases`, `parameters` | Hypothesis strategies |

What a name needs, be it torch, Hypothesis or pytest, is imported when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch_ref.compare.arbitration import arbitrate
    from torch_ref.compare.budget import ErrorBudget, error_budget
    from torch_ref.compare.diff import diff_gradients
    from torch_ref.compare.errors import Comparison, TensorError, compare_gradients
    from torch_ref.diagnosis.diagnose import Diagnosis, diagnose
    from torch_ref.harness.campaign import check_implementation
    from torch_ref.harness.cases import character_case
    from torch_ref.harness.contract import Implementation
    from torch_ref.harness.exchange.files import (
        load_case,
        load_result,
        save_case,
        save_result,
    )
    from torch_ref.harness.layouts.layout import Layout
    from torch_ref.harness.layouts.presets import preset
    from torch_ref.harness.pytest_checks import parametrize_with_checks
    from torch_ref.harness.strategies import cases, parameters
    from torch_ref.oracles.case import Case, run_case
    from torch_ref.oracles.complex_step import complex_step
    from torch_ref.oracles.finite_difference import Differences, finite_differences
    from torch_ref.oracles.torch_lstm import (
        params_from_state_dict,
        state_dict_from_params,
        torch_lstm_vjp,
    )
    from torch_ref.oracles.truth import truth
    from torch_ref.oracles.twin import autograd_model_vjp, autograd_vjp, share_params
    from torch_ref.oracles.variant import STANDARD, Variant

__all__ = [  # noqa: RUF022
    "Case",
    "Comparison",
    "Diagnosis",
    "Differences",
    "ErrorBudget",
    "Implementation",
    "Layout",
    "STANDARD",
    "TensorError",
    "Variant",
    "arbitrate",
    "autograd_model_vjp",
    "autograd_vjp",
    "cases",
    "character_case",
    "check_implementation",
    "compare_gradients",
    "complex_step",
    "diagnose",
    "diff_gradients",
    "error_budget",
    "finite_differences",
    "load_case",
    "load_result",
    "parameters",
    "parametrize_with_checks",
    "params_from_state_dict",
    "preset",
    "run_case",
    "save_case",
    "save_result",
    "share_params",
    "state_dict_from_params",
    "torch_lstm_vjp",
    "truth",
]

_NAMES = {
    "torch_ref.compare.arbitration": ("arbitrate",),
    "torch_ref.compare.budget": ("ErrorBudget", "error_budget"),
    "torch_ref.compare.diff": ("diff_gradients",),
    "torch_ref.compare.errors": ("Comparison", "TensorError", "compare_gradients"),
    "torch_ref.diagnosis.diagnose": ("Diagnosis", "diagnose"),
    "torch_ref.harness.campaign": ("check_implementation",),
    "torch_ref.harness.cases": ("character_case",),
    "torch_ref.harness.contract": ("Implementation",),
    "torch_ref.harness.exchange.files": (
        "load_case",
        "load_result",
        "save_case",
        "save_result",
    ),
    "torch_ref.harness.layouts.layout": ("Layout",),
    "torch_ref.harness.layouts.presets": ("preset",),
    "torch_ref.harness.pytest_checks": ("parametrize_with_checks",),
    "torch_ref.harness.strategies": ("cases", "parameters"),
    "torch_ref.oracles.case": ("Case", "run_case"),
    "torch_ref.oracles.complex_step": ("complex_step",),
    "torch_ref.oracles.finite_difference": ("Differences", "finite_differences"),
    "torch_ref.oracles.torch_lstm": (
        "params_from_state_dict",
        "state_dict_from_params",
        "torch_lstm_vjp",
    ),
    "torch_ref.oracles.truth": ("truth",),
    "torch_ref.oracles.twin": ("autograd_model_vjp", "autograd_vjp", "share_params"),
    "torch_ref.oracles.variant": ("STANDARD", "Variant"),
}
_WHERE = {name: module for module, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """A public name, imported when it is first used."""
    if name not in _WHERE:
        raise AttributeError(f"module 'torch_ref' has no attribute {name!r}")
    found = globals()[name] = getattr(importlib.import_module(_WHERE[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
