"""Edits of a table, from which the catalogue is made. Each is a function from a table to a table.

An edit finds its place by the target, the number of the term and that of the factor. None of them
moves a term or a factor: what is left out stays in its place as a zero or a one, so that several
edits can be made one after the other.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction

from torch_ref.diagnosis.backward.table import (
    Again,
    AllLayers,
    Carrying,
    Edge,
    Factor,
    Layer,
    Steps,
    Table,
    Term,
    Uncut,
    Weight,
)

Edit = Callable[[Table], Table]
ONE = Factor("one")


@dataclass(frozen=True)
class Place:
    """A term of an equation."""

    target: str
    term: int = 0


def change(place: Place, **changes: object) -> Edit:
    """Replace attributes of a term."""

    def edit(table: Table) -> Table:
        equation = table[place.target]
        terms = list(equation.terms)
        terms[place.term] = replace(terms[place.term], **changes)  # type: ignore[arg-type]
        return table.with_equation(replace(equation, terms=tuple(terms)))

    return edit


def scaled(place: Place, scale: str) -> Edit:
    """Multiply a term, beside the scales that it has."""

    def edit(table: Table) -> Table:
        term = table[place.target].terms[place.term]
        return change(place, scale=(*term.scale, scale))(table)

    return edit


def only_at(place: Place, steps: Steps | Uncut) -> Edit:
    """Let a term be there at some steps only."""
    return change(place, steps=steps)


def factor(place: Place, number: int, new: Factor) -> Edit:
    """Put another factor in the place of one; ONE leaves it out."""

    def edit(table: Table) -> Table:
        factors = list(table[place.target].terms[place.term].factors)
        factors[number] = new
        return change(place, factors=tuple(factors))(table)

    return edit


def function(place: Place, number: int, name: str) -> Edit:
    """Take another function of a factor."""

    def edit(table: Table) -> Table:
        old = table[place.target].terms[place.term].factors[number]
        return factor(place, number, replace(old, function=name))(table)

    return edit


def shifted(place: Place, number: int, by: int, edge: Edge) -> Edit:
    """Take a factor of another step."""

    def edit(table: Table) -> Table:
        old = table[place.target].terms[place.term].factors[number]
        return factor(place, number, replace(old, shift=old.shift + by, edge=edge))(table)

    return edit


def times(place: Place, *more: Factor) -> Edit:
    """Multiply a term by further factors."""

    def edit(table: Table) -> Table:
        factors = table[place.target].terms[place.term].factors
        return change(place, factors=(*factors, *more))(table)

    return edit


def outer(place: Place, new: Factor) -> Edit:
    """Sum the products with something else."""
    return change(place, outer=new)


def weight(place: Place, new: Weight) -> Edit:
    """Multiply by another weight, block or its transpose."""
    return change(place, weight=new)


def plus(target: str, term: Term) -> Edit:
    """Add a term that should not be there."""

    def edit(table: Table) -> Table:
        equation = table[target]
        return table.with_equation(replace(equation, terms=(*equation.terms, term)))

    return edit


def clipped(target: str, limit: int) -> Edit:
    """Bound an equation's result to [-limit, limit]."""
    return lambda table: table.with_equation(replace(table[target], clip=Fraction(limit)))


def overwritten_by(target: str, other: str) -> Edit:
    """Compute one gradient as another one."""

    def edit(table: Table) -> Table:
        return table.with_equation(replace(table[target], terms=table[other].terms))

    return edit


def exchanged(one: str, other: str) -> Edit:
    """Compute each of two gradients as the other."""
    return lambda table: overwritten_by(one, other)(table).with_equation(
        replace(table[other], terms=table[one].terms)
    )


def learning(rate: Fraction) -> Edit:
    """Change weight_hh within the loop."""
    return lambda table: replace(table, learning_rate=rate)


def decaying(names: tuple[str, ...], rate: Fraction) -> Edit:
    """Add so much of the weights whose names begin so to their gradients."""
    return lambda table: replace(table, decay=rate, decayed=names)


def in_one_array(name: str, what: AllLayers) -> Edit:
    """Give all layers one array for a gradient."""
    return lambda table: replace(table, one_array=(*table.one_array, (name, what)))


def carrying(carry: str, how: Carrying) -> Edit:
    """Let the layers take, or keep, what is carried from step to step as another layer's."""
    return lambda table: replace(table, carries=(*table.carries, (carry, how)))


def returned(name: str, how: str) -> Edit:
    """Reshape the gradients whose names begin so as they are returned."""
    return lambda table: replace(table, reshaped=(*table.reshaped, (name, how)))


def in_order(order: str) -> Edit:
    """Let a matrix that is reshaped whole have its gates in this order."""

    def own(term: Term) -> Term:
        return replace(term, weight=term.weight and replace(term.weight, order=order))

    def edit(table: Table) -> Table:
        for each in table.equations.values():
            table = table.with_equation(replace(each, terms=tuple(map(own, each.terms))))
        return replace(table, order=order)

    return edit


def keeping(layer: Layer) -> Edit:
    """Let every layer use what that one's forward pass kept."""
    return lambda table: replace(table, kept=layer)


def in_layers(edit: Edit, layers: Steps) -> Edit:
    """Make an edit in some layers only, from the lowest up as from the first step."""
    return lambda table: replace(table, own=edit(table), own_layers=layers)


def again(how: Again) -> Edit:
    """Compute the gates once more, from something else."""
    return lambda table: replace(table, again=how)


def forwards(table: Table) -> Table:
    """Run the loop from the first step to the last."""
    return replace(table, forwards=True)


def everywhere(old: Callable[[Factor], bool], new: Callable[[Factor], Factor]) -> Edit:
    """Replace every factor of the table that `old` accepts."""

    def swap(each: Factor) -> Factor:
        return new(each) if old(each) else each

    def edit(table: Table) -> Table:
        for equation in table.equations.values():
            terms = tuple(
                replace(
                    term,
                    factors=tuple(swap(each) for each in term.factors),
                    outer=None if term.outer is None else swap(term.outer),
                )
                for term in equation.terms
            )
            table = table.with_equation(replace(equation, terms=terms))
        return table

    return edit


def together(*edits: Edit) -> Edit:
    """Several edits as one, in their order."""

    def edit(table: Table) -> Table:
        for each in edits:
            table = each(table)
        return table

    return edit
