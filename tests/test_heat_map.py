"""Maps of errors: which element stands where, what is pooled, what is said in words."""

import re

import numpy as np
import pytest

from torch_ref.reports.arrangement import arranged
from torch_ref.reports.heat_map import (
    MOST,
    MOST_SINGLE,
    NOT_A_NUMBER,
    heat_map,
    legend,
    scale_power,
)

SHAPES = {
    "dweight_ih_l0": (12, 5),
    "dweight_hh_l1": (12, 3),
    "dbias_l0": (12,),
    "dbias_hh_l0": (12,),
    "dbias_neuron_l0": (12,),
    "dbias_neuron_x": (4, 2, 1),
    "dweight_ci_l0": (3,),
    "dweight_out": (5, 3),
    "dbias_out": (5,),
    "dx": (4, 2, 5),
    "y": (4, 2, 3),
    "h_n": (2, 2, 3),
    "dc0": (2, 2, 3),
    "dz": (4, 2, 4, 3),
    "whatever": (2, 3, 4, 5),
}


def drawn(name, shares, power=3):
    shares = np.asarray(shares, float)
    return heat_map(name, shares, arranged(name, shares.shape), lambda k: f"element {k}", power)


def area(path):
    """How many pixels the rectangles of a path cover."""
    return sum(int(w) * int(h) for w, h in re.findall(r"h(\d+)v(\d+)h-\d+z", path))


@pytest.mark.parametrize("name", SHAPES)
def test_an_element_that_is_on_no_map_or_twice(name):
    """Every element stands in one place, and the blocks of rows are all rows."""
    found = arranged(name, SHAPES[name])
    assert sorted(found.order.ravel().tolist()) == list(range(np.prod(SHAPES[name])))
    assert sum(rows for _, rows in found.groups) == len(found.order)


@pytest.mark.parametrize(
    ("name", "index", "block", "column"),
    [
        ("dweight_ih_l0", (4, 3), "f", 3),
        ("dbias_l0", (10,), "o", 1),
        ("dx", (2, 1, 4), "b=1", 2),
        ("dx", (2, 0, 4), "b=0", 2),
        ("dh0", (1, 0, 2), "l=1", 2),
        ("dz", (3, 1, 2, 0), "g", 3),
    ],
)
def test_a_wrong_element_in_another_block_or_column(name, index, block, column):
    """The ring is where the block's label and the column's number say that the element is."""
    shares = np.zeros({**SHAPES, "dh0": (2, 2, 3)}[name])
    shares[index] = 5.0
    found = drawn(name, shares)
    ringed = found.worst
    middle = ringed.y + ringed.height / 2
    nearest = min(found.groups, key=lambda label: abs(label.y - middle))
    below = min(found.columns, key=lambda label: abs(label.x - ringed.x - ringed.width / 2))
    assert (nearest.text, below.text) == (block, str(column))
    (cell,) = [cell for cell in found.cells if cell.kind > 2]
    assert (cell.x, cell.y) == (ringed.x, ringed.y)
    flat = np.ravel_multi_index(index, shares.shape)
    if name != "dz":
        assert cell.tip == f"element {flat}"
    assert f"1 of {shares.size} elements are beyond the budget: {block} 1 of" in found.alt
    assert f"Worst, ringed: element {flat}." in found.alt


def test_a_wrong_element_that_pooling_hides():
    """In a matrix of 4096 x 1024 one wrong element is still drawn, named and counted."""
    shares = np.full((4096, 1024), 0.05)
    shares[1500, 700] = 50.0
    found = drawn("dweight_hh_l0", shares)
    assert found.cells == ()
    areas = {kind: area(path) for kind, path in found.outlines}
    assert areas[4] == found.worst.width * found.worst.height
    assert sum(areas.values()) == areas[4] * MOST * MOST
    assert found.worst.kind == 4
    assert f"element {1500 * 1024 + 700}" in found.alt
    assert "f 1 of 1048576" in found.alt
    assert "a cell is the worst of up to 64 rows by 16 columns." in found.alt
    assert sum(len(path) for _, path in found.outlines) < 100_000


@pytest.mark.parametrize("shape", [(1000, 128, 64), (3, 1000, 7), (7, 1, 100_000)])
def test_a_map_that_grows_with_its_tensor(shape):
    """Long, wide and deep sequences stay below the number of cells that a map may have."""
    found = drawn("dx", np.zeros(shape))
    cell = found.worst.width * found.worst.height
    drawn_cells = len(found.cells) or sum(area(path) for _, path in found.outlines) // cell
    assert drawn_cells <= 2 * MOST * MOST
    assert len(found.groups) <= 16
    assert found.width < 1000
    assert found.height < 1500


def test_a_nan_that_is_drawn_as_right():
    """NaN is a class of its own, worse than any number, pooled or not, and infinity is the next."""
    shares = np.zeros((4, 2))
    shares[1, 1], shares[2, 0] = np.nan, np.inf
    found = drawn("dweight_ih_l0", shares)
    kinds = [cell.kind for cell in found.cells]
    assert kinds == [0, 0, 0, NOT_A_NUMBER, 6, 0, 0, 0]
    assert found.wrong
    assert found.worst.text == "×"
    assert "2 of 8 elements" in found.alt
    large = np.zeros((400, 200))
    large[7, 7], large[7, 8] = np.nan, 1e300
    assert drawn("dweight_ih_l0", large).worst.kind == NOT_A_NUMBER


def test_a_class_that_begins_elsewhere():
    """The scale's classes end where the legend says, and cells hold the power of ten."""
    shares = [[0, 0.1, 0.11, 1.0], [1.01, 9.9, 10, 99], [100, 999, 1000, 1e99], [1e100, 0, 0, 0]]
    found = drawn("whatever", shares)
    assert [cell.kind for cell in found.cells] == [0, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 6, 0, 0, 0]
    powers = ["0", "0", "1", "1", "2", "2", "3", "99", "∞"]
    assert [cell.text for cell in found.cells] == [*[""] * 4, *powers, *[""] * 3]
    assert [text for text, _ in legend(3)] == ["", "", "", "0", "1", "2", "3", "×"]
    assert len(legend(3)) == NOT_A_NUMBER + 1


def test_a_scale_that_an_element_without_a_budget_stretches():
    """The scale ends at the worst share, at most where a number is wholly wrong: 1/eps."""
    assert scale_power([], 1e-16) == 3
    assert scale_power([np.array([0.1, np.nan, np.inf])], 1e-16) == 3
    assert scale_power([np.array([2e5]), np.array([3e9])], 1e-16) == 9
    assert scale_power([np.array([1e299])], 2.0**-52) == 15
    assert scale_power([np.array([1e299])], 2.0**-23) == 6


def test_a_map_whose_cells_cannot_be_pointed_at():
    """Up to a number of cells each has its own words; above it none has."""
    side = int(MOST_SINGLE**0.5)
    assert all(cell.tip for cell in drawn("whatever", np.ones((side, side))).cells)
    assert drawn("whatever", np.ones((side + 1, side + 1))).cells == ()


def test_words_that_accuse_what_is_right():
    """Without an element beyond its budget the words say so."""
    found = drawn("dbias_l0", np.full(12, 0.5))
    assert not found.wrong
    assert found.notes == ("All 12 elements are within their budgets.", "Nearest to it: element 0.")
