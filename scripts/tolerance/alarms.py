"""False alarms: how much of its budget each correct implementation uses, case by case."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tolerance.draw import Drawn, draw_group
from tolerance.loops import STYLES, run_loop
from torch_ref import Case, ErrorBudget, run_case, torch_lstm_vjp
from torch_ref.compare.budget import error_budgets
from torch_ref.compare.diff import run_manual, run_twin
from torch_ref.oracles.case import stack_cases
from torch_ref.oracles.equations import solve, unrounded

Array = NDArray[Any]
Results = Mapping[str, Array]


@dataclass(frozen=True)
class Finding:
    """What one implementation did in one group.

    Attributes:
        dtype, name: of the arithmetic and the implementation.
        cases, refused: judged, and left out as not conclusive.
        alarms: judged cases with an element above its budget or not a number.
        used: the greatest share of its budget that any element used; origin: of which case.
        refined: judged cases with a budget that more replicas measured.
        used_refined: the greatest share of such a budget that any element used.
    """

    dtype: str
    name: str
    cases: int
    refused: int
    alarms: int
    used: float
    origin: str
    refined: int
    used_refined: float


def measure_group(task: tuple[int, str]) -> list[Finding]:
    """Every implementation on the cases of one group, each against the exact values."""
    seed, dtype = task
    drawn = draw_group(seed, dtype)
    cases = [each.case for each in drawn]
    stacked = stack_cases(cases)
    truth = solve(stacked, unrounded(np.longdouble))
    budgets = error_budgets(cases)
    found: dict[str, list[Results]] = {
        "manual_lstm": [run_manual(case) for case in cases],
        "autograd twin": [run_twin(case) for case in cases],
    }
    units = bool(seed % 2)  # one of the two permutations for each group
    name = "units permuted" if units else "batch permuted"
    found[name] = [permuted(case, n, units=units) for n, case in enumerate(cases)]
    if cases[0].targets is None:
        found["torch.nn.LSTM"] = [run_case(case, torch_lstm_vjp) for case in cases]
    for name, style in STYLES.items():
        results = run_loop(stacked, style)
        found[name] = [{key: value[n] for key, value in results.items()} for n in range(len(cases))]
    return [_judge(dtype, name, results, truth, budgets, drawn) for name, results in found.items()]


def _judge(
    dtype: str,
    name: str,
    results: Sequence[Results],
    truth: Results,
    budgets: Sequence[ErrorBudget],
    drawn: Sequence[Drawn],
) -> Finding:
    used, used_refined = [], []
    for n, (result, budget) in enumerate(zip(results, budgets, strict=True)):
        if budget.conclusive:
            exact = {key: value[n] for key, value in truth.items()}
            used.append(greatest_use(result, exact, budget.allowed))
        if budget.refined:
            of_result, of_truth, of_budget = (
                {key: each[key] for key in budget.refined}
                for each in (result, exact, budget.allowed)
            )
            used_refined.append(greatest_use(of_result, of_truth, of_budget))
    judged = [each.origin for each, budget in zip(drawn, budgets, strict=True) if budget.conclusive]
    worst = int(np.argmax(used)) if used else -1
    return Finding(
        dtype=dtype,
        name=name,
        cases=len(used),
        refused=len(drawn) - len(used),
        alarms=sum(not share <= 1 for share in used),
        used=used[worst] if used else 0.0,
        origin=judged[worst] if used else "",
        refined=len(used_refined),
        used_refined=max(used_refined, default=0.0),
    )


def greatest_use(result: Results, truth: Results, allowed: Mapping[str, Array]) -> float:
    """The greatest |result - truth| / allowed; infinite for a missing name or a NaN."""
    if set(result) != set(allowed):
        return float("inf")
    shares = [
        np.max(np.abs(np.asarray(result[name]) - truth[name]) / allowed[name]) for name in allowed
    ]
    return float("inf") if any(np.isnan(shares)) else float(max(shares))


def permuted(case: Case, seed: int, *, units: bool) -> Results:
    """manual_lstm on the case with its batch or its hidden units in another order, put back."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(case.h0.shape[2 if units else 1])
    back = np.argsort(order)
    if not units:
        return _reorder_batch(run_manual(_reorder_batch_of_case(case, order)), back)
    hidden = len(order)
    moved = replace(
        case,
        params={name: _reorder_units(name, value, order) for name, value in case.params.items()},
        **{name: getattr(case, name)[..., order] for name in ("h0", "c0", "dh_n", "dc_n")},
        dy=None if case.dy is None else case.dy[..., order],
    )
    if case.targets is not None and "weight_out" not in case.params:
        # The bounded head's units are the classes: they move with their targets.
        moved = replace(moved, targets=back[case.targets])
    results = run_manual(moved)
    width = {name: value.shape[-1] for name, value in results.items() if np.ndim(value)}
    return {
        name: _reorder_units(name.removeprefix("d"), value, back)
        if name.startswith("d") and name not in ("dx", "dh0", "dc0")
        else value[..., back]
        if name in ("y", "h_n", "c_n", "dh0", "dc0") and width[name] == hidden
        else value
        for name, value in results.items()
    }


def _reorder_units(name: str, value: Array, order: Array) -> Array:
    if name == "bias_out":
        return value
    if name == "weight_out":
        return value[:, order]
    hidden = len(order)
    rows = np.concatenate([order + gate * hidden for gate in range(4)])
    columns = name.startswith("weight_hh") or (name.startswith("weight_ih") and name[-1] != "0")
    return value[rows][:, order] if columns else value[rows]


def _reorder_batch_of_case(case: Case, order: Array) -> Case:
    names = ("x", "h0", "c0", "dh_n", "dc_n", "dy", "targets")
    moved = {name: getattr(case, name) for name in names}
    return replace(
        case, **{name: None if each is None else each[:, order] for name, each in moved.items()}
    )


def _reorder_batch(results: Results, order: Array) -> Results:
    batched = ("y", "h_n", "c_n", "dx", "dh0", "dc0")
    return {name: value[:, order] if name in batched else value for name, value in results.items()}


def total(findings: Sequence[Finding]) -> list[Finding]:
    """One line for each dtype and implementation."""
    keys = sorted({(each.dtype, each.name) for each in findings})
    lines = []
    for dtype, name in keys:
        mine = [each for each in findings if (each.dtype, each.name) == (dtype, name)]
        worst = max(mine, key=lambda each: each.used)
        counts = {
            field: sum(getattr(each, field) for each in mine)
            for field in ("cases", "refused", "alarms", "refined")
        }
        used_refined = max(each.used_refined for each in mine)
        lines.append(replace(worst, **counts, used_refined=used_refined))
    return lines
