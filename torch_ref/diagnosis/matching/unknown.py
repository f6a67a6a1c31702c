"""Mistakes with a number in them that no catalogue can list: a factor, a limit, a learning rate.

The number is found from one element, the one that determines it best, and everything else is then
explained by it or not. With a step at a time each path passes the wrong line once, so the
gradients are affine in the number, as three values of it show for each element.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial

import numpy as np

from torch_ref.diagnosis.backward.render import render_difference
from torch_ref.diagnosis.backward.table import Factor, Table
from torch_ref.diagnosis.backward.words import FUNCTION_WORDS
from torch_ref.diagnosis.evidence import Evidence, budget_by, predicted
from torch_ref.diagnosis.matching.single import near, share_used
from torch_ref.diagnosis.mistakes.catalogue import Catalogue, Mistake
from torch_ref.diagnosis.mistakes.edits import Edit, Place, scaled, together
from torch_ref.harness.judge import Subject
from torch_ref.oracles.equations import Array

Number = Fraction
# The derivatives that have a function of their own in many a backward pass.
HELPERS = {"y(1-y)": "sigmoid", "1-y^2": "tanh"}
_TESTED = (Fraction(1), Fraction(2), Fraction(3))
# So many different numbers are tried.
_ASKED = 6


@dataclass(frozen=True)
class Family:
    """Mistakes that differ in a number.

    Attributes:
        identifier: without the number. sentence: with {} for it.
        table: the table with that number.
        limit: whether the number is a limit, to which large gradients are clipped.
    """

    identifier: str
    sentence: str
    table: Callable[[Number], Table]
    limit: bool = False


def families(known: Catalogue) -> Iterator[Family]:
    """Every mistake of the catalogue that has a number of its own, as one for any number.

    And the functions that give the activations' derivatives, off by a factor: -1 is y (y - 1).
    """
    for mistake in (*known.mistakes, *known.small_limits):
        name, sentence = mistake.identifier, mistake.sentence
        wrong = mistake.edit(known.table)
        if name.endswith(" * 2"):
            for verb in (" is doubled", " is counted twice", " are counted twice", " doubles"):
                if verb in sentence:
                    words, _, rest = sentence.partition(verb)
                    rest = "" if rest.startswith(",") else rest.rstrip(".")
                    told = f"{words} {verb.split()[0]} multiplied by {{}}{rest}."
                    if verb == " doubles":
                        told = f"{words} multiplies{rest} by {{}}."
                    yield Family(name.removesuffix("2"), told, _scaled(known.table, wrong))
        elif name.endswith(".clipped at 1"):
            told = sentence.replace("[-1, 1]", "[-{0}, {0}]")
            yield Family(name.removesuffix("1"), told, _clipped(wrong), True)
        elif wrong.learning_rate == 1:
            told = sentence.replace("1.0", "{}")
            yield Family(name.removesuffix("1.0"), told, _learning(wrong))
        elif wrong.decay == 1:
            told = sentence.replace("1.0", "{}")
            yield Family(name.removesuffix("1.0"), told, _decaying(wrong))
    for needed, name in HELPERS.items():
        yield Family(f"{name}' * ", helper_words(needed), partial(_helped, known.table, needed))
    if "dlogits" in known.table.equations:
        told = "The gradient at the softmax is that of smoothed targets: {} of each is spread."
        yield Family("dlogits.smoothed by ", told, partial(_smoothed, known.table))


def _smoothed(right: Table, number: Number) -> Table:
    """(26) with a share of each one-hot row spread over all classes."""
    p, hot = right["dlogits"].terms
    kept = replace(hot, scale=(*hot.scale, str(1 - number)))
    each = Factor("onehot", function="1 for each")
    spread = replace(hot, factors=(each,), scale=(*hot.scale, "1/V", str(number)))
    return right.with_equation(replace(right["dlogits"], terms=(p, kept, spread)))


def _helped(right: Table, needed: str, number: Number) -> Table:
    return helper_scaled(right, needed, number)(right)


def helper_words(needed: str) -> str:
    """What is wrong with a function that gives a derivative, with {} for the factor."""
    function = FUNCTION_WORDS[needed].format(y="y")
    return f"Wherever {function} is needed the backward pass takes it times {{}}."


def helper_scaled(right: Table, needed: str, number: Number) -> Edit:
    """The function that gives a derivative, off by a factor wherever the right table calls it."""
    return together(
        *(
            scaled(Place(target, k), str(number))
            for target, equation in right.equations.items()
            for k, term in enumerate(equation.terms)
            if any(each.function == needed for each in term.factors)
        )
    )


def _scaled(right: Table, wrong: Table) -> Callable[[Number], Table]:
    """The wrong table with another number for the 2 that it has and the right one has not."""

    def with_number(number: Number) -> Table:
        table = wrong
        for target, equation in wrong.equations.items():
            terms = tuple(
                replace(term, scale=(*term.scale[:-1], str(number)))
                if len(term.scale) > len(own.scale)
                else term
                for term, own in zip(equation.terms, right[target].terms, strict=True)
            )
            table = table.with_equation(replace(equation, terms=terms))
        return table

    return with_number


def _clipped(wrong: Table) -> Callable[[Number], Table]:
    def with_number(number: Number) -> Table:
        table = wrong
        for equation in wrong.equations.values():
            if equation.clip is not None:
                table = table.with_equation(replace(equation, clip=number))
        return table

    return with_number


def _learning(wrong: Table) -> Callable[[Number], Table]:
    return lambda number: replace(wrong, learning_rate=number)


def _decaying(wrong: Table) -> Callable[[Number], Table]:
    return lambda number: replace(wrong, decay=number)


def match_unknown(
    subject: Subject,
    known: Catalogue,
    evidence: Sequence[Evidence],
    further: Sequence[Evidence],
    until: float,
) -> tuple[Mistake, float] | None:
    """The mistake with a number of its own that explains all the evidence.

    Args:
        evidence: small cases, from which the number is found. further: what else it must explain.
        until: when to give up, by time.perf_counter.
    """
    everything = [*evidence, *further]
    for family in families(known):
        if time.perf_counter() > until:
            return None
        for number in _numbers(subject, family, evidence):
            if family.limit and number <= 0:
                continue
            table = family.table(number)
            if not all(near(subject, known, table, each) for each in everything):
                continue
            used = share_used(subject, table, everything)
            if used is not None:
                return _mistake(subject, known, family, number), used
    return None


def _mistake(subject: Subject, known: Catalogue, family: Family, number: Number) -> Mistake:
    table = family.table(number)
    variant = subject.implementation.variant
    wrong, right, equation = render_difference(table, known.table, variant)
    told = f"{float(number):.9g}"
    sentence = family.sentence.format(told)
    if family.identifier == "dlogits * " and number > 0:
        sentence = f"{sentence.rstrip('.')}, as by a temperature of {float(1 / number):.9g}."
    return Mistake(family.identifier + told, sentence, equation, wrong, right, lambda _: table)


def _numbers(subject: Subject, family: Family, evidence: Sequence[Evidence]) -> list[Number]:
    """What some elements say that the number is, those first that are likeliest right."""
    loudest = sorted(evidence, key=lambda each: -max(map(_size, each.expected.values())))
    shared = _limits(evidence) if family.limit else []
    for each in loudest if family.limit else evidence:
        try:
            with np.errstate(all="ignore"):
                tested = [predicted(subject, family.table(n), each) for n in _TESTED]
        except ValueError:
            return []
        if all(np.array_equal(tested[0][name], tested[1][name]) for name in each.actual):
            continue
        allowed = budget_by(subject, family.table(_TESTED[0]), each)
        sure: list[tuple[float, Number]] = []
        for name, actual in each.actual.items():
            first, second, third = (found[name] for found in tested)
            slope = second - first
            with np.errstate(all="ignore"):
                affine = np.abs(third - second - slope) <= np.sqrt(np.finfo(np.float64).eps) * (
                    np.abs(third) + np.abs(first)
                )
                value = 1 + (actual - first) / slope
                # Each of the three rounds in proportion to its size, which is at most that of
                # the first times 1 + |value|; the slope has the error of two.
                error = 4 * allowed[name] * (1 + np.abs(value)) / np.abs(slope)
            usable = affine & (slope != 0) & np.isfinite(value) & np.isfinite(error)
            for index in np.argwhere(usable):
                at = tuple(index)
                sure.append((float(error[at]), simplest(float(value[at]), float(error[at]))))
        if sure:
            # Of a limit the largest: an element that it does not bound is its own.
            sure.sort(key=lambda pair: -pair[1] if family.limit else pair[0])
            told = list(dict.fromkeys(number for _, number in sure if number))[:_ASKED]
            return list(dict.fromkeys([*shared, *told]))
    return shared


def _size(array: Array) -> float:
    return float(np.max(np.abs(array)))


def _limits(evidence: Sequence[Evidence]) -> list[Number]:
    """The sizes that several wrong elements have in common, those first that most have.

    What is clipped within the loop shows as it is where nothing is added to it and it is multiplied
    by 1 alone: in dh0 and dc0, and with one step and one sequence in the biases.
    """
    found: Counter[Number] = Counter()
    for each in evidence:
        if not each.wrong:
            continue
        off = {name: each.off(name) for name in each.wrong}
        sizes = np.concatenate([np.abs(each.actual[name][off[name]]) for name in off])
        allowed = np.concatenate([each.allowed[name][off[name]] for name in off])
        for size in {size for size in sizes.tolist() if np.isfinite(size)}:
            same = sizes == size
            if same.sum() > 1:
                found[simplest(size, float(allowed[same].max()))] += int(same.sum())
    return [number for number, _ in found.most_common(_ASKED)]


def simplest(value: float, error: float) -> Number:
    """The number with the fewest decimals that is no further from `value` than `error`."""
    for digits in range(1, 18):
        number = Fraction(f"{value:.{digits}g}")
        if abs(number - Fraction(value)) <= Fraction(error):
            return number
    return Fraction(value)
