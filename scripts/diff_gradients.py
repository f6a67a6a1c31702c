"""The gradient diff from Python: manual_lstm against its autograd twin, on a..z repeated.

python scripts/diff_gradients.py
"""

import sys

import numpy as np
from rich.console import Console

from manual_lstm import CharModel, alphabet
from torch_ref import autograd_model_vjp, character_case, compare_gradients, error_budget, run_case
from torch_ref.reports.text import comparison_table, summary

case = character_case(alphabet(26), steps=26, batch=1, hidden=26, dtype=np.float64)
actual = run_case(case, CharModel(num_classes=26, hidden_size=26).vjp)  # yours goes here
expected = run_case(case, autograd_model_vjp)
allowed = error_budget(case, sides=2).allowed
comparison = compare_gradients(actual, expected, allowed)

console = Console()
console.print(comparison_table(comparison), highlight=False)
console.print(summary(comparison, "manual_lstm", "the autograd twin"), highlight=False)
sys.exit(0 if comparison.verdict == "agree" else 1)
