"""What an implementation can do, found by trying; the rest is reported as not verified."""

from dataclasses import dataclass

import numpy as np

from torch_ref.harness.cases import sized_case
from torch_ref.harness.contract import Answer, Implementation, run_implementation
from torch_ref.oracles.case import Case

OUTPUTS = ("loss", "y", "h_n", "c_n")
_PARTS = {
    "h0": "a non-zero h0",
    "c0": "a non-zero c0",
    "dy": "the upstream gradient dy",
    "dh_n": "the upstream gradient dh_n",
    "dc_n": "the upstream gradient dc_n",
}


@dataclass(frozen=True)
class Abilities:
    """What may be asked of an implementation.

    Attributes:
        ignored: what it does not take, of "h0", "c0", "dy", "dh_n", "dc_n".
        returned: the names of the results it gives.
        dtypes: the dtypes in which it computes.
        stacks: whether it takes more than one layer. batches: more than one sequence.
        unverified: a phrase for each thing that it cannot do.
    """

    ignored: frozenset[str]
    returned: frozenset[str]
    dtypes: tuple[str, ...]
    stacks: bool
    batches: bool
    unverified: tuple[str, ...]


def find_abilities(implementation: Implementation) -> Abilities:
    """Try an implementation on small cases: both dtypes, then two sequences, then two layers.

    Raises:
        Exception: what the implementation raises on the plainest case of all.
    """
    names = (implementation.dtype,) if implementation.dtype else ("float64", "float32")
    answers: dict[str, Answer] = {}
    refusals: list[Exception] = []
    for name in names:
        try:
            answers[name] = run_implementation(implementation, probe(implementation, name))
        except Exception as error:
            refusals.append(error)
    if not answers:
        raise refusals[0]
    dtypes = _dtypes(answers)
    batches = _can(implementation, dtypes[0], B=2)
    stacks = _can(implementation, dtypes[0], L=2)
    first = next(iter(answers.values()))
    expected = set(_expected_names(implementation, probe(implementation, dtypes[0])))
    unverified = [_PARTS[name] for name in _PARTS if name in first.ignored]
    unverified += [described(name) for name in sorted(expected - set(first.results))]
    unverified += [] if batches else ["batches (more than one sequence)"]
    unverified += [] if stacks else ["stacks (more than one layer)"]
    unverified += [f"{name}: it computes in {dtypes[0]}" for name in names if name not in dtypes]
    return Abilities(
        first.ignored, frozenset(first.results), dtypes, stacks, batches, tuple(unverified)
    )


def probe(implementation: Implementation, dtype: str, **sizes: int) -> Case:
    """A small case that the implementation's own sizes admit."""
    wanted = {"T": 3, "B": 1, "I": 2, "H": 3, "L": 1} | sizes | dict(implementation.sizes)
    return sized_case(
        wanted,
        dtype=dtype,
        targets=implementation.head_inside is not None,
        head=implementation.head_inside,
        variant=implementation.variant,
    )


def _dtypes(answers: dict[str, Answer]) -> tuple[str, ...]:
    """The dtypes that come back as they went in; failing that, the one that always comes back."""
    kept = tuple(
        name
        for name, answer in answers.items()
        if _dtype_of(answer) == name and not _widens(answer, name)
    )
    return kept or (_dtype_of(next(iter(answers.values()))),)


def _widens(answer: Answer, dtype: str) -> bool:
    """Whether some result is float64 although the case is float32: np.zeros(shape) is, say."""
    found = [np.asarray(v).dtype for k, v in answer.results.items() if k != "loss"]
    return dtype == "float32" and any(each == np.float64 for each in found)


def _dtype_of(answer: Answer) -> str:
    """The narrowest dtype among the gradients: the one that the arithmetic was done in."""
    found = [np.asarray(v).dtype for k, v in answer.results.items() if k != "loss"]
    narrow = any(dtype == np.float32 for dtype in found)
    return "float32" if narrow else "float64"


def _can(implementation: Implementation, dtype: str, **sizes: int) -> bool:
    if any(implementation.sizes.get(name, count) != count for name, count in sizes.items()):
        return False
    case = probe(implementation, dtype, **sizes)
    try:
        results = run_implementation(implementation, case).results
    except Exception:
        return False
    # Without a gradient for the second layer it has not refused a stack, but not done it either.
    weights = _weights(implementation, case)
    return "dweight_ih_l0" not in results or all(name in results for name in weights)


def _weights(implementation: Implementation, case: Case) -> list[str]:
    layout = implementation.layout
    biased = layout == "auto" or layout.bias != "none"
    return [f"d{name}" for name in case.params if biased or not name.startswith("bias_l")]


def described(name: str) -> str:
    """A result that is not there, as a phrase of what is not verified."""
    return f"the output {name}" if name in OUTPUTS else f"the gradient {name}"


def _expected_names(implementation: Implementation, case: Case) -> list[str]:
    outputs = ["y", "h_n", "c_n"] if implementation.head_inside is None else ["loss"]
    return [*outputs, *_weights(implementation, case), "dx", "dh0", "dc0"]
