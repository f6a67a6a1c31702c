"""The gradients at every step that an implementation may return beside the others."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import pytest
from exchange_files import FORMS, stack_case
from hypothesis import given
from hypothesis import strategies as st
from test_diagnosis import VARIANTS, by_name

from manual_lstm import lstm_forward
from manual_lstm.lstm import empty_step_gradients, layer_backward
from torch_ref import (
    Case,
    check_implementation,
    diagnose,
    error_budget,
    load_result,
    preset,
    save_case,
    save_result,
)
from torch_ref.compare.errors import compare_gradients
from torch_ref.diagnosis.backward.interpreter import gradients
from torch_ref.diagnosis.backward.quantities import quantities
from torch_ref.diagnosis.backward.table import backward_table
from torch_ref.diagnosis.locating.plainest import walked_back
from torch_ref.diagnosis.mistakes.catalogue import catalogue
from torch_ref.diagnosis.mistakes.planted import planted_vjp
from torch_ref.harness.cases import sized_case
from torch_ref.harness.contract import Implementation
from torch_ref.harness.dump import check_dump
from torch_ref.harness.layouts.layout import Layout
from torch_ref.harness.subject import subject_of
from torch_ref.oracles.equations import is_step_gradient, solve
from torch_ref.oracles.truth import truth
from torch_ref.oracles.variant import Variant
from torch_ref.reports.as_json import check_json

pytestmark = pytest.mark.sampled

Arrays = Mapping[str, Any]


def by_hand(case: Case) -> dict[str, Any]:
    """dz, dh and dc of every layer as manual_lstm's own backward pass meets them."""
    _, caches = lstm_forward(case.params, case.x, case.h0, case.c0)
    found, dy = {}, case.dy
    for k in reversed(range(len(caches))):
        seen = empty_step_gradients(caches[k])
        dy = layer_backward(dy, case.dh_n[k], case.dc_n[k], caches[k], seen)[3]
        found |= {
            f"dz_l{k}": seen.dz.reshape(*seen.dz.shape[:2], -1),
            f"dh_l{k}": seen.dh,
            f"dc_l{k}": seen.dc,
        }
    return found


def allowed_of(case: Case) -> dict[str, Any]:
    return error_budget(case, equations=partial(solve, steps=True)).allowed


@given(
    seed=st.integers(0, 2**32),
    steps=st.integers(1, 8),
    batch=st.integers(1, 3),
    hidden=st.integers(1, 5),
    layers=st.integers(1, 3),
    dtype=st.sampled_from(["float32", "float64"]),
)
def test_expected_step_gradients_are_those_of_the_hand_written_backward(
    seed: int, steps: int, batch: int, hidden: int, layers: int, dtype: str
) -> None:
    """A dc that is taken after the forget gate, another order of the gates, a step off by one."""
    sizes = {"T": steps, "B": batch, "I": 3, "H": hidden, "L": layers}
    case = sized_case(sizes, dtype=dtype, seed=seed)
    exact = truth(case, steps=True)
    expected = {name: exact[name] for name in exact if is_step_gradient(name)}
    assert len(expected) == 3 * layers
    comparison = compare_gradients(by_hand(case), expected, allowed_of(case))
    assert comparison.verdict == "agree", comparison


@pytest.mark.parametrize("variant", VARIANTS, ids=Variant.describe)
def test_table_has_the_step_gradients_of_every_variant(variant: Variant) -> None:
    """dc taken on the wrong side of the tanh that the cell may have."""
    case = sized_case({"T": 4, "B": 2, "I": 3, "H": 3, "L": 2}, variant=variant)
    found = gradients(backward_table(variant), quantities(case), steps=True)
    expected = truth(case, steps=True)
    steps = [name for name in found if is_step_gradient(name)]
    comparison = compare_gradients(
        {name: found[name] for name in steps},
        {name: expected[name] for name in steps},
        allowed_of(case),
    )
    assert comparison.verdict == "agree", comparison


T, B, H = 3, 2, 5


def _course(d: Arrays) -> Arrays:
    i, f, g, o = np.split(d["dz_l0"], 4, axis=-1)
    dz = np.concatenate([i, f, o, g], axis=-1)
    return {"dz_l0": dz.swapaxes(0, 1), "dh_l0": d["dh_l0"].swapaxes(0, 1)}


def _columns(d: Arrays) -> Arrays:
    blocks = zip("ifco", np.split(d["dz_l0"], 4, axis=-1), strict=True)
    return {f"dz_{gate}_l0": block.transpose(2, 1, 0) for gate, block in blocks}


def _interleaved(d: Arrays) -> Arrays:
    units = [d["dz_l0"][..., k * H + j] for j in range(H) for k in range(4)]
    return {"dz_l1": np.stack(units, axis=-1), "dc_l1": d["dc_l0"]}


def _stacked(d: Arrays) -> Arrays:
    i, f, g, o = np.split(d["dz_l0"], 4, axis=-1)
    return {"dz_l0": np.stack([o, g, f, i])}


def _lists(d: Arrays) -> Arrays:
    return {name: list(value) for name, value in d.items()}


ARRANGED = [
    (preset("course"), _course),
    (preset("columns"), _columns),
    (Layout(gates="interleaved", first_layer=1), _interleaved),
    (Layout(gates="stacked", gate_order="ogfi"), _stacked),
    (Layout(sequence="T:BI"), _lists),
]


@pytest.mark.parametrize(("layout", "arrange"), ARRANGED)
def test_step_gradients_in_another_arrangement_are_read(
    layout: Layout, arrange: Callable[[Arrays], Arrays]
) -> None:
    """Gates in another order, or axes that are exchanged, which no shape would show."""
    rng = np.random.default_rng(0)
    widths = {"dz_l0": 4 * H, "dh_l0": H, "dc_l0": H}
    ours = {name: rng.uniform(size=(T, B, width)) for name, width in widths.items()}
    theirs = arrange(ours)
    read = layout.gradients_from(theirs)
    for name, value in read.items():
        np.testing.assert_array_equal(value, ours[name])
    kinds = {name.split("_")[0] for name in theirs}
    assert {name.split("_")[0] for name in read} == kinds


@pytest.mark.parametrize(
    ("layout", "given", "words"),
    [
        (preset("columns"), {"dz_i_l0": np.ones((H, B, T))}, "gradients has no dz_f_l0"),
        (Layout(), {"dz_l0": np.ones((T, 4 * H))}, r"dz_l0 has shape \(3, 20\) but must be"),
        (Layout(), {"dh_l0": np.ones((T, H))}, r"dh_l0 has shape \(3, 5\) but must be"),
        (Layout(), {"dz_l0": np.ones((T, B, 7))}, "dz_l0 has 7 features but must have 4H"),
        (Layout(gates="stacked"), {"dz_l0": np.ones((T, B, H))}, "dz_l0 has 3 parts but must"),
        (Layout(), {"dq_l0": np.ones((T, B, H))}, "gradients has dq_l0 but must have no other"),
    ],
)
def test_step_gradients_that_cannot_be_read_are_refused(
    layout: Layout, given: Arrays, words: str
) -> None:
    """A misshapen dz that is read as another one, or an error that does not name it."""
    with pytest.raises(ValueError, match=words):
        layout.gradients_from(given)


def test_weight_that_is_called_h_is_no_gradient_of_h() -> None:
    """A layout whose U is called h_l0, the gradient of which would be taken for a step's."""
    layout = Layout(weight_hh="h_l{layer}")
    assert set(layout.gradients_from({"dh_l0": np.ones((4 * H, H))})) == {"dweight_hh_l0"}


KNOWN = {
    "df.c[t]": ("dz_l0", "f", 0, "(14)"),
    "do.without c_out": ("dz_l0", "o", 0, "(10)"),
    "dc.without o": ("dc_l0", "", 0, "(11)"),
    "dc_carry.without f": ("", "", None, "handed on as dc0 after t=0 is wrong, equation (16a)"),
    "dh_carry.transposed": ("", "", None, "handed on as dh0 after t=0 is wrong, equation (16b)"),
    "dc_n.every step": ("dc_l0", "", 0, "(16a)"),
    "dh_n.every step": ("dh_l0", "", 0, "(16b)"),
    "dh_n * 0": ("dh_l0", "", 0, "dh_n"),
    "stack.dx * 0": ("dh_l0", "", 0, "(8)"),
    "weight_hh.first": ("", "", None, "the sum over the steps is wrong, equation (18)"),
    "dx * -1": ("", "", None, "equation (17)"),
}


@pytest.mark.parametrize("identifier", KNOWN)
def test_first_wrong_step_is_where_the_mistake_is(identifier: str) -> None:
    """A walk back that stops at what a wrong quantity spoils, and not at that quantity."""
    known = catalogue()
    table = by_name(known, identifier).edit(known.table)
    diagnosis = diagnose(Implementation("planted", vjp=planted_vjp(table, steps=True)), seconds=0)
    assert diagnosis.finding is not None
    assert [each.identifier for each in diagnosis.finding.mistakes] == [identifier]
    tensor, gate, time, words = KNOWN[identifier]
    first = diagnosis.first_wrong
    assert first is not None
    assert (first.tensor, first.gate) == (tensor, gate)
    assert (first.index[0] if first.index else None) == time
    assert words in first.sentence


def spoiled(spoil: Callable[[dict[str, Any]], None]) -> Implementation:
    """The right table with something done to what it returns that is in no catalogue."""
    right = planted_vjp(backward_table(), steps=True)

    def vjp(params: Any, x: Any, h0: Any, c0: Any) -> Any:
        outputs, pullback = right(params, x, h0, c0)

        def spoiling(dy: Any, dh_n: Any, dc_n: Any) -> Any:
            found = dict(pullback(dy, dh_n, dc_n))
            spoil(found)
            return found

        return outputs, spoiling

    return Implementation("spoiled", vjp=vjp)


def test_cell_that_is_blamed_for_what_its_peephole_sends_it() -> None:
    """A walk that comes to dc before dz of o, which a peephole adds to dc: (35)."""

    def spoil(found: dict[str, Any]) -> None:
        hidden = found["dc_l0"].shape[-1]
        found["dz_l0"][..., 3 * hidden :] *= 2
        found["dbias_l0"] = found["dz_l0"].sum(axis=(0, 1))
        found["dc_l0"] *= 2

    first = walked_back(subject_of(spoiled(spoil)), seed=0)
    assert first is not None
    assert (first.tensor, first.gate) == ("dz_l0", "o")


def _late_forget_gate(found: dict[str, Any]) -> None:
    """A wrong dz of f at every step but the last two, and what follows from it."""
    dz = found["dz_l0"]
    hidden = dz.shape[-1] // 4
    if len(dz) > 2:
        dz[:-2, :, hidden : 2 * hidden] **= 3
        found["dbias_l0"] = dz.sum(axis=(0, 1))


def _odd_sum(found: dict[str, Any]) -> None:
    found["dbias_l0"] = found["dbias_l0"] ** 3


def _odd_dz(found: dict[str, Any]) -> None:
    found["dz_l0"] = found["dz_l0"] ** 3


def _nan(found: dict[str, Any]) -> None:
    found["dz_l0"][-1, :, -1] = np.nan
    found["dbias_l0"][-1] = np.nan


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (
            _late_forget_gate,
            "Right at T=1 and T=2; wrong at T=5: dbias_l0 for the gates f only. The first wrong "
            "quantity walking backward is dz of layer 0 at t=2, gate f, unit 0: look at equations "
            "(14) and (15).",
        ),
        (
            _odd_sum,
            "Wrong for a single step (T=1) already: dbias_l0. Every dz, dh and dc is right at "
            "every step: the sum over the steps is wrong, equation (18), in dbias_l0.",
        ),
        (
            _odd_dz,
            "Wrong for a single step (T=1) already: dz_l0. The first wrong quantity walking "
            "backward is dz of layer 0 at t=0, gate o, unit 0: but every gradient is right: it is "
            "not what they were computed from.",
        ),
        (
            _nan,
            "Wrong for a single step (T=1) already: dbias_l0 for the gates o only. The first "
            "wrong quantity walking backward is dz of layer 0 at t=0, gate o, unit 2: look at "
            "equations (10) and (15). There it is wrong in 1 of 3 elements, right in the rest.",
        ),
    ],
)
def test_what_no_mistake_explains_is_located_by_the_steps(
    spoil: Callable[[dict[str, Any]], None], sentence: str
) -> None:
    """Steps that are returned and not looked at, or NaN among them that passes for right."""
    implementation = spoiled(spoil)
    diagnosis = diagnose(implementation, seconds=0)
    assert diagnosis.wrong
    assert diagnosis.finding is None
    assert diagnosis.located == sentence
    report = check_implementation(implementation, examples=19)
    assert report.verdict == "disagree"
    told = check_json(report, "again", diagnosis)
    assert told["diagnosis"][0]["sentence"] == sentence
    first = diagnosis.first_wrong
    assert first is not None
    if first.tensor:
        where = {"tensor": first.tensor, "layer": 0, "time": first.index[0], "gate": first.gate}
        assert told["first_wrong"] == where | {"index": list(first.index)}


@pytest.mark.parametrize(
    ("identifier", "words", "from_zero"),
    [
        ("dc_carry.without f", "dc, equation (11): i, f and g are wrong and o is not", False),
        ("dh_carry.transposed", "dh, equation (9), as all four gates are wrong", False),
        ("dg.h[t]", "equations (13) and (15)", False),
        ("dc.no derivative", "dc, equation (11): i and g are wrong and o is not (f shows", True),
        ("dh_carry.transposed", "dh, equation (9), as all other gates are wrong (f shows", True),
        ("dg.h[t]", "equations (13) and (15)", True),
    ],
)
def test_dz_alone_tells_what_it_was_computed_from(
    identifier: str, words: str, from_zero: bool
) -> None:
    """An implementation that returns dz only, of which every gate is wrong for one reason.

    Where c0 is 0, f's own at t=0 is 0 whatever arrives: it vouches for nothing.
    """
    known = catalogue()
    planted = planted_vjp(by_name(known, identifier).edit(known.table), steps=True)

    def vjp(params: Any, x: Any, h0: Any, c0: Any) -> Any:
        outputs, pullback = planted(params, x, h0, c0)

        def alone(dy: Any, dh_n: Any, dc_n: Any) -> Any:
            found = pullback(dy, dh_n, dc_n)
            return {n: v for n, v in found.items() if not n.startswith(("dh", "dc"))}

        return outputs, alone

    def without_state(params: Any, x: Any) -> Any:
        hidden = params["weight_hh_l0"].shape[1]
        zero = np.zeros((1, x.shape[1], hidden), x.dtype)
        return vjp(params, x, zero, zero)

    implementation = Implementation(
        "dz", vjp=without_state if from_zero else vjp, sizes={"L": 1} if from_zero else {}
    )
    first = diagnose(implementation, seconds=0).first_wrong
    assert first is not None
    assert words in first.sentence


def test_right_steps_are_right_and_not_demanded() -> None:
    """A false alarm, or one who returns no steps is told that they are not verified."""
    with_steps = Implementation("all", vjp=planted_vjp(backward_table(), steps=True))
    report = check_implementation(with_steps, examples=20)
    assert report.verdict == "agree", report.failures
    assert {"dz_l0", "dh_l0", "dc_l0"} <= {tensor.name for tensor in report.tensors}
    without = check_implementation(planted_vjp(backward_table()), examples=19)
    assert not any("dz" in what for what in without.unverified)


@pytest.mark.parametrize("form", FORMS)
def test_program_may_return_steps_in_its_files(tmp_path: Any, form: str) -> None:
    """A result with dz that is refused, read back as another one, or not judged."""
    case = stack_case()
    _, back = planted_vjp(backward_table(), steps=True)(case.params, case.x, case.h0, case.c0)
    y, h_n, c_n = lstm_forward(case.params, case.x, case.h0, case.c0)[0]
    found = {"y": y, "h_n": h_n, "c_n": c_n} | back(case.dy, case.dh_n, case.dc_n)
    save_case(case, tmp_path / f"case{form}")
    save_result(found, case, tmp_path / f"result{form}")
    read = load_result(tmp_path / f"result{form}", case)
    assert read.keys() == found.keys()
    assert check_dump(tmp_path).verdict == "agree"
    wrong = found | {"dz_l1": found["dz_l1"][:, ::-1].copy()}
    (tmp_path / "wrong").mkdir()
    save_case(case, tmp_path / f"wrong/case{form}")
    save_result(wrong, case, tmp_path / f"wrong/result{form}")
    report = check_dump(tmp_path / "wrong")
    assert [t.name for t in report.tensors if t.verdict == "disagree"] == ["dz_l1"]
    with pytest.raises(ValueError, match="dz_l2 is not expected"):
        save_result(found | {"dz_l2": found["dz_l1"]}, case, tmp_path / "other")
    with pytest.raises(ValueError, match=r"dz_l1 has shape \(2, 2, 20\) but must be \(3, 2, 20\)"):
        save_result(found | {"dz_l1": found["dz_l1"][1:]}, case, tmp_path / "other")
