"""The gradients at every step, which an implementation may return, in our arrangement."""

import re
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from manual_lstm.arrays import Gradients
from manual_lstm.params import GATES
from torch_ref.harness.layouts.arrange import Array, axes_from, copy
from torch_ref.harness.layouts.fields import LayoutFields


def take_steps(layout: LayoutFields, rest: dict[str, Any], own: Collection[str]) -> Gradients:
    """The gradients at every step, which are taken out of `rest`.

    Args:
        rest: their gradients.
        own: names that the layout has given to other arrays.

    Returns:
        "dz_lk" (T, B, 4H), "dh_lk", "dc_lk" (T, B, H), as far as there are any.

    Raises:
        ValueError: dz of some gates only, or other axes than the layout's sequences have.
    """
    called = dict(zip(GATES, layout.gate_names, strict=True))
    of_gates = [called[gate] for gate in GATES] if layout.gates == "separate" else [""]
    found: Gradients = {}
    layers = {
        int(match[1])
        for name in rest
        if name not in own and (match := re.fullmatch(r"d[zhc](?:_.+)?_l(\d+)", name))
    }
    for layer in sorted(layers):
        k = layer - layout.first_layer
        for kind in ("dh", "dc"):
            name = f"{kind}_l{layer}"
            if name in rest and name not in own:
                found[f"{kind}_l{k}"] = axes_from(name, rest.pop(name), "TBI", layout.sequence)
        names = [f"dz_{gate}_l{layer}" if gate else f"dz_l{layer}" for gate in of_gates]
        missing = [name for name in names if name not in rest or name in own]
        if len(missing) == len(names):
            continue
        if missing:
            raise ValueError(f"gradients has no {missing[0]}, which this layout needs.")
        found[f"dz_l{k}"] = _gates_from(layout, {name: rest.pop(name) for name in names})
    return found


def _gates_from(layout: LayoutFields, theirs: Mapping[str, Any]) -> Array:
    """dz in their arrangement as (T, B, 4H)."""
    name = next(iter(theirs))
    if layout.gates == "separate":
        blocks = [axes_from(each, dz, "TBI", layout.sequence) for each, dz in theirs.items()]
        return np.concatenate(blocks, axis=-1)
    if layout.gates == "stacked":
        (dz,) = theirs.values()
        if len(dz) != 4:
            raise ValueError(f"{name} has {len(dz)} parts but must have one for each gate.")
        parts = [axes_from(name, part, "TBI", layout.sequence) for part in dz]
    else:
        whole = axes_from(name, theirs[name], "TBI", layout.sequence)
        if whole.shape[-1] % 4:
            raise ValueError(f"{name} has {whole.shape[-1]} features but must have 4H.")
        if layout.gates == "blocks":
            parts = np.split(whole, 4, axis=-1)
        else:
            parts = [whole[..., j::4] for j in range(4)]
    return copy(np.concatenate([parts[layout.gate_order.index(g)] for g in GATES], axis=-1))
