"""What an implementation made of a few cases: what a mistake has to explain."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from manual_lstm.params import GATES
from torch_ref.compare.budget import error_budget
from torch_ref.compare.errors import Comparison, compare_gradients
from torch_ref.diagnosis.backward.interpreter import Solved, gradients, solver
from torch_ref.diagnosis.backward.quantities import Quantities, quantities
from torch_ref.diagnosis.backward.table import Table
from torch_ref.harness.abilities import OUTPUTS
from torch_ref.harness.cases import loud_head, sized_case
from torch_ref.harness.judge import Subject, expected_of, given_case, precision_of, rounding_as
from torch_ref.harness.layouts.layout import Layout
from torch_ref.oracles.case import Case
from torch_ref.oracles.equations import Array, is_step_gradient

# The first is for screening thousands of candidates; the second has every path that there is and
# as many inputs as units, so that matrices can be mixed up; the third is loud enough to be clipped.
SIZES: Sequence[Mapping[str, int]] = (
    {"T": 3, "B": 2, "I": 3, "H": 2, "L": 1},
    {"T": 4, "B": 3, "I": 3, "H": 3, "L": 2},
    {"T": 3, "B": 2, "I": 4, "H": 4, "L": 1},
)
FURTHER: Sequence[Mapping[str, int]] = (
    {"T": 5, "B": 2, "I": 2, "H": 3, "L": 2},
    {"T": 2, "B": 3, "I": 4, "H": 4, "L": 1},
    {"T": 7, "B": 1, "I": 2, "H": 2, "L": 1},
)
# Where all of these are right: a longer one, one with as many sequences as steps, three layers,
# one input and one unit.
UNUSUAL: Sequence[Mapping[str, int]] = (
    {"T": 12, "B": 2, "I": 2, "H": 3, "L": 1},
    {"T": 3, "B": 3, "I": 2, "H": 3, "L": 1},
    {"T": 2, "B": 2, "I": 2, "H": 3, "L": 3},
    {"T": 2, "B": 2, "I": 1, "H": 1, "L": 1},
)
PLAIN: Mapping[str, int] = {"T": 1, "B": 1, "I": 2, "H": 2, "L": 1}
LOUD = 2.0**10
# 1 - sigmoid(40) is below every unit roundoff: a gate is open by either of a pair of biases alone,
# and exp(80) is still a float32.
_OPEN = 80.0


@dataclass(frozen=True)
class Evidence:
    """One case and what came back.

    Attributes:
        case: what the implementation was really given.
        quantities: the case's forward pass, in float64.
        actual, expected, allowed: gradients by name, those that it returns, in float64, and how
            far they may differ.
        right: whether every one of them is within the error budget.
        wrong: the names of those that are not.
        forward: the comparison of its outputs.
        outputs: "loss" or "y", "h_n", "c_n", those that it returns, where they are off, as bool.
        precision: that it was computed in.
        steps: of the gradients at every step that it returns, "dz_lk" and so on, where they are
            off by more than is allowed, as bool.
        loud: whether its upstream gradient is so large that clipped gradients show.
    """

    case: Case
    quantities: Quantities
    actual: Mapping[str, Array]
    expected: Mapping[str, Array]
    allowed: Mapping[str, Array]
    right: bool
    forward: Comparison
    wrong: tuple[str, ...]
    outputs: Mapping[str, Array]
    precision: np.dtype[Any]
    steps: Mapping[str, Array] = field(default_factory=dict)
    loud: bool = False

    def off(self, name: str) -> Array:
        """Where a gradient is off by more than is allowed; NaN is off."""
        return _off(self.actual[name], self.expected[name], self.allowed[name])

    @property
    def all_right(self) -> bool:
        """Whether the outputs, the gradients and those at every step are within the budget."""
        steps = not any(off.any() for off in self.steps.values())
        return self.right and steps and self.forward_right

    @property
    def finite(self) -> bool:
        """Whether every gradient is a number."""
        return all(np.isfinite(value).all() for value in self.actual.values())

    @property
    def forward_right(self) -> bool:
        """Whether no output is wrong."""
        return all(tensor.verdict == "agree" for tensor in self.forward.tensors)

    @property
    def key(self) -> bytes:
        """The same for the same case."""
        case, digest = self.case, hashlib.sha256()
        arrays = [*case.params.values(), case.x, case.h0, case.c0, case.dh_n, case.dc_n]
        for array in (*arrays, case.dy if case.targets is None else case.targets):
            assert array is not None
            digest.update(str(array.shape).encode() + array.tobytes())
        return digest.digest() + np.float64(case.dloss).tobytes()


def gather(subject: Subject, case: Case) -> Evidence | None:
    """Run a case; None where it cannot be run or judged."""
    try:
        expected, allowed = expected_of(subject, case)
        answer = subject.run(case)
    except Exception:  # a crash is a finding of the campaign's, here it is one case less
        return None
    named = {name: np.asarray(value) for name, value in answer.items() if name in expected}
    outputs = [name for name in named if name in OUTPUTS]
    fitting = [name for name in named if named[name].shape == np.shape(expected[name])]
    names = [n for n in fitting if n not in OUTPUTS and not is_step_gradient(n)]
    comparison = _compared(named, expected, allowed, names)
    forward = _compared(named, expected, allowed, outputs)
    real = given_case(subject, case).astype(np.float64)
    return Evidence(
        case=real,
        quantities=quantities(real),
        actual={name: np.asarray(named[name], np.float64) for name in names},
        expected={name: np.asarray(expected[name], np.float64) for name in names},
        allowed={name: np.asarray(allowed[name], np.float64) for name in names},
        right=comparison.verdict == "agree",
        forward=forward,
        wrong=tuple(tensor.name for tensor in comparison.tensors if tensor.verdict == "disagree"),
        outputs={n: _off(named[n], expected[n], allowed[n]) for n in outputs if n in fitting},
        steps={n: _off(named[n], expected[n], allowed[n]) for n in fitting if is_step_gradient(n)},
        precision=precision_of(subject) or np.dtype(case.dtype),
    )


def _off(actual: Array, expected: Array, allowed: Array) -> Array:
    with np.errstate(invalid="ignore"):
        return np.asarray(~(np.abs(actual - expected) <= allowed))


def _compared(
    actual: Mapping[str, Array],
    expected: Mapping[str, Array],
    allowed: Mapping[str, Array],
    names: Sequence[str],
) -> Comparison:
    chosen = {name: actual[name] for name in names}
    return compare_gradients(chosen, {name: expected[name] for name in names}, allowed)


def draw_case(
    subject: Subject, wanted: Mapping[str, int], seed: int, loudness: float = 1.0
) -> Case:
    """A case of these sizes, as far as the implementation can have them."""
    implementation, abilities = subject.implementation, subject.abilities
    sizes = dict(wanted) | dict(implementation.sizes)
    sizes["B"] = sizes["B"] if abilities.batches else 1
    sizes["L"] = sizes["L"] if abilities.stacks else implementation.sizes.get("L", 1)
    case = sized_case(
        sizes,
        dtype=abilities.dtypes[0],
        targets=implementation.head_inside is not None,
        head=implementation.head_inside,
        variant=implementation.variant,
        seed=seed,
    )
    if loudness == 1.0:
        return case
    if case.dy is None:  # nothing but the output weights makes the gradient of h larger
        return loud_head(case, loudness)
    louder = case.dtype.type(loudness)
    names = ("dy", "dh_n", "dc_n")
    return replace(case, **{name: getattr(case, name) * louder for name in names})


def sizes_in_words(case: Case) -> str:
    """For a sentence: T=3, B=2, I=3, H=2, L=1."""
    steps, batch, inputs = case.x.shape
    layers, _, hidden = case.h0.shape
    return f"T={steps}, B={batch}, I={inputs}, H={hidden}, L={layers}"


def predicted(
    subject: Subject, table: Table, evidence: Evidence, beside: Solved | None = None
) -> Mapping[str, Array]:
    """A table's gradients, with those that only the implementation's layout has.

    Args:
        beside: as for `gradients`.

    Raises:
        ValueError: the case's shapes do not admit the table.
    """
    return fitted(subject, gradients(table, evidence.quantities, beside=beside), evidence)


def fitted(subject: Subject, found: Mapping[str, Array], evidence: Evidence) -> Mapping[str, Array]:
    """A table's gradients as the implementation's, as `predicted`."""
    found = completed(subject, found)
    for name, actual in evidence.actual.items():
        if found[name].shape != actual.shape:
            raise ValueError(f"{name} has shape {found[name].shape} by this table.")
    return found


def completed(subject: Subject, found: Mapping[str, Array]) -> dict[str, Array]:
    """Gradients with those that only the implementation's layout has."""
    layout = subject.implementation.layout
    # A table with a mistake in one of two biases has gradients of both.
    return {**layout.complete(found), **found} if isinstance(layout, Layout) else dict(found)


def explains(subject: Subject, table: Table, evidence: Evidence) -> Comparison | None:
    """The evidence against a table, each element within the table's own error budget.

    The budget is that of the wrong equations: their rounding is emulated as that of the right
    ones is. In float64 the prediction rounds too. None where the case does not admit the table.
    """
    foretold = foreseen(subject, table, evidence)
    if foretold is None:
        return None
    found, allowed = foretold
    return compare_gradients(
        evidence.actual, {name: found[name] for name in evidence.actual}, allowed
    )


def foreseen(
    subject: Subject, table: Table, evidence: Evidence
) -> tuple[Mapping[str, Array], Mapping[str, Array]] | None:
    """A table's gradients and its error budget, as in `explains`."""
    try:
        found = predicted(subject, table, evidence)
        allowed = budget_by(subject, table, evidence)
    except ValueError:
        return None
    return found, allowed


def budget_by(subject: Subject, table: Table, evidence: Evidence) -> dict[str, Array]:
    """How far rounding may move each gradient by a table.

    Raises:
        ValueError: the case's shapes do not admit the table.
    """
    sides = 2 if evidence.precision == np.float64 else 1
    with np.errstate(all="ignore"):
        equations = rounding_as(subject, solver(table))
        budget = error_budget(
            evidence.case, dtype=evidence.precision, sides=sides, equations=equations
        )
    return completed(subject, budget.allowed)


def zero(*names: str) -> Callable[[Case], Case]:
    """A change of a case that sets these of its arrays to zero; those that it has not are left."""

    def change(case: Case) -> Case:
        arrays = {
            name: np.zeros_like(value)
            for name in names
            if (value := getattr(case, name)) is not None
        }
        return replace(case, **arrays)

    return change


def no_recurrent_weights(case: Case) -> Case:
    """The case with zero weights from h to the gates."""
    params = {
        name: np.zeros_like(value) if name.startswith("weight_hh") else value
        for name, value in case.params.items()
    }
    return replace(case, params=params)


def held_open(*gates: str) -> Callable[[Case], Case]:
    """A change of a case with biases in which gates, or the candidate, are 1, to rounding."""

    def change(case: Case) -> Case:
        params = {name: value.copy() for name, value in case.params.items()}
        for name, value in params.items():
            kind = name.partition("_l")[0]
            if kind in ("weight_ih", "weight_hh", "bias"):
                blocks = np.split(value, len(GATES))
                for gate in gates:
                    blocks[GATES.index(gate)][...] = _OPEN if kind == "bias" else 0
        return replace(case, params=params)

    return change


def no_output_weights(case: Case) -> Case:
    """The case with zero weights from h to the logits, where it has any."""
    params = {
        name: np.zeros_like(value) if name == "weight_out" else value
        for name, value in case.params.items()
    }
    return replace(case, params=params)


def only_step(t: int) -> Callable[[Case], Case]:
    """A change of a case with dy that leaves the upstream gradient of one step alone."""

    def change(case: Case) -> Case:
        assert case.dy is not None
        dy = np.zeros_like(case.dy)
        dy[t] = case.dy[t]
        return replace(zero("dh_n", "dc_n")(case), dy=dy)

    return change
