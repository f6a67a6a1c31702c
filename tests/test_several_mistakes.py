"""Two or three mistakes at once: one after the other, or as a set that is tried."""

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import pytest
from test_diagnosis import by_name, named, subject_for

from torch_ref import diagnose
from torch_ref.diagnosis.backward.identity import signature
from torch_ref.diagnosis.matching.in_turn import InTurn
from torch_ref.diagnosis.matching.single import joint
from torch_ref.diagnosis.mistakes.catalogue import catalogue
from torch_ref.oracles.variant import STANDARD

pytestmark = pytest.mark.sampled


@pytest.fixture
def only_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    """The search one after the other, which comes before that for sets, finds nothing."""
    nothing = InTurn((), {}, None)
    monkeypatch.setattr("torch_ref.diagnosis.diagnose.match_in_turn", lambda *_: nothing)


@pytest.mark.usefixtures("only_sets")
@pytest.mark.parametrize(
    ("identifiers", "one_in"),
    [
        (("weights.moved by one", "dc_carry[0] is taken at the last step only"), 5),
        (("sigmoid'.y^2", "bias[o] * -1"), 10),
        (("dz_i.y^2", "di.dc after f"), 4),  # in one product, of which neither explains any
        (("weight_hh.first", "bias.first", "dc0 * 2"), 20),
    ],
)
def test_planted_mistakes_are_named_together(
    identifiers: Sequence[str], one_in: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two or three mistakes at once, which no single one explains."""
    known = catalogue()
    planted = [by_name(known, each) for each in identifiers]
    some = tuple(dict.fromkeys([*planted, *known.mistakes[::one_in]]))
    wrong = tuple(each.edit(known.table) for each in some)
    fewer = replace(known, mistakes=some, wrong=wrong)  # three among all of them take a minute
    monkeypatch.setattr("torch_ref.diagnosis.diagnose.catalogue_of", lambda _: fewer)
    sign = partial(signature, variant=STANDARD, loss=False, linear=False)
    table = joint(planted, known)
    told: list[str] = []
    finding = diagnose(subject_for(table, None), seconds=600, tell=told.append).finding
    assert finding is not None
    assert sign(joint(finding.mistakes, known)) == sign(table)
    assert len(finding.mistakes) == len(identifiers)
    assert told[0] == "one mistake"
    assert re.fullmatch(r"(two|three) mistakes together: \d+ sets tried", told[-1])


@pytest.mark.thorough
def test_mistakes_are_sought_one_after_the_other_before_sets_of_them() -> None:
    """Thousands of sets tried where the walk backward meets the mistakes in turn."""
    known, told = catalogue(), list[str]()
    planted = [by_name(known, each) for each in ("do.c[t]", "dc.f", "weight_hh.transposed")]
    subject = subject_for(joint(planted, known), None)
    finding = diagnose(subject, seconds=600, tell=told.append).finding
    assert finding is not None
    assert set(finding.mistakes) == set(planted)
    assert told[-1] == "mistakes one after the other"


@pytest.mark.thorough
@pytest.mark.usefixtures("only_sets")
@pytest.mark.parametrize(
    "identifiers",
    [
        ("weight_hh[o].from g", "dz_g.1-y"),
        ("do.dc for dh", "dc.1-y"),
        ("weights.moved by one", "weight[o].from g"),  # both edit dweight_ih.o
    ],
)
def test_pair_is_named_where_one_reads_what_the_other_spoils(identifiers: Sequence[str]) -> None:
    """A pair that is not tried as neither of the two alone moves what both together move."""
    known = catalogue()
    table = joint([by_name(known, each) for each in identifiers], known)
    assert set(named(subject_for(table, None))) == set(identifiers)
