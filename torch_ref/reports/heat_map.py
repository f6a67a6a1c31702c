"""A tensor's errors as a map: each cell the share of its budget, in steps of a log scale."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from torch_ref.reports.arrangement import Arrangement

Array = NDArray[Any]

# Cells that a map has at most, along each side; more elements are pooled by their maximum.
MOST = 64
MOST_BLOCKS = 16
# Cells that are drawn one by one, with what they are under the pointer; more are one outline.
MOST_SINGLE = 600
_LEFT, _TOP, _BOTTOM = 52, 6, 34
_GAP = 5
_APART = 26
# The classes of the scale: the same number, to a tenth of the budget, to the budget; beyond it
# four, each ten times the one before; not a number.
_TENTH, _WHOLE = 0.1, 1.0
NOT_A_NUMBER = 7
_RIGHT = 2
_LEAST_POWER = 3
_LARGEST = float(np.finfo(np.float64).max)


@dataclass(frozen=True)
class Cell:
    """A place on the map: where, how large, its class in `legend`, what is in it, what it is."""

    x: int
    y: int
    width: int
    height: int
    kind: int
    text: str
    tip: str


@dataclass(frozen=True)
class Label:
    """A word beside the map."""

    x: int
    y: int
    text: str


@dataclass(frozen=True)
class HeatMap:
    """What is drawn, in pixels.

    Attributes:
        title: the tensor, with its shape. alt: all that the map shows, in words.
        width, height: of the whole drawing.
        cells: one by one, or () where there are too many.
        outlines: class and SVG path of all its cells, where there are too many; else ().
        worst: the cell with the worst element. wrong: whether any is beyond its budget.
        groups, columns: labels at the left and below; `axis` what is counted to the right.
        notes: sentences for the caption.
    """

    title: str
    alt: str
    width: int
    height: int
    cells: tuple[Cell, ...]
    outlines: tuple[tuple[int, str], ...]
    worst: Cell
    wrong: bool
    groups: tuple[Label, ...]
    columns: tuple[Label, ...]
    axis: Label
    notes: tuple[str, ...]


def heat_map(
    title: str,
    shares: Array,
    arrangement: Arrangement,
    describe: Callable[[int], str],
    power: int = _LEAST_POWER,
) -> HeatMap:
    """A map of the shares of an error budget.

    Args:
        title: what the tensor is called, with its shape.
        shares: of a tensor, as `budget_shares` gives them; any shape.
        arrangement: of that tensor.
        describe: flat index to what the element is and how far it is off.
        power: of the scale, from `scale_power`.
    """
    arrangement = replace(arrangement, groups=_merged(arrangement.groups))
    flat = np.asarray(shares, np.float64).ravel()
    # Ordered so that a maximum finds the worst: above every number infinity, above that NaN.
    ranked = np.where(np.isnan(flat), np.inf, np.minimum(flat, _LARGEST))
    placed = ranked[arrangement.order]  # (rows, columns, depth)
    row_starts, by_group = _row_starts(arrangement.groups)
    column_starts = _starts(placed.shape[1], MOST)
    deepest = placed.argmax(axis=2)
    values = np.take_along_axis(placed, deepest[:, :, None], axis=2)[:, :, 0]
    worst_at = int(ranked.argmax())
    pooled = np.maximum.reduceat(values, row_starts, axis=0)
    pooled = np.maximum.reduceat(pooled, column_starts, axis=1)
    rows, columns = pooled.shape
    width, height = _cell_size(columns, rows)
    # The blocks stand a little apart.
    tops = _TOP + np.arange(rows) * height + _GAP * np.repeat(np.arange(len(by_group)), by_group)
    bottom = int(tops[-1]) + height
    kinds = _kinds(pooled, power)
    row, column = (int(at[0]) for at in np.nonzero(arrangement.order == worst_at)[:2])
    at_row = int(np.searchsorted(row_starts, row, side="right")) - 1
    at_column = int(np.searchsorted(column_starts, column, side="right")) - 1

    single = pooled.size <= MOST_SINGLE
    whole = pooled.size == values.size

    def cell(r: int, c: int) -> Cell:
        kind = int(kinds[r, c])
        text = _in_cell(float(pooled[r, c]), kind) if width >= 20 and height >= 16 else ""
        tip = ""
        if whole and single:
            tip = describe(int(arrangement.order[r, c, deepest[r, c]]))
        return Cell(_LEFT + c * width, int(tops[r]), width, height, kind, text, tip)

    cells = tuple(cell(r, c) for r in range(rows) for c in range(columns)) if single else ()
    beyond = int(np.count_nonzero(~(flat <= 1)))
    notes = _notes(arrangement, ranked, beyond, describe(worst_at))
    if not whole:
        notes = (*notes, _pooling(row_starts, column_starts, values.shape, arrangement))
    elif arrangement.depth:
        notes = (*notes, f"Each cell is the worst {arrangement.depth}.")
    return HeatMap(
        title=title,
        alt=f"Map of {title}, {rows} rows by {columns} columns. {' '.join(notes)}",
        width=max(_LEFT + columns * width + 8, _LEFT + 120),
        height=bottom + _BOTTOM,
        cells=cells,
        outlines=() if single else _outlines(kinds, tops, width, height),
        worst=cell(at_row, at_column),
        wrong=beyond > 0,
        groups=_group_labels(arrangement.groups, by_group, tops, height),
        columns=_column_labels(column_starts, width, bottom + 13),
        axis=Label(_LEFT, bottom + 28, f"{arrangement.columns} →"),
        notes=notes,
    )


def scale_power(shares: Sequence[Array], eps: float) -> int:
    """The power of ten at which the darkest class begins: that of the worst of all maps.

    Args:
        shares: of every map that is drawn to one scale.
        eps: of the dtype. An error as large as the number itself is about 1/eps budgets; what is
            above that, because next to nothing was allowed, does not stretch the scale.
    """
    most = 1.0
    for each in shares:
        finite = each[np.isfinite(each)]
        most = max(most, float(finite.max(initial=0.0)))
    return max(_LEAST_POWER, int(np.floor(np.log10(min(most, 1 / eps)))))


def legend(power: int) -> tuple[tuple[str, str], ...]:
    """Of each class what stands in its cells, and what it is in words."""
    return (
        ("", "exactly the same number"),
        ("", "up to a tenth of the budget"),
        ("", "up to the whole budget"),
        (str(power - 3), f"beyond it, less than 1e{power - 2} times"),
        (str(power - 2), f"from 1e{power - 2} times"),
        (str(power - 1), f"from 1e{power - 1} times"),
        (str(power), f"from 1e{power} times"),
        ("×", "not a number"),
    )


def _kinds(values: Array, power: int) -> Array:
    """The class of each cell."""
    within = np.searchsorted((0.0, _TENTH), values, side="left")
    beyond = (
        _RIGHT + 1 + np.searchsorted([10.0 ** (power - k) for k in (2, 1, 0)], values, side="right")
    )
    kinds = np.where(values <= _WHOLE, within, beyond)
    return np.where(np.isposinf(values), NOT_A_NUMBER, kinds)


def _in_cell(value: float, kind: int) -> str:
    """The power of ten of a share beyond the budget, so that no colour is needed."""
    if kind == NOT_A_NUMBER:
        return "×"
    if kind <= _RIGHT:
        return ""
    power = int(np.floor(np.log10(value)))
    return str(power) if power < 100 else "∞"


def _notes(arrangement: Arrangement, ranked: Array, beyond: int, worst: str) -> tuple[str, ...]:
    """How many elements are wrong, in which blocks, and the worst."""
    size = ranked.size
    if not beyond:
        return (f"All {size} elements are within their budgets.", f"Nearest to it: {worst}.")
    counts, start = [], 0
    for label, rows in arrangement.groups:
        block = ranked[arrangement.order[start : start + rows]]
        start += rows
        off = int(np.count_nonzero(block > 1))
        if label and off:
            counts.append(f"{label} {off} of {block.size}")
    where = f": {', '.join(counts)}" if counts and len(arrangement.groups) > 1 else ""
    number = "Every element is" if beyond == size > 1 else f"{beyond} of {size} elements are"
    return (f"{number} beyond the budget{where}.", f"Worst, ringed: {worst}.")


def _pooling(
    row_starts: Array, column_starts: Array, shape: tuple[int, ...], arrangement: Arrangement
) -> str:
    tall = int(np.diff([*row_starts, shape[0]]).max())
    wide = int(np.diff([*column_starts, shape[1]]).max())
    depth = f" and every {arrangement.depth}" if arrangement.depth else ""
    block = f"{tall} row{'s' * (tall > 1)} by {wide} column{'s' * (wide > 1)}"
    return f"Too large to draw each element: a cell is the worst of up to {block}{depth}."


def _merged(groups: Sequence[tuple[str, int]]) -> tuple[tuple[str, int], ...]:
    """Blocks of rows joined with those below them until there are few enough."""
    count = -(-len(groups) // MOST_BLOCKS)
    joined = [groups[k : k + count] for k in range(0, len(groups), count)]
    return tuple(
        (each[0][0] if len(each) == 1 else f"{each[0][0]}…", sum(rows for _, rows in each))
        for each in joined
    )


def _row_starts(groups: Sequence[tuple[str, int]]) -> tuple[Array, list[int]]:
    """The first row of each cell, no cell across two blocks, and how many cells each block has."""
    most = max(1, MOST // len(groups))
    starts, by_group, first = [], [], 0
    for _, rows in groups:
        inside = _starts(rows, most)
        starts.append(first + inside)
        by_group.append(len(inside))
        first += rows
    return np.concatenate(starts), by_group


def _starts(length: int, most: int) -> Array:
    return np.arange(0, length, -(-length // most))


def _cell_size(columns: int, rows: int) -> tuple[int, int]:
    width = 26 if columns <= 24 else 20 if columns <= 32 else 11
    height = 22 if rows <= 12 else 16 if rows <= 32 else 9
    return width, height


def _outlines(kinds: Array, tops: Array, width: int, height: int) -> tuple[tuple[int, str], ...]:
    """For each class one path: along every row a rectangle for each run of equal cells."""
    paths: dict[int, list[str]] = {}
    for r, row in enumerate(kinds):
        ends = [*(np.flatnonzero(np.diff(row)) + 1).tolist(), len(row)]
        start = 0
        for end in ends:
            x, y, w = _LEFT + start * width, int(tops[r]), (end - start) * width
            paths.setdefault(int(row[start]), []).append(f"M{x} {y}h{w}v{height}h-{w}z")
            start = end
    return tuple((kind, "".join(paths[kind])) for kind in sorted(paths))


def _group_labels(
    groups: Sequence[tuple[str, int]], by_group: Sequence[int], tops: Array, height: int
) -> tuple[Label, ...]:
    ends = np.cumsum(by_group)
    labels = []
    for (text, _), cells, end in zip(groups, by_group, ends.tolist(), strict=True):
        middle = (int(tops[end - cells]) + int(tops[end - 1]) + height) // 2
        if text:
            labels.append(Label(_LEFT - 8, middle, text))
    return tuple(labels)


def _column_labels(starts: Array, width: int, y: int) -> tuple[Label, ...]:
    """The first column of a cell below it; of small cells every few."""
    every = max(1, -(-_APART // width))
    return tuple(
        Label(_LEFT + c * width + width // 2, y, str(int(starts[c])))
        for c in range(0, len(starts), every)
    )
