"""What is said beside a crash on the plainest case."""

import numpy as np
import pytest
import torch

from torch_ref import Implementation, Layout, preset
from torch_ref.harness.crash_notes import crash_notes


def columns(params, x, h0, c0):
    return params["weight_ih_l0"] @ x[0]


def in_torch(params, x):
    return torch.from_numpy(params["kernel"]) @ torch.from_numpy(x[0])


def peepholes(params, x):
    return params["weight_ci_l0"]


def of_lists(params, x, targets):
    return x[0] + params["weight_ih_l0"]


def zero(params, x):
    return 1 / 0


LISTS = Layout(sequence="T:BI")


@pytest.mark.parametrize(
    ("form", "function", "layout", "note"),
    [
        (
            "vjp",
            columns,
            Layout(),
            "It was given weight_ih_l0 (12, 2), weight_hh_l0 (12, 3), bias_l0 (12,), x (3, 1, 2), "
            "h0 (1, 1, 3), c0 (1, 1, 3); its pullback, what it takes of dy (3, 1, 3), dh_n "
            "(1, 1, 3), dc_n (1, 1, 3): a Layout gives it other names and axes.",
        ),
        (
            "vjp",
            in_torch,
            preset("keras"),
            "It was given kernel (2, 12), recurrent_kernel (3, 12), bias (12,), x (1, 3, 2); its "
            "pullback, what it takes of dy (1, 3, 3), dh_n (1, 3), dc_n (1, 3): a Layout gives it "
            "other names and axes.",
        ),
        (
            "loss_and_grads",
            of_lists,
            LISTS,
            "It was given weight_ih_l0 (12, 2), weight_hh_l0 (12, 3), bias_l0 (12,), weight_out "
            "(2, 3), bias_out (2,), x a list of 3 (1, 2), targets a list of 3 (1,): a Layout "
            "gives it other names and axes.",
        ),
        (
            "vjp",
            peepholes,
            Layout(),
            "Peepholes are a variant's: Implementation(..., variant=Variant(peepholes=True)).",
        ),
        ("vjp", zero, Layout(), None),
    ],
)
def test_a_crash_that_does_not_say_what_came_in(form, function, layout, note):
    """NumPy's message has two sizes, and not which arrays the glue was handed."""
    mine = Implementation("mine", layout=layout, **{form: function})
    params = {"weight_ih_l0": np.ones((12, 2)), "kernel": np.ones((2, 12))}
    others = [np.ones(1)] * (function.__code__.co_argcount - 2)
    with pytest.raises((ValueError, KeyError, RuntimeError, ZeroDivisionError)) as caught:
        function(params, np.ones((1, 3, 2)), *others)
    assert crash_notes(mine, caught.value) == ((note,) if note else ())
