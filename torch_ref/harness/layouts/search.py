"""Which arrangement of its arrays explains what somebody else's forward computes."""

import itertools
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from manual_lstm.arrays import Params
from manual_lstm.params import lstm_sizes
from torch_ref.compare.errors import compare_gradients
from torch_ref.harness.layouts import rules as layout_rules
from torch_ref.harness.layouts.arrange import in_words
from torch_ref.harness.layouts.layout import Layout
from torch_ref.harness.layouts.names import layouts_with_shapes

Array = NDArray[Any]
OUTPUTS = ("loss", "y", "h_n", "c_n")
# What is searched besides the order of the gates. A layout for "separate" gates needs names with
# {gate}, so these are the arrangements of four gates in one array.
AXES: dict[str, tuple[Any, ...]] = {
    "transposed": (False, True),
    "matrices": ("split", "xh", "hx"),
    "bias": ("single", "pair", "concatenated", "first", "last", "middle", "none"),
    "gates": ("blocks", "interleaved", "stacked"),
}
# Exceptions that say nothing about shapes or names, so that another order of gates may not raise.
_OF_VALUES = (ArithmeticError, AssertionError, Warning)


@dataclass(frozen=True)
class LayoutFinding:
    """What the search found.

    Attributes:
        layout: the arrangement that explains the outputs and differs least from the one that was
            assumed; None where nothing fits.
        fits: every arrangement that explains them. With more than one the case cannot tell them
            apart: draw another.
        tried: how many arrangements were tried.
        sentence: the finding for people.
    """

    layout: Layout | None
    fits: tuple[Layout, ...]
    tried: int
    sentence: str

    @property
    def ambiguous(self) -> bool:
        """Whether more than one arrangement explains the outputs."""
        return len(self.fits) > 1


def find_layout(
    forward: Callable[..., Any],
    params: Params,
    x: Array,
    h0: Array,
    c0: Array,
    expected_outputs: Mapping[str, Array],
    allowed: Mapping[str, Array],
    base: Layout | None = None,
    *,
    axes: Mapping[str, Sequence[Any]] | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
) -> LayoutFinding:
    """Find the arrangements in which somebody else's forward computes what it should.

    Args:
        forward: theirs, forward(params, x, h0, c0), or forward(params, x, state0) where `base`
            joins the states, on arrays in their arrangement. It returns y, or a tuple of y and
            the last states, None for what it does not have; or, where expected_outputs is the
            "loss", that. An exception means that the arrangement does not fit.
        params, x, h0, c0: the case in our arrangement. With H = 1, or with gates of equal
            weights, some arrangements cannot be told apart.
        expected_outputs: "y" (T, B, H), "h_n", "c_n" (L, B, H), or some of them, exact; or the
            "loss".
        allowed: for each of them how far each element may be off, from `error_budget`.
        base: what is assumed until something else fits better, and the names of their arrays.
        axes: fields of `Layout` and the values to try, each with every order of the gates. None
            is `AXES`, or with `shapes` nothing besides.
        shapes: the names of their arrays and the shapes that they have in this case, where these
            are known: only arrangements with these are tried, and `base` need not have the names.

    Returns:
        The finding; of several arrangements that fit the first has the fewest fields, the gates'
        order not counted, that differ from `base`.

    Raises:
        ValueError: params are not a stack's, or expected_outputs has another name or none.
    """
    if not expected_outputs or not set(expected_outputs) <= set(OUTPUTS):
        raise ValueError(
            f"expected_outputs has {sorted(expected_outputs)} but must have some of "
            f"{', '.join(OUTPUTS)}."
        )
    base = Layout() if base is None else base
    inputs, hidden, layers, _ = lstm_sizes(params)
    bases: Iterable[Layout] = [base]
    if shapes is not None:
        bases = layouts_with_shapes(shapes, inputs, hidden, layers, base)
    if axes is None:
        axes = AXES if shapes is None else {}
    arrangements = [each for start in bases for each in _arrangements(start, axes)]
    arrangements.sort(key=lambda layout: _distance(layout, base))

    fits: list[Layout] = []
    tried = 0
    for arrangement in arrangements:
        refused = 0
        for layout in _gate_orders(arrangement):
            try:
                theirs = layout.params_to(params)
                arrays = (layout.input_to(x), *layout.states_to(h0, c0))
            except ValueError:
                break  # not a question of the gates' order
            tried += 1
            try:
                with np.errstate(all="ignore"), warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    result = forward(theirs, *arrays)
                of_loss = "loss" in expected_outputs
                outputs = {"loss": np.asarray(result)} if of_loss else _outputs(layout, result)
            except _OF_VALUES:
                continue
            except Exception:
                # Shapes and names are the same for every order of the gates.
                refused += 1
                if refused == 2:
                    break
                continue
            if _explains(outputs, expected_outputs, allowed):
                fits.append(layout)
    fits.sort(key=lambda layout: _distance(layout, base))
    return LayoutFinding(
        fits[0] if fits else None, tuple(fits), tried, _sentence(fits, base, tried)
    )


def _arrangements(base: Layout, axes: Mapping[str, Sequence[Any]]) -> Iterator[Layout]:
    """Every combination of the axes' values and base's own that makes sense."""
    choices = [
        [getattr(base, name), *(value for value in values if value != getattr(base, name))]
        for name, values in axes.items()
    ]
    for values in itertools.product(*choices):
        try:
            yield replace(base, **dict(zip(axes, values, strict=True)))
        except ValueError:
            continue


def _gate_orders(layout: Layout) -> Iterator[Layout]:
    """The layout, then the 23 others with its gates in another order or under other names."""
    if layout.gates == "separate":
        for names in itertools.permutations(layout.gate_names):
            yield replace(layout, gate_names=names)
        return
    for order in itertools.permutations(layout.gate_order):
        yield replace(layout, gate_order="".join(order))


def _distance(layout: Layout, base: Layout) -> tuple[int, bool]:
    searched = [name for name in vars(base) if name not in ("gate_order", "gate_names")]
    orders = (layout.gate_order, layout.gate_names) != (base.gate_order, base.gate_names)
    return sum(getattr(layout, name) != getattr(base, name) for name in searched), orders


def _outputs(layout: Layout, result: Any) -> dict[str, Array]:
    """Their result as ours: "y", "h_n", "c_n", what there is of them."""
    y, *states = result if isinstance(result, tuple) else (result,)
    outputs: dict[str, Array] = {}
    if y is not None:
        outputs["y"] = layout.sequence_from(y)
    if layout.joined_state and states and states[0] is not None:
        outputs["h_n"], outputs["c_n"] = layout.states_from(*states)
    if not layout.joined_state:
        for name, state in zip(("h_n", "c_n"), states, strict=False):
            if state is not None:
                outputs[name] = layout.state_from(state, name)
    return outputs


def _explains(
    outputs: Mapping[str, Array], expected: Mapping[str, Array], allowed: Mapping[str, Array]
) -> bool:
    for name in OUTPUTS:
        if name in outputs and name in expected:
            one = ({name: outputs[name]}, {name: expected[name]}, allowed)
            if compare_gradients(*one).verdict == "disagree":
                return False
    return any(name in expected for name in outputs)


def _sentence(fits: Sequence[Layout], base: Layout, tried: int) -> str:
    if not fits:
        return (
            f"None of {tried} arrangements of its arrays explains its outputs: its forward "
            "computes something else, or an arrangement that was not searched"
        )
    differences = _differences(fits[0], base)
    sentence = f"correct in the arrangement that was assumed: {base.describe()}"
    if differences:
        sentence = f"correct, if {' and '.join(differences)}"
    if len(fits) == 1:
        return sentence
    others = "1 other arrangement explains"
    if len(fits) > 2:
        others = f"{len(fits) - 1} other arrangements explain"
    return f"{sentence}; but {others} this case as well: draw another case to tell them apart"


def _differences(layout: Layout, base: Layout) -> list[str]:
    """What has to be true of their arrays, in words; empty where it is as assumed."""

    def differs(*names: str) -> bool:
        return any(getattr(layout, name) != getattr(base, name) for name in names)

    words = []
    gates = []
    if layout.gates == "separate" and differs("gate_names"):
        gates.append(f"called {', '.join(layout.gate_names)} for i, f, g, o")
    if layout.gates != "separate" and differs("gate_order"):
        gates.append(f"in the order {layout_rules.gates_in_words(layout)}")
    if differs("gates"):
        gates.append(layout_rules.GATE_PLACES[layout.gates])
    if gates:
        words.append(f"its gates are {', '.join(gates)}")
    if differs("matrices"):
        words.append(f"W and U are {layout_rules.joined_phrase(layout)}")
    if differs("transposed"):
        words.append(f"its matrices are {'' if layout.transposed else 'not '}transposed")
    if differs("bias", "bias_shape", "bias_neuron"):
        own = layout.bias not in layout_rules.IN_MATRIX
        phrase = layout_rules.bias_phrase(layout).removeprefix("bias as ")
        words.append(f"it has {phrase}" if own else f"its bias is {phrase}")
    if differs("leading_axis"):
        words.append(f"its arrays have {'a' if layout.leading_axis else 'no'} leading axis of 1")
    if differs("sequence"):
        words.append(f"its sequences are {in_words(layout.sequence)}")
    if differs("states"):
        words.append(f"its states are {in_words(layout.states)}")
    if differs("joined_state"):
        joined = f"joined as [{', '.join(layout.joined_state)}]"
        words.append(f"its states are {joined if layout.joined_state else 'apart'}")
    if differs("flat"):
        words.append("its weights are one vector" if layout.flat else "its arrays are apart")
    return words
