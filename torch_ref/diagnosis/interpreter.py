"""A table of the backward pass, computed on the forward quantities of a case, in any arithmetic."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from manual_lstm.params import GATES
from torch_ref.diagnosis.quantities import (
    FLOAT64,
    FUNCTIONS,
    JOINED,
    Quantities,
    computed_again,
    joined_inputs,
    quantities,
)
from torch_ref.diagnosis.table import (
    HEAD_SUMS,
    KINDS,
    LOSS,
    PEEPHOLES,
    STEP,
    SUMS,
    Equation,
    Factor,
    Layer,
    Steps,
    Table,
    Term,
    Weight,
    scale_of,
    steps_of,
)
from torch_ref.oracles.case import Case, Results
from torch_ref.oracles.equations import Arithmetic, Array


def solver(table: Table) -> Callable[..., dict[str, Array]]:
    """A table in the place of `equations.solve`: what `error_budget` needs to judge by it."""

    def solve(case: Case, a: Arithmetic, lead: tuple[int, ...] = ()) -> dict[str, Array]:
        q = quantities(case, a, lead)
        return {**q.outputs, **gradients(table, q, a)}

    return solve


def run_table(table: Table, case: Case) -> Results:
    """Outputs and gradients of a case by a table, in float64."""
    results = solver(table)(case, FLOAT64)
    del results["z"]
    return results


def gradients(
    table: Table, q: Quantities, a: Arithmetic = FLOAT64, *, steps: bool = False
) -> dict[str, Array]:
    """Every gradient by a table, under its name; `steps` as for `equations.solve`.

    Raises:
        ValueError: a quantity of another shape in the place of the right one does not fit.
    """
    results: dict[str, Array] = {}
    dy = q.dy
    if "dlogits" in table.equations:
        top = {**q.layers[-1], **q.loss}
        whole = _Whole(q, a, top)
        for target in LOSS:
            top[target] = whole.value(table[target])
        for target in HEAD_SUMS:
            if target in table.equations:
                results[target] = whole.sum_over_steps(table[target])
        if "dbias_out" in results:
            results["dbias_out"] = results["dbias_out"][..., 0]
        dy = top["dy"]
    assert dy is not None
    dy_top = dy
    dh0: list[Array] = []
    dc0: list[Array] = []
    every = table
    for k in reversed(range(len(q.layers))):
        table = _of_layer(every, k, len(q.layers))
        kept = q.layers[_index(table.kept, k, len(q.layers))]
        kept = computed_again(q, k, table.again, a) if table.again else kept
        env = {**kept, "dy": dy, "dy_top": dy_top, "dh_n": q.dh_n[k], "dc_n": q.dc_n[k]}
        for name, per_layer in (("dh_n", q.dh_n), ("dc_n", q.dc_n)):
            env[name + "+"] = per_layer[(k - 1) % len(q.layers)]
        for name, above in (("dh_above", dh0), ("dc_above", dc0)):
            env[name] = above[0][..., None, :, :] if above else np.zeros_like(q.dh_n[k])
        last = _recur(table, q, a, env, k)
        dh0.insert(0, last["dh0"])
        dc0.insert(0, last["dc0"])
        whole = _Whole(q, a, env, k)
        env["dx"] = whole.value(table["dx"])
        results["dx"] = env["dx"]
        for target in SUMS:
            if target in table.equations:
                env[target] = whole.sum_over_steps(table[target])
        for kind in KINDS:
            if f"d{kind}.i" not in env:
                continue
            blocks = [env[f"d{kind}.{gate}"] for gate in GATES]
            joined = np.concatenate(blocks, axis=-2)
            results[f"d{kind}_l{k}"] = joined[..., 0] if kind.startswith("bias") else joined
        for name in PEEPHOLES:
            if f"d{name}" in env:
                results[f"d{name}_l{k}"] = env[f"d{name}"][..., 0]
        if steps:
            dz = [env[f"dz_{gate}"] for gate in GATES]
            results[f"dz_l{k}"] = np.concatenate(dz, axis=-1)
            results[f"dh_l{k}"] = env["dh"]
            results[f"dc_l{k}"] = env.get("dc_total", env["dc"])
        if k > 0:
            dy = whole.value(table["below"])
    for name in [name for name in q.weights if every.decay and name.startswith(every.decayed)]:
        share = a.number(every.decay) * q.weights[name]
        results[f"d{name}"] = a.rnd(results[f"d{name}"] + share)
    for name, values in (("dh0", dh0), ("dc0", dc0)):
        shift = every[name].terms[0].factors[0].layer
        results[name] = np.stack(values[-shift:] + values[:-shift] if shift else values, axis=-3)
    return results


def _index(layer: Layer, k: int, layers: int) -> int:
    return {"own": k, "lowest": 0, "top": layers - 1}[layer]


def _of_layer(table: Table, k: int, layers: int) -> Table:
    own = table.own
    return own if own is not None and k in steps_of(layers, table.own_layers) else table


@dataclass(frozen=True)
class _Whole:
    """Terms of all steps at once."""

    q: Quantities
    a: Arithmetic
    env: Mapping[str, Array]
    layer: int = 0

    def value(self, equation: Equation) -> Array:
        """(..., T, B, N)."""
        total = None
        for term in equation.terms:
            value = _scaled(self.product(term), term, self.q, self.a)
            value = _kept(value, term.steps)
            if term.weight is not None:
                weight = _block(self.q, term.weight, self.layer)
                value = self.a.matmul(value, weight[..., None, :, :])
            total = value if total is None else self.a.rnd(total + value)
        assert total is not None
        return _clipped(equation, total, self.a)

    def product(self, term: Term) -> Array:
        """The product of a term's factors."""
        steps = self.q.sizes.T
        value = _at_all_steps(term.factors[0], self.env, steps, self.a)
        for factor in term.factors[1:]:
            value = self.a.rnd(value * _at_all_steps(factor, self.env, steps, self.a))
        return value

    def sum_over_steps(self, equation: Equation) -> Array:
        """(..., M, P), from the last step to the first."""
        total: Array | None = None
        for term in equation.terms:
            value = self._sum_of(term)
            total = value if total is None else self.a.rnd(total + value)
        assert total is not None
        return _clipped(equation, total, self.a)

    def _sum_of(self, term: Term) -> Array:
        assert term.outer is not None
        left = _scaled(self.product(term), term, self.q, self.a)
        if term.outer.name == "one":
            right = np.broadcast_to(self.a.number(np.ones(1)), (*left.shape[:-1], 1))
        else:
            right = _at_all_steps(term.outer, self.env, self.q.sizes.T, self.a)
        order = list(steps_of(self.q.sizes.T, term.steps))[::-1]
        if not order:
            left, order = np.zeros_like(left), [0]
        total = self.a.sum_over_steps(
            [left[..., t, :, :] for t in order], [right[..., t, :, :] for t in order]
        )
        return np.swapaxes(total, -1, -2) if term.transposed else total


def _recur(
    table: Table, q: Quantities, a: Arithmetic, env: dict[str, Array], k: int
) -> dict[str, Array]:
    """The loop over the steps of layer k; puts the whole of each gradient in env.

    Returns:
        "dh0" and "dc0" (..., B, H).
    """
    steps, shape = q.sizes.T, env["dy"].shape[:-3] + env["dy"].shape[-2:]
    zero = np.zeros(shape, env["dy"].dtype)
    at_begin = {name: value[..., 0, :, :] for name, value in env.items() if name[:3] in _BEYOND}
    compiled = [
        (target, [_compiled(term, env, q, a, k) for term in table[target].terms])
        for target in table.equations
        if target in STEP
    ]
    history: dict[str, list[Array]] = {target: [] for target, _ in compiled}
    now = {
        carry: _begin(table[begin], at_begin, q, a)
        for carry, begin in (("dh_carry", "dh_begin"), ("dc_carry", "dc_begin"))
    }
    h_before = env["h"][..., :-1, :, :]
    changed: dict[Weight, Array] = {}
    order = range(steps) if table.forwards else reversed(range(steps))
    for t in order:
        for target, terms in compiled:
            total: Array | None = None
            for term in terms:
                if t not in term.steps:
                    continue
                value = None if term.fixed is None else term.fixed[..., t, :, :]
                for name in term.recurrent:
                    found = now.get(name, zero)
                    value = found if value is None else a.rnd(found * value)
                assert value is not None
                if term.weight is not None:
                    value = a.matmul(value, changed.get(term.block, term.weight))
                total = value if total is None else a.rnd(total + value)
            now[target] = _clipped(table[target], zero if total is None else total, a)
        for target, kept in history.items():
            kept.append(now[target])
        if table.learning_rate:
            for gate in GATES:
                block = Weight("weight_hh", gate)
                dz = now[f"dz_{gate}"]
                update = a.matmul(np.swapaxes(dz, -1, -2), h_before[..., t, :, :])
                update = a.rnd(a.number(table.learning_rate) * update)
                old = changed.get(block, _block(q, block, k))
                changed[block] = a.rnd(old - update)
    for target, kept in history.items():
        env[target] = np.stack(kept if table.forwards else kept[::-1], axis=-3)
    end = {}
    for target in ("dh0", "dc0"):
        (last,) = table[target].terms
        value = now[last.factors[0].name]
        for factor in last.factors[1:]:
            value = a.rnd(value * _at_all_steps(factor, env, steps, a)[..., 0, :, :])
        end[target] = _scaled(value, last, q, a)
    return end


_BEYOND = ("dh_", "dc_")


def _begin(equation: Equation, beyond: Mapping[str, Array], q: Quantities, a: Arithmetic) -> Array:
    """A carry before the last step."""
    total = None
    for term in equation.terms:
        (factor,) = term.factors
        value = _scaled(beyond[factor.name + ("+" if factor.layer else "")], term, q, a)
        total = value if total is None else a.rnd(total + value)
    assert total is not None
    return total


@dataclass(frozen=True)
class _Compiled:
    """A term with what does not recur multiplied out: fixed (..., T, B, H), or None."""

    fixed: Array | None
    recurrent: tuple[str, ...]
    weight: Array | None
    block: Weight
    steps: range


def _compiled(term: Term, env: Mapping[str, Array], q: Quantities, a: Arithmetic,
              k: int) -> _Compiled:  # fmt: skip
    fixed = None
    for factor in term.factors:
        if factor.name not in STEP:
            value = _at_all_steps(factor, env, q.sizes.T, a)
            fixed = value if fixed is None else a.rnd(fixed * value)
    if fixed is not None:
        fixed = _scaled(fixed, term, q, a)
        if fixed.shape[-3] == 1:
            fixed = np.broadcast_to(fixed, (*fixed.shape[:-3], q.sizes.T, *fixed.shape[-2:]))
    elif term.scale:
        ones = np.ones_like(env["dy"])
        fixed = _scaled(ones, term, q, a)
    return _Compiled(
        fixed,
        tuple(f.name for f in term.factors if f.name in STEP),
        None if term.weight is None else _block(q, term.weight, k),
        term.weight or Weight(""),
        steps_of(q.sizes.T, term.steps),
    )


def _at_all_steps(factor: Factor, env: Mapping[str, Array], steps: int, a: Arithmetic) -> Array:
    """A factor at every step: (..., T, B, N), or (..., 1, B, N) where it is the same at each."""
    if factor.name == "one":
        return a.number(np.ones((1, 1, 1)))
    name = factor.name + ("+" if factor.layer else "")
    array = joined_inputs(env, name) if name in JOINED else env[name]
    before = 1 if factor.name in ("c", "h") else 0
    plain = factor.shift == 0 and not factor.at and not factor.step
    if array.shape[-3] != 1 and not (plain and not before):
        step = np.arange(steps)[:: -1 if factor.at == "reversed" else 1] + factor.step
        step = np.clip(step, 0, steps - 1) if factor.edge == "clamp" and factor.step else step
        index = (step % steps if factor.step else step) + before + factor.shift
        count = steps + before
        if factor.at in ("last", "first"):
            fixed = count - 1 if factor.at == "last" else before
            index = np.full(steps, fixed + factor.shift)
        outside = (index < 0) | (index >= count)
        index = index % count if factor.edge == "wrap" else np.clip(index, 0, count - 1)
        array = array[..., index, :, :]
        if factor.edge == "zero":
            array[..., outside, :, :] = 0
    return FUNCTIONS[factor.function](a, array) if factor.function else array


def _block(q: Quantities, weight: Weight, k: int) -> Array:
    if weight.name == "weight_out":
        array = q.weights["weight_out"]
    else:
        k = _index(weight.layer, k, len(q.layers))
        whole = q.weights[f"{weight.name}_l{k}"]
        hidden = q.sizes.H
        start = GATES.index(weight.block) * hidden
        array = whole[..., start : start + hidden, :]
        if weight.columns:
            array = _columns(q, weight, k, start)
        if weight.bias:
            bias = q.weights[f"bias_l{k}"][..., start : start + hidden, None]
            if weight.bias == "added":
                array = array + bias
            elif weight.bias in ("onto last", "onto first"):
                column = -1 if weight.bias == "onto last" else 0
                array = array.copy()
                array[..., column] += bias[..., 0]
            elif weight.bias == "last":
                array = np.concatenate([array[..., 1:], bias], axis=-1)
            else:
                array = np.concatenate([bias, array[..., :-1]], axis=-1)
    return np.swapaxes(array, -1, -2) if weight.transposed else array


def _columns(q: Quantities, weight: Weight, k: int, start: int) -> Array:
    """Columns of the joined matrix in the place of those of `weight`."""
    matrices, where = weight.columns.split(" ", 1)
    names = {"W": f"weight_ih_l{k}", "U": f"weight_hh_l{k}"}
    both = [q.weights[names[name]] for name in matrices.split("|")]
    joined = np.concatenate(both, axis=-1)[..., start : start + q.sizes.H, :]
    width = q.weights[f"{weight.name}_l{k}"].shape[-1]
    before = 0 if both[0] is q.weights[f"{weight.name}_l{k}"] else both[0].shape[-1]
    first = {
        "from the first": 0,
        "the last": joined.shape[-1] - width,
        "one early": before - 1,
        "one late": before + 1,
    }[where]
    if first + width > joined.shape[-1]:
        raise ValueError(f"{weight.columns} has no {width} columns there.")
    return np.asarray(joined[..., first : first + width])


def _scaled(value: Array, term: Term, q: Quantities, a: Arithmetic) -> Array:
    for scale in term.scale:
        value = a.rnd(value * a.number(scale_of(scale, q.sizes)))
    return value


def _kept(value: Array, which: Steps) -> Array:
    if which == "every":
        return value
    steps = value.shape[-3]
    kept = np.zeros_like(value)
    chosen = list(steps_of(steps, which))
    kept[..., chosen, :, :] = value[..., chosen, :, :]
    return kept


def _clipped(equation: Equation, value: Array, a: Arithmetic) -> Array:
    if equation.clip is None:
        return value
    if np.issubdtype(value.dtype, np.integer):
        return a.rnd(a.tanh(value) * a.number(equation.clip))  # as opaque as any function
    limit = float(equation.clip)
    return np.clip(value, -limit, limit)
