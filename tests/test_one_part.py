"""Mistakes in one layer of a stack or in one of two biases, and what is kept or taken elsewhere."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from test_diagnosis import named
from test_locate import made

import manual_lstm
from torch_ref import Implementation, diagnose, preset

pytestmark = pytest.mark.sampled

TOP, LOWEST = "in every layer but the lowest", "in the lowest layer only"
Array = np.ndarray[Any, Any]

# What stands in others/stacked.py, what stands in its place, and the name with its layers.
IN_LAYERS = {
    "a factor above": ("df = dc * c * f", "df = dc * (c if k == 0 else tc) * f", "df.tanh(c[t])"),
    "a factor below": ("df = dc * c * f", "df = dc * (c if k else tc) * f", "df.tanh(c[t])"),
    "a sum above, which fits there alone": ("dU += dz.T @ h", "dU += dz.T @ (x if k else h)",
                                            "weight_hh.x[t] wrap"),
    "dh0 below": ('grads["dh0"][k], grads["dc0"][k] = dh_next',
                  'grads["dh0"][k], grads["dc0"][k] = dh_next * (k > 0)', "dh0 * 0"),
}  # fmt: skip


@pytest.mark.parametrize("name", IN_LAYERS)
def test_mistake_in_one_layer_of_a_stack_that_is_only_located(name: str) -> None:
    """A layer whose backward pass is not that of the others, said to be wrong somewhere."""
    old, new, expected = IN_LAYERS[name]
    layers = LOWEST if name.endswith("below") else TOP
    finding = diagnose(made(old, new)).finding
    assert finding is not None
    (mistake,) = finding.mistakes
    assert mistake.identifier == f"{expected}, {layers}"
    assert mistake.sentence.endswith(f", {layers}.")
    assert mistake.wrong != mistake.right


def test_forward_mistake_in_one_layer_of_a_stack_that_is_only_located() -> None:
    """An upper layer that lacks its bias, said to take something wrong from the layer below."""
    old = "z = x[t] @ W.T + h @ U.T + b"
    lacking = made(old, "z = x[t] @ W.T + h @ U.T + b * (k == 0)")
    assert named(lacking) == [f"forward.z_*.without b, {TOP}"]


def paired(first: float, second: float, spoil: Callable[[str, Array, Array], Array]) -> Any:
    """others/stacked.py with two biases, how often each is added, and what is done to theirs.

    Args:
        spoil: of a name, the right gradient and dweight_hh, what is returned.
    """
    right = made("dW += dz.T @ x", "dW += dz.T @ x")

    def vjp(params: Mapping[str, Array], x: Array, h0: Array, c0: Array) -> Any:
        ours = {name: value for name, value in params.items() if name.startswith("weight")}
        for k in range(len(h0)):
            ih, hh = params[f"bias_ih_l{k}"], params[f"bias_hh_l{k}"]
            ours[f"bias_l{k}"] = first * ih + second * hh
        outputs, pullback = right(ours, x, h0, c0)

        def back(*upstream: Array) -> dict[str, Array]:
            found = pullback(*upstream)
            for k in range(len(h0)):
                bias = found.pop(f"dbias_l{k}")
                for kind in ("ih", "hh"):
                    name = f"dbias_{kind}_l{k}"
                    found[name] = spoil(name, bias.copy(), found[f"dweight_{kind}_l{k}"])
            return dict(found)

        return outputs, back

    return Implementation("paired", vjp=vjp, layout=preset("torch"), dtype="float64")


def of(which: str, factor: float) -> Callable[[str, Array, Array], Array]:
    """A bias's gradient times a number."""
    return lambda name, bias, _: bias * (factor if which in name else 1)


def _one_for_both(name: str, bias: Array, weight: Array) -> Array:
    return 2 * bias if "ih" in name else 0 * bias


def _gate_f(name: str, bias: Array, weight: Array) -> Array:
    if "hh" in name:
        np.split(bias, 4)[1][...] *= -1
    return bias


def _with_its_matrix(name: str, bias: Array, weight: Array) -> Array:
    if "hh" in name:
        weight *= 2
        bias *= 2
    return bias


OF_BIASES = {
    "right": (lambda name, bias, _: bias, [], ""),
    "the second is missing": (of("hh", 0), ["bias * 0"], "The gradient of bias_hh_lk is missing"),
    "the first is doubled": (of("ih", 2), ["bias * 2"], "The gradient of bias_ih_lk is doubled"),
    "one gets the other's share": (_one_for_both, ["bias for both"], "gets its share twice"),
    "a gate of the second": (_gate_f, ["bias[f] * -1"], "block of the gradient of bias_hh_lk has"),
    "the second and its matrix": (_with_its_matrix, ["weights * 2"], "weight_hh_lk and its bias"),
}  # fmt: skip


@pytest.mark.parametrize("name", OF_BIASES)
def test_mistake_in_one_of_two_biases_that_is_only_located(name: str) -> None:
    """A gradient of bias_hh that is wrong where bias_ih's is right; or a right one accused."""
    spoil, expected, words = OF_BIASES[name]
    diagnosis = diagnose(paired(1, 1, spoil))
    assert diagnosis.wrong == bool(expected)
    if expected:
        assert diagnosis.finding is not None, diagnosis.located
        (mistake,) = diagnosis.finding.mistakes
        assert mistake.identifier.partition(", ")[0] == expected[0]
        assert words in mistake.sentence


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        (1, 0, "lacks bias_hh_lk"),
        (2, 0, "adds its first bias twice and bias_hh_lk not"),
        (1, 2, "adds bias_hh_lk twice"),
    ],
)
def test_forward_pass_that_adds_one_bias_for_the_other(
    first: float, second: float, words: str
) -> None:
    """bias_ih in both places: unseen where the two are the same."""
    finding = diagnose(paired(first, second, of("", 1))).finding
    assert finding is not None
    assert [mistake.sentence for mistake in finding.mistakes] == [f"Every gate {words}."]


def test_momentum_that_is_kept_in_the_gradients() -> None:
    """A share of the last call's gradients, said to be no more than something that is kept."""
    source, kept = made("dW += dz.T @ x", "dW += dz.T @ x"), dict[Any, Array]()

    def vjp(*given: Array) -> Any:
        outputs, pullback = source(*given)

        def with_momentum(*upstream: Array) -> dict[str, Array]:
            found = dict(pullback(*upstream))
            for name in [name for name in found if name.startswith("dweight")]:
                key = name, found[name].shape, found[name].dtype
                kept[key] = found[name] = found[name] + 0.9 * kept.get(key, 0 * found[name])
            return found

        return outputs, with_momentum

    finding = diagnose(vjp, seconds=0).finding
    assert finding is not None
    (mistake,) = finding.mistakes
    assert mistake.identifier == "kept.momentum"
    assert mistake.sentence.startswith("0.9 times what the last call left in dweight_")


def test_stack_that_takes_the_cache_of_its_lowest_layer_and_so_runs_where_i_is_h_only() -> None:
    """Stacks that are left out, as other sizes raise, and an LSTM that is called right."""
    wrong = made("x, h, c, i, f, g, o, tc = tapes[k][t]", "x, h, c, i, f, g, o, tc = tapes[0][t]")
    assert named(wrong, seconds=0) == ["stack.cache of the lowest layer"]


@pytest.mark.parametrize("what", ["sum", "lowest"])
def test_one_array_for_all_layers_is_named(what: str) -> None:
    """`[np.zeros(4 * H)] * L`: every layer's bias is the same array, added to or written to."""

    def vjp(params: Any, x: Any, h0: Any, c0: Any) -> Any:
        outputs, pull = manual_lstm.vjp(params, x, h0, c0)

        def pullback(*upstream: Any) -> Any:
            found = pull(*upstream)
            names = [f"dbias_l{k}" for k in reversed(range(len(h0)))]
            biases = [found[name] for name in names]
            return found | dict.fromkeys(names, sum(biases) if what == "sum" else biases[-1])

        return outputs, pullback

    assert named(vjp, seconds=0) == [f"bias.one array for all layers, {what}"]
