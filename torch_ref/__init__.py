"""The PyTorch reference for a hand-written LSTM, and everything that compares.

| name | what it is |
|---|---|
| `Case`, `run_case` | weights, inputs, upstream gradients; what a side makes of them |
| `Variant`, `STANDARD` | the cell that a case is of |
| `character_case` | the character model on a text, as a case |
| `autograd_vjp`, `autograd_model_vjp` | the twin: elementary torch operations and autograd |
| `torch_lstm_vjp` | torch.nn.LSTM, the second reference |
| `share_params` | NumPy weights as torch leaves in the same memory |
| `params_from_state_dict`, `state_dict_from_params` | torch.nn.LSTM's weights in and out |
| `error_budget`, `ErrorBudget` | how far rounding may move each element |
| `compare_gradients`, `Comparison`, `TensorError` | the comparison |
| `diff_gradients` | manual_lstm against the twin, on one case |
| `diagnose`, `Diagnosis` | the mistake that explains wrong gradients, or where it is |

The Hypothesis strategies are in `torch_ref.harness.strategies`; importing torch_ref needs neither
Hypothesis nor pytest.
"""

from torch_ref.compare.budget import ErrorBudget, error_budget
from torch_ref.compare.diff import diff_gradients
from torch_ref.compare.errors import Comparison, TensorError, compare_gradients
from torch_ref.diagnosis.diagnose import Diagnosis, diagnose
from torch_ref.harness.cases import character_case
from torch_ref.oracles.case import Case, run_case
from torch_ref.oracles.torch_lstm import (
    params_from_state_dict,
    state_dict_from_params,
    torch_lstm_vjp,
)
from torch_ref.oracles.twin import autograd_model_vjp, autograd_vjp, share_params
from torch_ref.oracles.variant import STANDARD, Variant

__all__ = [
    "STANDARD",
    "Case",
    "Comparison",
    "Diagnosis",
    "ErrorBudget",
    "TensorError",
    "Variant",
    "autograd_model_vjp",
    "autograd_vjp",
    "character_case",
    "compare_gradients",
    "diagnose",
    "diff_gradients",
    "error_budget",
    "params_from_state_dict",
    "run_case",
    "share_params",
    "state_dict_from_params",
    "torch_lstm_vjp",
]
