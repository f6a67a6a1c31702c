"""A mistake in some layers of a stack only, or for one of a pair of biases only."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from manual_lstm.params import GATES
from torch_ref.diagnosis.backward.render import render_difference
from torch_ref.diagnosis.backward.table import Steps, Table
from torch_ref.diagnosis.evidence import Evidence, completed
from torch_ref.diagnosis.matching.single import foretold_by, half_the_digits, relative
from torch_ref.diagnosis.mistakes.catalogue import Catalogue, Mistake
from torch_ref.diagnosis.mistakes.edits import Edit, Place, in_layers, scaled, together
from torch_ref.harness.judge import Subject
from torch_ref.oracles.variant import Variant

LAYER_WORDS: Mapping[Steps, str] = {
    "first": "in the lowest layer only",
    "last": "in the top layer only",
    "not the first": "in every layer but the lowest",
    "not the last": "in every layer but the top one",
}
_OF_HEAD = ("dlogits", "dy", "dweight_out", "dbias_out")
_FIRST, _SECOND = "bias", "bias_hh"


def confined_to(
    mistake: Mistake, table: Table, right: Table, variant: Variant, words: str
) -> Mistake:
    """A mistake that is made in part only, by the table with that part of it."""
    line, should_be, number = render_difference(table, right, variant)
    sentence = f"{mistake.sentence.removesuffix('.')}, {words}."
    identifier = f"{mistake.identifier}, {words}"
    return Mistake(identifier, sentence, number, line, should_be, _replaced(right, table))


def _replaced(right: Table, wrong: Table) -> Edit:
    """What makes the wrong equations of a table that has the right ones there."""
    differing = [equation for target, equation in wrong.equations.items()
                 if right.equations.get(target) != equation]  # fmt: skip

    def edit(table: Table) -> Table:
        for equation in differing:
            table = table.with_equation(equation)
        return table

    return edit


def layers_for(seen: Sequence[tuple[int, bool]]) -> tuple[Steps, ...]:
    """To which layers a mistake may be confined: those words of `LAYER_WORDS`.

    Args:
        seen: of each case how many layers it has, and whether it is right. A single layer, which
            is the lowest and the top one, has all of the mistake, or nothing.
    """
    alone = [right for layers, right in seen if layers == 1]
    most = max(layers for layers, _ in seen)
    if most == 1:
        return ()
    if alone:
        return ("not the first", "not the last") if all(alone) else ("first", "last")
    return tuple(LAYER_WORDS) if most > 2 else ("first", "last")


def in_some_layers(
    subject: Subject, known: Catalogue, chosen: Iterable[int], evidence: Sequence[Evidence]
) -> Iterator[Mistake]:
    """Mistakes in the top or the lowest layer only, or in all but that one.

    Args:
        subject: the implementation.
        known: a catalogue. chosen: which of its mistakes.
        evidence: what they have to explain.
    """
    where = layers_for([(len(each.case.h0), each.right) for each in evidence])
    for n in chosen:
        mistake = known.mistakes[n]
        wrong = mistake.edit(known.table)
        if _joins_layers(known.table, wrong):
            continue
        for layers in where:
            if all(_may_be_of(subject, known, n, layers, each) for each in evidence):
                words = LAYER_WORDS[layers]
                yield replace(
                    mistake,
                    identifier=f"{mistake.identifier}, {words}",
                    sentence=f"{mistake.sentence.removesuffix('.')}, {words}.",
                    edit=in_layers(mistake.edit, layers),
                )


def _may_be_of(
    subject: Subject, known: Catalogue, n: int, layers: Steps, evidence: Evidence
) -> bool:
    """Whether the gradients that a mistake gives in every layer do not exclude it for some.

    Those of one layer alone, and those of the top layer's own weights, are as if it were in all.
    """
    top = len(evidence.case.h0) - 1
    names = list(evidence.actual)
    if top > 0:
        if layers not in ("last", "not the first"):
            return True
        names = [name for name in names if name.endswith(f"_l{top}")]
    elif layers not in ("first", "last"):
        return True
    foretold = foretold_by(known, evidence)[n]
    if foretold is None:  # I is not H, as it is in an upper layer
        return top > 0
    found = completed(subject, foretold)
    return all(
        found[name].shape == evidence.actual[name].shape
        and relative(*(of[name].ravel() for of in (found, evidence.actual, evidence.allowed)))
        <= half_the_digits(subject)
        for name in names
    )


def _joins_layers(right: Table, wrong: Table) -> bool:
    """Whether a mistake is one of the head, or of which layer's gradient goes to which."""
    differing = [wrong[target] for target in right.equations if wrong[target] != right[target]]
    return any(
        equation.target in _OF_HEAD or any(f.layer for term in equation.terms for f in term.factors)
        for equation in differing
    )


def in_one_bias(
    known: Catalogue, variant: Variant, mistakes: Sequence[Mistake], evidence: Sequence[Evidence]
) -> Iterator[Mistake]:
    """Mistakes in the gradient of one of two biases, or of it and the matrix that it stands by.

    Args:
        known: the catalogue that they are of. variant: its cell.
        mistakes: those to be confined. evidence: what they have to explain.
    """
    if not any(name.startswith("dbias_hh") for each in evidence for name in each.actual):
        return
    right = _with_pair(known.table)
    yield from _one_for_both(known.table, right, variant)
    for mistake in mistakes:
        wrong = _with_pair(mistake.edit(known.table))
        differing = {t for t in right.equations if wrong[t] != right[t]}
        kinds = {target.partition(".")[0].removeprefix("d") for target in differing}
        if _FIRST not in kinds or not kinds <= {_FIRST, _SECOND, "weight_ih", "weight_hh"}:
            continue
        for kept, words in _shares(kinds):
            table = right
            for target in differing:
                if target.partition(".")[0].removeprefix("d") in kept:
                    table = table.with_equation(wrong[target])
            made = confined_to(mistake, table, right, variant, words)
            told, edit = _of_bias(made.sentence, kept), _replaced(known.table, table)
            yield replace(made, sentence=told, edit=edit)


def _shares(kinds: set[str]) -> Iterator[tuple[set[str], str]]:
    """Which of the sums that a mistake is in it may be confined to, with the words for it."""
    if kinds == {_FIRST, _SECOND}:
        yield {_FIRST}, "that of bias_hh is right"
        yield {_SECOND}, "that of the other bias is right"
        return
    for matrix, bias in (("weight_ih", _FIRST), ("weight_hh", _SECOND)):
        if matrix in kinds:
            yield {matrix, bias}, f"in {matrix} and its bias only"
    for bias, other in ((_FIRST, "the first bias"), (_SECOND, "bias_hh")):
        yield kinds - {bias}, f"but right for {other}"


def _of_bias(sentence: str, kept: set[str]) -> str:
    if _SECOND in kept and _FIRST not in kept:
        return re.sub(r"(?<=gradient of )the bias", "bias_hh", sentence)
    return sentence


def _with_pair(table: Table) -> Table:
    """A table with the second bias's sums, which are as the first one's."""
    for gate in GATES:
        first = table[f"d{_FIRST}.{gate}"]
        table = table.with_equation(replace(first, target=f"d{_SECOND}.{gate}"))
    return table


def _one_for_both(known: Table, right: Table, variant: Variant) -> Iterator[Mistake]:
    """Both biases' gradients are added to one of them, and the other one's stays zero."""
    for taken, left, words in (
        (_FIRST, _SECOND, ("the bias", "bias_hh")),
        (_SECOND, _FIRST, ("bias_hh", "the bias")),
    ):
        told = "The gradient of {} gets its share twice, the gradient of {} nothing."
        edit = together(
            *(scaled(Place(f"d{taken}.{gate}"), "2") for gate in GATES),
            *(scaled(Place(f"d{left}.{gate}"), "0") for gate in GATES),
        )
        table = edit(right)
        line, should_be, number = render_difference(table, right, variant)
        yield Mistake(
            f"{taken} for both",
            told.format(*words),
            number,
            line,
            should_be,
            _replaced(known, table),
        )
