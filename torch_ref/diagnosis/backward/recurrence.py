"""The loop over the steps of one layer, by a table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from manual_lstm.params import GATES
from torch_ref.diagnosis.backward.quantities import Quantities
from torch_ref.diagnosis.backward.table import (
    BEGIN,
    END,
    STEP,
    Equation,
    Table,
    Term,
    Weight,
    steps_of,
)
from torch_ref.diagnosis.backward.terms import at_all_steps, block, clipped, scaled
from torch_ref.oracles.equations import Arithmetic, Array

RECURRENT = frozenset({*STEP, *BEGIN, *END})


class CompiledTerm(NamedTuple):
    """A term with what does not recur multiplied out: fixed and after (..., T, B, H), or None."""

    fixed: Array | None
    recurrent: tuple[str, ...]
    weight: Array | None
    block: Weight
    steps: Sequence[int]
    after: Array | None


@dataclass(frozen=True)
class Loop:
    """A layer's loop: its equations, compiled, and what it ends with, dh0 and dc0 (..., B, H)."""

    compiled: Mapping[str, list[CompiledTerm]]
    dh0: Array
    dc0: Array


def recur(
    table: Table,
    q: Quantities,
    a: Arithmetic,
    env: dict[str, Array],
    k: int,
    beside: tuple[Table, Loop] | None = None,
    received: Mapping[str, Sequence[Array | None]] = MappingProxyType({}),
) -> Loop:
    """The loop over the steps of layer k; puts the whole of each gradient in env.

    Args:
        beside: another table's loop over the same forward quantities and upstream gradients.
        received: of "dh_carry" or "dc_carry" what each step takes in the place of its own, or None.
    """
    steps, shape = q.sizes.T, env["dy"].shape[:-3] + env["dy"].shape[-2:]
    zero = np.zeros(shape, env["dy"].dtype)
    at_begin = {name: value[..., 0, :, :] for name, value in env.items() if name[:3] in _BEYOND}
    compiled: dict[str, list[CompiledTerm]] = {}
    for target, equation in table.equations.items():
        if target not in STEP:
            continue
        if beside is not None and beside[0].equations.get(target) is equation:
            compiled[target] = beside[1].compiled[target]
        else:
            compiled[target] = [_compiled(term, env, q, a, k) for term in equation.terms]
    history: dict[str, list[Array]] = {target: [] for target in compiled}
    now = {
        carry: _begin(table[begin], at_begin, q, a)
        for carry, begin in (("dh_carry", "dh_begin"), ("dc_carry", "dc_begin"))
    }
    h_before = env["h"][..., :-1, :, :]
    changed: dict[Weight, Array] = {}
    limited = {target for target in compiled if table[target].clip is not None}
    order = range(steps) if table.forwards else reversed(range(steps))
    for t in order:
        for carry, of_steps in received.items():
            taken = of_steps[t]
            now[carry] = now[carry] if taken is None else taken
        for target, terms in compiled.items():
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
                if term.after is not None:
                    value = a.rnd(value * term.after[..., t, :, :])
                total = value if total is None else a.rnd(total + value)
            value = zero if total is None else total
            now[target] = clipped(table[target], value, a) if target in limited else value
        for target, kept in history.items():
            kept.append(now[target])
        if table.learning_rate:
            for gate in GATES:
                updated = Weight("weight_hh", gate)
                dz = now[f"dz_{gate}"]
                update = a.matmul(np.swapaxes(dz, -1, -2), h_before[..., t, :, :])
                update = a.rnd(a.number(table.learning_rate) * update)
                old = changed.get(updated, block(q, updated, k, a))
                changed[updated] = a.rnd(old - update)
    onwards = 1 if table.forwards else -1
    joined = np.concatenate([each for of in history.values() for each in of[::onwards]], axis=-2)
    joined = joined.reshape(*shape[:-2], len(history), steps, *shape[-2:])
    for n, target in enumerate(history):
        env[target] = joined[..., n, :, :, :]
    end = {}
    for target in END:
        (last,) = table[target].terms
        value = now[last.factors[0].name]
        for factor in last.factors[1:]:
            value = a.rnd(value * at_all_steps(factor, env, steps, a)[..., 0, :, :])
        end[target] = scaled(value, last, q, a)
    return Loop(compiled, **end)


_BEYOND = ("dh_", "dc_")
_NONE = Weight("")


def _begin(equation: Equation, beyond: Mapping[str, Array], q: Quantities, a: Arithmetic) -> Array:
    """A carry before the last step."""
    total = None
    for term in equation.terms:
        (factor,) = term.factors
        value = scaled(beyond[factor.key], term, q, a)
        total = value if total is None else a.rnd(total + value)
    assert total is not None
    return total


def _compiled(
    term: Term, env: Mapping[str, Array], q: Quantities, a: Arithmetic, k: int
) -> CompiledTerm:
    fixed = None
    for factor in term.factors:
        if factor.name not in STEP:
            value = at_all_steps(factor, env, q.sizes.T, a)
            fixed = value if fixed is None else a.rnd(fixed * value)
    if fixed is not None:
        fixed = scaled(fixed, term, q, a)
        if fixed.shape[-3] == 1:
            fixed = np.broadcast_to(fixed, (*fixed.shape[:-3], q.sizes.T, *fixed.shape[-2:]))
    elif term.scale:
        ones = np.ones_like(env["dy"])
        fixed = scaled(ones, term, q, a)
    return CompiledTerm(
        fixed,
        tuple([f.name for f in term.factors if f.name in STEP]),
        None if term.weight is None else block(q, term.weight, k, a),
        term.weight or _NONE,
        steps_of(q.sizes.T, term.steps),
        None if term.after is None else at_all_steps(term.after, env, q.sizes.T, a),
    )
