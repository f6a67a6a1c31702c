"""Correct LSTMs by number: ways to add up, cells, arrangements, dtypes and heads."""

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tolerance.alarms import permuted
from tolerance.loops import STYLES, Style, run_loop

from kill.target import FORMS, Target, as_implementation
from manual_lstm import init_params
from torch_ref import Case, Layout, Variant, run_case, torch_lstm_vjp
from torch_ref.compare.diff import run_manual, run_twin
from torch_ref.diagnosis.backward.interpreter import run_table
from torch_ref.diagnosis.backward.table import backward_table
from torch_ref.harness.layouts.arrange import axes_from
from torch_ref.harness.layouts.presets import PRESETS
from torch_ref.harness.layouts.rules import NEURON_SIDE, roles
from torch_ref.oracles.case import Results, stack_cases
from torch_ref.oracles.variant import STANDARD

Array = NDArray[Any]
Run = Callable[[Case], Results]


def draw_correct(number: int) -> Target:
    """The correct LSTM of that number: half of them of the standard cell, a third in a preset."""
    rng = random.Random(number)
    form = rng.choice(("vjp", *FORMS))
    standard = (STANDARD,)
    others = [variant for variant in _variants() if variant != STANDARD]
    variant = rng.choice(rng.choice((standard, others)))
    way = rng.choice(sorted(_ways(form, variant)))
    run = _ways(form, variant)[way]
    plain = as_vjp(run, variant) if form == "vjp" else as_loss(run, variant)
    layout = _draw_layout(rng, variant)
    dtype = rng.choice((None, "float32", "float64"))
    name = f"{way}, {form}, {variant.describe()}, {dtype}, {layout.describe()}"
    arranged = arrange(plain, layout, form)
    fields = {"layout": layout, "variant": variant, "dtype": dtype}
    implementation = as_implementation(name, form, arranged, **fields)
    return Target(name, form, plain, implementation, variant)


def as_vjp(run: Run, variant: Variant = STANDARD) -> Callable[..., Any]:
    """What computes a case's results, in the contract's vjp form."""

    def vjp(params: Any, x: Any, h0: Any, c0: Any) -> Any:
        zero = np.zeros_like(h0)
        dy = np.zeros((*x.shape[:2], h0.shape[-1]), x.dtype)
        blank = Case(params, x, h0, c0, zero, zero, dy=dy, variant=variant)
        outputs = run(blank)

        def pullback(dy: Any, dh_n: Any, dc_n: Any) -> Any:
            return _gradients(run(replace(blank, dy=dy, dh_n=dh_n, dc_n=dc_n)), blank)

        return tuple(np.asarray(outputs[n], x.dtype) for n in ("y", "h_n", "c_n")), pullback

    return vjp


def as_loss(run: Run, variant: Variant = STANDARD) -> Callable[..., Any]:
    """What computes a case's results, in the contract's loss form."""

    def loss_and_grads(params: Any, x: Any, targets: Any, h0: Any, c0: Any) -> Any:
        zero = np.zeros_like(h0)
        case = Case(params, x, h0, c0, zero, zero, targets=targets, variant=variant)
        results = run(case)
        return results["loss"], _gradients(results, case)

    return loss_and_grads


def _gradients(results: Results, case: Case) -> dict[str, Array]:
    names = (*case.params, "x", "h0", "c0")
    return {f"d{name}": np.asarray(results[f"d{name}"], case.dtype) for name in names}


def _variants() -> Iterator[Variant]:
    booleans = (False, True)
    for fields in product(
        ("tanh", "sigmoid"), ("linear", "tanh"), ("tanh", "identity"), booleans, booleans
    ):
        yield Variant(*fields)  # type: ignore[arg-type]


def _ways(form: str, variant: Variant) -> Mapping[str, Run]:
    """Those who compute this cell, each adding up in an order of its own."""
    table = backward_table(variant, None if form == "vjp" else form)
    ways: dict[str, Run] = {"autograd": run_twin, "the table": partial(run_table, table)}
    if variant != STANDARD:
        return ways
    ways["manual_lstm"] = run_manual
    ways["units permuted"] = partial(permuted, seed=1, units=True)
    ways["batch permuted"] = partial(permuted, seed=1, units=False)
    ways |= {name: partial(_run_loop, style=style) for name, style in STYLES.items()}
    if form == "vjp":
        ways["torch.nn.LSTM"] = partial(run_case, vjp=torch_lstm_vjp)
    return ways


def _run_loop(case: Case, style: Style) -> Results:
    return {name: value[0] for name, value in run_loop(stack_cases([case]), style).items()}


def _draw_layout(rng: random.Random, variant: Variant) -> Layout:
    """A preset, or fields drawn until they make sense together."""
    if rng.random() < 1 / 3:
        names = [n for n, preset in PRESETS.items() if not (preset.flat and variant.peepholes)]
        layout = PRESETS[rng.choice(names)]
        return replace(layout, flat=f"{layout.flat} weight_out bias_out") if layout.flat else layout
    while True:
        gates = rng.choice(("blocks", "interleaved", "stacked", "separate"))
        place = "_{gate}" if gates == "separate" else ""
        named = ("weight_ih", "weight_hh", "weight", "bias_ih", "bias_hh")
        fields: dict[str, Any] = {name: f"{name}{place}.{{layer}}" for name in named}
        for name, choices in _CHOICES.items():
            fields[name] = rng.choice(choices)
        fields["gate_order"] = "".join(rng.sample("ifgo", 4))
        try:
            layout = Layout(gates=gates, **fields)
            if not variant.peepholes and rng.random() < 1 / 4:
                order = "; ".join(rng.sample(roles(layout), len(roles(layout))))
                layout = replace(layout, flat=f"{order} weight_out bias_out")
        except ValueError:
            continue
        return layout


_CHOICES: Mapping[str, tuple[Any, ...]] = {
    "matrices": ("split", "xh", "hx"),
    "bias": ("single", "pair", "concatenated", "first", "middle", "last"),
    "bias_neuron": ("", "", "x", "h", "xh"),
    "transposed": (False, True),
    "bias_shape": ("vector", "column", "row"),
    "leading_axis": (False, True),
    "sequence": ("TBI", "BTI", "IBT", "TIB", "TI", "TI1", "T:BI", "T:IB", "T:I"),
    "states": ("LBH", "BLH", "LHB", "BH", "HB", "H", "H1", "L:BH", "L:H"),
    "joined_state": ("", "hc", "ch"),
    "first_layer": (0, 1),
}


def _give_both(theirs: Mapping[str, Array], layout: Layout, gradients: dict[str, Any]) -> None:
    """Write the whole gradient of a bias in the places of both of its parts, in their arrays."""
    biases = [name for name in gradients if name.startswith("bias_l")]
    blank = {name: np.zeros_like(value) for name, value in gradients.items()}
    every = np.concatenate([gradients[name] for name in biases])
    numbers = np.split(1 + np.arange(len(every), dtype=every.dtype), len(biases))
    # Of 4 the parts are whole numbers, and so is 4 k's part by that of 4.
    parts = layout.params_to(blank | {name: np.full_like(gradients[name], 4) for name in biases})
    of_numbers = layout.params_to(
        blank | {name: 4 * number for name, number in zip(biases, numbers, strict=True)}
    )
    for name, array in theirs.items():
        at = parts[name] != 0
        array[at] = every[(of_numbers[name][at] / parts[name][at]).astype(int) - 1]


def arrange(plain: Callable[..., Any], layout: Layout, form: str) -> Callable[..., Any]:
    """An LSTM of our arrangement, as its author would have written it in another; form of FORMS."""

    def ours(params: Any, x: Any, states: Any) -> Any:
        x = layout.gradients_from({f"d{layout.x}": x})["dx"]
        h0, c0 = layout.states_from(*states)
        inputs, (layers, _, hidden) = x.shape[-1], h0.shape
        like = init_params(inputs, hidden, layers, dtype=x.dtype, rng=np.random.default_rng(0))
        if form == "linear":
            like |= {"weight_out": np.zeros((inputs, hidden)), "bias_out": np.zeros(inputs)}
        return layout.params_from(params, like), x, h0, c0

    def gradients(found: Mapping[str, Array]) -> dict[str, Any]:
        rest = {name[1:]: value for name, value in found.items()}
        x, h0, c0 = (rest.pop(name) for name in ("x", "h0", "c0"))
        theirs: dict[str, Any] = layout.params_to(rest)
        if layout.bias in ("pair", "concatenated"):
            _give_both(theirs, layout, rest)
        if "x" in layout.bias_neuron:
            neuron = np.zeros_like(x[..., :1])
            behind = NEURON_SIDE[layout.matrices, layout.bias] == "last"
            x = np.concatenate([x, neuron] if behind else [neuron, x], axis=-1)
        theirs[layout.x] = layout.sequence_to(x)
        names = (layout.state,) if layout.joined_state else (layout.h0, layout.c0)
        theirs |= zip(names, layout.states_to(h0, c0), strict=True)
        return {f"d{name}": value for name, value in theirs.items()}

    def vjp(params: Any, x: Any, *states: Any) -> Any:
        (y, h_n, c_n), pullback = plain(*ours(params, x, states))

        def pull(dy: Any, *beyond: Any) -> Any:
            return gradients(pullback(layout.sequence_from(dy, "dy"), *layout.states_from(*beyond)))

        return (layout.sequence_to(y), *layout.states_to(h_n, c_n)), pull

    def loss_and_grads(params: Any, x: Any, targets: Any, *states: Any) -> Any:
        weights, *rest = ours(params, x, states)
        axes = layout.sequence.replace("I", "")
        loss, found = plain(weights, rest[0], axes_from("targets", targets, "TB", axes), *rest[1:])
        return loss, gradients(found)

    return vjp if form == "vjp" else loss_and_grads
