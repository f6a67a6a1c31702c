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
| `run_twice` | whether an implementation gives the same numbers when it is called again |
| `diff_gradients` | manual_lstm against the twin, on one case |

The Hypothesis strategies are in `torch_ref.harness.strategies`; importing torch_ref needs neither
Hypothesis nor pytest.
"""

from torch_ref.compare.arbitration import arbitrate
from torch_ref.compare.budget import ErrorBudget, error_budget
from torch_ref.compare.diff import diff_gradients
from torch_ref.compare.errors import Comparison, TensorError, compare_gradients
from torch_ref.compare.repeat import run_twice
from torch_ref.harness.cases import character_case
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

__all__ = [
    "STANDARD",
    "Case",
    "Comparison",
    "Differences",
    "ErrorBudget",
    "TensorError",
    "Variant",
    "arbitrate",
    "autograd_model_vjp",
    "autograd_vjp",
    "character_case",
    "compare_gradients",
    "complex_step",
    "diff_gradients",
    "error_budget",
    "finite_differences",
    "params_from_state_dict",
    "run_case",
    "run_twice",
    "share_params",
    "state_dict_from_params",
    "torch_lstm_vjp",
    "truth",
]
