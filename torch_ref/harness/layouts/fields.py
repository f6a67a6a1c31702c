"""What a layout says: its fields, and the words that they may have."""

from dataclasses import dataclass
from typing import Literal

from manual_lstm.params import GATES

Gates = Literal["blocks", "interleaved", "stacked", "separate"]
Matrices = Literal["split", "xh", "hx"]
BiasPlace = Literal["none", "single", "pair", "concatenated", "first", "middle", "last"]
BiasShape = Literal["vector", "column", "row"]
BiasNeuron = Literal["", "x", "h", "xh"]
Joined = Literal["", "hc", "ch"]


@dataclass(frozen=True)
class LayoutFields:
    """The fields of a `Layout`, which adds their check and the conversions.

    Attributes:
        gate_order: the order of the gates, for instance "ifog".
        gates: the four gates as "blocks" of H rows in one matrix (4H, N); "interleaved" in one
            matrix, row 4 j + k being gate k of unit j; "stacked" (4, H, N); or "separate", a
            matrix (H, N) each, with names that contain {gate}.
        matrices: "split" into W (4H, I) and U (4H, H), or joined as [W|U] "xh" or [U|W] "hx".
        transposed: (N, 4H) instead of (4H, N), in the head (H, V) instead of (V, H).
        bias: "none", "single", a "pair" whose sum counts, "concatenated": such a pair in one
            array (8H,); or a bias neuron that is always 1: the "first" or "last" column of W or
            of the joined matrix, or the "middle" one between its two parts. A row if transposed.
        bias_shape: a bias of its own is a "vector" (N,), a "column" (N, 1) or a "row" (1, N).
        bias_neuron: where else the bias neuron shows. "x": x, dx carry it as one more feature;
            "h": U has a row or column for it, which is always 0; "xh": both.
        leading_axis: every array of the stack has an axis of length 1 in front.
        sequence: the axes of x, y, dx, dy. "TBI", "BTI", "TI" for one sequence, "TIB" for
            columns; "1" is an axis of length 1, "T:BI" a list of T arrays (B, I).
        states: the axes of h0, c0, h_n, c_n in the same way: "LBH", "BH", "HB", "H", "H1".
        joined_state: "hc" or "ch" if h and c are one array, one behind the other along H.
        flat: not "", if all weights are one vector: their order, as the names of the fields
            below or as the arrays' own names, with spaces between them. What stands before a ";"
            is there for all layers before what follows: "weight_ih weight_hh; bias_ih bias_hh".
        gate_names: what i, f, g and o are called in their names.
        first_layer: the number of the lowest layer in their names.
        weight_ih, weight_hh, weight, bias_ih, bias_hh: the names of W, U, the joined matrix,
            the bias and the second bias, with {layer} and {gate} where they stand.
        weight_out, bias_out, flat_name, x, h0, c0, state: the names of the head's weights, the
            flat vector, and in gradients, behind a "d", of x, the states and the joined state.
    """

    gate_order: str = "ifgo"
    gates: Gates = "blocks"
    matrices: Matrices = "split"
    transposed: bool = False
    bias: BiasPlace = "single"
    bias_shape: BiasShape = "vector"
    bias_neuron: BiasNeuron = ""
    leading_axis: bool = False
    sequence: str = "TBI"
    states: str = "LBH"
    joined_state: Joined = ""
    flat: str = ""
    gate_names: tuple[str, ...] = GATES
    first_layer: int = 0
    weight_ih: str = "weight_ih_l{layer}"
    weight_hh: str = "weight_hh_l{layer}"
    weight: str = "weight_l{layer}"
    bias_ih: str = "bias_l{layer}"
    bias_hh: str = "bias_hh_l{layer}"
    weight_out: str = "weight_out"
    bias_out: str = "bias_out"
    flat_name: str = "params"
    x: str = "x"
    h0: str = "h0"
    c0: str = "c0"
    state: str = "state0"
