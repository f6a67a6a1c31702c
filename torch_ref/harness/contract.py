"""The contract for somebody else's LSTM, and a case run through it.

Three forms. `vjp(params, x, h0, c0) -> ((y, h_n, c_n), pullback)` with
`pullback(dy, dh_n, dc_n) -> gradients`; `loss_and_grads(params, x, targets, h0, c0) ->
(loss, gradients)` for code with its head inside; and a program that reads a case from files.
What an implementation does not take or return it leaves out; `abilities` finds that out.
"""

import copy
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from manual_lstm.arrays import FloatArray
from manual_lstm.model import Head
from torch_ref.harness.layout import Layout
from torch_ref.harness.program import run_program
from torch_ref.oracles.case import Case, Results
from torch_ref.oracles.variant import STANDARD, Variant

Form = Literal["vjp", "loss", "program"]
_STATES = ("h0", "c0")
_UPSTREAM = ("dy", "dh_n", "dc_n")


@dataclass(frozen=True)
class Implementation:
    """Somebody's LSTM, and what has to be known about it.

    Attributes:
        name: what to call it in a report.
        vjp: the first form, or None.
        loss_and_grads: the second form, or None.
        command: the third, "./prog {case} {result}", or None. Just one of the three is given.
        layout: how its arrays are arranged; "auto" tries what explains its forward output.
        variant: which cell it computes, where it is not the standard one.
        head: of the second and third form.
        reduction: what its loss does over steps and batch, "mean" or "sum".
        sizes: the sizes it is bound to, for instance {"I": 26, "H": 100, "L": 1}.
        dtype: "float32" or "float64" where it has only that one; None is for both.
        timeout: of one run of the command, in seconds.

    Raises:
        ValueError: not just one form, or a word that is not in the list.
    """

    name: str
    vjp: Callable[..., Any] | None = None
    loss_and_grads: Callable[..., Any] | None = None
    command: str | None = None
    layout: Layout | Literal["auto"] = field(default_factory=Layout)
    variant: Variant = STANDARD
    head: Head = "linear"
    reduction: Literal["mean", "sum"] = "mean"
    sizes: Mapping[str, int] = field(default_factory=dict)
    dtype: Literal["float32", "float64"] | None = None
    timeout: float = 10.0

    def __post_init__(self) -> None:
        forms = [self.vjp, self.loss_and_grads, self.command]
        if sum(form is not None for form in forms) != 1:
            raise ValueError(
                f"implementation {self.name!r} must have just one of vjp, loss_and_grads, command."
            )
        _check_word("reduction", self.reduction, ("mean", "sum"))
        _check_word("head", self.head, ("linear", "bounded"))
        _check_word("dtype", self.dtype, (None, "float32", "float64"))
        for size in self.sizes:
            _check_word("sizes", size, ("T", "B", "I", "H", "L", "V"))

    @property
    def form(self) -> Form:
        """Which of the three it is."""
        if self.vjp is not None:
            return "vjp"
        return "loss" if self.loss_and_grads is not None else "program"


def as_implementation(target: Any, name: str | None = None) -> Implementation:
    """An Implementation as it is, or a bare callable as one with the default layout.

    A callable with a parameter named `targets` has the loss form, any other the vjp form.

    Raises:
        ValueError: neither.
    """
    if isinstance(target, Implementation):
        return target
    if not callable(target):
        raise ValueError(
            f"the implementation is {type(target).__name__} but must be an Implementation, or a "
            "callable vjp(params, x, h0, c0) or loss_and_grads(params, x, targets, h0, c0)."
        )
    called = name or getattr(target, "__qualname__", type(target).__name__)
    if "targets" in _parameters(target, ()):
        return Implementation(called, loss_and_grads=target)
    return Implementation(called, vjp=target)


@dataclass(frozen=True)
class Answer:
    """What an implementation made of a case, in manual_lstm's arrangement.

    Attributes:
        results: "loss" or "y", "h_n", "c_n" and gradients; what it did not return is not there.
        ignored: what of the case it did not take: "h0", "c0", "dh_n", "dc_n".
        modified: what of its arguments it changed in place.
    """

    results: Results
    ignored: frozenset[str]
    modified: tuple[str, ...] = ()


def run_implementation(implementation: Implementation, case: Case) -> Answer:
    """Give a case to an implementation, in its own layout.

    Args:
        case: with targets for the loss form, with dy for the vjp form, either for a program.

    Raises:
        NotImplementedError: it says that it cannot do this case.
        MalformedAnswer: what came back cannot be read.
        Exception: whatever it raises; for a program those of `run_program`.
    """
    layout = implementation.layout
    if layout == "auto":
        raise ValueError(f"the layout of {implementation.name!r} must be found before it is run.")
    if implementation.form == "program":
        assert implementation.command is not None
        results = run_program(implementation.command, case, timeout=implementation.timeout)
        return Answer(results, frozenset())
    given = {
        "params": layout.params_to({name: value.copy() for name, value in case.params.items()}),
        "x": layout.sequence_to(case.x.copy()),
        "h0": layout.state_to(case.h0.copy()),
        "c0": layout.state_to(case.c0.copy()),
    }
    if implementation.form == "loss":
        return _run_loss(implementation, layout, case, given)
    return _run_vjp(implementation, layout, case, given)


class MalformedAnswer(Exception):
    """An implementation returned something that the contract has no place for."""


def restricted(case: Case, ignored: frozenset[str]) -> Case:
    """The case that an implementation which ignores these is really given: they are zero."""
    zeros = {name: np.zeros_like(getattr(case, name)) for name in ignored}
    return replace(case, **zeros)


def _run_vjp(
    implementation: Implementation, layout: Layout, case: Case, given: dict[str, Any]
) -> Answer:
    assert implementation.vjp is not None
    assert case.dy is not None
    states = _taken(implementation.vjp, 2, _STATES)
    before = _flat_copy(given)
    returned = implementation.vjp(
        given["params"], given["x"], *(given[name] for name in states)
    )
    if not isinstance(returned, tuple) or len(returned) != 2 or not callable(returned[1]):
        raise MalformedAnswer(
            f"{implementation.name} returned {_kind(returned)} but must return "
            "((y, h_n, c_n), pullback)."
        )
    outputs, pullback = returned
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    upstream = {
        "dy": layout.sequence_to(case.dy.copy()),
        "dh_n": layout.state_to(case.dh_n.copy()),
        "dc_n": layout.state_to(case.dc_n.copy()),
    }
    before |= _flat_copy(upstream)
    taken = _taken(pullback, 0, _UPSTREAM)
    gradients = pullback(*(upstream[name] for name in taken))
    results: Results = {}
    converters = (layout.sequence_from, layout.state_from, layout.state_from)
    for name, value, convert in zip(("y", "h_n", "c_n"), outputs, converters, strict=False):
        if value is not None:
            results[name] = convert(np.asarray(value))
    results |= _read_gradients(implementation, layout, gradients)
    ignored = (set(_STATES) - set(states)) | (set(_UPSTREAM) - set(taken))
    return Answer(results, frozenset(ignored), _changed(before, _flat_copy(given | upstream)))


def _run_loss(
    implementation: Implementation, layout: Layout, case: Case, given: dict[str, Any]
) -> Answer:
    assert implementation.loss_and_grads is not None
    assert case.targets is not None
    states = _taken(implementation.loss_and_grads, 3, _STATES)
    before = _flat_copy(given)
    returned = implementation.loss_and_grads(
        given["params"], given["x"], case.targets.copy(), *(given[name] for name in states)
    )
    if not isinstance(returned, tuple) or len(returned) != 2:
        raise MalformedAnswer(
            f"{implementation.name} returned {_kind(returned)} but must return (loss, gradients)."
        )
    loss, gradients = returned
    results: Results = {}
    if loss is not None:
        results["loss"] = np.asarray(loss, dtype=case.dtype)
    results |= _read_gradients(implementation, layout, gradients)
    ignored = frozenset({*_STATES, "dh_n", "dc_n"} - set(states))
    return Answer(results, ignored, _changed(before, _flat_copy(given)))


def _flat_copy(given: Mapping[str, Any]) -> dict[str, Any]:
    """Copies of all arguments; each of the weights by its own name."""
    flat = {**given, **given.get("params", {})}
    flat.pop("params", None)
    return {name: copy.deepcopy(value) for name, value in flat.items()}


def _changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(
        name
        for name, value in before.items()
        if name not in after
        or not all(
            np.array_equal(old, new, equal_nan=True)
            for old, new in zip(value, after[name], strict=False)
        )
    )


def _read_gradients(
    implementation: Implementation, layout: Layout, gradients: Any
) -> dict[str, FloatArray]:
    if not isinstance(gradients, Mapping):
        raise MalformedAnswer(
            f"{implementation.name} returned {_kind(gradients)} as its gradients but must return "
            'a mapping from "d" + name to array.'
        )
    present = {name: np.asarray(value) for name, value in gradients.items() if value is not None}
    try:
        return layout.gradients_from(present)
    except (ValueError, KeyError) as error:
        raise MalformedAnswer(f"the gradients of {implementation.name}: {error}") from None


def _taken(function: Callable[..., Any], already: int, names: tuple[str, ...]) -> tuple[str, ...]:
    """Which of the further arguments a callable takes: by its parameters' names, or number."""
    further = _parameters(function, (*range(already), *names))[already:]
    if further and set(further) <= set(names):
        return tuple(name for name in names if name in further)
    return names[: len(further)]


def _parameters(function: Callable[..., Any], default: tuple[Any, ...]) -> tuple[Any, ...]:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return default
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return default
    return tuple(
        p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    )


def _check_word(name: str, value: object, words: tuple[object, ...]) -> None:
    if value not in words:
        listed = ", ".join(repr(word) for word in words)
        raise ValueError(f"{name} is {value!r} but must be one of {listed}.")


def _kind(value: object) -> str:
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    return type(value).__name__
