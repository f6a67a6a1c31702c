"""Small cases given to an implementation, one condition after the other."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch_ref.diagnosis.evidence import Evidence, draw_case, gather
from torch_ref.harness.cases import member_of
from torch_ref.harness.judge import Subject
from torch_ref.oracles.case import Case

Change = Callable[[Case], Case]
SMALL = {"T": 1, "B": 1, "I": 2, "H": 3, "L": 1}


@dataclass(frozen=True)
class Probes:
    """Runs the probes of one implementation."""

    subject: Subject
    seed: int

    def run(self, change: Change | None = None, **sizes: int) -> Evidence | None:
        """A case of these sizes with a change made to it."""
        case = draw_case(self.subject, SMALL | sizes, self.seed)
        return gather(self.subject, change(case) if change else case)

    def wrong_alone(self, evidence: Evidence) -> Evidence | None:
        """A sequence of a batch that is wrong by itself too; None where all of them are right."""
        for b in range(evidence.case.x.shape[1]):
            alone = gather(self.subject, member_of(evidence.case, b))
            if alone is not None and not alone.all_right:
                return alone
        return None

    def right(self, change: Change, **sizes: int) -> bool:
        """Whether everything is right in that case, and there was something to see."""
        evidence = self.run(change, **sizes)
        return evidence is not None and evidence.right and bool(evidence.actual)


def as_asked(evidence: Evidence, sizes: Mapping[str, int]) -> bool:
    """Whether the case has the steps, sequences and layers that were asked for."""
    layers, batch, _ = evidence.case.h0.shape
    asked = {**SMALL, **sizes}
    wanted = (asked["T"], sizes.get("B", batch), sizes.get("L", layers))
    return wanted == (len(evidence.case.x), batch, layers)
