"""Mistakes of loops over units, rows and inputs, of shared arrays and of a stack's last states."""

from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from test_in_turn import in_turn
from test_locate import made as stack

from manual_lstm.params import GATES
from torch_ref import Implementation, Layout, check_implementation, diagnose, preset
from torch_ref.diagnosis.backward.table import Factor
from torch_ref.diagnosis.locating.locate import locate_first_wrong
from torch_ref.diagnosis.mistakes.catalogue import catalogue
from torch_ref.diagnosis.mistakes.edits import Place, outer, plus, together
from torch_ref.harness.contract import as_implementation
from torch_ref.harness.subject import subject_of

pytestmark = pytest.mark.sampled

FOLDER = Path(__file__).parent / "others"


def loaded(style: str, *changes: tuple[str, str]) -> Any:
    """A module of others/ with texts in its source replaced."""
    source = (FOLDER / f"{style}.py").read_text(encoding="utf-8")
    for old, new in changes:
        assert source.count(old) == 1, f"{old!r} occurs {source.count(old)} times"
        source = source.replace(old, new)
    module = ModuleType(style)
    exec(compile(source, style, "exec"), vars(module))
    return module


def lists(*changes: tuple[str, str]) -> Implementation:
    """others/plain_lists.py as an implementation."""
    module = loaded("plain_lists", *changes)

    def vjp(params: Any, x: Any, h0: Any, c0: Any) -> Any:
        weights = [params[name].tolist() for name in ("W", "U", "b")]
        given = (*weights, x.tolist(), h0.tolist(), c0.tolist())
        ys, h, c, _ = module.run(*given)

        def back(*upstream: Any) -> dict[str, Any]:
            steps = module.run(*given)[3]
            found = module.back(*weights, steps, *(each.tolist() for each in upstream))
            names = ("dW", "dU", "db", "dx", "dh0", "dc0")
            return {name: np.array(value) for name, value in zip(names, found, strict=True)}

        return (np.array(ys), np.array(h), np.array(c)), back

    names = {"weight_ih": "W", "weight_hh": "U", "bias_ih": "b"}
    layout = Layout(gate_order="ifog", sequence="TI", states="H", **names)
    return Implementation("lists", vjp=vjp, layout=layout, dtype="float64")


def char_trainer(*changes: tuple[str, str]) -> Implementation:
    """others/char_trainer.py as an implementation."""
    module = loaded("char_trainer", *changes)

    def loss_and_grads(params: Any, x: Any, targets: Any, h0: Any, c0: Any) -> Any:
        model = module.CharModel(**params)
        model.h, model.c = h0, c0
        loss, grads = model.loss(x.argmax(axis=-1), targets)
        return loss / x.shape[1], {f"d{name}": grad / x.shape[1] for name, grad in grads.items()}

    layout = replace(preset("course"), weight_out="Wy", bias_out="by")
    return Implementation("trainer", loss_and_grads=loss_and_grads, layout=layout, dtype="float64")


SKIP_DZ = "        dz = [0.0] * (4 * H)\n"
CARRY = "            for r in range(4 * H):\n                s +="
# the changed lines of the lists, and the mistake that has to be named
OF_LISTS = {
    "dW of one list": (
        [("[[0.0] * D for _ in range(4 * H)]", "[[0.0] * D] * (4 * H)")],
        "weight_ih.rows share one array",
    ),
    "dU of one list a gate": (
        [("[[0.0] * H for _ in range(4 * H)]", "[r for _ in range(4) for r in [[0.0] * H] * H]")],
        "weight_hh.rows of a gate share one array",
    ),
    "f after the loop": (
        [("            dc[j] *= gf[j]\n", "        dc[j] *= gf[j]\n")],
        "dc_carry.f of the last unit only",
    ),
    "f of the unit before": ([("dc[j] *= gf[j]", "dc[j] *= gf[j - 1]")],
                             "dc_carry.f of the previous unit"),
    "rows from 1 on": ([(CARRY, CARRY.replace("range(", "range(1, "))],
                       "dh_carry.without the first row of i"),
    "only the last row": ([("s += U", "s = U")], "dh_carry.only the last row of g"),
    "units up to H - 1": (
        [("for j in range(H):\n            dh", "for j in range(H - 1):\n            dh")],
        "loop.without the last unit",
    ),
    "inputs up to D - 1": (
        [("for k in range(D):\n                dW", "for k in range(D - 1):\n                dW")],
        "dweight_ih.without the last column",
    ),
    "a sum that goes on": (
        [("        for k in range(H):\n            s = 0.0\n",
          "        s = 0.0\n        for k in range(H):\n")],
        "dh_carry.not set to zero between the columns",
    ),
    "the bias in the loop over the inputs": (
        [("dW[r][k] += dz[r] * x[k]", "dW[r][k] += dz[r] * x[k]; db[r] += dz[r]"),
         ("            db[r] += dz[r]\n        dx", "        dx")],
        "bias.inside the loop over the inputs",
    ),
    "dz of f kept from t+1": (
        [(SKIP_DZ, ""), ("dh, dc = list(dh), list(dc)\n",
                         "dh, dc, dz = list(dh), list(dc), [0.0] * (4 * H)\n"),
         ("dz[H + j] = ", "dz[H + j] += ")],
        "dz_f.added to that of t+1",
    ),
    "g in the place of o": ([("dz[3 * H + j] = dc", "dz[2 * H + j] = dc")],
                            "dz_g.in the place of dz_o"),
    "dy added again": ([("dh[k] = s", "dh[k] = s + dys[t][k]")], "dy into dh_carry"),
    "forward in time": ([("range(len(steps) - 1, -1, -1)", "range(len(steps))")],
                        "loop.forwards, dx reversed"),
}  # fmt: skip


@pytest.mark.parametrize("name", OF_LISTS)
def test_mistake_of_a_written_out_loop_that_is_only_located(name: str) -> None:
    """A range, an index or a list too few, for which there was a place and no line."""
    changes, expected = OF_LISTS[name]
    finding = diagnose(lists(*changes), seconds=0).finding
    assert finding is not None
    assert [mistake.identifier for mistake in finding.mistakes] == [expected]


def test_correct_lists_that_are_accused() -> None:
    """A false alarm on the LSTM in which all of this is planted."""
    assert not diagnose(lists(), seconds=0).wrong
    report = check_implementation(lists(), examples=20)
    assert report.verdict == "agree", report.failures


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("dh_n[k], dc_n[k], len(", "dh_n[0], dc_n[k], len(", "stack.dh_n of the lowest layer"),
        ("dh_n[k], dc_n[k], len(", "dh_n[k], dc_n[-1], len(", "stack.dc_n of the top layer"),
        ("h, c, tape, y = h0[k], c0[k]", "h, c, tape, y = h0[0], c0[k]",
         "forward.stack.h0 of the lowest layer"),
    ],
)  # fmt: skip
def test_state_of_one_layer_that_every_layer_is_given(old: str, new: str, expected: str) -> None:
    """The index of a layer that is fixed, sought in what layers hand to each other."""
    finding = diagnose(stack(old, new), seconds=0).finding
    assert finding is not None
    assert [mistake.identifier for mistake in finding.mistakes] == [expected]


@pytest.mark.parametrize("name", ["dh_n", "dc_n"])
def test_last_state_of_a_layer_that_is_sought_elsewhere(name: str) -> None:
    """The reader of a wrong dh_n or dc_n sent to equation (8), or to the layer itself."""
    vjp = stack(f"{name}[k]", f"({name}[k] + 0.1 * k * {name}[0] ** 2)")
    sentence = locate_first_wrong(subject_of(as_implementation(vjp)), seed=0)
    assert f"Right without {name}: look at which layer's {name} each is given" in sentence


def test_bias_inside_the_loop_over_h_that_is_taken_for_two_mistakes() -> None:
    """H times the gradient of bias_out, for which H had to be T B."""
    summed = 'grads["by"] += dscores.sum(axis=0)'
    finding = diagnose(char_trainer((summed, f"{summed} * self.Wy.shape[0]")), seconds=0).finding
    assert finding is not None
    (mistake,) = finding.mistakes
    assert mistake.identifier == "bias_out.inside the loop over the units"


def test_division_of_whole_numbers_that_is_not_thought_of() -> None:
    """1 / N in whole numbers, after which every gradient is 0."""
    diagnosis = diagnose(char_trainer(("dscores /= N", "dscores *= 1 // (2 * N)")), seconds=0)
    assert "whole numbers" in diagnosis.located


def test_sum_over_the_batch_that_is_sought_in_the_loop_over_the_steps() -> None:
    """'With one step it is right', of what is right for one sequence whatever the steps."""
    summed = ("dscores /= N", "dscores = dscores * (1 + dscores.sum(axis=0) - dscores) / N")
    diagnosis = diagnose(char_trainer(summed), seconds=0)
    assert "With one sequence it is right" in diagnosis.located, diagnosis.located
    assert "With one step" not in diagnosis.located, diagnosis.located


def test_array_that_is_changed_in_place_is_told_beside_what_is_located() -> None:
    """A buffer that is the input itself: wrong gradients, and no word of what was overwritten."""
    vjp = stack("dx[t] = dz @ W", "x += 0.3 * x**2; dx[t] = dz @ W + x**2")
    located = diagnose(vjp, seconds=0).located
    assert located.startswith("x is changed in place by the call"), located


def test_guess_about_a_sum_from_part_of_a_case() -> None:
    """dW said to lack the share of a step, as it does in one case, where a column is left out."""
    right = catalogue().table
    lacking = [
        outer(Place(f"dweight_ih.{g}"), Factor("x", function="y, 0 in the last")) for g in GATES
    ]
    more = replace(right["dx"].terms[1], scale=("37/100",), steps="not the last")
    sums = [each for each in catalogue().mistakes if each.identifier.startswith("dweight_ih")]
    few = replace(catalogue(), mistakes=tuple(sums))
    found = in_turn(together(*lacking, plus("dx", more))(right), known=few)
    assert not found.mistakes, found.sentence
