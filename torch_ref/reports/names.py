"""An element of a tensor in the field's words: its gate, row and column, or its time and unit."""

from typing import Any

from manual_lstm.params import GATES
from torch_ref.harness.layouts.fields import LayoutFields
from torch_ref.harness.layouts.words import differs, element_of
from torch_ref.oracles.equations import is_step_gradient
from torch_ref.oracles.variant import PEEPHOLES


def element_name(
    name: str,
    shape: tuple[int, ...],
    index: tuple[int, ...] | None,
    layout: LayoutFields | None = None,
) -> str:
    """Where an element is.

    Args:
        name: of the tensor: "dweight_ih_l0", "dx", "h_n", ...
        shape: its shape. index: the element; None where there is none.
        layout: an implementation's own, in whose arrays a weight's element is named.

    Returns:
        "f[2] x[1]" for row 2 of the forget gate and input 1, "t=0 b=1 x[3]", "l=0 b=1 c[4]";
        with another layout than ours "dWf[2, 1]".
    """
    if index is None or not index:
        return ""
    kind = name.removeprefix("d").split("_l")[0]
    if is_step_gradient(name):
        at = f"t={index[0]} b={index[1]} "
        if kind != "z":
            return f"{at}{kind}[{index[2]}]"
        hidden = shape[2] // len(GATES)
        return f"{at}{GATES[index[2] // hidden]}[{index[2] % hidden}]"
    if kind in ("weight_ih", "weight_hh", "bias", "bias_hh"):
        if layout is not None and differs(layout):
            own = element_of(layout, kind, int(name.partition("_l")[2]), shape, index)
            if own:
                return f"d{own}"
        hidden = shape[0] // len(GATES)
        row = f"{GATES[index[0] // hidden]}[{index[0] % hidden}]"
        if kind.startswith("bias"):
            return row
        return f"{row} {'x' if kind == 'weight_ih' else 'h'}[{index[1]}]"
    if kind in PEEPHOLES:
        return f"{kind[-1]}[{index[0]}] c[{index[0]}]"
    if kind == "weight_out":
        return f"class {index[0]} h[{index[1]}]"
    if kind == "bias_out":
        return f"class {index[0]}"
    if kind in ("x", "y"):
        return f"t={index[0]} b={index[1]} {'x' if kind == 'x' else 'h'}[{index[2]}]"
    if kind in ("h0", "c0", "h_n", "c_n"):
        return f"l={index[0]} b={index[1]} {kind[0]}[{index[2]}]"
    return str(index)


def locate(name: str, shape: tuple[int, ...], index: tuple[int, ...] | None) -> dict[str, Any]:
    """An element as a script reads it: "tensor", "layer", "time", "gate" and "index".

    What a tensor does not have is null: a weight's gradient is a sum over time, dx has no gate.
    """
    kind, _, layer = name.removeprefix("d").partition("_l")
    where: dict[str, Any] = {"tensor": name, "layer": None, "time": None, "gate": None}
    where["index"] = None if index is None else list(index)
    if kind in ("weight_ih", "weight_hh", "bias", "bias_hh"):
        where["layer"] = int(layer)
        where["gate"] = GATES[index[0] // (shape[0] // len(GATES))] if index else None
    elif is_step_gradient(name):
        where["layer"] = int(layer)
        where["time"] = index[0] if index else None
        if index and kind == "z":
            where["gate"] = GATES[index[2] // (shape[2] // len(GATES))]
    elif index and kind in ("x", "y"):
        where["time"] = index[0]
    elif index and kind in ("h0", "c0", "h_n", "c_n"):
        where["layer"] = index[0]
    return where
