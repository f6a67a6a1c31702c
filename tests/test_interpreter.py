"""What a table gives beside another one with which it has equations in common."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from torch_ref.diagnosis.backward.identity import FIELD, field_points
from torch_ref.diagnosis.backward.interpreter import gradients, run_table, solved
from torch_ref.diagnosis.backward.quantities import Quantities, quantities
from torch_ref.diagnosis.backward.table import Table
from torch_ref.diagnosis.mistakes.catalogue import catalogue
from torch_ref.diagnosis.mistakes.edits import Place, scaled
from torch_ref.harness.cases import sized_case
from torch_ref.oracles.variant import STANDARD


def by_itself(table: Table, q: Quantities) -> dict[str, NDArray[np.int64]] | None:
    """Every gradient, with nothing taken over; None where the shapes do not admit the table."""
    try:
        return gradients(table, q, FIELD)
    except ValueError:
        return None


@pytest.mark.sampled
@pytest.mark.parametrize("head", [None, "linear"])
def test_what_an_edited_equation_changes_and_is_taken_over_all_the_same(head: str | None) -> None:
    """A gradient of the right table that is left in the place of the wrong one's.

    In a finite field, where nothing rounds, as sums are taken in another order beside a table.
    """
    known = catalogue(head=head)
    loss = head is not None
    q = field_points(STANDARD, loss, head == "linear", beyond=not loss, inputs=3)
    right = solved(known.table, q, FIELD)
    right_gradients = gradients(known.table, q, FIELD)
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
        found = gradients(table, q, FIELD, beside=right)
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            np.testing.assert_array_equal(found[name], value)
        changed += any(
            not np.array_equal(value, right_gradients[name]) for name, value in expected.items()
        )
    assert changed > 150  # the right gradients would not do


def test_step_after_the_only_one() -> None:
    """dy of t=0 taken for that of t=1, which is not there, where there is one step alone."""
    known = catalogue()
    (edit,) = [m.edit for m in known.mistakes if m.identifier == "dh.dy[t+1] zero"]
    case = sized_case({"T": 1, "B": 2, "I": 3, "H": 2, "L": 1})
    assert case.dy is not None
    found = run_table(edit(known.table), case)
    expected = run_table(known.table, replace(case, dy=0 * case.dy))
    for name in set(found) - {"y", "h_n", "c_n"}:
        np.testing.assert_array_equal(found[name], expected[name])


def test_what_nothing_changes_and_is_computed_again() -> None:
    """A sum over the steps that is computed anew though its equation is the right one's."""
    known = catalogue()
    q = quantities(sized_case({"T": 3, "B": 2, "I": 3, "H": 4, "L": 2}))
    right = solved(known.table, q)
    wrong = scaled(Place("dbias.i"), "2")(known.table)
    beside = solved(wrong, q, beside=right)
    for layer, own in zip(right.layers, beside.layers, strict=True):
        differing = [name for name in layer.env if own.env[name] is not layer.env[name]]
        assert differing == ["dbias.i"]


@pytest.mark.parametrize("carry", ["dc_carry[0]", "dh_carry"])
def test_mistakes_that_are_one_at_three_steps_only(carry: str) -> None:
    """What is left out at the last step, taken for what is there at t=0 only."""
    known = catalogue(head="linear")
    assert f"{carry} is left out at the last step" in {each.identifier for each in known.mistakes}
