"""The plainest case in which something is wrong: few steps, one sequence, one layer first."""

from dataclasses import replace
from typing import NamedTuple

from torch_ref.diagnosis.evidence import Evidence
from torch_ref.diagnosis.locating.probing import Probes, as_asked
from torch_ref.diagnosis.locating.walk import FirstWrong, first_wrong_of
from torch_ref.harness.judge import Subject
from torch_ref.oracles.equations import is_step_gradient

_PLAINEST_FIRST: tuple[tuple[dict[str, int], str], ...] = (
    ({}, "Wrong for a single step (T=1) already"),
    ({"T": 2}, "Right at T=1; wrong at T=2"),
    ({"T": 5}, "Right at T=1 and T=2; wrong at T=5"),
    ({"T": 9}, "Right at T=1, T=2 and T=5; wrong at T=9"),
    ({"T": 2, "B": 3}, "Right for one sequence; wrong for a batch of three"),
    ({"L": 2}, "Right for one layer; wrong for a stack of two at T=1"),
    ({"T": 2, "L": 2}, "Right for one layer, and for two at T=1; wrong for two at T=2"),
    ({"T": 3, "B": 2, "L": 3}, "Right for one layer and for two; wrong for three"),
    ({"T": 2, "I": 3}, "Right for I = 2 and H = 3; wrong for I = H = 3"),
    ({"T": 50, "H": 3}, "Right for a few steps; wrong at T=50"),
)
# Of one step, as one case may hide it: a target that is the input too, say.
_DRAWS = 3


class Plainest(NamedTuple):
    """The plainest case with anything wrong: what draws it, its sizes, what that says, and it."""

    probes: Probes
    sizes: dict[str, int]
    sentence: str
    evidence: Evidence


def plainest_wrong(first: Probes) -> Plainest | None:
    """The plainest case with anything wrong; None if the probes find nothing."""
    for sizes, sentence in _PLAINEST_FIRST:
        for draw in range(1 if "T" in sizes else _DRAWS):
            probes = replace(first, seed=first.seed + 1000 * draw)
            evidence = probes.run(None, **sizes)
            if evidence is not None and as_asked(evidence, sizes) and not evidence.all_right:
                return Plainest(probes, sizes, sentence, evidence)
    return None


def walked_back(subject: Subject, seed: int) -> FirstWrong | None:
    """The first wrong one of the gradients at every step, in the plainest case with anything wrong.

    Returns:
        None if the implementation returns none of them, or the probes find nothing wrong.
    """
    if not any(map(is_step_gradient, subject.abilities.returned)):
        return None
    found = plainest_wrong(Probes(subject, seed))
    return None if found is None else first_wrong_of(found.evidence)
