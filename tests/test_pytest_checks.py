"""parametrize_with_checks, run by pytest on files of its own."""

import pytest

from torch_ref import parametrize_with_checks
from torch_ref.harness.check_list import CHECKS

MODULE = """
import manual_lstm
import torch_ref
from torch_ref import parametrize_with_checks

def wrong(params, x, h0, c0):
    outputs, pullback = manual_lstm.vjp(params, x, h0, c0)
    return outputs, lambda dy, dh_n, dc_n: pullback(dy, dh_n, 0 * dc_n)

def clipped(params, x, h0, c0):
    outputs, pullback = manual_lstm.vjp(params, x, h0, c0)
    return outputs, lambda *upstream: manual_lstm.clip_grad_norm(pullback(*upstream), 5.0)[0]

@parametrize_with_checks([{name}], expected_failures={expected}, examples=6)
def test_lstm(implementation, check):
    check(implementation)
"""


def run(pytester, name, expected, chosen=""):
    pytester.makepyfile(test_it=MODULE.format(name=name, expected=expected))
    return pytester.runpytest_inprocess("-q", "-p", "no:cacheprovider", "-k", chosen)


def test_a_correct_lstm_in_pytest(pytester):
    """One test for each check; those that cannot be run are skipped with the reason."""
    done = run(pytester, "manual_lstm.vjp", {})
    assert done.ret == 0, str(done.stdout)
    assert f"{len(CHECKS) - 1} passed, 1 skipped" in str(done.stdout)


def test_a_wrong_lstm_in_pytest(pytester):
    """The check that fails says what it found; an expected failure is an xfail."""
    done = run(pytester, "wrong", {}, "check_only_dc_n")
    assert done.ret == 1
    assert "Wrong with dc_n alone: " in str(done.stdout)
    reasons = {"check_only_dc_n": "dc_n is not supported"}
    done = run(pytester, "wrong", reasons, "check_only_dc_n or check_carried_state")
    assert "1 failed, " in str(done.stdout)
    assert "1 xfailed" in str(done.stdout)
    assert "check_only_dc_n" not in str(done.stdout).split("short test summary")[-1]


@pytest.mark.thorough
def test_clipping_that_only_the_command_allows_for(pytester):
    """What the command says agrees where nothing is clipped does so in pytest; unless required."""
    chosen = "check_gradients or check_linearity or check_clipping"
    done = run(pytester, "clipped", {}, chosen)
    assert done.ret == 0, str(done.stdout)
    assert "2 passed, 1 skipped" in str(done.stdout)
    required = 'torch_ref.Implementation("mine", vjp=clipped, requires={"unclipped"})'
    done = run(pytester, required, {}, "check_clipping")
    assert "Gradients are clipped inside, by norm at 5" in str(done.stdout)


def test_an_lstm_in_pytest_whose_layout_has_to_be_found(pytester):
    """With layout="auto" each check finds it, as `manual-lstm check --layout auto` does."""
    name = 'torch_ref.Implementation("mine", vjp=manual_lstm.vjp, layout="auto")'
    done = run(pytester, name, {}, "check_forward or check_two_steps")
    assert "2 passed, 17 deselected" in str(done.stdout)


def test_an_expected_failure_that_passes(pytester):
    """A check that is expected to fail and holds is an error."""
    done = run(
        pytester, "manual_lstm.vjp", {"check_forward": "is thought to be wrong"}, "check_forward"
    )
    assert done.ret == 1
    assert "XPASS(strict)" in str(done.stdout)


def test_a_check_that_there_is_not():
    """A misspelt expected failure would never be noticed."""
    with pytest.raises(ValueError, match="'check_forwards', which is not a check"):
        parametrize_with_checks([], expected_failures={"check_forwards": "?"})
