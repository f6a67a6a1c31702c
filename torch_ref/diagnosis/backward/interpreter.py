"""A table of the backward pass, computed on the forward quantities of a case, in any arithmetic.

Thousands of tables are computed that differ from one in a single equation. What such a table has
in common with it is taken over: the layers' loops where no equation of the loop is another, and
each sum whose equation is the same.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from manual_lstm.params import GATES
from torch_ref.diagnosis.backward.carries import Received, left_of, received
from torch_ref.diagnosis.backward.quantities import FLOAT64, Quantities, computed_again, quantities
from torch_ref.diagnosis.backward.recurrence import RECURRENT, Loop, recur
from torch_ref.diagnosis.backward.reshaped import as_returned
from torch_ref.diagnosis.backward.table import (
    HEAD_SUMS,
    KINDS,
    LOSS,
    OUTER,
    PEEPHOLES,
    SUM_OF_DZ,
    SUMS,
    AllLayers,
    Equation,
    Factor,
    Table,
    Term,
    steps_of,
)
from torch_ref.diagnosis.backward.terms import (
    at_all_steps,
    block,
    clipped,
    kept,
    layer_index,
    scaled,
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
    table: Table,
    q: Quantities,
    a: Arithmetic = FLOAT64,
    *,
    steps: bool = False,
    beside: "Solved | None" = None,
) -> dict[str, Array]:
    """Every gradient by a table, under its name; `steps` as for `equations.solve`.

    `beside` is as for `solved`. Then a gradient may be the same array as one of that table's.

    Raises:
        ValueError: a quantity of another shape in the place of the right one does not fit.
    """
    found = solved(table, q, a, beside)
    results = dict(found.loss)
    if results:
        del results["dlogits"], results["dy"]
    if "dbias_out" in results:
        results["dbias_out"] = results["dbias_out"][..., 0]
    for k, layer in enumerate(found.layers):
        for kind in KINDS:
            if f"d{kind}.i" not in layer.table.equations:
                continue
            blocks = [layer.env[f"d{kind}.{gate}"] for gate in GATES]
            joined = np.concatenate(blocks, axis=-2)
            results[f"d{kind}_l{k}"] = joined[..., 0] if kind.startswith("bias") else joined
        for name in PEEPHOLES:
            if f"d{name}" in layer.table.equations:
                results[f"d{name}_l{k}"] = layer.env[f"d{name}"][..., 0]
        if steps:
            dz = [layer.env[f"dz_{gate}"] for gate in GATES]
            results[f"dz_l{k}"] = np.concatenate(dz, axis=-1)
            results[f"dh_l{k}"] = layer.env["dh"]
            results[f"dc_l{k}"] = layer.env.get("dc_total", layer.env["dc"])
    results["dx"] = found.layers[0].env["dx"]
    for name in [name for name in q.weights if table.decay and name.startswith(table.decayed)]:
        share = a.number(table.decay) * q.weights[name]
        results[f"d{name}"] = a.rnd(results[f"d{name}"] + share)
    for name, carry in (("dh0", "dh_carry"), ("dc0", "dc_carry")):
        values = [getattr(layer.loop, name) for layer in found.layers]
        values = left_of(values, [layer.env for layer in found.layers], carry, table.carries)
        shift = table[name].terms[0].factors[0].layer
        assert isinstance(shift, int)
        results[name] = np.stack(values[-shift:] + values[:-shift] if shift else values, axis=-3)
    for begin, what in table.one_array:
        names = [f"{begin}_l{k}" for k in range(len(found.layers))]
        results |= dict(
            zip(names, _of_one_array([results[n] for n in names], what, a), strict=True)
        )
    for begin, how in table.reshaped:
        for name in [name for name in results if name.startswith(begin)]:
            results[name] = as_returned(name, results[name], how, table.order)
    return results


def _of_one_array(layers: list[Array], what: AllLayers, a: Arithmetic) -> list[Array]:
    """A gradient of each layer, from the lowest, where all are added up in, or written to, one."""
    if what == "lowest":
        return [layers[0]] * len(layers)
    so_far = [layers[-1]]
    for each in reversed(layers[:-1]):
        so_far.insert(0, a.rnd(so_far[0] + each))
    return [so_far[0]] * len(layers) if what == "sum" else so_far


@dataclass(frozen=True)
class SolvedLayer:
    """A layer's table, its loop, and all quantities: the forward ones, and the table's."""

    table: Table
    loop: Loop
    env: Mapping[str, Array]


@dataclass(frozen=True)
class Solved:
    """A table and what each of its equations gives: the loss's, and the layers' from the lowest."""

    table: Table
    loss: Mapping[str, Array]
    layers: tuple[SolvedLayer, ...]


def solved(
    table: Table, q: Quantities, a: Arithmetic = FLOAT64, beside: Solved | None = None
) -> Solved:
    """A table on the forward quantities of a case.

    Args:
        table: the equations. q: the quantities. a: the arithmetic.
        beside: another table on the same quantities in the same arithmetic. What follows from
            equations that are its own, as objects, is taken from it.

    Raises:
        ValueError: a quantity of another shape in the place of the right one does not fit.
    """
    loss: Mapping[str, Array] = {}
    dy = q.dy
    if "dlogits" in table.equations:
        if beside is not None and _same(table, beside.table, (*LOSS, *HEAD_SUMS)):
            loss = beside.loss
        else:
            loss = _solved_loss(table, q, a)
        dy = loss["dy"]
    assert dy is not None
    layers = _from_the_top(table, q, a, dy, None if table.carries else beside)
    if table.carries and len(layers) > 1:
        if q.sizes.T > _MOST_STEPS:
            raise ValueError(f"With {q.sizes.T} steps it takes too long to follow such a carry.")
        # A carry of another layer is of this step or the next: so many times, and all are there.
        before: Received | None = None
        for _ in range(q.sizes.T * len(layers)):
            taken = received(table.carries, [layer.env for layer in layers])
            if before is not None and _equal(before, taken):
                break
            layers = _from_the_top(table, q, a, dy, None, taken)
            before = taken
    return Solved(table, loss, layers)


# Beyond, a carry of another layer, for which all steps are done so many times, is not followed.
_MOST_STEPS = 32


def _equal(first: Received, second: Received) -> bool:
    def same(one: Array | None, other: Array | None) -> bool:
        return one is other or (one is not None and other is not None and (one == other).all())

    return all(
        same(one, other)
        for before, after in zip(first, second, strict=True)
        for carry in before
        for one, other in zip(before[carry], after[carry], strict=True)
    )


def _from_the_top(
    table: Table,
    q: Quantities,
    a: Arithmetic,
    dy: Array,
    beside: Solved | None,
    received_of: Received | None = None,
) -> tuple[SolvedLayer, ...]:
    zero = np.zeros_like(dy[..., 0, :, :])
    above = {"dy_top": dy, "dh_above": zero, "dc_above": zero}
    layers: list[SolvedLayer] = []
    for k in reversed(range(len(q.layers))):
        above["dy"] = dy
        known = None if beside is None else beside.layers[k]
        of_layer = _of_layer(table, k, len(q.layers))
        taken = {} if received_of is None else received_of[k]
        layers.insert(0, _solved_layer(of_layer, q, a, k, above, known, taken))
        dy = layers[0].env.get("below", dy)
        above |= {"dh_above": layers[0].loop.dh0, "dc_above": layers[0].loop.dc0}
    return tuple(layers)


def _solved_loss(table: Table, q: Quantities, a: Arithmetic) -> dict[str, Array]:
    whole = _Whole(q, a, {**q.layers[-1], **q.loss})
    found: dict[str, Array] = {}
    for target in LOSS:
        found[target] = whole.value(table[target])
        whole = _Whole(q, a, {**whole.env, **found})
    for target in HEAD_SUMS:
        if target in table.equations:
            found[target] = whole.sum_over_steps(table[target])
    return found


def _solved_layer(
    table: Table,
    q: Quantities,
    a: Arithmetic,
    k: int,
    above: Mapping[str, Array],
    known: SolvedLayer | None,
    taken: Mapping[str, Sequence[Array | None]],
) -> SolvedLayer:
    """One layer.

    above: "dy" (..., T, B, H) of this layer, "dy_top" of the top one, and "dh_above" and "dc_above"
    (..., B, H), dh0 and dc0 of the one above. known: this layer by the table beside this one.
    taken: what `recur` has received.
    """
    if known is not None:
        # With another dy_top, dh0 or dc0 above, dy is another too.
        same_above = known.env["dy"] is above["dy"]
        if not same_above or (table.again, table.kept) != (known.table.again, known.table.kept):
            known = None
    if known is not None and _same_loop(table, known.table):
        env, loop = dict(known.env), known.loop
    else:
        forward = q.layers[layer_index(table.kept, k, len(q.layers))]
        forward = computed_again(q, k, table.again, a) if table.again else forward
        env = {**forward, **above, "dh_n": q.dh_n[k], "dc_n": q.dc_n[k]}
        for name in ("dh_above", "dc_above"):
            env[name] = above[name][..., None, :, :]
        for name, per_layer in (("dh_n", q.dh_n), ("dc_n", q.dc_n)):
            env[f"{name} 1"] = per_layer[(k - 1) % len(q.layers)]
            env[f"{name} lowest"], env[f"{name} top"] = per_layer[0], per_layer[-1]
        others = None if known is None else (known.table, known.loop)
        loop = recur(table, q, a, env, k, others, taken)
        known = None
    whole = _Whole(q, a, env, k)

    def changed(*targets: str) -> bool:
        return known is None or not _same(table, known.table, targets)

    if changed("dx"):
        env["dx"] = whole.value(table["dx"])
    together = whole.sums_of_dz() if known is None else {}
    for target in SUMS:
        equation = table.equations.get(target)
        if equation is not None and changed(target):
            plain = target in together and equation.clip is None
            if plain and equation.terms == SUM_OF_DZ[target]:
                env[target] = together[target]
            else:
                env[target] = whole.sum_over_steps(equation)
    if k > 0 and changed("dx", "below"):
        env["below"] = whole.value(table["below"])
    return SolvedLayer(table, loop, env)


def _same(table: Table, other: Table, targets: Iterable[str]) -> bool:
    """Whether two tables have these equations in common, as objects."""
    return all(table.equations.get(t) is other.equations.get(t) for t in targets)


def _same_loop(table: Table, other: Table) -> bool:
    return (
        table.learning_rate == other.learning_rate
        and table.forwards == other.forwards
        and list(table.equations) == list(other.equations)
        and _same(table, other, RECURRENT)
    )


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
            value = scaled(self.product(term), term, self.q, self.a)
            value = kept(value, term.steps)
            if term.weight is not None:
                weight = block(self.q, term.weight, self.layer, self.a)
                value = self.a.matmul(value, weight[..., None, :, :])
            total = value if total is None else self.a.rnd(total + value)
        assert total is not None
        return clipped(equation, total, self.a)

    def product(self, term: Term) -> Array:
        """The product of a term's factors."""
        steps = self.q.sizes.T
        value = at_all_steps(term.factors[0], self.env, steps, self.a)
        for factor in term.factors[1:]:
            value = self.a.rnd(value * at_all_steps(factor, self.env, steps, self.a))
        return value

    def sum_over_steps(self, equation: Equation) -> Array:
        """(..., M, P), from the last step to the first."""
        total: Array | None = None
        for term in equation.terms:
            value = self._sum_of(term)
            total = value if total is None else self.a.rnd(total + value)
        assert total is not None
        return clipped(equation, total, self.a)

    def sums_of_dz(self) -> dict[str, Array]:
        """The sums over the steps as they should be of every dz, as one product."""
        left = np.concatenate([self.env[f"dz_{gate}"] for gate in GATES], axis=-1)
        columns = [self._outer(factor, left) for factor in OUTER.values()]
        if any(each.shape[:-1] != left.shape[:-1] for each in columns):  # x has no replicas
            lead = left.shape[:-1]
            columns = [np.broadcast_to(each, (*lead, each.shape[-1])) for each in columns]
        right = np.concatenate(columns, axis=-1)
        order = range(self.q.sizes.T)[::-1]
        total = self.a.sum_over_steps(
            [left[..., t, :, :] for t in order], [right[..., t, :, :] for t in order]
        )
        found, start, hidden = {}, 0, self.q.sizes.H
        for kind, each in zip(OUTER, columns, strict=True):
            stop = start + each.shape[-1]
            for n, gate in enumerate(GATES):
                rows = slice(n * hidden, (n + 1) * hidden)
                found[f"d{kind}.{gate}"] = total[..., rows, start:stop]
            start = stop
        return found

    def _outer(self, factor: Factor, left: Array) -> Array:
        """What a sum multiplies at every step, (..., T, B, P)."""
        if factor.name == "one":
            return self.a.number(np.ones((*left.shape[:-1], 1)))
        return at_all_steps(factor, self.env, self.q.sizes.T, self.a)

    def _sum_of(self, term: Term) -> Array:
        assert term.outer is not None
        left = scaled(self.product(term), term, self.q, self.a)
        right = self._outer(term.outer, left)
        order = list(steps_of(self.q.sizes.T, term.steps))[::-1]
        if not order:
            left, order = np.zeros_like(left), [0]
        total = self.a.sum_over_steps(
            [left[..., t, :, :] for t in order], [right[..., t, :, :] for t in order]
        )
        return np.swapaxes(total, -1, -2) if term.transposed else total
