"""A wrong forward pass is named by its line, and its lines as data are the forward pass."""

import pytest
from agreement import assert_agree, truth
from planted import MISTAKES, plant
from test_diagnosis import HEADS, VARIANTS, loss_and_grads, named

import manual_lstm
from manual_lstm.head import cross_entropy
from manual_lstm.lstm import layer_forward
from torch_ref import error_budget
from torch_ref.diagnosis.backward.quantities import FLOAT64
from torch_ref.diagnosis.forward.lines import forward_lines, forward_outputs
from torch_ref.diagnosis.forward.mistakes import forward_mistakes
from torch_ref.harness.cases import sized_case
from torch_ref.oracles.variant import STANDARD, Variant

pytestmark = pytest.mark.sampled

FORWARD = {
    "forward with h = o * c": "forward.h.o * c[t]",
    "forward with the cell overwritten": "forward.c[t-1].zero",
    "c_n taken from h": "forward.c_n.h",
    "loss with the sum reported": "forward.loss * T B",
}


@pytest.mark.parametrize("identifier", FORWARD)
def test_wrong_forward_is_named_and_not_called_a_gradient(
    identifier: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A forward pass of another cell that is reported as a mistake in the backward pass."""
    plant(monkeypatch, *MISTAKES[identifier])
    implementation = loss_and_grads if identifier.startswith("loss") else manual_lstm.vjp
    assert named(implementation, seconds=0) == [FORWARD[identifier]]


def test_gates_that_share_one_array_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """`i = f = o = np.empty(...)`, filled one after the other: all three are what o is."""
    line = "np.tanh(g_t, out=g_t)"
    plant(monkeypatch, layer_forward, line, f"{line}; i_f_t[...] = o_t")
    assert named(manual_lstm.vjp, seconds=0) == ["forward.i and f are o"]


def test_loss_of_one_step_alone_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """`loss = ...` in the loop for `loss += ...`, divided by the number of steps after it."""
    line = "np.mean(np.log(total) - picked)"
    plant(monkeypatch, cross_entropy, line, f"{line[:-1]}, axis=(1, 2))[-1] / steps")
    assert named(loss_and_grads, seconds=0) == ["forward.loss over step T-1, divided by T B"]


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("variant", VARIANTS, ids=Variant.describe)
def test_unedited_lines_are_the_truth(variant: Variant, head: str | None) -> None:
    """A line of the forward pass that is not DERIVATION.md's or the variant's."""
    case = sized_case(
        {"T": 4, "B": 2, "I": 3, "H": 3, "L": 2},
        targets=head is not None,
        head="bounded" if head == "bounded" else "linear",
        variant=variant,
    )
    found = forward_outputs(case, forward_lines(variant), FLOAT64)
    del found["z"]
    expected = {name: value for name, value in truth(case).items() if name in found}
    assert_agree(found, expected, error_budget(case).allowed, "the lines")


@pytest.mark.parametrize("head", HEADS)
def test_forward_mistakes_are_distinct_in_whole_sentences(head: str | None) -> None:
    """Two wrong lines with one name, or one that does not say what is wrong."""
    known = [each.mistake for each in forward_mistakes(STANDARD, head)]
    for attribute in ("identifier", "sentence"):
        assert len({getattr(each, attribute) for each in known}) == len(known)
    for each in known:
        assert each.sentence.endswith("."), each
        assert each.wrong != each.right, each
