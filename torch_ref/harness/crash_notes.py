"""What may be behind a crash on the plainest case, in sentences."""

from typing import Any

import numpy as np

from torch_ref.harness.abilities import BOUND, probe
from torch_ref.harness.contract import Implementation, run_implementation, states_taken
from torch_ref.harness.given import without_biases
from torch_ref.harness.layouts.layout import Layout
from torch_ref.oracles.case import Case
from torch_ref.oracles.variant import PEEPHOLES


def crash_notes(implementation: Implementation, error: Exception) -> tuple[str, ...]:
    """That it runs with I = H, a variant whose weights it asks for, or what it was given.

    Args:
        error: what the implementation raised.
    """
    if note := _square(implementation) or _asked_for(error):
        return (note,)
    of_arrays = isinstance(error, LookupError | ValueError | TypeError)
    of_arrays |= type(error) is RuntimeError  # torch's, of shapes
    note = _given(implementation) if of_arrays else ""
    return (note,) if note else ()


def _given(implementation: Implementation) -> str:
    """The names and shapes of what it is called with; "" for a program, which reads files."""
    layout = implementation.layout
    if implementation.form == "program" or not isinstance(layout, Layout):
        return ""
    case = without_biases(_plainest(implementation), layout)
    joined, taken = bool(layout.joined_state), states_taken(implementation, layout)
    names = ("state0",) if joined else ("h0", "c0")
    states = zip(names, layout.states_to(case.h0, case.c0), strict=True)
    arrays = layout.params_to(case.params) | {"x": layout.input_to(case.x)}
    if case.targets is not None:
        arrays["targets"] = layout.targets_to(case.targets)
    arrays |= {name: state for name, state in states if name in taken or (joined and taken)}
    given = ", ".join(f"{name} {_shape(array)}" for name, array in arrays.items())
    if case.dy is not None:
        dy, last = layout.sequence_to(case.dy, "dy"), layout.states_to(case.dh_n, case.dc_n)
        of_states = ("dstate_n",) if joined else ("dh_n", "dc_n")
        further = zip(("dy", *of_states), (dy, *last), strict=True)
        back = ", ".join(f"{name} {_shape(array)}" for name, array in further)
        given += f"; its pullback, what it takes of {back}"
    return f"It was given {given}: a Layout gives it other names and axes."


def _shape(array: Any) -> str:
    if isinstance(array, list):
        return f"a list of {len(array)} {_shape(array[0])}"
    return str(np.shape(array))


def _asked_for(error: Exception) -> str:
    key = str(error.args[0]) if isinstance(error, KeyError) and error.args else ""
    if not key.startswith(PEEPHOLES):
        return ""
    return "Peepholes are a variant's: Implementation(..., variant=Variant(peepholes=True))."


def _square(implementation: Implementation) -> str:
    """How to say that it is bound to I = H, for what raises elsewhere and runs there; else ""."""
    case = _plainest(implementation, I=3)
    if case.x.shape[-1] != case.h0.shape[-1]:  # bound to other sizes
        return ""
    try:
        run_implementation(implementation, case)
    except Exception:
        return ""
    return f"With I = H it runs: if it is bound to that, {BOUND}."


def _plainest(implementation: Implementation, **sizes: int) -> Case:
    return probe(implementation, implementation.dtype or "float64", **sizes)
