"""The mistakes: kinds of edit times places of the table, each with a sentence."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache

from torch_ref.diagnosis.backward.identity import signer
from torch_ref.diagnosis.backward.render import render_difference
from torch_ref.diagnosis.backward.table import Table, backward_table
from torch_ref.diagnosis.mistakes.cell import cell_mistakes
from torch_ref.diagnosis.mistakes.edits import Edit, in_order, together
from torch_ref.diagnosis.mistakes.extra import extra_mistakes
from torch_ref.diagnosis.mistakes.joined import joined_mistakes
from torch_ref.diagnosis.mistakes.loss import loss_mistakes
from torch_ref.diagnosis.mistakes.paths import path_mistakes, upstream_mistakes
from torch_ref.diagnosis.mistakes.range import range_mistakes
from torch_ref.diagnosis.mistakes.reshaped import reshape_mistakes
from torch_ref.diagnosis.mistakes.shared import shared_mistakes
from torch_ref.diagnosis.mistakes.slips import slip_mistakes
from torch_ref.diagnosis.mistakes.sums import sum_mistakes
from torch_ref.oracles.variant import STANDARD, Variant


def _unchanged(table: Table) -> Table:
    return table


@dataclass(frozen=True)
class Mistake:
    """A wrong line.

    Attributes:
        identifier: what a script calls it: "df.c[t]".
        sentence: what is wrong, for people.
        equation: the number of the right one in DERIVATION.md.
        wrong, right: the line as it is and as it should be.
        edit: what makes the wrong table of the right one; none where it is not in the table, as
            what is kept from the last call, or a line of the forward pass.
    """

    identifier: str
    sentence: str
    equation: str
    wrong: str
    right: str
    edit: Edit = _unchanged


@dataclass(frozen=True, eq=False)
class Catalogue:
    """The mistakes that can be made with one cell and one head.

    Attributes:
        table: the right equations.
        mistakes: no two of them the same mathematics, in the order in which they are preferred.
        wrong: the table with each of them.
        same: identifier to that of the mistake which it is, for those that are no others.
        small_limits: clippings of what no case makes greater than 1, which only smaller limits
            than the catalogue's show.
    """

    table: Table
    mistakes: tuple[Mistake, ...]
    wrong: tuple[Table, ...]
    same: dict[str, str]
    small_limits: tuple[Mistake, ...] = ()


def catalogue(
    variant: Variant = STANDARD,
    head: str | None = None,
    beyond: bool | None = None,
) -> Catalogue:
    """All distinct mistakes.

    Args:
        variant: the cell.
        head: "linear" or "bounded" for code with its loss inside; None where dy is given.
        beyond: whether dh_n and dc_n are given too; None is where dy is.
    """
    return _catalogue(variant, head, head is None if beyond is None else beyond)


@cache
def in_gate_order(known: Catalogue, order: str) -> Catalogue:
    """What is reshaped, of matrices whose gates stand in another order than i, f, g, o."""
    reshaped = {name for name, _, _ in reshape_mistakes(known.table)}
    mistakes = tuple(
        replace(each, edit=together(each.edit, in_order(order)))
        for each in known.mistakes
        if each.identifier in reshaped
    )
    wrong = tuple(each.edit(known.table) for each in mistakes)
    return Catalogue(known.table, mistakes, wrong, {})


@cache
def _catalogue(variant: Variant, head: str | None, beyond: bool) -> Catalogue:
    right = backward_table(variant, head)
    sign, of_one_layer = (
        signer(right, variant, head is not None, head == "linear", beyond, layers)
        for layers in (2, 1)
    )
    found: dict[bytes, tuple[Mistake, Table]] = {}
    same: dict[str, str] = {}
    small_limits: list[Mistake] = []
    nothing = sign(right)
    for identifier, sentence, edit in _all(right, variant, head, beyond):
        if "clipped" in identifier and (head == "bounded" or "_out" in identifier):
            if identifier.endswith(" at 1"):  # p - onehot is at most 1, and so is what follows
                lines = render_difference(edit(right), right, variant)
                small_limits.append(_mistake(identifier, sentence, lines, edit))
            continue
        wrong = edit(right)
        key = sign(wrong)
        if key == nothing:
            continue
        if key in found and of_one_layer(found[key][1]) != of_one_layer(wrong):
            key += of_one_layer(wrong)  # the same in a stack, where nothing comes further down
        if key in found:
            same[identifier] = found[key][0].identifier
            continue
        lines = render_difference(wrong, right, variant)
        found[key] = _mistake(identifier, sentence, lines, edit), wrong
    mistakes, tables = zip(*found.values(), strict=True)
    return Catalogue(right, mistakes, tables, same, tuple(small_limits))


def _mistake(identifier: str, sentence: str, lines: tuple[str, str, str], edit: Edit) -> Mistake:
    wrong, right, number = lines
    return Mistake(identifier, sentence, number, wrong, right, edit)


def _all(
    right: Table, variant: Variant, head: str | None, beyond: bool
) -> Iterator[tuple[str, str, Edit]]:
    if head is not None:
        yield from loss_mistakes(head, beyond)
    yield from upstream_mistakes(right)
    yield from cell_mistakes(right, variant)
    yield from sum_mistakes(right, variant)
    yield from path_mistakes(right, variant)
    yield from joined_mistakes(right)
    yield from extra_mistakes(right, variant)
    yield from shared_mistakes()
    yield from slip_mistakes(right, variant)
    yield from range_mistakes(right)
    yield from reshape_mistakes(right)
