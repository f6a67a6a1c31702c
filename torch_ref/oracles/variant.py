"""Cells that are not the standard one, as data: equations (31) to (39) of docs/variants.md."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from manual_lstm.arrays import Params

PEEPHOLES = ("weight_ci", "weight_cf", "weight_co")
_PEEPHOLE_NAME = re.compile(r"weight_c[ifo]_l\d+")
_CHOICES: dict[str, tuple[object, ...]] = {
    "candidate": ("tanh", "sigmoid"),
    "state": ("linear", "tanh"),
    "output": ("tanh", "identity"),
    "peepholes": (False, True),
    "coupled": (False, True),
}


@dataclass(frozen=True)
class Variant:
    """A cell. Each attribute's first value is the standard cell's; all combinations are cells.

    Attributes:
        candidate: g = tanh(z_g), or "sigmoid": g = sigmoid(z_g), (31).
        state: "linear", c[t] = f * c[t-1] + i * g, or "tanh" of that, (32).
        output: h = o * tanh(c), or "identity": h = o * c, (33).
        peepholes: i and f see c[t-1] and o sees c[t], through "weight_ci_lk", "weight_cf_lk"
            and "weight_co_lk", each (H,), of every layer k: (34).
        coupled: i = 1 - f, (38); the blocks of i in the weights have no effect.

    Raises:
        ValueError: an attribute with a value that it cannot have.
    """

    candidate: Literal["tanh", "sigmoid"] = "tanh"
    state: Literal["linear", "tanh"] = "linear"
    output: Literal["tanh", "identity"] = "tanh"
    peepholes: bool = False
    coupled: bool = False

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            value = getattr(self, name)
            if not any(type(value) is type(choice) and value == choice for choice in choices):
                first, second = choices
                raise ValueError(
                    f"variant {name} is {value!r} but must be {first!r} or {second!r}."
                )

    def describe(self) -> str:
        """The variant as a phrase: "the standard cell", "a cell with peepholes and h = o * c"."""
        phrases = [
            "g = sigmoid(z_g)" if self.candidate == "sigmoid" else "",
            "c = tanh(f * c[t-1] + i * g)" if self.state == "tanh" else "",
            "h = o * c" if self.output == "identity" else "",
            "peepholes" if self.peepholes else "",
            "i = 1 - f" if self.coupled else "",
        ]
        *front, last = [phrase for phrase in phrases if phrase] or [""]
        if not last:
            return "the standard cell"
        return f"a cell with {', '.join(front)} and {last}" if front else f"a cell with {last}"

    def to_json(self) -> dict[str, Any]:
        """Every attribute under its name, of types that JSON has."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Variant":
        """The variant that `to_json` wrote; what is missing is the standard cell's.

        Raises:
            ValueError: not a mapping, an attribute that no variant has, or a value that it
                cannot have.
        """
        known = [field.name for field in fields(cls)]
        if not isinstance(data, Mapping):
            raise ValueError(
                f"variant is {data!r} but must be an object with any of {', '.join(known)}."
            )
        for name in data:
            if name not in known:
                raise ValueError(f"variant has {name!r} but can only have {', '.join(known)}.")
        return cls(**data)


STANDARD = Variant()


def check_peepholes(params: Params, variant: Variant) -> None:
    """ValueError unless each layer has its three peephole weights, or no layer where none may.

    Weights in another layout, whose names are its own, are not looked at.
    """
    layers = [name.removeprefix("weight_hh") for name in params if name.startswith("weight_hh_l")]
    if not layers:
        return
    expected = [kind + layer for layer in layers for kind in PEEPHOLES if variant.peepholes]
    for name in expected:
        if name not in params:
            raise ValueError(f"params has no {name}, which {variant.describe()} needs.")
    for name in params:
        if _PEEPHOLE_NAME.fullmatch(name) and name not in expected:
            raise ValueError(
                f"params has {name} but {variant.describe()} in {len(layers)} layer(s) has no "
                "such weight: remove it, or use Variant(peepholes=True)."
            )
