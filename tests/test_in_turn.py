"""Mistakes that are found one after the other, as the walk backward meets them."""

import time
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from test_diagnosis import by_name, subject_for
from test_others import made

from torch_ref.diagnosis.backward.table import Factor, Table
from torch_ref.diagnosis.diagnose import as_subject
from torch_ref.diagnosis.evidence import SIZES, draw_case, gather
from torch_ref.diagnosis.matching.in_turn import InTurn, match_in_turn
from torch_ref.diagnosis.matching.single import joint
from torch_ref.diagnosis.matching.unknown import helper_scaled
from torch_ref.diagnosis.mistakes.catalogue import Catalogue, catalogue
from torch_ref.diagnosis.mistakes.edits import Place, factor, scaled

pytestmark = pytest.mark.sampled

SECONDS = 600.0


def among(known: Catalogue, names: Sequence[str]) -> Catalogue:
    """A catalogue with some of its mistakes only."""
    return replace(known, mistakes=tuple(by_name(known, name) for name in names))


def in_turn(table: Table, head: str | None = None, known: Catalogue | None = None) -> InTurn:
    """What is found of a table, held against the usual cases."""
    subject = subject_for(table, head)
    cases = [draw_case(subject, sizes, k) for k, sizes in enumerate(SIZES)]
    evidence = [each for case in cases if (each := gather(subject, case)) is not None]
    until = time.perf_counter() + SECONDS
    return match_in_turn(subject, known or catalogue(head=head), evidence, 0, until)


@pytest.mark.thorough
def test_three_mistakes_of_which_one_is_not_named() -> None:
    """Mistakes of several lines, each of which hides behind the one before."""
    known = catalogue(head="linear")
    names = ["do.c[t]", "weight_out * 2", "dh_carry.transposed"]
    found = in_turn(joint([by_name(known, name) for name in names], known), "linear")
    assert {mistake.identifier for mistake in found.mistakes} == set(names)
    assert found.residual is not None
    assert found.residual < 1


@pytest.mark.thorough
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


def test_one_mistake_that_is_told_twice() -> None:
    """f of two steps later, taken for f of the next step, and once more of the next."""
    known = among(catalogue(), ["dc_carry.f[t+1] clamp", "dc_carry.i", "df.c[t]"])
    found = in_turn(
        factor(Place("dc_carry"), 1, Factor("f", 2, edge="clamp"))(known.table), known=known
    )
    names = [mistake.identifier for mistake in found.mistakes]
    assert names == ["dc_carry.f[t+1] clamp"]
    assert found.residual is None


def test_mistake_that_a_later_one_undoes_and_that_is_told() -> None:
    """h[t-2] looks like h[t] in a case of one step, and h[t] stays beside it in the finding."""
    alike = [f"weight_hh.h[{step}] wrap" for step in ("t", "T-1", "0", "t-2")]
    known = among(catalogue(), ["weight_ih[g].into f", *alike])
    planted = ["weight_hh.h[t-2] wrap", "weight_ih[g].into f"]
    found = in_turn(joint([by_name(known, name) for name in planted], known), known=known)
    assert {mistake.identifier for mistake in found.mistakes} == set(planted)
    assert found.residual is not None


@pytest.mark.thorough
def test_mistake_behind_several_that_are_one_on_the_small_case() -> None:
    """Of those that explain as much, three that no case of two steps tells apart are followed."""
    right = "do = dy * np.tanh(c[t])"
    wrong = "do = deltas[t] * np.tanh(c[t])"
    transposed = "R = np.concatenate([block.T for block in np.split(R, 4)])"
    both = f"if t == len(x) - 1:\n            {transposed}\n        {wrong}"
    implementation = made("peephole_vectors", right, both)

    def vjp(params: Any, x: Any) -> Any:
        zero = np.zeros_like(params["weight_ci_l0"])
        (y, _, _), pullback = implementation.vjp(params, x, zero, zero)

        def back(dy: Any) -> Any:
            found = pullback(dy, zero, zero)
            return {name: found[name] for name in found if name not in ("dh0", "dc0")}

        return y, back

    known = catalogue(implementation.variant)
    names = ["do.dy for dh", "dh_carry.transposed"]
    alike = ["dh[1] * 0", "dh[1] is taken at the last step only", "dh[1] is left out at t=0"]
    few = among(known, [*alike, *names])
    subject = as_subject(replace(implementation, vjp=vjp))
    found = match_in_turn(subject, few, [], 0, time.perf_counter() + SECONDS)
    assert [mistake.identifier for mistake in found.mistakes] == names
