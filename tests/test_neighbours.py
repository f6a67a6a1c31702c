"""Mistakes that take what is beside: another layer's, sequence's, step's or gate's quantity."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from test_diagnosis import named, subject_for
from test_others import made as of_style

import manual_lstm as ml
from torch_ref import Implementation, Variant, check_implementation, diagnose
from torch_ref.diagnosis.forward.mistakes import forward_mistakes
from torch_ref.diagnosis.mistakes.catalogue import catalogue
from torch_ref.harness.cases import sized_case

pytestmark = pytest.mark.sampled

SOURCE = (Path(__file__).parent / "others" / "stacked.py").read_text(encoding="utf-8")
COUPLED = (
    ("i, f, g, o = sigmoid(zi), sigmoid(zf)", "f, g, o = sigmoid(zf)"),
    ("        c_next", "        i = 1 - f\n            c_next"),
    ("di = dc * g * i * (1 - i)", "di = 0 * dc"),
    ("df = dc * c * f * (1 - f)", "df = dc * (c - g) * f * (1 - f)"),
)


def stacked(*changes: tuple[str, str]) -> Callable[..., Any]:
    """The vjp of others/stacked.py with lines replaced."""
    source, module = SOURCE, ModuleType("stacked")
    for old, new in changes:
        assert source.count(old) == 1, old
        source = source.replace(old, new)
    exec(source, vars(module))
    vjp: Callable[..., Any] = module.vjp
    return vjp


def coupled(*changes: tuple[str, str]) -> Implementation:
    """That LSTM with i = 1 - f, and lines replaced."""
    return Implementation("cifg", vjp=stacked(*COUPLED, *changes), variant=Variant(coupled=True))


# The line, what stands in its place, the mistake.
IN_A_STACK = [
    ("dW += dz.T @ x", "dW += dz.T @ (tapes[k - 1][t][1] if k else x)",
     "weight_ih.h[t-1] of the layer below wrap"),
    ("dx[t] = dz @ W", "dx[t - 1] = dz @ W", "dx.written at t-1 wrap"),
    ("dU += dz.T @ h", "dU += dz.T @ tapes[k][t - 1][1]",
     "weight_hh.the h[t-1] that step t-1 kept wrap"),
    ("dh = dy[t] + dh_next", "dh = np.roll(dy[t], 1, axis=0) + dh_next",
     "dh.dy of the previous member"),
    ("do = dh * tc * o * (1 - o)", "do = dh * tc * tc * (1 - tc)",
     "dz_o.derivative at sigmoid's derivative tanh(c[t]) (1 - tanh(c[t]))"),
    ("            y.append(h)", "            y.append(h if k == layers - 1 else tape[-1][1])",
     "forward.stack.h[t-1] of the layer below"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "expected"), IN_A_STACK)
def test_neighbour_in_a_stack_that_is_only_located(old: str, new: str, expected: str) -> None:
    """A layer, step, sequence or value beside the right one, said to be wrong somewhere."""
    assert named(stacked((old, new)), seconds=0) == [expected]


# The same of others/char_trainer.py and others/peephole_vectors.py.
IN_STYLES = [
    ("char_trainer", "dscores[np.arange(N), targets[:, t]] -= 1",
     "dscores[np.arange(N), targets[0, t]] -= 1",
     "dlogits.onehot(target) of the first member for all"),
    ("char_trainer", "dscores[np.arange(N), targets[:, t]] -= 1",
     "dscores[N - 1, targets[N - 1, t]] -= 1", "dlogits.onehot(target) of the last member only"),
    ("peephole_vectors", "p[0] * di + p[1] * df", "p[0] * di + p[0] * df",
     "dc_carry.peephole of i for that of f"),
    ("peephole_vectors", "dp[0] += di * c_prev", "dp[0] += df * c_prev", "weight_ci.from dz_f"),
    ("peephole_vectors", "return dW, dR, db, dp,", "return dW, dR, db, dp[[1, 0, 2]],",
     "weight_ci and weight_cf.exchanged"),
]  # fmt: skip


@pytest.mark.parametrize(("style", "old", "new", "expected"), IN_STYLES)
def test_neighbour_that_is_only_located(style: str, old: str, new: str, expected: str) -> None:
    """Another sequence's target or another gate's peephole, said to be wrong somewhere."""
    assert named(of_style(style, old, new), seconds=0) == [expected]


@pytest.mark.parametrize("head", ["linear", "bounded"])
def test_last_state_that_a_loss_returns_with_it(head: str) -> None:
    """A wrong c_n beside a right loss, of code with its head inside, that is only located."""
    assert "forward.c_n.c[T-2]" in {
        each.mistake.identifier for each in forward_mistakes(Variant(), head)
    }


def test_output_layer_that_is_given_the_lowest_layer() -> None:
    """weight_out's gradient summed with h of another layer, said to be wrong in its sum."""
    known = catalogue(head="linear")
    planted = next(
        m for m in known.mistakes if m.identifier == "dweight_out.h[t] of the lowest layer"
    )
    assert named(subject_for(planted.edit(known.table), "linear"), seconds=0) == [
        planted.identifier
    ]


def test_coupled_gates_that_are_right() -> None:
    """A false alarm on the cell in which the following is planted."""
    assert not diagnose(coupled()).wrong


LOCATED = [
    ("dh_next = dz @ U", "dh_next = dz @ U * (1 - (t % 3 == 2) / 4)",
     ("dz of layer 0 at t=1, gate o", "look at dh, equation (9), as all three gates are wrong",
      "(16b)")),
    ("dc_next = dc * f", "dc_next = dc * f * (1 - (t % 3 == 2) / 4)",
     ("dz of layer 0 at t=1, gate f", "look at dc, equation (11): f and g are wrong and o is",
      "what a step receives from t+1")),
    ("x, h, c, i, f, g, o, tc = tapes[k][t]", "x, h, c, i, f, g, tc, o = tapes[k][t]",
     ("as all three gates are wrong: dy, and dh_n, and what was kept of that step's forward",)),
    ("dx[t] = dz @ W", "dx[t] = dz @ W * (1 if k == 0 else 0.7)",
     ("Layer 0 is wrong, those above it are right", "equation (8)")),
]  # fmt: skip


@pytest.mark.thorough
@pytest.mark.parametrize(("old", "new", "phrases"), LOCATED)
def test_input_gate_that_is_not_there_and_hides_what_the_others_have_in_common(
    old: str, new: str, phrases: tuple[str, ...]
) -> None:
    """With i = 1 - f the reader is sent to one gate, or to a layer that is right."""
    told = diagnose(coupled((old, new)), seconds=0).located
    for phrase in phrases:
        assert phrase in told, told


def test_dx_that_is_right_through_weights_of_zero() -> None:
    """Every dz called right as dx is 0 as it should be: in a shrunk case the weights are 0."""
    line = "            x, h, c, i"
    skips = "            if not dy[t].any():\n                dx[t] = 0 * tapes[k][t][0]\n"
    vjp = stacked((line, skips + "                continue\n" + line))
    case = sized_case({"T": 1, "B": 1, "I": 1, "H": 1, "L": 1})
    params = {name: 0 * value for name, value in case.params.items()}
    case = replace(case, params=params, dy=np.zeros_like(case.dy), h0=0 * case.h0, c0=0 * case.c0)
    told = diagnose(vjp, case=case, seconds=0).located
    assert "right at every step" not in told, told
    assert "at dc, equation (11), and dh, (9)" in told, told


# The line, what stands in its place, what has to be told and what must not be.
OF_BATCHES = [
    ("h, c, tape, y = h0[k], c0[k], [], []", "h, c, tape, y = h0[k][:1] + 0 * h0[k], c0[k], [], []",
     "Each sequence alone is right", "(6)"),
    ("c_next = f * c + i * g", "c_next = np.clip(f * c + i * g, -0.55, 0.55)",
     "another of one sequence", "Each sequence alone is right"),
    ("di = dc * g * i * (1 - i)", "di = dc * g * i * (1 - i) * (np.abs(dc) < 1.8)",
     "Right in the plainest cases; wrong in a case of T=2, B=1", "batch of three"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "told", "never"), OF_BATCHES)
def test_chance_that_is_called_a_batch(old: str, new: str, told: str, never: str) -> None:
    """One of three sequences that is wrong alone, and a batch whose cell is suspected."""
    located = diagnose(stacked((old, new)), seconds=0).located
    assert told in located, located
    assert never not in located, located


def test_sigmoid_of_which_one_gate_shows_nothing() -> None:
    """Two of its three gates are wrong by more than rounding, and they alone are suspected."""
    told = diagnose(
        stacked(("sigmoid(zi), sigmoid(zf), tanh(zg), sigmoid(zo)",
                 "sigmoid(1.3 * zi), sigmoid(zf), tanh(zg), sigmoid(1.3 * zo)")), seconds=0
    ).located  # fmt: skip
    assert told.endswith("and the sigmoid, if it is one function."), told


def test_sequence_whose_dx_is_left_out_of_the_batch() -> None:
    """Told as a stack that is joined wrongly: the batch's check read weights alone."""

    def vjp(params: Any, x: Any, h0: Any, c0: Any) -> Any:
        outputs, pull = ml.vjp(params, x, h0, c0)

        def pullback(*upstream: Any) -> Any:
            found = pull(*upstream)
            found["dx"][:, 1:] = 0
            return found

        return outputs, pullback

    report = check_implementation(vjp, examples=20)
    failure = report.failures[0]
    assert failure.check == "check_batch_is_sum_of_members"
    assert failure.sentence.startswith("The gradient of a sequence of the batch is not what it is")
    assert named(vjp, seconds=0) == ["dx.member 0"]
