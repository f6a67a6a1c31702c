"""Every variant of the cell: the twin, the equations and the mistakes that either could hide."""

import math
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from manual_lstm import init_params
from torch_ref import (
    STANDARD,
    Case,
    Variant,
    autograd_vjp,
    compare_gradients,
    diff_gradients,
    error_budget,
    params_from_state_dict,
    run_case,
)
from torch_ref.compare.diff import run_twin
from torch_ref.oracles.equations import lstm_backward, lstm_forward, solve, unrounded
from torch_ref.oracles.variant import PEEPHOLES, check_peepholes
from torch_ref.reports.names import element_name

FEATURES: dict[str, Any] = {
    "candidate": "sigmoid",
    "state": "tanh",
    "output": "identity",
    "peepholes": True,
    "coupled": True,
}
SUBSETS = [
    [name for name, chosen in zip(FEATURES, choice, strict=True) if chosen]
    for choice in product([False, True], repeat=len(FEATURES))
]
# A tenth of the profile's examples for each of the 32 variants.
EXAMPLES = max(1, settings().max_examples // 10)


def variant_of(features) -> Variant:
    """The standard cell but for some features."""
    return Variant(**{name: FEATURES[name] for name in features})


every_variant = pytest.mark.parametrize(
    "variant", [pytest.param(variant_of(s), id="+".join(s) or "standard") for s in SUBSETS]
)


def draw_case(
    variant: Variant,
    *,
    steps=3,
    batch=2,
    inputs=2,
    hidden=3,
    layers=2,
    dtype=np.float64,
    gain=1.0,
    state=1.0,
    upstream=1.0,
    head=False,
    seed=0,
) -> Case:
    """A case drawn from a seed, its weights, states and upstream gradients of given sizes."""
    rng = np.random.default_rng(seed)
    classes = 3

    def normal(scale, *shape):
        return (scale * rng.normal(size=shape)).astype(dtype)

    params = {
        name: (gain * value).astype(dtype)
        for name, value in init_params(inputs, hidden, layers, dtype=dtype, rng=rng).items()
    }
    if variant.peepholes:
        names = [f"{kind}_l{k}" for k in range(layers) for kind in PEEPHOLES]
        params |= {name: normal(gain, hidden) for name in names}
    if head:
        params |= {"weight_out": normal(gain, classes, hidden), "bias_out": normal(gain, classes)}
    states = (layers, batch, hidden)
    return Case(
        params,
        x=normal(state, steps, batch, inputs),
        h0=normal(state, *states),
        c0=normal(state, *states),
        dh_n=normal(upstream, *states),
        dc_n=normal(upstream, *states),
        dy=None if head else normal(upstream, steps, batch, hidden),
        targets=rng.integers(classes, size=(steps, batch)) if head else None,
        dloss=upstream,
        variant=variant,
    )


def truth(case: Case, dtype=np.longdouble):
    """The equations' outputs and gradients, without the gates that `solve` adds to them."""
    return {name: value for name, value in solve(case, unrounded(dtype)).items() if name != "z"}


def disagreements(actual, expected, case: Case) -> list[str]:
    """What differs by more than rounding in the case's dtype explains on the one side, `actual`."""
    compared = compare_gradients(actual, expected, error_budget(case).allowed)
    return [
        f"{tensor.name}{tensor.worst_index} is off by {tensor.used:.3g} of its budget"
        for tensor in compared.tensors
        if tensor.verdict != "agree"
    ]


sizes = st.integers(1, 4)
magnitudes = st.sampled_from([1e-3, 0.1, 1.0, 3.0])


@pytest.mark.sampled
@every_variant
@settings(max_examples=EXAMPLES, deadline=None)
@given(
    shape=st.fixed_dictionaries(
        {
            "steps": st.integers(1, 6),
            "batch": sizes,
            "inputs": sizes,
            "hidden": sizes,
            "layers": st.integers(1, 3),
        }
    ),
    magnitude=st.fixed_dictionaries(
        {"gain": magnitudes, "state": magnitudes, "upstream": st.sampled_from([1e-6, 1.0, 1e6])}
    ),
    dtype=st.sampled_from([np.float32, np.float64]),
    head=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
# Two members of the batch whose nearly saturated gates round apart while their gradients cancel.
@example(
    shape={"steps": 1, "batch": 2, "inputs": 4, "hidden": 1, "layers": 3},
    magnitude={"gain": 3.0, "state": 3.0, "upstream": 1e-6},
    dtype=np.float64,
    head=True,
    seed=7772444,
)
# A class so improbable that the square of its gradient's error underflows.
@example(
    shape={"steps": 3, "batch": 1, "inputs": 1, "hidden": 1, "layers": 2},
    magnitude={"gain": 11.0, "state": 155.0, "upstream": 1e-6},
    dtype=np.float64,
    head=True,
    seed=3102490972,
)
def test_twin_and_equations_compute_the_same_variant(variant, shape, magnitude, dtype, head, seed):
    """A term that the twin's forward or the equations' hand-derived backward lacks or invents."""
    case = draw_case(variant, **shape, **magnitude, dtype=dtype, head=head, seed=seed)
    assume(error_budget(case).conclusive)
    assert not disagreements(run_twin(case), truth(case), case)


@pytest.mark.sampled
@every_variant
def test_the_backward_is_the_derivative_of_the_forward_beside_it(variant):
    """A backward derived wrongly where the twin has the same misreading."""
    case = draw_case(variant)
    gradients = {name: d for name, d in truth(case, np.float64).items() if name.startswith("d")}
    assert not disagreements(gradients, complex_step(case), case)


def complex_step(case: Case):
    """Every gradient from the forward equations alone, one element at a time."""
    a = unrounded(np.clongdouble)
    step = np.longdouble(2) ** -200
    arrays = {**case.params, "x": case.x, "h0": case.h0, "c0": case.c0}
    arrays = {name: value.astype(np.clongdouble) for name, value in arrays.items()}
    gradients = {}
    for name, value in arrays.items():
        gradients[f"d{name}"] = np.empty(value.shape, np.longdouble)
        for index in np.ndindex(value.shape):
            moved = value.copy()
            moved[index] += 1j * step
            at = arrays | {name: moved}
            forward = lstm_forward(at, at["x"], at["h0"], at["c0"], a, case.variant)
            weighted = (
                (case.dy * np.stack(forward.y)).sum()
                + (case.dh_n * np.stack(forward.h_n)).sum()
                + (case.dc_n * np.stack(forward.c_n)).sum()
            )
            gradients[f"d{name}"][index] = weighted.imag / step
    return gradients


def backward_of(case: Case, backward: Variant):
    """The case's own forward in float64, and behind it the backward of a cell of one's choice."""
    a = unrounded(np.float64)
    forward = lstm_forward(case.params, case.x, case.h0, case.c0, a, case.variant)
    return lstm_backward(case.params, forward, list(case.dy), case.dh_n, case.dc_n, a, backward)


@pytest.mark.sampled
@pytest.mark.parametrize("features", [s for s in SUBSETS if s], ids="+".join)
def test_the_backward_of_another_cell_is_caught(features):
    """A comparison too blunt to tell a variant's backward from a simpler cell's."""
    case = draw_case(variant_of(features))
    own = backward_of(case, case.variant)
    expected = {name: d for name, d in truth(case).items() if name in own}
    assert not disagreements(own, expected, case)
    simpler = [variant_of(name for name in features if name != left_out) for left_out in features]
    for other in (STANDARD, *simpler):
        actual = backward_of(case, other)
        # That a peephole weight's gradient is missing would be too easy to see.
        common = {name: d for name, d in expected.items() if name in actual}
        assert disagreements(actual, common, case), other.describe()


def test_a_gate_that_rounding_decides_through_its_peephole_is_not_judged():
    """A budget that looks at the gates as they are before their peepholes."""
    case = draw_case(Variant(peepholes=True))
    assert error_budget(case).conclusive
    for name in ("weight_ci_l1", "weight_cf_l1", "weight_co_l1"):
        amplified = case.params[name] / np.finfo(case.dtype).eps ** 2
        loud = replace(case, params={**case.params, name: amplified})
        assert not error_budget(loud).conclusive, name


def sigmoid(z: float) -> float:
    """The logistic function, in Python's own arithmetic."""
    return 1 / (1 + math.exp(-z))


def scalar_cell(variant: Variant, z, peepholes, c_before: float) -> tuple[float, float]:
    """docs/variants.md for one unit and one step, each variant written out by itself: c and h."""
    z_i, z_f, z_g, z_o = z
    p_i, p_f, p_o = peepholes
    i, f, g, o = sigmoid(z_i), sigmoid(z_f), math.tanh(z_g), sigmoid(z_o)
    match variant:
        case Variant("sigmoid", "linear", "tanh", False, False):
            c = f * c_before + i * sigmoid(z_g)
            return c, o * math.tanh(c)
        case Variant("tanh", "tanh", "tanh", False, False):
            c = math.tanh(f * c_before + i * g)
            return c, o * math.tanh(c)
        case Variant("tanh", "linear", "identity", False, False):
            c = f * c_before + i * g
            return c, o * c
        case Variant("tanh", "linear", "tanh", True, False):
            c = sigmoid(z_f + p_f * c_before) * c_before + sigmoid(z_i + p_i * c_before) * g
            return c, sigmoid(z_o + p_o * c) * math.tanh(c)
        case Variant("tanh", "linear", "tanh", False, True):
            c = f * c_before + (1 - f) * g
            return c, o * math.tanh(c)
        case Variant("tanh", "tanh", "identity", True, True):
            f = sigmoid(z_f + p_f * c_before)
            c = math.tanh(f * c_before + (1 - f) * g)
            return c, sigmoid(z_o + p_o * c) * c
    c = f * c_before + i * g
    return c, o * math.tanh(c)


@pytest.mark.parametrize(
    "features",
    [[], *([name] for name in FEATURES), ["state", "output", "peepholes", "coupled"]],
    ids=lambda features: "+".join(features) or "standard",
)
def test_both_oracles_compute_the_documented_cell(features):
    """Twin and equations that agree on a cell which is not the one of docs/variants.md."""
    variant = variant_of(features)
    gates, peepholes, c_before = (1.5, -0.75, 0.625, 0.25), (0.5, -1.25, 0.875), 2.0
    params = {
        "weight_ih_l0": np.zeros((4, 1)),
        "weight_hh_l0": np.zeros((4, 1)),
        "bias_l0": np.array(gates),
    }
    if variant.peepholes:
        weights = zip(PEEPHOLES, peepholes, strict=True)
        params |= {f"{name}_l0": np.array([weight]) for name, weight in weights}
    one = np.ones((1, 1, 1))
    case = Case(params, one, one, c_before * one, one, one, dy=one, variant=variant)
    c, h = scalar_cell(variant, gates, peepholes, c_before)
    expected = {"y": h * one, "h_n": h * one, "c_n": c * one}
    allowed = error_budget(case, sides=2).allowed
    for oracle in (run_twin(case), truth(case, np.float64)):
        found = {name: oracle[name] for name in expected}
        assert compare_gradients(found, expected, allowed).verdict == "agree"


def test_zero_biases_stand_for_a_cell_that_has_none():
    """A gradient that differs between no bias and a bias of zero."""
    case = draw_case(STANDARD)
    module = torch.nn.LSTM(2, 3, 2, bias=False, dtype=torch.float64)
    state = {
        name: torch.from_numpy(value)
        for name, value in case.params.items()
        if name.startswith("weight")
    }
    module.load_state_dict(state)
    case = replace(case, params=params_from_state_dict(state))
    outputs, last = module(
        torch.from_numpy(case.x), (torch.from_numpy(case.h0), torch.from_numpy(case.c0))
    )
    upstream = [torch.from_numpy(d) for d in (case.dy, case.dh_n, case.dc_n)]
    found = torch.autograd.grad((outputs, *last), list(module.parameters()), upstream)
    names = [f"d{name}" for name, _ in module.named_parameters()]
    actual = {name: d.numpy() for name, d in zip(names, found, strict=True)}
    expected = truth(case)
    assert not disagreements(actual, {name: expected[name] for name in actual}, case)


@every_variant
def test_json_and_astype_keep_the_variant(variant):
    """A feature that is lost on the way to a file or to another dtype."""
    assert Variant.from_json(variant.to_json()) == variant
    assert draw_case(variant, dtype=np.float32).astype(np.float64).variant == variant


def test_diff_gradients_takes_the_standard_cell_alone():
    """manual_lstm called wrong because it was given a cell that it does not compute."""
    assert diff_gradients(draw_case(STANDARD)).verdict == "agree"
    for name in FEATURES:
        with pytest.raises(ValueError, match=r"must be the standard cell: manual_lstm computes"):
            diff_gradients(draw_case(variant_of([name])))


def test_no_two_variants_are_described_alike():
    """A feature that the description does not mention."""
    phrases = [variant_of(subset).describe() for subset in SUBSETS]
    assert len(set(phrases)) == len(SUBSETS)
    assert STANDARD.describe() == "the standard cell"
    assert variant_of(["peepholes"]).describe() == "a cell with peepholes"
    assert variant_of(["output", "coupled"]).describe() == "a cell with h = o * c and i = 1 - f"


KNOWN = "candidate, state, output, peepholes, coupled"


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ({"gate": "sigmoid"}, f"variant has 'gate' but can only have {KNOWN}."),
        ({"output": "relu"}, "variant output is 'relu' but must be 'tanh' or 'identity'."),
        ({"peepholes": 1}, "variant peepholes is 1 but must be False or True."),
        ([], f"variant is [] but must be an object with any of {KNOWN}."),
    ],
)
def test_a_variant_that_does_not_exist_is_refused(data, sentence):
    """A misspelt or unknown feature read as the standard cell's."""
    with pytest.raises(ValueError) as error:  # noqa: PT011, the whole sentence is compared
        Variant.from_json(data)
    assert str(error.value) == sentence


def test_a_peephole_weight_is_named_by_its_gate_and_cell():
    """A worst element that is given as a bare index."""
    assert element_name("dweight_co_l1", (4,), (2,)) == "o[2] c[2]"


def test_peephole_weights_that_do_not_go_with_the_variant_are_refused():
    """Peephole weights that would be ignored, are missing, of no layer, or misshapen."""
    plain, peepholes = draw_case(STANDARD), draw_case(Variant(peepholes=True))
    with pytest.raises(ValueError, match="params has weight_ci_l0 but the standard cell in 2"):
        replace(peepholes, variant=STANDARD)
    with pytest.raises(ValueError, match="params has no weight_ci_l0, which a cell with peephole"):
        replace(plain, variant=Variant(peepholes=True))
    surplus = {**peepholes.params, "weight_co_l2": peepholes.params["weight_co_l1"]}
    with pytest.raises(ValueError, match="params has weight_co_l2 but a cell with peepholes in 2"):
        replace(peepholes, params=surplus)
    longer = {**peepholes.params, "weight_co_l1": np.ones(4)}
    with pytest.raises(ValueError, match=r"weight_co_l1 has shape \(4,\) but must be \(H,\)"):
        run_twin(replace(peepholes, params=longer))
    with pytest.raises(ValueError, match="params has weight_ci_l0 but the standard cell in 2"):
        run_case(peepholes, autograd_vjp)


def test_peepholes_of_another_layout_that_are_refused():
    """Weights whose other names are a layout's own say nothing of how many layers there are."""
    theirs = {"kernel": np.zeros((3, 8)), "weight_ci_l0": np.zeros(2)}
    check_peepholes(theirs, Variant(peepholes=True))
    with pytest.raises(ValueError, match=r"weight_ci_l0 .* in 1 layer\(s\) has no such weight"):
        check_peepholes(theirs | {"weight_hh_l0": np.zeros((8, 2))}, Variant())
