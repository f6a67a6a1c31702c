"""What is checked: an LSTM with a mistake of the catalogue in it, with two, or with none."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch_ref import Case, Implementation
from torch_ref.diagnosis.backward.identity import signature
from torch_ref.diagnosis.backward.table import Table
from torch_ref.diagnosis.matching.single import joint
from torch_ref.diagnosis.mistakes.catalogue import Catalogue, Mistake, catalogue
from torch_ref.diagnosis.mistakes.planted import planted_loss, planted_vjp
from torch_ref.harness.cases import sized_case
from torch_ref.harness.contract import MalformedAnswer
from torch_ref.harness.subject import subject_of
from torch_ref.oracles.variant import STANDARD, Variant

FORMS = ("vjp", "linear", "bounded")  # the head inside, or none


@dataclass(frozen=True)
class Target:
    """An LSTM.

    Attributes:
        name: what it is, for people.
        form: of FORMS.
        plain: the contract's vjp, or loss_and_grads with a head, in manual_lstm's arrangement:
            what the checks of others are given, which have no layouts.
        implementation: the same for ours, in its own arrangement.
        variant: the cell.
    """

    name: str
    form: str
    plain: Callable[..., Any]
    implementation: Implementation
    variant: Variant = STANDARD

    def case(self, sizes: dict[str, int], seed: int = 0) -> Case:
        """A case in float64 that `plain` takes."""
        return sized_case(
            sizes,
            targets=self.form != "vjp",
            head="bounded" if self.form == "bounded" else "linear",
            variant=self.variant,
            seed=seed,
        )


def as_implementation(name: str, form: str, function: Callable[..., Any], **fields: Any) -> Any:
    """An Implementation of the form."""
    if form == "vjp":
        return Implementation(name, vjp=function, **fields)
    return Implementation(name, loss_and_grads=function, head=form, **fields)


def known_in(form: str) -> Catalogue:
    """The mistakes that can be made."""
    return catalogue(STANDARD, None if form == "vjp" else form)


def chosen(form: str, identifiers: Sequence[str]) -> list[Mistake]:
    """Mistakes by their identifiers."""
    by_name = {mistake.identifier: mistake for mistake in known_in(form).mistakes}
    return [by_name[identifier] for identifier in identifiers]


def plant(form: str, mistakes: Sequence[Mistake], dtype: Any = None) -> Target:
    """The LSTM that makes these mistakes; with I = H where it cannot be run otherwise."""
    table = joint(mistakes, known_in(form))
    plain = planted_vjp(table) if form == "vjp" else planted_loss(table)
    name = " and ".join(mistake.identifier for mistake in mistakes)
    implementation = as_implementation(name, form, plain, dtype=dtype)
    try:
        runs = subject_of(implementation).abilities.stacks
    except (ValueError, MalformedAnswer):
        runs = False
    if not runs:
        sizes = {"I": 3, "H": 3}
        implementation = as_implementation(name, form, plain, dtype=dtype, sizes=sizes)
    return Target(name, form, plain, implementation)


def mathematics(form: str, mistakes: Sequence[Mistake]) -> bytes:
    """The same for mistakes that come to the same gradients on every case."""
    return mathematics_of(form, joint(mistakes, known_in(form)))


def mathematics_of(form: str, table: Table) -> bytes:
    """As `mathematics`, of a table."""
    return signature(table, STANDARD, form != "vjp", form == "linear")
