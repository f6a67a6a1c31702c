"""How somebody else's LSTM arranges its arrays, and the conversion both ways.

Ours is manual_lstm's: "weight_ih_lk" (4H, I), "weight_hh_lk" (4H, H), "bias_lk" (4H,), rows in
blocks i, f, g, o; x (T, B, I), y (T, B, H), states (L, B, H). A conversion moves numbers and does
no arithmetic, but for a bias that is split into two parts and summed on the way back.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from manual_lstm.arrays import Gradients, Params
from torch_ref.harness.layouts import params as layout_params
from torch_ref.harness.layouts import rules as layout_rules
from torch_ref.harness.layouts.arrange import axes_from, axes_to, copy
from torch_ref.harness.layouts.fields import LayoutFields
from torch_ref.harness.layouts.steps import take_steps

Array = NDArray[Any]


@dataclass(frozen=True)
class Layout(LayoutFields):
    """One arrangement of an LSTM's arrays. The default is manual_lstm's own.

    `LayoutFields` says what each field means.

    Raises:
        ValueError: a field, or several together, that make no sense.
    """

    def __post_init__(self) -> None:
        layout_rules.check(self)

    @property
    def single_batch(self) -> bool:
        """Whether only B = 1 can be arranged like this."""
        return "B" not in self.sequence or "B" not in self.states

    @property
    def single_layer(self) -> bool:
        """Whether only L = 1 can be arranged like this."""
        return "L" not in self.states or any(
            "{layer}" not in getattr(self, role) for role in layout_rules.roles(self)
        )

    def describe(self) -> str:
        """A phrase for people: "gates i, f, o, g in blocks of one matrix, transposed, ..."."""
        return layout_rules.describe(self)

    def to_json(self) -> dict[str, Any]:
        """Every field, as JSON holds it."""
        return asdict(self) | {"gate_names": list(self.gate_names)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Layout":
        """The inverse of `to_json`; a field that `data` lacks has its default.

        Raises:
            ValueError: a key that is no field, or a value that makes no sense.
        """
        known = [field.name for field in fields(cls)]
        for key in data:
            if key not in known:
                raise ValueError(
                    f"layout has the key {key!r} but must have no other than {', '.join(known)}."
                )
        values = dict(data)
        if isinstance(values.get("gate_names"), list):
            values["gate_names"] = tuple(values["gate_names"])
        return cls(**values)

    def params_to(self, params: Params) -> dict[str, Array]:
        """Our weights in their arrangement, as copies.

        Args:
            params: as `manual_lstm.init_params` returns them, with the head's weights or not.

        Returns:
            Their names to arrays of the same dtype.

        Raises:
            ValueError: params are not a stack's, or cannot be arranged like this: a bias that is
                not zero without a place for it, or a stack with names for one layer.
        """
        return layout_params.params_to(self, params)

    def params_from(
        self, theirs: Mapping[str, ArrayLike], like: Params | None = None
    ) -> dict[str, Array]:
        """Their weights in our arrangement, as copies.

        Args:
            theirs: names to arrays, as `params_to` returns them.
            like: weights of ours with the same sizes; needed for a flat vector, whose length
                does not tell them.

        Raises:
            ValueError: an array that is missing, unknown or misshapen, or a weight other than 0
                from the bias neuron to U.
        """
        return layout_params.params_from(self, theirs, like)

    def gradients_from(self, gradients: Mapping[str, Any], like: Params | None = None) -> Gradients:
        """Their gradients in our arrangement, as copies. What they leave out is left out.

        Args:
            gradients: "d" + their name to array; dx, dh0, dc0 or the joined dstate0 too, and the
                gradients at every step: "dz_lk" with the gates along its features as along the
                rows of W, "stacked" (4, ...), or "dz_{gate}_lk" where each gate has a matrix;
                "dh_lk", "dc_lk"; with the axes of a sequence. None is the same as leaving it out.
            like: weights of ours with the same sizes, to check shapes with; needed for a flat
                vector.

        Returns:
            "d" + our name to array, "dz_lk" (T, B, 4H), "dh_lk", "dc_lk" (T, B, H) as far as they
            are given. With two biases also "dbias_hh_lk" (4H,), which must equal
            dbias_lk. With a bias neuron that shows in U or x also what leaks through it, which
            must be exactly zero: "dbias_neuron_lk" (4H,), "dbias_neuron_x" (T, B, 1). `complete`
            gives a reference these entries.

        Raises:
            ValueError: an array that is unknown or misshapen, or given for some gates only.
        """
        rest = {name: value for name, value in gradients.items() if value is not None}
        ours: Gradients = {}
        if f"d{self.x}" in rest:
            ours |= self._dx_from(rest.pop(f"d{self.x}"))
        if self.joined_state and f"d{self.state}" in rest:
            ours["dh0"], ours["dc0"] = self.states_from(rest.pop(f"d{self.state}"))
        for name, state in (("dh0", self.h0), ("dc0", self.c0)):
            if not self.joined_state and f"d{state}" in rest:
                ours[name] = self.state_from(rest.pop(f"d{state}"), name=f"d{state}")
        ours |= take_steps(self, rest, layout_params.names_of(self, rest, "d"))
        return layout_params.arrays_from(self, rest, like, "d") | ours

    def complete(self, reference: Mapping[str, Array]) -> dict[str, Array]:
        """Reference gradients with the entries that only this layout has.

        Args:
            reference: "d" + our name to array: the expected gradients, or what is allowed.

        Returns:
            The same, and "dbias_hh_lk" as dbias_lk, "dbias_neuron_lk" and "dbias_neuron_x" as
            zeros: nothing may leak through the bias neuron, and nothing is allowed to.
        """
        completed = dict(reference)
        for name, value in reference.items():
            layer = name.removeprefix("dbias_l")
            if layer != name and self.bias in ("pair", "concatenated"):
                completed[f"dbias_hh_l{layer}"] = value
            if layer != name and "h" in self.bias_neuron:
                completed[f"dbias_neuron_l{layer}"] = np.zeros_like(value)
            if name == "dx" and "x" in self.bias_neuron:
                completed["dbias_neuron_x"] = np.zeros_like(value[..., :1])
        return completed

    def sequence_to(self, x: ArrayLike, name: str = "x") -> Array | list[Array]:
        """x, y or dy (T, B, N) in their axes. Only x itself gets the bias neuron, see `input_to`.

        Raises:
            ValueError: not three axes, or more than one sequence in a layout for one.
        """
        return axes_to(name, x, "TBI", self.sequence)

    def sequence_from(self, y: Any, name: str = "y") -> Array:
        """Their y, x or dx as (T, B, N).

        Raises:
            ValueError: other axes than the layout's.
        """
        return axes_from(name, y, "TBI", self.sequence)

    def input_to(self, x: ArrayLike) -> Array | list[Array]:
        """x (T, B, I) in their axes, with the bias neuron where x carries it."""
        array = np.asarray(x)
        if "x" in self.bias_neuron:
            pair = [array, np.ones_like(array[..., :1])]
            array = np.concatenate(pair if self._neuron_behind_x else pair[::-1], axis=-1)
        return self.sequence_to(array)

    def _dx_from(self, dx: Any) -> Gradients:
        array = self.sequence_from(dx, f"d{self.x}")
        if "x" not in self.bias_neuron:
            return {"dx": array}
        if array.shape[-1] < 2:
            raise ValueError(
                f"d{self.x} has {array.shape[-1]} features but must have I + 1 with the neuron's."
            )
        parts = np.split(array, [array.shape[-1] - 1 if self._neuron_behind_x else 1], axis=-1)
        inputs, neuron = parts if self._neuron_behind_x else parts[::-1]
        return {"dx": copy(inputs), "dbias_neuron_x": copy(neuron)}

    @property
    def _neuron_behind_x(self) -> bool:
        return layout_rules.NEURON_SIDE[self.matrices, self.bias] == "last"

    def targets_to(self, targets: ArrayLike) -> Array | list[Array]:
        """Targets (T, B) in their axes: those of a sequence without the features."""
        return axes_to("targets", targets, "TB", self.sequence.replace("I", ""))

    def state_to(self, h: ArrayLike, name: str = "h0") -> Array | list[Array]:
        """h0, c0, dh_n or dc_n (L, B, H) in their axes; of a joined state, its part of the array.

        Raises:
            ValueError: not three axes, or more layers or sequences than the layout has.
        """
        return axes_to(name, h, "LBH", self.states)

    def state_from(self, h: Any, name: str = "h_n") -> Array:
        """Their h_n, c_n, dh0 or dc0 as (L, B, H)."""
        return axes_from(name, h, "LBH", self.states)

    def states_to(self, h: ArrayLike, c: ArrayLike) -> tuple[Array | list[Array], ...]:
        """h and c (L, B, H) in their axes: two arrays, or one if they are joined."""
        if not self.joined_state:
            return self.state_to(h), self.state_to(c, "c0")
        parts = [h, c] if self.joined_state == "hc" else [c, h]
        return (self.state_to(np.concatenate(parts, axis=-1), self.state),)

    def states_from(self, *states: Any) -> tuple[Array, Array]:
        """The inverse of `states_to`: h and c (L, B, H)."""
        expected = 1 if self.joined_state else 2
        if len(states) != expected:
            raise ValueError(f"{len(states)} states came but the layout has {expected}.")
        if not self.joined_state:
            return self.state_from(states[0]), self.state_from(states[1], "c_n")
        joined = self.state_from(states[0], self.state)
        if joined.shape[-1] % 2:
            raise ValueError(f"{self.state} has {joined.shape[-1]} units but must have 2H.")
        first, second = (copy(part) for part in np.split(joined, 2, axis=-1))
        return (first, second) if self.joined_state == "hc" else (second, first)
