"""Mistakes that are found one after the other, as the walk backward meets them."""

import time
from fractions import Fraction

from test_diagnosis import by_name, subject_for

from torch_ref.diagnosis.backward.table import Table
from torch_ref.diagnosis.evidence import SIZES, draw_case, gather
from torch_ref.diagnosis.matching.in_turn import InTurn, match_in_turn
from torch_ref.diagnosis.matching.single import joint
from torch_ref.diagnosis.matching.unknown import helper_scaled
from torch_ref.diagnosis.mistakes.catalogue import catalogue
from torch_ref.diagnosis.mistakes.edits import Place, scaled

SECONDS = 600.0


def in_turn(table: Table, head: str | None = None) -> InTurn:
    """What is found of a table, held against the usual cases."""
    subject = subject_for(table, head)
    cases = [draw_case(subject, sizes, k) for k, sizes in enumerate(SIZES)]
    evidence = [each for case in cases if (each := gather(subject, case)) is not None]
    until = time.perf_counter() + SECONDS
    return match_in_turn(subject, catalogue(head=head), evidence, 0, until)


def test_three_mistakes_of_which_one_is_not_named() -> None:
    """Mistakes of several lines, each of which hides behind the one before."""
    known = catalogue(head="linear")
    names = ["do.c[t]", "weight_out * 2", "dh_carry.transposed"]
    found = in_turn(joint([by_name(known, name) for name in names], known), "linear")
    assert {mistake.identifier for mistake in found.mistakes} == set(names)
    assert found.residual is not None
    assert found.residual < 1


def test_helper_with_the_wrong_sign_beside_a_wrong_line() -> None:
    """y (y - 1) for y (1 - y) in a function that three gates share, and another mistake."""
    known = catalogue(head="linear")
    helper = helper_scaled(known.table, "y(1-y)", Fraction(-1))
    other = by_name(known, "dc.derivative at tanh's derivative 1 - c[t]^2")
    found = in_turn(helper(other.edit(known.table)), "linear")
    assert {mistake.identifier for mistake in found.mistakes} == {"sigmoid' * -1", other.identifier}
    assert found.residual is not None


def test_known_mistake_before_an_unknown_one_that_is_kept_back() -> None:
    """What is wrong first is told although what is handed to t-1 has a factor of its own."""
    known = catalogue()
    first = by_name(known, "do.c[t]")
    table = scaled(Place("dh_carry", 1), "0.37")(first.edit(known.table))
    found = in_turn(table)
    assert [mistake.identifier for mistake in found.mistakes] == [first.identifier]
    assert found.residual is None
    assert found.sizes == {"T": 1, "B": 1, "L": 1}
    assert first.sentence in found.sentence
    assert "T=1" in found.sentence


def test_right_table_has_no_mistakes_in_turn() -> None:
    """A mistake that is told of what has none."""
    found = in_turn(catalogue().table)
    assert (found.mistakes, found.sizes, found.sentence) == ((), {}, "")
