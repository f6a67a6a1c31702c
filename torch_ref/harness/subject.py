"""What is found out about an implementation before it is judged: abilities, and how tanh rounds.

2 sigmoid(2z) - 1 and (e^z - e^-z) / (e^z + e^-z) are tanh(z) but for an error of a unit roundoff
of 1, not of tanh(z): rounding, and no wrong backward pass. It is seen where arguments are small.
"""

from dataclasses import replace

from torch_ref.harness.abilities import OUTPUTS, find_abilities
from torch_ref.harness.cases import sized_case
from torch_ref.harness.contract import Implementation
from torch_ref.harness.judge import Subject, judge
from torch_ref.oracles.case import Case

COARSE_TANH = (
    "Its tanh loses the digits of a small argument, as 2 sigmoid(2z) - 1 and "
    "(e^z - e^-z)/(e^z + e^-z) do; that is allowed for."
)
# Small enough for tanh to show how it rounds, and no smaller: what is left of it must be judged.
_SMALL = {"float32": 2.0**-8, "float64": 2.0**-20}


def subject_of(implementation: Implementation) -> Subject:
    """An implementation with what it can do and how its tanh rounds.

    Raises:
        Exception: what the implementation raises on the plainest case of all.
    """
    return _with_tanh_found(Subject(implementation, find_abilities(implementation)))


def _with_tanh_found(subject: Subject) -> Subject:
    """The subject, marked if small weights show that its tanh is a coarse one."""
    coarse = replace(subject, coarse_tanh=True)
    case = _small_weights(subject)
    # A wrong backward pass hides nothing of the forward's tanh; of a head's loss alone it would.
    only = OUTPUTS if subject.implementation.head_inside is None else None
    try:
        if judge(subject, case, only).verdict == "agree":
            return subject
        return coarse if judge(coarse, case, only).verdict == "agree" else subject
    except Exception:  # what it cannot run is another finding's
        return subject


def _small_weights(subject: Subject) -> Case:
    implementation = subject.implementation
    case = sized_case(
        {"T": 1, "B": 1, "I": 2, "H": 2, "L": 1} | dict(implementation.sizes),
        dtype=subject.abilities.dtypes[0],
        targets=implementation.head_inside is not None,
        head=implementation.head_inside,
        variant=implementation.variant,
    )
    small = case.dtype.type(_SMALL[case.dtype.name])
    params = {name: value * small for name, value in case.params.items()}
    return replace(case, params=params, h0=case.h0 * 0, c0=case.c0 * 0)
