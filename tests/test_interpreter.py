"""What a table gives beside another one with which it has equations in common."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from manual_lstm import init_params
from torch_ref import Case
from torch_ref.diagnosis.backward.interpreter import gradients, solved
from torch_ref.diagnosis.backward.quantities import Quantities, quantities
from torch_ref.diagnosis.backward.table import Table
from torch_ref.diagnosis.mistakes.catalogue import catalogue
from torch_ref.diagnosis.mistakes.edits import Place, scaled


def case_with(head: str | None) -> Case:
    """T=3, B=2, I=3, H=4, L=2, nothing zero."""
    rng = np.random.default_rng(0)
    params = init_params(3, 4, 2, dtype=np.float64, rng=rng)
    given = [rng.normal(size=shape) for shape in [(3, 2, 3), *[(2, 2, 4)] * 4]]
    if head is None:
        return Case(params, *given, dy=rng.normal(size=(3, 2, 4)))
    params |= {"weight_out": rng.normal(size=(3, 4)), "bias_out": rng.normal(size=3)}
    return Case(params, *given, targets=rng.integers(3, size=(3, 2)))


def by_itself(table: Table, q: Quantities) -> dict[str, NDArray[np.float64]] | None:
    """Every gradient, with nothing taken over; None where the shapes do not admit the table."""
    try:
        with np.errstate(all="ignore"):
            return gradients(table, q)
    except ValueError:
        return None


@pytest.mark.parametrize("head", [None, "linear"])
def test_what_an_edited_equation_changes_and_is_taken_over_all_the_same(head: str | None) -> None:
    """A gradient of the right table that is left in the place of the wrong one's."""
    known = catalogue(head=head)
    q = quantities(case_with(head))
    right = solved(known.table, q)
    right_gradients = gradients(known.table, q)
    wrong = [mistake.edit(known.table) for mistake in known.mistakes[::9]]
    wrong += [replace(known.table, own=table, own_layers="first") for table in wrong[::9]]
    wrong.append(scaled(Place("below"), "2")(known.table))
    in_another_order = dict(reversed(known.table.equations.items()))
    wrong.append(replace(known.table, equations=in_another_order))
    changed = 0
    for table in wrong:
        expected = by_itself(table, q)
        if expected is None:
            continue
        with np.errstate(all="ignore"):
            found = gradients(table, q, beside=right)
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            np.testing.assert_array_equal(found[name], value)
        changed += any(
            not np.array_equal(value, right_gradients[name]) for name, value in expected.items()
        )
    assert changed > 150  # the right gradients would not do


def test_what_nothing_changes_and_is_computed_again() -> None:
    """A sum over the steps that is computed anew though its equation is the right one's."""
    known = catalogue()
    q = quantities(case_with(None))
    right = solved(known.table, q)
    wrong = scaled(Place("dbias.i"), "2")(known.table)
    beside = solved(wrong, q, beside=right)
    for layer, own in zip(right.layers, beside.layers, strict=True):
        differing = [name for name in layer.env if own.env[name] is not layer.env[name]]
        assert differing == ["dbias.i"]
