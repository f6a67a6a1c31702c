"""Cases of other cells in files: they stay what they are, on the way out and back."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exchange_files import FORMS, arrays_of, assert_same_bits

from torch_ref import (
    STANDARD,
    Case,
    Implementation,
    Variant,
    autograd_vjp,
    check_implementation,
    load_case,
    save_case,
)
from torch_ref.harness.cases import sized_case
from torch_ref.harness.failing import save_failing
from torch_ref.harness.program import ProgramCrashed, run_program

IDENTITY, PEEPHOLES = Variant(output="identity"), Variant(peepholes=True, candidate="sigmoid")


def case_of(variant: Variant) -> Case:
    return sized_case({"T": 3, "B": 2, "I": 2, "H": 3, "L": 2}, variant=variant)


def implementation(variant: Variant, change: Any = lambda name, value: value) -> Implementation:
    def vjp(params: Any, x: Any, h0: Any, c0: Any) -> Any:
        outputs, pullback = autograd_vjp(params, x, h0, c0, variant=variant)

        def back(dy: Any, dh_n: Any, dc_n: Any) -> Any:
            found = pullback(dy, dh_n, dc_n)
            return {name: change(name, value) for name, value in found.items()}

        return outputs, back

    return Implementation("mine", vjp=vjp, variant=variant)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("variant", [IDENTITY, PEEPHOLES])
def test_a_variant_that_is_lost_in_a_file(tmp_path: Path, form: str, variant: Variant) -> None:
    """The case comes back as the standard cell's, or its peephole weights cannot be kept."""
    case = case_of(variant)
    save_case(case, tmp_path / f"case{form}")
    found = load_case(tmp_path / f"case{form}")
    assert found.variant == variant
    assert_same_bits(arrays_of(found), arrays_of(case))


def test_the_document_has_what_differs(tmp_path: Path) -> None:
    """A reader of another language is told nothing of the cell, or all that it is not."""
    save_case(case_of(IDENTITY), tmp_path / "case")
    document = json.loads((tmp_path / "case/case.json").read_text())
    assert document["variant"] == {"output": "identity"}


def test_files_of_a_variant_that_are_damaged(tmp_path: Path) -> None:
    """A misshapen or missing peephole weight, or an unknown variant, is taken for right."""
    save_case(case_of(PEEPHOLES), tmp_path / "case")
    file = tmp_path / "case/weight_co_l1.npy"
    np.save(file, np.ones((3, 3)))
    with pytest.raises(ValueError, match=r"weight_co_l1 has shape \(3, 3\) but must be \(H,\)"):
        load_case(tmp_path / "case")
    file.unlink()
    with pytest.raises(ValueError, match=r"weight_co_l1 is missing but must be \(H\)\."):
        load_case(tmp_path / "case")
    save_case(case_of(IDENTITY), tmp_path / "other")
    document = tmp_path / "other/case.json"
    document.write_text(document.read_text().replace('"output"', '"squash"'))
    with pytest.raises(ValueError, match="other: variant has 'squash' but can only have candidate"):
        load_case(tmp_path / "other")


def test_two_cases_that_differ_in_their_variant_only(tmp_path: Path) -> None:
    """The second is taken for the first, and run again as that."""
    case = case_of(IDENTITY)
    first = save_failing(case, tmp_path)
    second = save_failing(replace(case, variant=STANDARD), tmp_path)
    assert load_case(first).variant == IDENTITY
    assert load_case(second).variant == STANDARD


@pytest.mark.parametrize("variant", [IDENTITY, PEEPHOLES])
def test_a_kept_case_that_is_judged_as_the_standard_cells(tmp_path: Path, variant: Variant) -> None:
    """An LSTM that is right is called wrong on the case that the report ends with."""
    path = save_failing(case_of(variant), tmp_path)
    assert check_implementation(implementation(variant), case=load_case(path)).verdict == "agree"
    with pytest.raises(ValueError, match=r"the case is of a cell with .* but mine is declared as"):
        check_implementation(implementation(STANDARD), case=load_case(path))


def test_a_program_of_another_cell_is_not_told_of_it(tmp_path: Path) -> None:
    """It cannot be given peephole weights, or does not see which cell is meant."""
    script = tmp_path / "program"
    script.write_text('grep peepholes "$1/case.json" >&2; ls "$1" >&2; exit 7\n', encoding="utf-8")
    case = case_of(PEEPHOLES)
    with pytest.raises(ProgramCrashed) as stopped:
        run_program(f"sh {script} {{case}} {{result}}", case, timeout=30)
    said = "".join(stopped.value.stderr)
    assert '"peepholes": true' in said
    assert "weight_ci_l1.npy" in said


def test_the_gradient_of_a_peephole_matrix() -> None:
    """A matrix where the weight is a vector is told by its shape alone, without what to do."""

    def matrix(name: str, value: Any) -> Any:
        return np.outer(value, np.ones_like(value)) if name.startswith("dweight_c") else value

    report = check_implementation(implementation(PEEPHOLES, matrix))
    assert report.failures[0].sentence == (
        "the gradients of mine: dweight_ci_l0 has shape (3, 3) but must be (3,): a weight that is "
        "a matrix is np.diag of this one, its gradient np.diagonal of that."
    )
