"""Every gate's gradient at every step, dz in (15), read from outside an implementation.

The gradient of the first layer's input weights is a sum over steps and members, equation (18a):
dweight_ih_l0 = sum over (t, b) of dz[t, b] x[t, b]^T. Where every x[t, b] is a unit vector of its
own the sum has one term in each column, and that column *is* dz[t, b], without any rounding: the
other terms are products with 0. `one_input_a_step` gives any case such inputs and changes no dz.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from manual_lstm.params import GATES
from torch_ref.compare.errors import budget_shares
from torch_ref.diagnosis.backward.render import joined
from torch_ref.diagnosis.elements import Elements, elements_of
from torch_ref.diagnosis.evidence import Evidence, gather
from torch_ref.harness.judge import Subject
from torch_ref.oracles.case import Case
from torch_ref.oracles.equations import Array

# x and weight_ih_l0 grow with the number of steps and members, and with its square what they cost.
MOST_INPUTS = 64
_SOURCE = "dweight_ih_l0"


@dataclass(frozen=True)
class StepErrors:
    """The gradients of one layer's gates before their activation, step by step.

    Attributes:
        source: the result that they were read from: "dweight_ih_l0", or "dz_lk" where the
            implementation returns that.
        layer: k.
        actual, expected, allowed: (T, B, 4, H), gates i, f, g, o.
        only_the_sum: whether dx is right although dz, read from a sum, seems wrong: then dz is
            right as well, and what is wrong is the sum, equation (18a).
    """

    source: str
    layer: int
    actual: Array
    expected: Array
    allowed: Array
    only_the_sum: bool = False

    @property
    def shares(self) -> Array:
        """(T, B, 4, H), which share of its budget each element uses; see `budget_shares`."""
        return budget_shares(self.actual, self.expected, self.allowed)

    @property
    def wrong(self) -> Array:
        """(T, 4), whether a gate is wrong at a step in any member and unit; NaN is wrong."""
        return np.asarray(~(self.shares <= 1).all(axis=(1, 3)))

    @property
    def sentence(self) -> str:
        """Where dz is first wrong, walking backward, and in which gates."""
        wrong = self.wrong
        if not wrong.any():
            return "Every gate's gradient is right at every step."
        if self.only_the_sum:
            return (
                "dx is right, and with it every dz: what is wrong is their sum over the steps, "
                "equation (18a)."
            )
        last = len(wrong) - 1
        first = int(np.flatnonzero(wrong.any(axis=1))[-1])
        off = [gate for gate, is_off in zip(GATES, wrong[first], strict=True) if is_off]
        right = [gate for gate in GATES if gate not in off]
        but = f", not in {joined(right)}" if right else ""
        if first == last:
            return f"Wrong at the last step already, t={last}, in {joined(off)}{but}."
        until = f"t={last}" if first == last - 1 else f"t={last} back to t={first + 1}"
        return (
            f"Walking backward, right at {until}; first wrong at t={first}, in {joined(off)}{but}."
        )


def one_input_a_step(case: Case, inputs: int | None = None) -> Case:
    """The same forward pass, and the same dz, from inputs of which no two are the same.

    x[t, b] becomes the unit vector e_(t B + b), and column t B + b of weight_ih_l0 the product
    weight_ih_l0 @ x[t, b] of the case, so that every gate keeps its argument (1), but for rounding.

    Args:
        case: any.
        inputs: I of the new case, where it cannot be chosen: the classes of a character model,
            the size that an implementation is bound to. None is as many as are needed.

    Returns:
        A case with I = T B inputs, or `inputs` of them, of dtype and weights as before. Where T B
        is more than there are inputs, or than MOST_INPUTS, it has the first members and steps
        only, with dh_n and dc_n behind the last of these.
    """
    most = min(MOST_INPUTS if inputs is None else inputs, MOST_INPUTS)
    steps, batch, _ = case.x.shape
    batch = min(batch, max(1, most // steps))
    steps = min(steps, most // batch)
    case = _first(case, steps, batch)
    count = steps * batch
    columns = count if inputs is None else inputs
    given = case.x.reshape(count, -1).astype(np.float64)
    old = case.params["weight_ih_l0"]
    weight = np.zeros((len(old), columns), case.dtype)
    weight[:, :count] = old.astype(np.float64) @ given.T
    x = np.eye(count, columns, dtype=case.dtype).reshape(steps, batch, columns)
    return replace(case, params={**case.params, "weight_ih_l0": weight}, x=x)


def own_inputs(x: Array) -> Array | None:
    """Which input each step and member has to itself: (T, B) whole numbers, or None.

    Args:
        x: (T, B, I).
    """
    flat = x.reshape(-1, x.shape[-1])
    columns = flat.argmax(axis=1)
    units = np.eye(x.shape[-1], dtype=x.dtype)[columns]
    if not np.array_equal(flat, units) or len(set(columns.tolist())) < len(columns):
        return None
    return np.asarray(columns.reshape(x.shape[:2]))


def read_steps(elements: Elements) -> tuple[StepErrors, ...]:
    """Every dz that the results of a case show.

    Returns:
        Each layer whose "dz_lk" (T, B, 4H) is among the results; without any, the first layer,
        read from dweight_ih_l0, where the case has an input of its own for every step and member.
        Empty where neither is so.
    """
    steps, batch, _ = elements.case.x.shape

    def whole(layer: int) -> StepErrors:
        source = f"dz_l{layer}"

        def read(side: Mapping[str, Array]) -> Array:
            return np.asarray(side[source]).reshape(steps, batch, len(GATES), -1)

        return StepErrors(source, layer, *_each(elements, read))

    layers = [k for k in range(elements.case.num_layers) if f"dz_l{k}" in elements.names]
    if layers:
        return tuple(whole(layer) for layer in layers)
    columns = own_inputs(elements.case.x)
    if columns is None or _SOURCE not in elements.names:
        return ()

    def read(side: Mapping[str, Array]) -> Array:
        dz = np.asarray(side[_SOURCE])[:, columns]  # (4H, T, B)
        return np.moveaxis(dz, 0, -1).reshape(steps, batch, len(GATES), -1)

    found = StepErrors(_SOURCE, 0, *_each(elements, read))
    shown = _reaching_x(elements.case).reshape(len(GATES), -1)[:, 0]
    wrong = found.wrong.any(axis=0)
    by_dx = "dx" in elements.names and not elements.wrong("dx") and not (wrong & ~shown).any()
    return (replace(found, only_the_sum=by_dx and bool(wrong.any())),)


def step_errors(
    run: Callable[[Case], Elements | None], case: Case, inputs: int | None = None
) -> tuple[Case, tuple[StepErrors, ...]]:
    """dz of a case, whatever its inputs are: run as it is, and if need be with inputs of its own.

    Args:
        run: what makes elements of a case; None where it cannot.
        case: any.
        inputs: as for `one_input_a_step`.

    Returns:
        The case that they are of, and what `read_steps` finds in it; () where that is nothing.
    """
    elements = run(case)
    found = () if elements is None else read_steps(elements)
    if found:
        return case, found
    given = one_input_a_step(case, inputs)
    elements = run(given)
    return (case, ()) if elements is None else (given, read_steps(elements))


def subject_step_errors(subject: Subject, case: Case) -> tuple[Case, tuple[StepErrors, ...]]:
    """`step_errors` of an implementation, whose sizes or head may bind the number of inputs."""
    return step_errors(lambda given: elements_of(subject, given), case, bound_inputs(subject, case))


def bound_inputs(subject: Subject, case: Case) -> int | None:
    """I, where a head or the implementation's own sizes bind it; None where it can be chosen."""
    implementation = subject.implementation
    bound = implementation.head_inside is not None or "I" in implementation.sizes
    return case.x.shape[-1] if bound else None


def _each(
    elements: Elements, read: Callable[[Mapping[str, Array]], Array]
) -> tuple[Array, Array, Array]:
    return read(elements.actual), read(elements.expected), read(elements.allowed)


def _first(case: Case, steps: int, batch: int) -> Case:
    """The first steps of the first members, as a window of their own."""

    def cut(array: Any) -> Any:
        return None if array is None else array[:steps, :batch]

    states = {name: getattr(case, name)[:, :batch].copy() for name in ("h0", "c0", "dh_n", "dc_n")}
    return replace(case, x=cut(case.x), dy=cut(case.dy), targets=cut(case.targets), **states)


def _reaching_x(case: Case) -> Array:
    """(4H,), of which rows dz shows in dx, equation (17): where the gate's block is not zero."""
    blocks = np.split(case.params["weight_ih_l0"], len(GATES))
    return np.repeat([bool(block.any()) for block in blocks], len(blocks[0]))


def with_steps_read(subject: Subject, evidence: Evidence) -> Evidence | None:
    """Evidence like this one, from inputs of their own, with the first layer's dz among its steps.

    Returns:
        None where the implementation cannot be run so, where nothing is wrong with such inputs,
        or where it returns no gradient of weight_ih_l0.
    """
    case = one_input_a_step(evidence.case, bound_inputs(subject, evidence.case))
    columns = own_inputs(case.x)
    if subject.implementation.reduction == "sum" and evidence.case.targets is not None:
        case = replace(case, dloss=case.dloss / evidence.case.targets.size)  # it is given the sum's
    found = gather(subject, case.astype(subject.abilities.dtypes[0]))
    if found is None or found.right or columns is None or _SOURCE not in found.actual:
        return None
    off = np.moveaxis(found.off(_SOURCE)[:, columns], 0, -1)  # (T, B, 4H)

    def right(name: str) -> bool:
        return name in found.actual and not found.off(name).any()

    if right("dx"):  # then only the sum is wrong
        off = off & ~_reaching_x(case)
    elif "dbias_l0" in found.actual:  # and then in the gates where the biases' is right
        of_gates = found.off("dbias_l0").reshape(len(GATES), -1).any(axis=1)
        off = off & np.repeat(of_gates, off.shape[-1] // len(GATES))
    return replace(found, steps={"dz_l0": off})


def in_words(errors: Sequence[StepErrors]) -> str:
    """The sentences of several layers, each with its layer where there is more than one."""
    if len(errors) == 1:
        return errors[0].sentence
    return " ".join(f"Layer {each.layer}: {each.sentence}" for each in errors)
