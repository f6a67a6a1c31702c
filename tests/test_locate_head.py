"""Where the diagnosis sends the reader whose LSTM has its head and its loop in one function."""

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from torch_ref import Implementation, diagnose, preset
from torch_ref.diagnosis.locating.locate import locate_first_wrong
from torch_ref.harness.subject import subject_of

pytestmark = pytest.mark.sampled

SOURCE = (Path(__file__).parent / "others" / "loss_fun.py").read_text(encoding="utf-8")
CLIPPED = "    for gradient in gradients:\n        np.clip(gradient, -5, 5, out=gradient)\n"
LOOP = "for t in reversed(range(len(inputs))):"
NAMES = ("Wf", "Wi", "Wc", "Wo", "bf", "bi", "bc", "bo", "Why", "by")


def made(old: str, new: str) -> Implementation:
    """others/loss_fun.py without its clipping, with a line replaced."""
    assert SOURCE.count(CLIPPED) == 1
    source = SOURCE.replace(CLIPPED, "    # clipped\n")
    assert source.count(old) == 1
    module = ModuleType("loss_fun")
    exec(source.replace(old, new), module.__dict__)

    def loss_and_grads(params: Any, x: Any, targets: Any, h0: Any, c0: Any) -> Any:
        vars(module).update(params, vocab_size=x.shape[1], hidden_size=len(h0))
        loss, found, *_ = module.lossFun(x.argmax(axis=1), targets, h0, c0)
        return loss, {f"d{name}": gradient for name, gradient in zip(NAMES, found, strict=True)}

    return Implementation(
        "lossFun", loss_and_grads=loss_and_grads, layout=preset("loss_fun"), reduction="sum"
    )


# What stands in the source, what stands in its place, what has to be told and what must not be.
PLANTED = {
    "accumulators of the biases that begin at a quarter": (
        "dWhy, dby = np.zeros_like(Why), np.zeros_like(by)",
        "dWhy, dby = np.zeros_like(Why), 0 * by + 0.25; dbf += 0.25; dbo += 0.25",
        ("The gradients of the weights are right", "(18) and (22)"),
        "(26)",
    ),
    "a cell's carry that every second step lacks": (
        "(1 - np.tanh(cs[t]) ** 2) + dcnext",
        "(1 - np.tanh(cs[t]) ** 2) + dcnext * (t % 2 == 0)",
        ("wrong at T=5", "at t=3, gate i", "dc, equation (11)"),
        "(16b)",
    ),
    "a weight decay in one gate's sum": (
        "dW += d @ zs[t].T",
        "dW += d @ zs[t].T + (0.01 * Wf if dW is dWf else 0)",
        ("The gates' gradients are right at every step", "equation (18)"),
        "(14)",
    ),
    "biases alone that are clipped": (
        "    # clipped\n",
        "    for db in (dbf, dbi, dbc, dbo, dby): np.clip(db, -0.01, 0.01, out=db)\n",
        ("exceeds 0.01 in size", "it is clipped there"),
        "(26)",
    ),
    "a bias and a column of a weight that are equal, and not clipped": (
        "di = dc * cbar * i * (1 - i)",
        "di = 0.7 * dc * cbar * np.minimum(i, 0.5) * (1 - i)",
        ("gate i", "equations (12) and (15)"),
        "clipped",
    ),
    "targets of other steps": (
        "dy[targets[t]] -= 1",
        "dy[targets[(t * t) % len(targets)]] -= 1",
        ("With one step it is right", "equation (26)"),
        "(18)",
    ),
}


@pytest.mark.parametrize("name", PLANTED)
def test_wrong_line_of_a_head_that_is_sent_to_another(name: str) -> None:
    """A sentence that names another equation, gate or step than that of the wrong line."""
    old, new, phrases, never = PLANTED[name]
    sentence = locate_first_wrong(subject_of(made(old, new)), seed=0)
    for phrase in phrases:
        assert phrase in sentence, sentence
    assert never not in sentence, sentence


@pytest.mark.parametrize(
    ("loop", "words"),
    [
        ("reversed(range(1, len(inputs)))", "leaves out t=0:"),
        ("reversed(range(2, len(inputs)))", "leaves out the first 2 steps:"),
        ("reversed(range(max(0, len(inputs) - 3), len(inputs)))", "through the last 3 steps only"),
    ],
)
def test_loop_that_misses_steps_and_is_not_named(loop: str, words: str) -> None:
    """A range that begins or ends too late, in a loop that holds the head as well."""
    finding = diagnose(made(LOOP, f"for t in {loop}:"), seconds=0).finding
    assert finding is not None
    assert words in finding.mistakes[0].sentence
    assert finding.residual < 1


@pytest.mark.parametrize("seed", [0, 19, 35, 45])
def test_softmax_without_a_shift_that_is_accused(seed: int) -> None:
    """Logits so far apart that exp overflows or loses its digits, in a correct LSTM."""
    diagnosis = diagnose(made(LOOP, LOOP), seconds=0, seed=seed)
    assert not diagnosis.wrong, diagnosis.located
