"""Where the diagnosis sends the reader when no mistake of the catalogue explains the gradients."""

import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import manual_lstm
from torch_ref import Implementation, Layout, check_implementation, diagnose
from torch_ref.diagnosis.diagnose import Diagnosis
from torch_ref.diagnosis.locating.locate import locate_first_wrong
from torch_ref.harness.contract import as_implementation
from torch_ref.harness.subject import subject_of

pytestmark = pytest.mark.sampled

SOURCE = (Path(__file__).parent / "others" / "stacked.py").read_text(encoding="utf-8")
OF_GATE_I = "di = dc * g * i * (1 - i)"
OF_CARRY = "dh_next = dz @ U"
# What stands in the source, what stands in its place, what has to be told and what must not be.
PLANTED = {
    "only where i is large": (
        OF_GATE_I,
        "di = dc * g * np.where(i > 0.5, i, i * (1 - i))",
        ("gate i", "equations (12) and (15)", "right in the rest"),
        "zero state",
    ),
    "only in one step of three": (
        OF_CARRY,
        "dh_next = dz @ U * (t % 3 != 2)",
        ("wrong at T=5", "dz of layer 0 at t=1", "what t+1 hands back, (16b)"),
        "stack",
    ),
    "only in long sequences": (
        OF_CARRY,
        "dh_next = dz @ U if T < 7 else 0 * h",
        ("wrong at T=9", "(16b)"),
        "stack",
    ),
    "only the derivative of the upper layer": (
        "df = dc * c * f * (1 - f)",
        "df = dc * c * f * (1 - f * (k == 0))",
        ("Layer 1 itself is wrong", "Only f is wrong", "(14) and (15)"),
        "(8)",
    ),
    "only the cell's gradient of the upper layer": (
        "(1 - tc**2)",
        "(1 - tc ** (2 if k == 0 else 1))",
        ("Layer 1 itself is wrong", "i, f and g but not in o", "(11)"),
        "(8)",
    ),
    "only the sum of the upper layer": (
        "db += dz.sum(axis=0)",
        "db += dz.sum(axis=0) * (1 + 0.3 * k)",
        ("Every dz of layer 1 is right", "its sums, equation (18)"),
        "(8)",
    ),
    "only what the upper layer hands on": (
        "dc_next = dc * f",
        "dc_next = dc * (f if k == 0 else f**2)",
        ("layer 1", "dc0", "(16)"),
        "(8)",
    ),
    "only what is handed down": (
        "dx[t] = dz @ W",
        "dx[t] = dz @ W * (1 if k == 0 else 0.7)",
        ("Layer 0 is wrong", "equation (8)"),
        "(18)",
    ),
    "the sum over a batch": (
        "dW += dz.T @ x",
        "dW += dz.T @ x + dz[2:].T @ x[2:]",
        ("for a batch of three", "right at every step", "equation (18), in dweight_ih_l0"),
        "stack",
    ),
    "a gate in the forward pass": (
        "z = x[t] @ W.T + h @ U.T + b",
        "z = x[t] @ W.T + h @ U.T + b; z[:, : h.shape[1]] += 0.1 * h**2",
        ("The forward pass is wrong", "Right where i is held at 1", "(2)"),
        "stack",
    ),
    "a gate that lacks one of a pair of biases": (
        "z = x[t] @ W.T + h @ U.T + b",
        "z = x[t] @ W.T + h @ U.T + b; z[:, : h.shape[1]] -= b[: h.shape[1]] / 2 + 0.1 * h**2",
        ("The forward pass is wrong", "Right where i is held at 1", "(2)"),
        "stack",
    ),
    "the sigmoid": (
        "return 1 / (1 + np.exp(-z))",
        "return 1 / (1 + np.exp(-1.3 * z))",
        ("that being i or f or o", "the sigmoid, equations (2), (3) and (5)"),
        "(6)",
    ),
    "every gate's argument": (
        "z = x[t] @ W.T + h @ U.T + b",
        "z = x[t] @ W.T + h @ U.T + b; z = z + 0.1 * z**3 * (z < 40)",
        ("that being i or f or g or o", "their arguments, equation (1)"),
        "(6)",
    ),
    "the new cell": (
        "c_next = f * c + i * g",
        "c_next = f * c + i * g + 0.1 * i",
        ("Wrong where every gate is held at 1 too", "equations (6) and (7)"),
        "(1)",
    ),
    "every gate's own gradient": (
        "dz = np.concatenate([di, df, dg, do], axis=1)",
        "dz = np.concatenate([di, df, dg, do], axis=1) * np.tanh(h.shape[1])",
        ("equations (10), (12), (13) and (14), and (15): dc0 is right",),
        "look at dh",
    ),
    "what was kept of a step": (
        OF_GATE_I,
        "i, f, g, o = [np.roll(each, t) for each in (i, f, g, o)]; di = dc * g * i * (1 - i)",
        ("wrong at T=2", "t=1", "what was kept of that step's forward pass"),
        "dc0 is right",
    ),
    "the order of y alone": (
        "        x = np.array(y)\n",
        "        x = np.array(y if k < layers - 1 else y[::-1])\n",
        ("in y, at T=2", "how y is put together"),
        "(7)",
    ),
    "the cell that is returned": (
        "h_n[k], c_n[k] = h, c\n",
        "h_n[k], c_n[k] = h, g\n",
        ("in c_n", "which c is returned"),
        "held at 1",
    ),
    "the h that is returned": (
        "h_n[k], c_n[k] = h, c\n",
        "h_n[k], c_n[k] = y[0] * 0.7, c\n",
        ("in h_n", "which h is returned"),
        "held at 1",
    ),
    "the weights of a layer above": (
        "z = x[t] @ W.T + h @ U.T + b",
        "z = x[t] @ W.T + h @ U.T + b * (k + 1)",
        ("Layer 1 is the first wrong one", "equation (8)"),
        "(1)",
    ),
    "h, in which i has no place": (
        "h, c = o * tc, c_next",
        "h, c = i * o * tc, c_next",
        ("in y and h_n", "The last cell is right: look at h, equation (7)"),
        "held at 1",
    ),
    "the forward pass of long sequences": (
        "c_next = f * c + i * g",
        "c_next = f * c + i * g * (1 if t < 6 else 1.1)",
        ("wrong at T=9: the forward pass, in y, h_n and c_n",),
        "dz",
    ),
    "the lower layer itself": (
        "df = dc * c * f * (1 - f)",
        "df = dc * c * f * (1 - f * (k == len(tapes) - 1))",
        ("Layer 0 itself is wrong", "Only f is wrong"),
        "(8)",
    ),
    "a sum that dx does not vouch for": (
        "dx[t] = dz @ W",
        "dx[t] = dz @ W; dW += 0.2 * dz.T @ x if t else 0",
        ("right at every step", "equation (18), in dweight_ih_l0"),
        "(12)",
    ),
    "every sum of a layer": (
        "dW += dz.T @ x",
        "s = dz * (1 + t % 2); dW += s.T @ x; dU += (s - dz).T @ h; db += (s - dz).sum(axis=0)",
        ("wrong at T=2", "right at every step", "equation (18)"),
        "(9)",
    ),
    "only in three layers": (
        "dx[t] = dz @ W",
        "dx[t] = dz @ W * (0.7 if k == 2 else 1)",
        ("Layer 1 is wrong", "equation (8)"),
        "(9)",
    ),
}


def made(old: str, new: str) -> Callable[..., Any]:
    """The vjp of others/stacked.py with a line replaced."""
    assert SOURCE.count(old) == 1
    module = ModuleType("stacked")
    exec(SOURCE.replace(old, new), module.__dict__)
    vjp: Callable[..., Any] = module.vjp
    return vjp


def located(vjp: Callable[..., Any]) -> Diagnosis:
    """A diagnosis that must have found something wrong and no mistake of the catalogue."""
    diagnosis = diagnose(vjp, seconds=0)
    assert diagnosis.wrong
    assert diagnosis.finding is None
    return diagnosis


@pytest.mark.parametrize("name", PLANTED)
def test_wrong_line_that_is_sent_to_another(name: str) -> None:
    """A sentence that names another layer, step, gate or equation than that of the wrong line."""
    old, new, phrases, never = PLANTED[name]
    sentence = locate_first_wrong(subject_of(as_implementation(made(old, new))), seed=0)
    for phrase in phrases:
        assert phrase in sentence, sentence
    assert never not in sentence, sentence


def test_reader_sent_to_an_upstream_gradient_that_is_not_taken() -> None:
    """dh_n and dc_n suspected, of which the pullback knows nothing."""
    inner = made("dc = dc_next + dh * o", "dc = dc_next + np.sign(dh) * o")

    def vjp(params: Any, x: Any, h0: Any, c0: Any) -> Any:
        outputs, pullback = inner(params, x, h0, c0)
        return outputs, lambda dy: pullback(dy, np.zeros_like(h0), np.zeros_like(c0))

    sentence = locate_first_wrong(subject_of(as_implementation(vjp)), seed=0)
    assert "look at dc, equation (11)" in sentence
    assert "_n" not in sentence, sentence


def test_stack_is_right_and_has_no_finding() -> None:
    """A false alarm on the LSTM in which all of this is planted."""
    diagnosis = diagnose(made("CALLS = []", "CALLS = []"))
    assert not diagnosis.wrong, diagnosis.located


def test_wrong_layer_of_a_stack_without_states_that_is_sent_to_its_sums() -> None:
    """dweight_hh is right at T=1, where h0 is zero, although dz is wrong."""

    def vjp(params: Any, x: Any) -> Any:
        zero = np.zeros((len(params) // 3, x.shape[1], params["weight_hh_l0"].shape[1]), x.dtype)
        old, new, *_ = PLANTED["only the cell's gradient of the upper layer"]
        (y, *_), pullback = made(old, new)(params, x, zero, zero)

        def back(dy: Any) -> Any:
            found = pullback(dy, zero, zero)
            return {name: value for name, value in found.items() if name not in ("dh0", "dc0")}

        return y, back

    told = located(vjp).located
    assert "is right: look at its sums" not in told, told
    assert "Layer 1 itself is wrong." in told, told


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (OF_CARRY, "dh_next = dz @ U if T < 11 else 0 * h"),  # no small case is so long
        ("db += dz.sum(axis=0)", "db += dz.sum(axis=0) * (1 + (T == len(dz) == 3))"),
        (OF_GATE_I, "di = dc * g * i * (1 - i) * (1 + (not tapes[k][0][1].any()))"),
    ],
    ids=["T > 10", "T = B", "h0 = 0"],
)
def test_mistake_that_hides_from_the_usual_sizes(old: str, new: str) -> None:
    """A wrong line that is executed in long or square cases or from a zero state, called right."""
    diagnosis = diagnose(made(old, new), seconds=0)
    assert diagnosis.wrong


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('{"dx": dy}', '{"dx": dy[:, :, 1:]}', "dx has shape (3, 2, 2) but must be (3, 2, 3)."),
        ('{"dx": dy}', '{"dx": dy if len(dy) < 5 else dy[:5]}', "T=12"),
        ("h_n[k], c_n[k] = h, c", "h_n[k], c_n[k] = h, c; [0] * 11 + [1 / (12 - len(x))]", "T=12"),
    ],
    ids=["misshapen", "misshapen if long", "raises"],
)
def test_result_that_cannot_be_compared_passed_for_right(old: str, new: str, told: str) -> None:
    """A case left out because it raised or gave another shape, and all others right."""
    diagnosis = located(made(old, new))
    assert told in diagnosis.located, diagnosis.located


def test_gradient_that_is_right_in_the_first_call_only() -> None:
    """Two calls that are alike, held against each other and not against the first of all."""
    body = "    CALLS.append(x.shape)\n    outputs"
    vjp = made("    outputs", body)
    spoiled = made(
        "    outputs, tapes = forward(params, x, h0, c0)\n",
        "    CALLS.append(x.shape)\n"
        "    h0 = h0 * (CALLS.count(x.shape) == 1)\n"
        "    outputs, tapes = forward(params, x, h0, c0)\n",
    )
    assert not diagnose(vjp).wrong
    assert "something is kept" in located(spoiled).located


def test_one_call_that_failed_and_passes_for_something_kept() -> None:
    """The results of two different cases held against each other."""
    calls = []

    def once(params: Any, x: Any, h0: Any, c0: Any) -> Any:
        calls.append(x.shape)
        if calls.count((3, 2, 3)) == 1 and x.shape == (3, 2, 3):
            raise RuntimeError("once")
        return manual_lstm.vjp(params, x, h0, c0)

    assert not diagnose(once, seconds=0).wrong
    assert (3, 2, 3) in calls


def test_gate_of_a_cell_without_biases_that_is_held_by_none() -> None:
    """The wrong gate accused, as it was not 1 but 1/2."""

    def vjp(params: Any, x: Any, h0: Any, c0: Any) -> Any:
        biased = params | {"bias_l0": np.zeros(len(params["weight_hh_l0"]), x.dtype)}
        old = "z = x[t] @ W.T + h @ U.T + b"
        inner = made(old, f"{old}; z[:, : h.shape[1]] += 0.1 * h**2")
        outputs, pullback = inner(biased, x, h0, c0)

        def back(dy: Any, dh_n: Any, dc_n: Any) -> Any:
            found = pullback(dy, dh_n, dc_n)
            return {name: value for name, value in found.items() if name != "dbias_l0"}

        return outputs, back

    unbiased = Implementation("unbiased", vjp=vjp, layout=Layout(bias="none"), sizes={"L": 1})
    assert "held at 1" not in located(unbiased).located


COARSE = ("return np.tanh(z)", "return 2 * sigmoid(2 * z) - 1")


@pytest.mark.parametrize("formula", [COARSE[1], "return 1 - 2 / (np.exp(2 * z) + 1)"])
def test_coarse_tanh_that_is_called_wrong(formula: str) -> None:
    """A correct LSTM accused where its weights are small, for the formula of its tanh."""
    report = check_implementation(made(COARSE[0], formula), examples=100)
    assert report.verdict == "agree", report.failures
    assert report.coarse_tanh


def test_coarse_tanh_that_excuses_what_it_should_not() -> None:
    """The wider budget granted to what needs none, or to a mistake."""
    assert not subject_of(as_implementation(made(COARSE[0], COARSE[0]))).coarse_tanh
    slightly = COARSE[1].replace("- 1", "- (1 + 1e-9)")
    assert check_implementation(made(COARSE[0], slightly), examples=40).verdict == "disagree"
    for dtype in ("float32", "float64"):
        for old, new in ((OF_GATE_I, "di = 1.01 * dc * g * i * (1 - i)"), ("o * tc, c_", "tc, c_")):
            wrong = Implementation("wrong", vjp=made(old, new), dtype=dtype)
            assert not subject_of(wrong).coarse_tanh


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_mistake_behind_a_coarse_tanh_that_is_not_named(dtype: str) -> None:
    """The forward pass accused of a coarse tanh, and the wrong line of the backward not found."""
    module = ModuleType("stacked")
    source = SOURCE.replace(*COARSE).replace("dc_next = dc * f", "dc_next = dc")
    exec(source, module.__dict__)
    wrong = Implementation("wrong", vjp=module.vjp, dtype=dtype)
    assert subject_of(wrong).coarse_tanh
    report = check_implementation(wrong, examples=60)
    failing = next(failure.case for failure in report.failures if failure.case is not None)
    finding = diagnose(wrong, case=failing).finding
    assert finding is not None
    assert [mistake.identifier for mistake in finding.mistakes] == ["dc_carry.without f"]


def test_factor_of_each_gradient_that_is_clipped_by_its_own_norm() -> None:
    """Gradients that are right but for one factor each, sent to the sums without a word of it."""
    source = made("dW += dz.T @ x", "dW += dz.T @ x")

    def vjp(*given: Any) -> Any:
        outputs, pullback = source(*given)

        def clipped(*upstream: Any) -> dict[str, Any]:
            found = pullback(*upstream)
            for name in [name for name in found if name.startswith("dweight")]:
                found[name] = found[name] * min(1.0, 0.1 / float(np.linalg.norm(found[name])))
            return dict(found)

        return outputs, clipped

    told = located(vjp).located
    assert re.search(
        r"of dweight_ih_l0 is 0\.\d+ times and of dweight_hh_l0 is 0\.\d+ times what", told
    )
    assert "the sum over the steps is wrong, equation (18)" in told
