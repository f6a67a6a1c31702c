"""The contract for somebody else's LSTM, and a case run through it.

Three forms. `vjp(params, x, h0, c0) -> ((y, h_n, c_n), pullback)` with
`pullback(dy, dh_n, dc_n) -> gradients`; `loss_and_grads(params, x, targets, h0, c0) ->
(loss, gradients)` for code with its head inside; and a program that reads a case from files, with
a head inside or, as in the first form, without.
What an implementation does not take or return it leaves out; `abilities` finds that out.

Beside its gradients it may return what it found on the way, and is then told where that first is
wrong: "dz_lk" (T, B, 4H), the gradient of layer k's gates before their activation, equation (15);
"dh_lk" and "dc_lk" (T, B, H), all that h and c receive at each step, (9) and (11), c before what
is handed on is multiplied by f. They have its own order of gates and the axes of its sequences;
`Layout.gradients_from` says more.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from manual_lstm.arrays import FloatArray, check_count
from manual_lstm.model import Head
from torch_ref.harness.answers import MalformedAnswer, kind_of, loaded_torch, numbers
from torch_ref.harness.arranged_program import run_arranged_program
from torch_ref.harness.cases import with_head
from torch_ref.harness.given import restricted, without_biases
from torch_ref.harness.layouts.layout import Layout
from torch_ref.harness.signature import arguments_taken, check_parameters, parameters
from torch_ref.harness.theirs import theirs
from torch_ref.oracles.case import Case, Results
from torch_ref.oracles.variant import STANDARD, Variant

Form = Literal["vjp", "loss", "program"]
_STATES = ("h0", "c0")
_LEFT_OUT = (*_STATES, "dh_n", "dc_n")
# What an implementation may lack: two sizes, the precisions, what it takes and what it returns.
REQUIRABLE = (
    *("stacks", "batches", "float32", "float64", "unclipped"),
    *("h0", "c0", "dy", "dh_n", "dc_n", "loss", "y", "h_n", "c_n", "dx", "dh0", "dc0"),
)


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
        head: of the second and third form; None is for a command without one: it is given dy.
        reduction: what its loss does over steps and batch, "mean" or "sum".
        sizes: the sizes it is bound to, for instance {"I": 26, "H": 100, "L": 1}.
        dtype: "float32" or "float64" where it has only that one; None is for both.
        timeout: of one run, in seconds; None is 10 for a command and no limit for a callable.
        without: what a command does not take, of "h0", "c0", "dh_n", "dc_n" and with no head "dy":
            that is zero, and listed as not verified. A callable's own parameters tell.
        requires: what must be verified: of REQUIRABLE, or "all". What of it would be reported as
            not verified, or raises, is a failure instead.

    Raises:
        ValueError: not just one form, an unknown word, a size below 1, or a bounded H other than I.
    """

    name: str
    vjp: Callable[..., Any] | None = None
    loss_and_grads: Callable[..., Any] | None = None
    command: str | None = None
    layout: Layout | Literal["auto"] = field(default_factory=Layout)
    variant: Variant = STANDARD
    head: Head | None = "linear"
    reduction: Literal["mean", "sum"] = "mean"
    sizes: Mapping[str, int] = field(default_factory=dict)
    dtype: Literal["float32", "float64"] | None = None
    timeout: float | None = None
    without: frozenset[str] = frozenset()
    requires: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        forms = [self.vjp, self.loss_and_grads, self.command]
        if sum(form is not None for form in forms) != 1:
            raise ValueError(
                f"implementation {self.name!r} must have just one of vjp, loss_and_grads, command."
            )
        if self.vjp is not None:
            check_parameters(self.name, self.vjp, ("params", "x", *_STATES), 2)
        if self.loss_and_grads is not None:
            names = ("params", "x", "targets", *_STATES)
            check_parameters(self.name, self.loss_and_grads, names, 3)
        _check_word("reduction", self.reduction, ("mean", "sum"))
        heads = ("linear", "bounded", *([] if self.loss_and_grads is not None else [None]))
        _check_word("head", self.head, heads)
        _check_word("dtype", self.dtype, (None, "float32", "float64"))
        if self.timeout is not None and not self.timeout > 0:
            raise ValueError(f"timeout is {self.timeout} but must be a number of seconds above 0.")
        for size, bound in self.sizes.items():
            _check_word("sizes", size, ("T", "B", "I", "H", "L"))
            check_count(f"sizes {size}", bound)
        object.__setattr__(self, "sizes", with_head(self.sizes, self.head_inside))
        for name in self.without:
            _check_word("without", name, _LEFT_OUT if self.head else ("dy", *_LEFT_OUT))
        for name in self.requires:
            _check_word("requires", name, ("all", *REQUIRABLE))

    @property
    def form(self) -> Form:
        """Which of the three it is."""
        if self.vjp is not None:
            return "vjp"
        return "loss" if self.loss_and_grads is not None else "program"

    @property
    def head_inside(self) -> Head | None:
        """The head that it has inside, with a loss behind it; None where it is given dy."""
        return None if self.vjp is not None else self.head


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
    torch = loaded_torch()
    if torch is not None and isinstance(target, torch.nn.Module):
        raise ValueError(
            "the implementation is a torch module but must be a callable in NumPy arrays: give "
            "from_module(module) of torch_ref.harness.adapters."
        )
    called = name or str(getattr(target, "__qualname__", type(target).__name__))
    if "targets" in parameters(target, ()):
        return Implementation(called, loss_and_grads=target)
    return Implementation(called, vjp=target)


@dataclass(frozen=True)
class Answer:
    """What an implementation made of a case, in manual_lstm's arrangement.

    Attributes:
        results: "loss" or "y", "h_n", "c_n" and gradients; what it did not return is not there.
        ignored: what of the case it did not take: "h0", "c0", "dy", "dh_n", "dc_n".
        modified: what of its arguments it changed in place.
    """

    results: Results
    ignored: frozenset[str]
    modified: tuple[str, ...] = ()


def run_implementation(implementation: Implementation, case: Case) -> Answer:
    """Give a case to an implementation, in its own layout.

    Args:
        case: with targets where there is a head inside, else with dy.

    Raises:
        NotImplementedError: it says that it cannot do this case.
        MalformedAnswer: what came back cannot be read.
        Exception: whatever it raises, noted to be its own; for a program those of `run_program`.
    """
    layout = implementation.layout
    if not isinstance(layout, Layout):
        raise ValueError(f"the layout of {implementation.name!r} must be found before it is run.")
    if implementation.form == "program":
        command, timeout = implementation.command, implementation.timeout
        assert command is not None
        given_case = without_biases(restricted(case, implementation.without), layout)
        results = run_arranged_program(command, layout, given_case, timeout=timeout)
        return Answer(results, implementation.without)
    given = _give(case, layout)
    # A division by zero or an overflow of theirs is judged by what comes out of it.
    with np.errstate(all="ignore"):
        if implementation.form == "loss":
            return _run_loss(implementation, layout, case, given)
        return _run_vjp(implementation, layout, case, given)


def forward_of(implementation: Implementation, layout: Layout, case: Case) -> Callable[..., Any]:
    """Its forward alone, forward(params, x, *states), on arrays in its own arrangement."""
    if implementation.loss_and_grads is not None and case.targets is not None:
        loss_and_grads, targets = implementation.loss_and_grads, case.targets
        count = len(arguments_taken(loss_and_grads, 3, _state_names(layout)))

        def loss(params: Any, x: Any, *states: Any) -> Any:
            return loss_and_grads(params, x, layout.targets_to(targets), *states[:count])[0]

        return theirs()(loss)
    assert implementation.vjp is not None
    vjp = implementation.vjp
    taken = len(arguments_taken(vjp, 2, _state_names(layout)))
    return theirs()(lambda params, x, *states: vjp(params, x, *states[:taken])[0])


def states_taken(implementation: Implementation, layout: Layout) -> frozenset[str]:
    """Which of "h0" and "c0" its callable takes."""
    names = _state_names(layout)
    if implementation.loss_and_grads is not None:
        return _in_ours({*arguments_taken(implementation.loss_and_grads, 3, names)})
    return _in_ours({*arguments_taken(implementation.vjp or (lambda: None), 2, names)})


@dataclass(frozen=True)
class _Given:
    """A case in an implementation's own arrangement. A joined state is one array, else two."""

    params: dict[str, Any]
    x: Any
    states: tuple[Any, ...]
    further: tuple[Any, ...] = ()

    def copied(self) -> dict[str, Any]:
        """Copies of all arrays, the weights by their names."""
        apart = len(self.states) == 2
        states = zip(("h0", "c0") if apart else ("state0",), self.states, strict=True)
        upstream = ("dy", "dh_n", "dc_n") if apart else ("dy", "dstate_n")
        further = zip(upstream, self.further, strict=bool(self.further))
        return copy.deepcopy({**self.params, "x": self.x, **dict(states), **dict(further)})


def pullback_answers(implementation: Implementation, cases: Sequence[Case]) -> list[Results]:
    """Gradients of several cases that share their forward pass, from one call of the vjp.

    Args:
        cases: equal but for dy, dh_n and dc_n.
    """
    layout = implementation.layout
    assert isinstance(layout, Layout)
    called = _call_vjp(implementation, layout, _give(cases[0], layout))
    return [
        _read_gradients(implementation, layout, case, called.pull(_upstream_of(case, layout)))
        for case in cases
    ]


@dataclass(frozen=True)
class _Called:
    """What came back from a vjp, what of its arguments it took, and its pullback."""

    outputs: Any
    ignored: frozenset[str]
    pull: Callable[[tuple[Any, ...]], Any]


def _call_vjp(implementation: Implementation, layout: Layout, given: _Given) -> _Called:
    assert implementation.vjp is not None
    names = _state_names(layout)
    states = arguments_taken(implementation.vjp, 2, names)
    with theirs(implementation.timeout):
        returned = implementation.vjp(
            given.params,
            given.x,
            *(state for name, state in zip(names, given.states, strict=True) if name in states),
        )
    if not isinstance(returned, tuple) or len(returned) != 2 or not callable(returned[1]):
        raise MalformedAnswer(
            f"{implementation.name} returned {kind_of(returned)} but must return "
            "((y, h_n, c_n), pullback)."
        )
    outputs, pullback = returned
    upstream = ("dy", *(f"d{name.removesuffix('0')}_n" for name in names))
    taken = arguments_taken(pullback, 0, upstream)

    def pull(further: tuple[Any, ...]) -> Any:
        chosen = [v for name, v in zip(upstream, further, strict=True) if name in taken]
        with theirs(implementation.timeout):
            return pullback(*chosen)

    return _Called(outputs, _in_ours({*names, *upstream} - {*states, *taken}), pull)


def _run_vjp(implementation: Implementation, layout: Layout, case: Case, given: _Given) -> Answer:
    given = replace(given, further=_upstream_of(case, layout))
    before = given.copied()
    called = _call_vjp(implementation, layout, given)
    results = read_outputs(layout, called.outputs)
    results |= _read_gradients(implementation, layout, case, called.pull(given.further))
    return Answer(results, called.ignored, _changed(before, given.copied()))


def _give(case: Case, layout: Layout) -> _Given:
    case = without_biases(case, layout)
    return _Given(
        params=layout.params_to({name: value.copy() for name, value in case.params.items()}),
        x=layout.input_to(case.x.copy()),
        states=layout.states_to(case.h0.copy(), case.c0.copy()),
    )


def _upstream_of(case: Case, layout: Layout) -> tuple[Any, ...]:
    assert case.dy is not None
    dy = layout.sequence_to(case.dy.copy(), "dy")
    return (dy, *layout.states_to(case.dh_n.copy(), case.dc_n.copy()))


def _run_loss(implementation: Implementation, layout: Layout, case: Case, given: _Given) -> Answer:
    assert implementation.loss_and_grads is not None
    assert case.targets is not None
    names = _state_names(layout)
    states = arguments_taken(implementation.loss_and_grads, 3, names)
    before = given.copied()
    targets = layout.targets_to(case.targets.copy())
    chosen = [state for name, state in zip(names, given.states, strict=True) if name in states]
    with theirs(implementation.timeout):
        returned = implementation.loss_and_grads(given.params, given.x, targets, *chosen)
    if not isinstance(returned, tuple) or len(returned) != 2:
        raise MalformedAnswer(
            f"{implementation.name} returned {kind_of(returned)} but must return (loss, gradients)."
        )
    loss, gradients = returned
    results: Results = {}
    if loss is not None:
        found = numbers("loss", np.float64(loss) if isinstance(loss, int) else loss)
        if found.size != 1:
            raise MalformedAnswer(f"loss has shape {found.shape} but must be one number.")
        results["loss"] = found.astype(case.dtype).reshape(())
    results |= _read_gradients(implementation, layout, case, gradients)
    ignored = _in_ours({*names} - {*states}) | {"dh_n", "dc_n"}
    return Answer(results, ignored, _changed(before, given.copied()))


def _state_names(layout: Layout) -> tuple[str, ...]:
    return ("state0",) if layout.joined_state else _STATES


def _in_ours(names: set[str]) -> frozenset[str]:
    """A joined state's name as those of its two parts."""
    parts = {"state0": ("h0", "c0"), "dstate_n": ("dh_n", "dc_n")}
    return frozenset(part for name in names for part in parts.get(name, (name,)))


def read_outputs(layout: Layout, outputs: Any) -> Results:
    """y, h_n and c_n of what came back; None, or nothing, stands for what it does not return.

    Raises:
        MalformedAnswer: it cannot be read.
    """
    y, *states = outputs if isinstance(outputs, tuple) else (outputs,)
    results: Results = {}
    try:
        if y is not None:
            results["y"] = layout.sequence_from(numbers("y", y))
        if layout.joined_state and states and states[0] is not None:
            results["h_n"], results["c_n"] = layout.states_from(numbers("h_n", states[0]))
        elif not layout.joined_state:
            for name, state in zip(("h_n", "c_n"), states, strict=False):
                if state is not None:
                    results[name] = layout.state_from(numbers(name, state), name)
    except ValueError as error:
        raise MalformedAnswer(str(error)) from None
    return results


def _changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(n for n, value in before.items() if n not in after or not _same(value, after[n]))


def _same(old: Any, new: Any) -> bool:
    if isinstance(old, list):
        return isinstance(new, list) and len(new) == len(old) and all(map(_same, old, new))
    return bool(np.array_equal(old, new, equal_nan=True))


def _read_gradients(
    implementation: Implementation, layout: Layout, case: Case, gradients: Any
) -> dict[str, FloatArray]:
    if not isinstance(gradients, Mapping):
        raise MalformedAnswer(
            f"{implementation.name} returned {kind_of(gradients)} as its gradients but must return "
            'a mapping from "d" + name to array.'
        )
    given = {str(name): value for name, value in gradients.items() if value is not None}
    try:
        present = {name: numbers(name, value) for name, value in given.items()}
        found = layout.gradients_from(present, like=case.params)
    except (ValueError, KeyError, MalformedAnswer) as error:
        raise MalformedAnswer(f"the gradients of {implementation.name}: {error}") from None
    if not found:
        raise MalformedAnswer(f"{implementation.name} returned no gradient but must return some.")
    return found


def _check_word(name: str, value: object, words: tuple[object, ...]) -> None:
    if value not in words:
        listed = ", ".join(repr(word) for word in words)
        raise ValueError(f"{name} is {value!r} but must be one of {listed}.")
