"""The autograd twin: elementary, independent of the code under test, in the same memory."""

import ast
import inspect

import numpy as np
import pytest
import torch
from agreement import assert_same_bits
from hypothesis import given

from manual_lstm import init_params
from torch_ref import autograd_vjp, run_case, share_params
from torch_ref.harness.strategies import cases
from torch_ref.oracles import equations, torch_lstm, twin

MAY_SHARE = {
    "manual_lstm.arrays": {
        "FloatArray",
        "Gradients",
        "Params",
        "check_array",
        "check_number",
        "check_targets",
    },
    "manual_lstm.params": {"lstm_sizes"},
}


@pytest.mark.parametrize("module", [twin, equations, torch_lstm], ids=lambda m: m.__name__)
def test_a_reference_built_from_the_code_under_test(module):
    """An oracle takes names, types and checks from manual_lstm, and nothing that computes."""
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.Import):
            assert not any(alias.name.startswith("manual_lstm") for alias in node.names)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("manual_lstm"):
            names = {alias.name for alias in node.names}
            assert names <= MAY_SHARE.get(node.module, set())


@given(case=cases())
def test_a_weight_that_is_copied_where_it_should_be_shared(case):
    """An update in place on either side is seen on the other."""
    shared = share_params(case.params)
    assert shared.keys() == case.params.keys()
    for name, array in case.params.items():
        leaf = shared[name]
        assert leaf.is_leaf
        assert leaf.requires_grad
        assert leaf.data_ptr() == array.ctypes.data
        array += 1
        with torch.no_grad():
            leaf *= 2
        np.testing.assert_array_equal(leaf.detach().numpy(), array, strict=True)


def test_a_shared_weight_that_an_optimiser_does_not_reach():
    """A step of torch.optim moves the NumPy arrays."""
    params = init_params(2, 3, dtype="float64", rng=np.random.default_rng(0))
    before = {name: value.copy() for name, value in params.items()}
    shared = share_params(params)
    sum(leaf.sum() for leaf in shared.values()).backward()
    torch.optim.SGD(shared.values(), lr=0.5).step()
    for name, value in params.items():
        np.testing.assert_array_equal(value, before[name] - 0.5, strict=True)


def test_an_array_that_cannot_be_shared_and_is_written_to():
    """Read-only and transposed arrays are copied: torch's update leaves them as they are."""
    frozen = np.arange(6.0).reshape(2, 3)
    frozen.flags.writeable = False
    turned = np.arange(6.0).reshape(3, 2).T
    shared = share_params({"frozen": frozen, "turned": turned})
    with torch.no_grad():
        for leaf in shared.values():
            leaf += 100
    assert max(frozen.max(), turned.max()) == 5
    np.testing.assert_array_equal(shared["turned"].detach().numpy(), turned + 100)


@given(case=cases())
def test_a_head_that_a_stack_has_no_gradient_for(case):
    """Names that are no layer's are left alone, as manual_lstm leaves them."""
    more = {**case.params, "weight_out": np.ones((2, 2), case.dtype)}
    _, pullback = autograd_vjp(more, case.x, case.h0, case.c0)
    gradients = pullback(case.dy, case.dh_n, case.dc_n)
    expected = run_case(case, autograd_vjp)
    assert_same_bits(gradients, {name: expected[name] for name in gradients})
    assert "dweight_out" not in gradients
