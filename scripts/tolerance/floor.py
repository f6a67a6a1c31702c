"""How near the exact gradients an LSTM comes, and how near float32 could come at all.

Beside manual_lstm and torch.nn.LSTM stand two float32 LSTMs that compute in float64: one rounds
the result of every operation once, that of a product of matrices too, however many terms it has;
the other rounds h and c when they are handed to the next step, and nothing else.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tolerance.closeness import greatest_error
from tolerance.draw import GROUP, Sizes, draw_plain
from torch_ref import Case, run_case, torch_lstm_vjp, truth
from torch_ref.compare.diff import run_manual
from torch_ref.oracles.case import Results
from torch_ref.oracles.equations import (
    Arithmetic,
    Array,
    Forward,
    lstm_backward,
    lstm_forward,
    solve,
    sum_over_steps,
    unrounded,
)

# What is asked of every gradient, relative to its tensor's largest element.
ASKED = {"float64": 1e-12, "float32": 1e-5}


@dataclass(frozen=True)
class Floor:
    """An implementation's errors, a case's being the greatest of its gradients'.

    A gradient's error is max |actual - exact| / max |exact|.
    """

    dtype: str
    implementation: str
    cases: int
    beyond: int
    median: float
    error_99_percent: float
    greatest: float


def measure_group(task: tuple[int, str]) -> tuple[str, dict[str, list[float]]]:
    """Each implementation's error in the cases of a group: weights up to 4 times Glorot's limit."""
    seed, dtype = task
    rng = np.random.default_rng([seed, 4])
    steps, batch, inputs, hidden = (int(rng.integers(1, most + 1)) for most in (50, 4, 32, 32))
    sizes = Sizes(steps, batch, inputs, hidden, layers=int(rng.integers(1, 4)), head=None)
    implementations = REAL if dtype == "float64" else REAL | LEAST_ROUNDED
    errors: dict[str, list[float]] = {name: [] for name in implementations}
    for n in range(GROUP):
        case = draw_plain(sizes, dtype, seed * GROUP + n, (0.0, 4.0))
        exact = {name: value for name, value in truth(case).items() if name.startswith("d")}
        for name, implementation in implementations.items():
            errors[name].append(greatest_error(implementation(case), exact))
    return dtype, errors


def total(found: Sequence[tuple[str, dict[str, list[float]]]]) -> list[Floor]:
    """One line for each dtype and implementation."""
    lines = []
    for dtype in sorted({each for each, _ in found}):
        mine = [group for each, group in found if each == dtype]
        for name in mine[0]:
            errors = np.array([each for group in mine for each in group[name]])
            lines.append(
                Floor(
                    dtype,
                    name,
                    len(errors),
                    int(np.sum(~(errors <= ASKED[dtype]))),
                    float(np.median(errors)),
                    float(np.quantile(errors, 0.99)),
                    float(errors.max()),
                )
            )
    return lines


def rounded_once(case: Case) -> Results:
    """The gradients where every operation is exact, and its result rounded to float32."""
    exact = unrounded(np.float64)
    once = Arithmetic(
        number=exact.number,
        rnd=_rounded,
        sigmoid=lambda z: _rounded(exact.sigmoid(z)),
        tanh=lambda z: _rounded(np.tanh(z)),
        exp=exact.exp,
        log=exact.log,
        matmul=lambda a, b: _rounded(a @ b),
        sum_over_steps=lambda left, right: _rounded(sum_over_steps(left, right)),
    )
    return solve(case, once)


def rounded_states(case: Case) -> Results:
    """The gradients where h and c are rounded to float32 after each step, and nothing else."""
    a = unrounded(np.float64)
    params = {name: a.number(value) for name, value in case.params.items()}
    below = list(a.number(case.x))
    layers, h_n, c_n = [], [], []
    for k in range(case.num_layers):
        own = {name.replace(f"_l{k}", "_l0"): v for name, v in params.items() if f"_l{k}" in name}
        h, c = a.number(case.h0[k]), a.number(case.c0[k])
        steps, above = [], []
        for x_t in below:
            step = lstm_forward(own, x_t[None], h[None], c[None], a)
            h, c = _rounded(step.h_n[0]), _rounded(step.c_n[0])
            steps += step.layers[0]
            above.append(h)
        layers.append(steps)
        h_n.append(h)
        c_n.append(c)
        below = above
    dy, dh_n, dc_n = (a.number(each) for each in (case.dy, case.dh_n, case.dc_n))
    return lstm_backward(params, Forward(below, h_n, c_n, layers), list(dy), dh_n, dc_n, a)


def _rounded(a: Array) -> Array:
    return np.asarray(a).astype(np.float32).astype(np.float64)


REAL = {
    "manual_lstm": run_manual,
    "torch.nn.LSTM": lambda case: run_case(case, torch_lstm_vjp),
}
LEAST_ROUNDED = {
    "operations rounded once": rounded_once,
    "h and c alone rounded": rounded_states,
}
