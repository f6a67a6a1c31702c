"""Whether an implementation that cannot run a stack is meant to: then it is a mistake, not a gap.

What raises for two layers is often written for one, and right. It is not where the stack is half
done: its forward pass is right, or the weights of the second layer are asked for by names that
only somebody who thought of a stack can know.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import wraps
from typing import Any

from torch_ref.compare.budget import error_budget
from torch_ref.compare.errors import compare_gradients
from torch_ref.harness.contract import Implementation, read_outputs, run_implementation
from torch_ref.harness.given import restricted, without_biases
from torch_ref.harness.layouts.layout import Layout
from torch_ref.oracles.case import Case
from torch_ref.oracles.truth import truth


class Watched(dict[str, Any]):
    """Weights that note which of them are asked for.

    Attributes:
        asked: by name. listed: whether somebody went through all the names.
    """

    def __init__(self, weights: Mapping[str, Any]) -> None:
        super().__init__(weights)
        self.asked: set[object] = set()
        self.listed = False

    def __getitem__(self, name: str) -> Any:
        self.asked.add(name)
        return super().__getitem__(name)

    def __contains__(self, name: object) -> bool:
        self.asked.add(name)
        return super().__contains__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self.asked.add(name)
        return super().get(name, default)

    def __iter__(self) -> Iterator[str]:
        self.listed = True
        return super().__iter__()

    def keys(self) -> Any:
        self.listed = True
        return super().keys()

    def values(self) -> Any:
        self.listed = True
        return super().values()

    def items(self) -> Any:
        self.listed = True
        return super().items()


def half_done(implementation: Implementation, case: Case, ignored: frozenset[str]) -> str:
    """What shows that a stack that cannot be run is meant to be; "" if nothing does.

    Args:
        case: of two layers, which raises.
        ignored: what the implementation does not take, as `Abilities` has it.
    """
    layout = implementation.layout
    assert isinstance(layout, Layout)
    if implementation.vjp is not None:
        _, returned = _called(implementation, case, dict)
        if isinstance(returned, tuple) and _forward_is_right(returned[0], layout, case, ignored):
            return "its forward pass of one is right"
    weights, _ = _called(implementation, case, Watched)
    if not isinstance(weights, Watched) or weights.listed:
        return ""
    one = {name: value for name, value in case.params.items() if not name.endswith("_l1")}
    upper = set(layout.params_to(case.params)) - set(layout.params_to(one))
    names = sorted(str(name) for name in weights.asked & upper)
    return f"it asks for {names[0]}" if names else ""


def _called(
    implementation: Implementation, case: Case, weights: Callable[[Any], Any]
) -> tuple[Any, Any]:
    """The weights that a callable was given, made by `weights`, and what it returned, or None."""
    seen: list[Any] = [None, None]

    def watching(function: Callable[..., Any] | None) -> Callable[..., Any] | None:
        if function is None:
            return None

        @wraps(function)
        def watched(params: Any, *arguments: Any) -> Any:
            seen[0] = weights(params)
            seen[1] = function(seen[0], *arguments)
            return seen[1]

        return watched

    vjp, loss = watching(implementation.vjp), watching(implementation.loss_and_grads)
    try:
        run_implementation(replace(implementation, vjp=vjp, loss_and_grads=loss), case)
    except Exception:  # it raises as before
        return seen[0], seen[1]
    return seen[0], seen[1]


def _forward_is_right(outputs: Any, layout: Layout, case: Case, ignored: frozenset[str]) -> bool:
    real = without_biases(restricted(case, ignored), layout)
    try:
        found = read_outputs(layout, outputs)
        if "y" not in found:
            return False
        compared = compare_gradients(
            {"y": found["y"]}, {"y": truth(real)["y"]}, error_budget(real).allowed
        )
    except Exception:  # what cannot be read is not right
        return False
    return compared.verdict == "agree"
