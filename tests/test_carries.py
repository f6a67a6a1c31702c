"""A stack whose loop over the steps is the outer one: whose carry a layer takes, and keeps."""

from typing import Any

import numpy as np
import pytest

from torch_ref import Implementation, check_implementation, diagnose
from torch_ref.reports.check_text import remarks

pytestmark = pytest.mark.sampled

CODE = """
def vjp(params, x, h0, c0):
    T, L = len(x), len(h0)
    W, U, b = ([params[f"{n}_l{k}"] for k in range(L)] for n in ("weight_ih", "weight_hh", "bias"))
    hs, cs, kept = [h0], [c0], []
    for t in range(T):
        h, c, below, rows = hs[-1].copy(), cs[-1].copy(), x[t], []
        for l in range(L):
            z = below @ W[l].T + h[l] @ U[l].T + b[l]
            i, f, g, o = np.split(z, 4, axis=-1)
            i, f, o = (1 / (1 + np.exp(-each)) for each in (i, f, o))
            g = np.tanh(g)
            rows.append((below, i, f, g, o))
            c[l] = f * c[l] + i * g
            below = h[l] = o * np.tanh(c[l])
        hs.append(h), cs.append(c), kept.append(rows)

    def pullback(dy, dh_n, dc_n):
        grads = {f"d{name}": np.zeros_like(value) for name, value in params.items()}
        dx = np.zeros_like(x)
        dh_next = [each.copy() for each in dh_n]
        dc_next = [each.copy() for each in dc_n]
        for t in reversed(range(T)):
            above = dy[t]
            for l in reversed(range(L)):
                below, i, f, g, o = kept[t][l]
                squashed = np.tanh(cs[t + 1][l])
                dh = above + dh_next[l]
                dc = dc_next[l] + dh * o * (1 - squashed ** 2)
                df = dc * cs[t][l]
                dz = np.concatenate([dc * g * i * (1 - i), df * f * (1 - f), dc * i * (1 - g * g),
                                     dh * squashed * o * (1 - o)], axis=-1)
                grads[f"dweight_ih_l{l}"] += dz.T @ below
                grads[f"dweight_hh_l{l}"] += dz.T @ hs[t][l]
                grads[f"dbias_l{l}"] += dz.sum(0)
                above = dz @ W[l]
                dh_next[l] = dz @ U[l]
                dc_next[l] = dc * f
            dx[t] = above
        return {**grads, "dx": dx, "dh0": np.array(dh_next), "dc0": np.array(dc_next)}

    return (np.array([h[-1] for h in hs[1:]]), hs[-1], cs[-1]), pullback
"""
SHARED_H = ("dh_next = [each.copy() for each in dh_n]", "dh_next = [dh_n[-1].copy()] * L")
SHARED_C = ("dc_next = [each.copy() for each in dc_n]", "dc_next = [dc_n[-1].copy()] * L")
INTO_H = ("dh_next[l] = dz @ U[l]", "dh_next[l][...] = dz @ U[l]")
INTO_C = ("dc_next[l] = dc * f", "dc_next[l][...] = dc * f")
# What is written in the place of what, and what is named.
WRONG = [
    ([SHARED_H, INTO_H], "stack.dh carried, one for all"),
    ([SHARED_C, INTO_C], "stack.dc carried, one for all"),
    ([SHARED_H, INTO_H, SHARED_C, INTO_C], "stack.dh and dc carried, one for all"),
    ([("above + dh_next[l]", "above + dh_next[-1]")], "stack.dh carried, the top layer's"),
    ([("dc_next[l] + dh", "dc_next[0] + dh")], "stack.dc carried, the lowest layer's"),
    ([("dc_next[l] = dc * f", "dc_next[0] = dc * f")],
     "stack.dc carried, kept as the lowest layer's"),
    ([("dh_next[l] = dz @", "dh_next[-1] = dz @")], "stack.dh carried, kept as the top layer's"),
    ([("dc * cs[t][l]", "dc * cs[t][-1]")], "stack.df with c of the top layer"),
    ([("f * c[l] + i * g", "f * c[0] + i * g")], "forward.stack.c of the lowest [t]"),
    ([("+ h[l] @ U[l].T", "+ h[0] @ U[l].T")], "forward.stack.h of the lowest [t]"),
]  # fmt: skip


def stack(*changes: tuple[str, str]) -> Any:
    """The vjp with these lines in the place of its own."""
    code = CODE
    for right, wrong in changes:
        assert code.count(right) == 1, right
        code = code.replace(right, wrong)
    names: dict[str, Any] = {"np": np}
    exec(code, names)
    return names["vjp"]


def test_a_stack_that_is_wrong_by_itself() -> None:
    """The lines are planted into what is right without them."""
    assert check_implementation(stack(), examples=20).verdict == "agree"


@pytest.mark.parametrize(("changes", "identifier"), WRONG)
def test_carry_of_another_layer_that_is_only_located(
    changes: list[tuple[str, str]], identifier: str
) -> None:
    """Which array a layer takes, or keeps, what is carried from step to step in."""
    found = diagnose(Implementation("mine", vjp=stack(*changes), dtype="float64"), seconds=0)
    assert found.finding is not None, found.located
    (mistake,) = found.finding.mistakes
    assert mistake.identifier == identifier


@pytest.mark.parametrize("line", ["above = 0 * below", "above = dz @ (U[l] if l else 0 * W[l])"])
def test_what_is_told_of_an_array_that_the_code_has_not(line: str) -> None:
    """Without a dx that is returned "dx = 0" is the same; W and U are no joined matrix here."""
    wrong = stack(("above = dz @ W[l]", line))

    def without_dx(params: Any, x: Any, h0: Any, c0: Any) -> Any:
        outputs, pullback = wrong(params, x, h0, c0)

        def back(dy: Any, dh_n: Any, dc_n: Any) -> Any:
            found = pullback(dy, dh_n, dc_n)
            return {name: value for name, value in found.items() if name != "dx"}

        return outputs, back

    finding = diagnose(Implementation("mine", vjp=without_dx, dtype="float64"), seconds=0).finding
    assert finding is not None
    (mistake,) = finding.mistakes
    assert mistake.identifier.startswith("stack.") or "weight_hh" in mistake.sentence
    assert "joined" not in mistake.sentence
    others = " ".join(each.identifier for several in finding.alternatives for each in several)
    assert "dx" in others


def test_array_that_is_changed_beside_a_mistake_that_is_named() -> None:
    """h0 holds the last state after the call: two mistakes explain it, neither in the code."""
    overwriting = stack(("return (np.array(", "h0[...] = hs[-1]\n    return (np.array("))
    report = check_implementation(overwriting, examples=20)
    (told, *_) = remarks(report, diagnose(overwriting, seconds=0))
    assert told.startswith("First mend this, check_inputs_unmodified: h0 is changed by the call")
