"""The exact values: longdouble where it is wide enough, decimal digits where it is not."""

import decimal
from dataclasses import replace

import numpy as np
import pytest
from agreement import assert_agree
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from manual_lstm import alphabet
from torch_ref import character_case, error_budget, truth
from torch_ref.harness.strategies import cases, model_cases
from torch_ref.oracles import truth as module

WIDER = module.longdouble_is_wider()


def small_case(**options):
    options = {"dtype": np.float64, "steps": 3, "batch": 2, **options}
    return character_case(alphabet(3), **options)


def longdouble_budget(case):
    """float64's budget, reduced to the unit roundoff of longdouble: budgets are proportional."""
    ratio = np.finfo(np.longdouble).eps / np.finfo(np.float64).eps
    budget = error_budget(case, dtype=np.float64)
    tiny = np.finfo(np.float64).tiny
    return {name: (value - tiny) * ratio + tiny for name, value in budget.allowed.items()}


@pytest.mark.skipif(not WIDER, reason="longdouble is float64 here")
@given(case=st.one_of(cases(max_steps=3), model_cases(max_steps=3)))
@settings(max_examples=15)
def test_digits_that_longdouble_does_not_have(case):
    """Forty decimal digits and longdouble differ by longdouble's own rounding and no more."""
    assume(error_budget(case, dtype=np.float64).conclusive)
    assert_agree(truth(case, "longdouble"), truth(case, "decimal"), longdouble_budget(case), "wide")


def test_a_truth_no_better_than_float64():
    """The budget that longdouble meets, float64 does not."""
    case = small_case()
    float64 = module.solve(case, module.unrounded(np.float64))
    del float64["z"]
    with pytest.raises(AssertionError, match="disagree"):
        assert_agree(float64, truth(case, "decimal"), longdouble_budget(case), "float64")


def test_a_machine_whose_longdouble_is_float64(monkeypatch):
    """There the digits take over by themselves, and asking for longdouble is refused."""
    case = small_case()
    digits = truth(case, "decimal")
    monkeypatch.setattr(module, "longdouble_is_wider", lambda: False)
    found = truth(case)
    assert found.keys() == digits.keys()
    for name, value in digits.items():
        np.testing.assert_array_equal(found[name], value)
    with pytest.raises(ValueError, match=r"no wider than float64.*use 'decimal'"):
        truth(case, "longdouble")


def test_a_float32_case_that_is_rounded_on_the_way_in():
    """The numbers of a float32 case are taken as they are: its float64 copy has the same truth."""
    case = small_case(dtype=np.float32)
    for arithmetic in ("decimal", None):
        left, right = truth(case, arithmetic), truth(case.astype(np.float64), arithmetic)
        for name, value in left.items():
            assert value.dtype == np.longdouble
            np.testing.assert_array_equal(value, right[name])


def test_digits_lost_where_tanh_is_small():
    """tanh of a small number is its series, to the last of the forty digits."""
    one = decimal.Decimal(1)
    with decimal.localcontext(module._CONTEXT) as context:
        for exponent in (0, 3, 8, 15, 25, 39, 41, 60, 300):
            z = (one / 3).scaleb(-exponent)
            found = module._tanh(z)
            context.prec *= 3
            grown = (2 * z).exp()
            exact = (grown - 1) / (grown + 1) if exponent < 60 else z - z**3 / 3
            context.prec //= 3
            assert abs(found / exact - 1) <= one.scaleb(1 - module._DIGITS), exponent
            assert module._tanh(-z) == -found


def test_a_gate_that_is_nearly_shut():
    """sigmoid(-z) is exp(-z) there, and not what is left of 1/2 - 1/2 tanh(z/2)."""
    z = np.array([-60.0, -45.0, -30.0, 30.0, 60.0])
    with decimal.localcontext(module._CONTEXT):
        digits = module._nearest(module.decimal_arithmetic().sigmoid(module._decimals(z)))
    for dtype in (np.float64, np.longdouble):
        found = module.unrounded(dtype).sigmoid(z.astype(dtype))
        # exp, sum and quotient, each right to a unit in the last place
        assert np.all(np.abs(found / digits - 1) <= 3 * np.finfo(dtype).eps)
    assert np.any(0.5 + 0.5 * np.tanh(0.5 * z) != digits.astype(np.float64))


def test_decimals_of_a_case_with_extreme_numbers():
    """A saturated gate and a tiny weight are numbers like others."""
    case = small_case(steps=2)
    params = {name: value * 1e3 for name, value in case.params.items()}
    params["bias_l0"] = params["bias_l0"] * 1e-12
    found = truth(replace(case, params=params), "decimal")
    assert all(np.all(np.isfinite(value)) for value in found.values())
