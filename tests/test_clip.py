"""Clipping: torch's, and what clipping means."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from manual_lstm import clip_grad_norm, clip_grad_value
from manual_lstm.clip import TORCH_EPS

NAMES = ("dweight_ih_l0", "dbias_l0", "dx")
SHAPES = ((4, 2), (4,), (2, 1, 3))


@st.composite
def gradients(draw, special=()):
    """Three arrays whose squares neither overflow nor underflow, and special numbers among them."""
    dtype = np.dtype(draw(st.sampled_from(["float32", "float64"])))
    ordinary = st.floats(-1e9, 1e9, width=32).map(lambda v: v if abs(v) > 1e-9 else 0.0)
    elements = st.one_of(ordinary, st.sampled_from(special)) if special else ordinary
    return {
        name: draw(hnp.arrays(dtype, shape, elements=elements))
        for name, shape in zip(NAMES, SHAPES, strict=True)
    }


limits = st.floats(1e-6, 1e6)


def rounding(found, operations=0):
    """How far a norm of n elements may be off, relatively: 2n + 2 roundings, and those after."""
    count = 2 * sum(value.size for value in found.values()) + 2 + operations
    eps = float(max(np.finfo(value.dtype).eps for value in found.values()))
    return count * eps / (1 - count * eps)


def exact_norm(found):
    return np.sqrt(sum(np.square(value.astype(np.longdouble)).sum() for value in found.values()))


def torch_clip(found, clip):
    leaves = {name: torch.zeros_like(torch.from_numpy(value)) for name, value in found.items()}
    for name, leaf in leaves.items():
        leaf.grad = torch.from_numpy(found[name].copy())
    result = clip(leaves.values())
    return {name: leaf.grad.numpy() for name, leaf in leaves.items()}, result


def assert_close(actual, expected, relative):
    """The same NaN and infinities, and each element within a relative difference."""
    for name, value in expected.items():
        assert actual[name].dtype == value.dtype
        a, e = actual[name].astype(np.longdouble), value.astype(np.longdouble)
        same = (a == e) | (np.isnan(a) & np.isnan(e))
        with np.errstate(invalid="ignore"):
            # Below the smallest normal number a rounding is absolute.
            close = np.abs(a - e) <= relative * np.abs(e) + np.finfo(value.dtype).tiny
        assert np.all(same | close), (name, a, e)


@given(found=gradients(), limit=limits)
def test_a_norm_that_is_clipped_differently_from_torch(found, limit):
    """clip_grad_norm is torch.nn.utils.clip_grad_norm_, but for rounding."""
    expected, norm = torch_clip(found, lambda g: torch.nn.utils.clip_grad_norm_(g, limit))
    clipped, our_norm = clip_grad_norm(found, limit)
    allowed = rounding(found)
    assert abs(our_norm - float(norm)) <= 2 * allowed * our_norm
    assert_close(clipped, expected, 2 * rounding(found, operations=3))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("limit", [4.0, 5.0, 5.0 + 2 * TORCH_EPS, 6.0, np.inf])
@pytest.mark.parametrize(
    "special", [(), (np.inf,), (np.nan,), (np.inf, np.nan), (-np.inf, 1.0), (0.0, np.nan)]
)
def test_a_gradient_that_is_not_finite_or_just_at_the_limit(special, limit, dtype):
    """Below, at and above the limit, with NaN and infinity in any order, it does as torch."""
    for order in (special, special[::-1]):
        found = {
            "da": np.zeros(2, dtype),
            "db": np.array([*order, 0.0], dtype),
            "dc": np.array([3.0, -4.0], dtype),
            **{f"d{k}": np.array([value], dtype) for k, value in enumerate(order)},
        }
        for names in (list(found), list(found)[::-1]):
            given = {name: found[name] for name in names}
            expected, norm = torch_clip(given, lambda g: torch.nn.utils.clip_grad_norm_(g, limit))
            clipped, our_norm = clip_grad_norm(given, limit)
            assert_close({"": np.array([our_norm])}, {"": np.array([float(norm)])}, rounding(given))
            assert_close(clipped, expected, 2 * rounding(given, operations=3))
            if not np.isfinite(our_norm):
                with pytest.raises(ValueError, match=r"the gradients' norm is (nan|inf), so they"):
                    clip_grad_norm(given, limit, error_if_nonfinite=True)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_nan_that_hides_behind_a_zero(dtype):
    """The norm of a NaN and of zeros is NaN, whichever comes first."""
    zero, nan = np.zeros(2, dtype), np.array([np.nan], dtype)
    assert np.isnan(clip_grad_norm({"da": zero, "db": nan}, 1.0)[1])
    assert np.isnan(clip_grad_norm({"da": nan, "db": zero}, 1.0)[1])


@given(found=gradients(special=(np.inf, -np.inf, np.nan)), limit=limits)
def test_a_value_that_is_clipped_differently_from_torch(found, limit):
    """clip_grad_value is torch.nn.utils.clip_grad_value_, to the bit; NaN stays NaN."""
    expected, _ = torch_clip(found, lambda g: torch.nn.utils.clip_grad_value_(g, limit))
    clipped = clip_grad_value(found, limit)
    for name, value in expected.items():
        np.testing.assert_array_equal(clipped[name], value, strict=True)


@given(found=gradients(), limit=limits, eps=st.sampled_from([0.0, TORCH_EPS]))
def test_a_clipping_that_lengthens_or_turns(found, limit, eps):
    """Every element keeps its sign, none grows, all shrink by one factor, down to the limit."""
    before = {name: value.copy() for name, value in found.items()}
    clipped, norm = clip_grad_norm(found, limit, eps=eps)
    factor = min(1.0, limit / (norm + eps)) if norm > 0 else 1.0
    for name, value in found.items():
        np.testing.assert_array_equal(value, before[name], strict=True)
        assert np.all(np.abs(clipped[name]) <= np.abs(value))
        assert np.all(clipped[name] * np.sign(value) >= 0)
    # The factor rounds to the gradients' dtype, and so does the product.
    eps_of = {name: float(np.finfo(value.dtype).eps) for name, value in found.items()}
    expected = {name: factor * value.astype(np.longdouble) for name, value in found.items()}
    for name, value in expected.items():
        off = np.abs(clipped[name] - value)
        assert np.all(off <= eps_of[name] * np.abs(value) + np.finfo(clipped[name].dtype).tiny)
    assert exact_norm(clipped) <= limit * (1 + rounding(found, operations=3))
    if norm + eps <= limit:
        for name, value in found.items():
            np.testing.assert_array_equal(clipped[name], value, strict=True)


@given(found=gradients(), limit=limits)
def test_a_second_clipping_that_changes_what_the_first_left(found, limit):
    """With eps = 0 the second changes roundings only; with eps, at most by limit/(limit + eps).

    After the first the norm n is at most the limit, so the second factor limit/(n + eps) is at
    least limit/(limit + eps).
    """
    allowed = rounding(found, operations=4)
    for eps, least in ((0.0, 1.0), (TORCH_EPS, limit / (limit + TORCH_EPS))):
        once, _ = clip_grad_norm(found, limit, eps=eps)
        twice, _ = clip_grad_norm(once, limit, eps=eps)
        for name, value in once.items():
            size, again = np.abs(value), np.abs(twice[name])
            assert np.all(again <= size)
            tiny = np.finfo(value.dtype).tiny
            assert np.all(again >= least * size.astype(np.longdouble) * (1 - allowed) - tiny)


@given(scale=st.sampled_from([1e-300, 1e-160, 1e160, 1e300]), limit=limits)
def test_a_norm_whose_squares_overflow(scale, limit):
    """The norm of 3s and 4s is 5s, however large or small s is."""
    found = {"da": np.array([3 * scale]), "db": np.array([-4 * scale])}
    clipped, norm = clip_grad_norm(found, limit, eps=0.0)
    assert abs(norm / scale - 5) <= 5 * rounding(found, operations=2)
    if norm > limit:
        assert abs(exact_norm(clipped) - limit) <= limit * rounding(found, operations=3)


@given(found=gradients())
def test_a_zero_gradient_divided_by_zero(found):
    """Zero gradients stay zero with eps = 0, and there is nothing to clip in no gradients."""
    zero = {name: 0 * value for name, value in found.items()}
    clipped, norm = clip_grad_norm(zero, 1.0, eps=0.0)
    assert norm == 0
    assert not any(value.any() for value in clipped.values())
    assert clip_grad_norm({}, 1.0) == ({}, 0.0)
    assert clip_grad_value({}, 1.0) == {}


@given(found=gradients(), limit=limits)
def test_a_norm_in_which_a_tensor_is_left_out(found, limit):
    """One joint norm: each tensor alone is shortened no more than all together."""
    assume(exact_norm(found) > 0)
    clipped, norm = clip_grad_norm(found, limit)
    for name, value in found.items():
        alone, alone_norm = clip_grad_norm({name: value}, limit)
        assert alone_norm <= norm * (1 + rounding(found))
        slack = 1 + rounding(found, operations=3)
        tiny = np.finfo(value.dtype).tiny
        assert np.all(np.abs(clipped[name]) <= slack * np.abs(alone[name]) + tiny)
