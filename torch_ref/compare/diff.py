"""The gradient diff: the hand-written LSTM against its autograd twin, on one case."""

from dataclasses import replace
from functools import partial

import numpy as np

from manual_lstm import CharModel, vjp
from manual_lstm.params import lstm_sizes
from torch_ref.compare.arbitration import arbitrate
from torch_ref.compare.budget import Progress, error_budget
from torch_ref.compare.errors import Comparison, compare_gradients
from torch_ref.compare.sharpness import sharpness
from torch_ref.oracles.case import Case, Results, run_case
from torch_ref.oracles.variant import STANDARD


def diff_gradients(case: Case, *, progress: Progress | None = None) -> Comparison:
    """Compare manual_lstm with the autograd twin on outputs and gradients.

    Args:
        case: float64, where both sides round and share the weights' memory; or float32, where
            manual_lstm is compared with the float64 twin of the same float32 numbers.
        progress: of the error budget, as `error_budget` has it.

    Returns:
        The comparison, each element against its error budget; where the two agree, with the
        `sharpness` of that, and with the sentence of `arbitrate` where they do not.

    Raises:
        ValueError: an array of the case is wrong, rounding alone decides what comes out, or the
            case is not of the standard cell.
    """
    actual, expected, allowed = diff_arrays(case, progress=progress)
    comparison = compare_gradients(actual, expected, allowed, dtype=case.dtype)
    sides = ("manual_lstm", "the autograd twin")
    if comparison.verdict == "agree":
        sharp = sharpness(actual, expected, allowed, dtype=case.dtype)
        return replace(comparison, sharpness=sharp)
    arbitration = arbitrate(case, comparison, actual, expected, sides)
    return replace(comparison, arbitration=arbitration)


def diff_arrays(
    case: Case, *, progress: Progress | None = None
) -> tuple[Results, Results, Results]:
    """What `diff_gradients` compares: manual_lstm's results, the twin's, what each may be off.

    Raises:
        ValueError: as `diff_gradients`.
    """
    if case.variant != STANDARD:
        raise ValueError(
            f"case.variant is {case.variant.describe()} but must be {STANDARD.describe()}: "
            "manual_lstm computes no other, so compare your own implementation with the twin."
        )
    in_float64 = case.dtype == np.float64
    budget = error_budget(case, sides=sides_of(case), progress=progress)
    if not budget.conclusive:
        raise ValueError(
            f"the case cannot be judged in {case.dtype}: its weights amplify rounding until a "
            f"gate's argument is uncertain by {budget.pre_activation:.2g}. Use "
            f"{'smaller weights or fewer steps' if in_float64 else 'float64 or smaller weights'}."
        )
    expected = run_twin(case if in_float64 else case.astype(np.float64))
    return run_manual(case), expected, budget.allowed


def sides_of(case: Case) -> int:
    """How many of the two sides round: both in float64, where float32 meets a float64 twin."""
    return 2 if case.dtype == np.float64 else 1


def run_manual(case: Case) -> Results:
    """manual_lstm's outputs and gradients."""
    if case.head is None:
        return run_case(case, vjp)
    num_classes, hidden, layers, _ = lstm_sizes(case.params)
    return run_case(case, CharModel(num_classes, hidden, layers, case.head).vjp)


def run_twin(case: Case) -> Results:
    """The outputs and gradients of the autograd twin, which computes the case's variant."""
    from torch_ref.oracles.twin import autograd_model_vjp, autograd_vjp  # torch too

    twin = autograd_vjp if case.targets is None else autograd_model_vjp
    return run_case(case, partial(twin, variant=case.variant))
