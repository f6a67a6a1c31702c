"""torch.nn.LSTM's state_dict in and out."""

import re

import numpy as np
import pytest
import torch
from agreement import assert_same_bits
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from manual_lstm import lstm_forward
from torch_ref import Case, error_budget, params_from_state_dict, state_dict_from_params
from torch_ref.harness.strategies import cases

DTYPES = {"float32": torch.float32, "float64": torch.float64}


def module_of(inputs, hidden, layers, bias, dtype, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.LSTM(inputs, hidden, layers, bias=bias, dtype=DTYPES[dtype])


@given(
    sizes=st.tuples(*[st.integers(1, most) for most in (5, 5, 3)]),
    bias=st.booleans(),
    dtype=st.sampled_from(list(DTYPES)),
    seed=st.integers(0, 99),
)
def test_a_module_that_comes_back_with_other_bits(sizes, bias, dtype, seed):
    """Module -> parameters -> module: the same names in the same order, and the same bits."""
    module = module_of(*sizes, bias, dtype, seed)
    state = module.state_dict()
    for value in state.values():  # a zero with a sign, which a sum would lose
        value.view(-1)[0] = -0.0
    params = params_from_state_dict(state)
    back = state_dict_from_params(params, like=state)
    assert list(back) == list(state)
    assert_same_bits(
        {name: value.numpy() for name, value in back.items()},
        {name: value.numpy() for name, value in state.items()},
    )
    module.load_state_dict(back, strict=True)


@given(case=cases())
def test_parameters_that_come_back_with_other_bits(case):
    """Parameters -> state_dict -> parameters, the bias all in the first of torch's two."""
    state = state_dict_from_params(case.params)
    back = params_from_state_dict(state)
    assert_same_bits({name: back[name] for name in case.params}, case.params)
    assert len(back) == len(case.params)
    assert not any(value.any() for name, value in state.items() if name.startswith("bias_hh"))
    module = module_of(case.x.shape[2], case.h0.shape[2], len(case.h0), True, str(case.dtype))
    assert list(module.state_dict()) == list(state)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("layers", [1, 3])
def test_a_module_that_computes_something_else(bias, layers):
    """manual_lstm with a module's weights gives the module's outputs."""
    module = module_of(3, 4, layers, bias, "float64")
    params = params_from_state_dict(module.state_dict())
    rng = np.random.default_rng(1)
    x, h0, c0 = rng.normal(size=(5, 2, 3)), *rng.normal(size=(2, layers, 2, 4))
    with torch.no_grad():
        y, (h_n, c_n) = module(torch.from_numpy(x), (torch.from_numpy(h0), torch.from_numpy(c0)))
    (y_manual, h_manual, c_manual), _ = lstm_forward(params, x, h0, c0)
    zero = np.zeros_like(h0)
    case = Case(params, x, h0, c0, zero, zero, dy=np.zeros_like(y.numpy()))
    allowed = error_budget(case, sides=2).allowed
    for name, manual, theirs in (
        ("y", y_manual, y),
        ("h_n", h_manual, h_n),
        ("c_n", c_manual, c_n),
    ):
        assert np.all(np.abs(manual - theirs.numpy()) <= allowed[name]), name


def test_a_copy_that_still_belongs_to_the_module():
    """Both directions copy: neither side sees what happens to the other afterwards."""
    state = module_of(2, 3, 1, True, "float32").state_dict()
    before = {name: value.clone() for name, value in state.items()}
    params = params_from_state_dict(state)
    back = state_dict_from_params(params, like=state)
    for value in (*params.values(), *back.values()):
        value += 1
    assert all(torch.equal(value, before[name]) for name, value in state.items())


def test_a_changed_bias_that_is_lost_on_the_way_back():
    """bias_ih takes up the change, bias_hh stays; without biases a change is an error."""
    state = module_of(2, 2, 1, True, "float64").state_dict()
    params = params_from_state_dict(state)
    params["bias_l0"] += 0.25
    back = state_dict_from_params(params, like=state)
    assert torch.equal(back["bias_hh_l0"], state["bias_hh_l0"])
    changed = (back["bias_ih_l0"] - state["bias_ih_l0"]).numpy()
    # The sum, its change and the change of its part round, at the size of these numbers.
    assert np.all(np.abs(changed - 0.25) <= 4 * np.spacing(1.0))
    plain = module_of(2, 2, 1, False, "float64").state_dict()
    params = params_from_state_dict(plain)
    assert not params["bias_l0"].any()
    params["bias_l0"][1] = 1.0
    with pytest.raises(ValueError, match="bias_l0 is not zero but the module of `like` has"):
        state_dict_from_params(params, like=plain)


BAD = {
    "second direction": (nn.LSTM(2, 3, bidirectional=True), "state_dict has weight_ih_l0_reverse"),
    "projection": (nn.LSTM(2, 3, proj_size=1), "state_dict has weight_hr_l0 but must hold"),
    "another module": (nn.Linear(2, 3), "state_dict has weight but must hold a plain nn.LSTM"),
    "bfloat16": (
        nn.LSTM(2, 3, dtype=torch.bfloat16),
        "weight_ih_l0 is torch.bfloat16 but must be float32 or float64",
    ),
    "a GRU": (nn.GRU(2, 4), "weight_hh_l0 has shape"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_state_dict_that_is_no_plain_lstm(name):
    """What is not a plain nn.LSTM is refused with its name."""
    module, message = BAD[name]
    with pytest.raises(ValueError, match=re.escape(message)):
        params_from_state_dict(module.state_dict())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bias_hh_l0": torch.zeros(1)}, "bias_hh_l0 has shape (1,) but must be (4H,)"),
        ({"bias_ih_l0": torch.zeros(5)}, "bias_ih_l0 has shape (5,) but must be (4H,)"),
        ({"weight_hh_l0": torch.zeros(12, 4)}, "weight_hh_l0 has shape (12, 4)"),
        ({"weight_ih_l0": torch.zeros(())}, "weight_ih_l0 has shape ()"),
        ({"weight_hh_l0": None}, "params has no weight_hh_l0"),
        ({"weight_ih_l0": torch.full((12, 2), torch.nan)}, "weight_ih_l0[0, 0] is nan"),
    ],
)
def test_a_state_dict_with_a_wrong_array(change, message):
    """Misshapen, missing or not finite: the array is named, and nothing is broadcast."""
    state = dict(module_of(2, 3, 1, True, "float32").state_dict()) | change
    state = {name: value for name, value in state.items() if value is not None}
    with pytest.raises(ValueError, match=re.escape(message)):
        params_from_state_dict(state)
