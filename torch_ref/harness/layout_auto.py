"""layout="auto": which arrangement explains what an implementation's forward computes."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from torch_ref.compare.budget import error_budget
from torch_ref.harness.abilities import probe
from torch_ref.harness.contract import (
    Implementation,
    forward_of,
    run_implementation,
    states_taken,
)
from torch_ref.harness.given import restricted
from torch_ref.harness.layouts.layout import Layout
from torch_ref.harness.layouts.presets import PRESETS
from torch_ref.harness.layouts.search import OUTPUTS, LayoutFinding, find_layout
from torch_ref.harness.theirs import raised
from torch_ref.oracles.case import Case
from torch_ref.oracles.truth import truth

# No two of I, H and V are equal, and none is 1, so that most wrong arrangements do not even fit.
_SIZES = ({"T": 4, "B": 2, "I": 3, "H": 5}, {"T": 3, "B": 3, "I": 4, "H": 2})
# What is easily taken for another: their arrays have the same shapes.
_ALIKE = {
    "gates": ("blocks", "interleaved"),
    "matrices": ("xh", "hx"),
    "bias": ("first", "middle", "last"),
}

# Axes under which manual_lstm's names are tried, each with what it is called.
_AXES: Mapping[str, Layout] = {
    "manual_lstm": Layout(),
    "manual_lstm, states (B, H)": Layout(states="BH"),
    "manual_lstm, x (B, T, I), states (B, H)": Layout(sequence="BTI", states="BH"),
    "manual_lstm, x (T, I), states (H,)": Layout(sequence="TI", states="H"),
}


def with_layout_found(implementation: Implementation) -> tuple[Implementation, str]:
    """An implementation whose layout is "auto", with the layout that explains its forward.

    The presets are tried, each with every order of the gates, then manual_lstm's names in every
    arrangement: with its axes, batch first, and for one sequence.

    Returns:
        The implementation with that layout, and the finding as a sentence.

    Raises:
        ValueError: no arrangement explains the forward. Of several that do, on two cases, the one
            with the fewest fields that are not the preset's is taken.
    """
    tries: list[tuple[str, Layout, Mapping[str, Any] | None]] = [
        *((name, layout, {}) for name, layout in PRESETS.items()),
        *((name, layout, None) for name, layout in _AXES.items()),
    ]
    for name, base, axes in tries:
        finding = _find(implementation, base, axes)
        if finding.layout is not None:
            sentence = f"Its layout was found: {name}; {finding.sentence}."
            return replace(implementation, layout=finding.layout), sentence
    raise ValueError(
        f"layout is 'auto' but no arrangement explains the forward of {implementation.name!r}: "
        "check its forward with a layout of its own, Layout(...) with its names."
        f"{_raises(implementation)}"
    )


def _raises(implementation: Implementation) -> str:
    """What it raises where the weights have manual_lstm's names, which may be all that is wrong."""
    plain = replace(implementation, layout=Layout())
    case = _case(plain, 0, Layout())
    try:
        run_implementation(plain, case)
    except Exception as error:
        return f" Given {', '.join(case.params)} it raises {raised(error)}."
    return ""


def suggestion(implementation: Implementation) -> str:
    """What would make a forward right that is wrong in the layout that was given; "" if nothing."""
    if implementation.form == "program" or not isinstance(implementation.layout, Layout):
        return ""
    given = implementation.layout
    axes = {name: values for name, values in _ALIKE.items() if getattr(given, name) in values}
    finding = _find(implementation, given, axes)
    if finding.layout is None or finding.layout == given:
        return ""
    return f"Its forward is {finding.sentence}."


def _find(
    implementation: Implementation, base: Layout, axes: Mapping[str, Any] | None
) -> LayoutFinding:
    """The arrangements that fit on one case, or where that is more than one, on two."""
    finding = _find_on(_case(implementation, 0, base), implementation, base, axes)
    if finding.ambiguous:
        again = _find_on(_case(implementation, 1, base), implementation, base, axes)
        both = tuple(layout for layout in finding.fits if layout in again.fits)
        first = both[0] if both else None
        finding = replace(again, layout=first, fits=both)
    return finding


def _find_on(
    case: Case, implementation: Implementation, base: Layout, axes: Mapping[str, Any] | None
) -> LayoutFinding:
    expected = {name: value for name, value in truth(case).items() if name in OUTPUTS}
    if "loss" in expected:
        count = case.targets.size if case.targets is not None else 1
        scale = count if implementation.reduction == "sum" else 1
        expected = {"loss": expected["loss"] * scale}
    allowed = error_budget(case).allowed
    forward: Callable[..., Any] = forward_of(implementation, base, case)
    return find_layout(
        forward, case.params, case.x, case.h0, case.c0, expected, allowed, base, axes=axes
    )


def _case(implementation: Implementation, number: int, base: Layout) -> Case:
    sizes = dict(_SIZES[number])
    sizes["B"] = 1 if base.single_batch else sizes["B"]
    if implementation.head_inside == "bounded":
        sizes["H"] = sizes["I"]
    case = probe(implementation, implementation.dtype or "float64", **sizes)
    taken = states_taken(implementation, base)
    return restricted(case, frozenset({"h0", "c0"}) - taken)
