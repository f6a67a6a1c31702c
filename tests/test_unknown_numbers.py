"""Mistakes with a number in them that the catalogue cannot list."""

from fractions import Fraction
from typing import Any

import pytest
from test_diagnosis import subject_for

from torch_ref import diagnose
from torch_ref.diagnosis.matching.unknown import families, simplest
from torch_ref.diagnosis.mistakes.catalogue import catalogue

pytestmark = pytest.mark.sampled

# family, number, head, dtype, and what the sentence says of it
PLANTED = [
    ("dh_carry * ", "0.3", None, None, "hands to t-1 is multiplied by 0.3."),
    ("decay of weight and bias * ", "0.01", None, None, "0.01 times the weight is added, of every"),
]
MORE = [
    ("dc.clipped at ", "0.25", None, "float32", "clipped to [-0.25, 0.25] within the loop."),
    ("dz.clipped at ", "100", None, None, "are clipped to [-100, 100] within the loop."),
    ("tanh' * ", "0.5", None, None, "1 - y^2 is needed the backward pass takes it times 0.5."),
    ("dlogits.smoothed by ", "0.1", "linear", None, "smoothed targets: 0.1 of each is spread."),
    ("dz.clipped at ", "0.01", "bounded", "float32", "are clipped to [-0.01, 0.01] within the"),
    ("dh_carry.clipped at ", "0.1", None, None, "hands to t-1 is clipped to [-0.1, 0.1] within"),
    ("weight_hh.updated in the loop at ", "0.05", None, None, "a learning rate of 0.05 within"),
    ("dlogits * ", "0.7", "linear", "float32", "by 0.7, as by a temperature of 1.42857143."),
    ("sigmoid' * ", "-1", "linear", None, "(1 - y) is needed the backward pass takes it times -1."),
    ("dlogits.p * ", "1.1", "bounded", None, "the softmax multiplies p by 1.1."),
]


@pytest.mark.parametrize(
    ("family", "number", "head", "dtype", "words"),
    [*PLANTED, *(pytest.param(*each, marks=pytest.mark.thorough) for each in MORE)],
)
def test_number_that_is_in_no_catalogue_is_found(
    family: str, number: str, head: Any, dtype: Any, words: str
) -> None:
    """A factor, a limit or a rate that is only located, or taken for two mistakes."""
    known = catalogue(head=head)
    (planted,) = [each for each in families(known) if each.identifier == family]
    subject = subject_for(planted.table(Fraction(number)), head, dtype)
    finding = diagnose(subject, seconds=600).finding
    assert finding is not None
    (mistake,) = finding.mistakes
    assert mistake.identifier == f"{family}{number}"
    assert mistake.sentence.endswith(words) or words in mistake.sentence
    assert mistake.wrong != mistake.right


def test_every_doubled_or_clipped_line_has_its_family() -> None:
    """A sentence of the catalogue that is worded so that no number can be put into it."""
    for head in (None, "linear", "bounded"):
        known = catalogue(head=head)
        found = {each.identifier for each in families(known)}
        for mistake in known.mistakes:
            if mistake.identifier.endswith((" * 2", ".clipped at 1", "loop at 1.0")):
                assert (
                    mistake.identifier.removesuffix("2").removesuffix("1").removesuffix("1.0")
                    in found
                ), mistake
        for family in families(known):
            told = family.sentence.format("NUMBER")
            assert "NUMBER" in told
            assert "doubled" not in told
            assert told.endswith(".")


@pytest.mark.parametrize(
    ("value", "error", "number"),
    [(0.30000001, 1e-6, "0.3"), (99.99, 0.1, "1e2"), (1 / 3, 1e-3, "0.333"), (0.7, 0.0, "0.7")],
)
def test_number_with_the_fewest_decimals(value: float, error: float, number: str) -> None:
    """A number that is further off than it may be, or has digits that nothing supports."""
    found = simplest(value, error)
    assert abs(found - Fraction(value)) <= Fraction(error)
    assert float(found) == float(number)
