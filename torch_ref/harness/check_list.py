"""The list of checks that everybody runs, and why one cannot be run on a subject."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch_ref.compare.errors import Comparison
from torch_ref.harness.abilities import Abilities
from torch_ref.harness.checks import (
    check_batch_is_sum_of_members,
    check_called_twice,
    check_carried_state,
    check_clipping,
    check_every_step,
    check_forward,
    check_gradients,
    check_improbable_target,
    check_initial_state,
    check_inputs_unmodified,
    check_linearity,
    check_long,
    check_one_step,
    check_only_dc_n,
    check_only_dh_n,
    check_shapes_and_dtypes,
    check_stacks,
    check_two_steps,
    check_zero_upstream,
)
from torch_ref.harness.judge import Subject
from torch_ref.harness.strategies import Sizes
from torch_ref.oracles.case import Case


@dataclass(frozen=True)
class Check:
    """A check, the cases it is for, and how many of them.

    Attributes:
        function: check_*(subject, case).
        sizes: of its cases: a size, or the least and the greatest.
        weight: its share of the examples, relative to the others.
        form: "vjp" or "loss" where only that form has the property.
        needs: results that an implementation must return for the check to make sense.
        takes: what it must not ignore, of "h0", "c0", "dh_n", "dc_n".
        varies: a size that the check itself changes, so that it must not be bound.
    """

    function: Callable[[Subject, Case], Comparison | None]
    sizes: Sizes
    weight: int = 1
    form: str | None = None
    needs: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()
    varies: str = ""

    @property
    def name(self) -> str:
        """The function's name."""
        return self.function.__name__

    @property
    def catches(self) -> str:
        """What it would catch, in a sentence."""
        return str(self.function.__doc__).strip()


_ONE = {"B": 1, "L": 1}
CHECKS = (
    Check(check_shapes_and_dtypes, {"T": (1, 4)}),
    Check(check_inputs_unmodified, {"T": (1, 4)}),
    Check(check_called_twice, {"T": (1, 4)}),
    Check(check_forward, {"T": (1, 6)}, weight=2),
    Check(check_improbable_target, {"T": (1, 4), "L": 1}, form="loss", needs=("loss",)),
    Check(check_zero_upstream, {"T": (1, 6)}, form="vjp"),
    Check(check_one_step, {"T": 1, **_ONE}, weight=2),
    Check(check_two_steps, {"T": 2, **_ONE}),
    Check(check_every_step, {"T": (3, 6), **_ONE}),
    Check(check_only_dh_n, {"T": (1, 4), **_ONE}, form="vjp", takes=("dh_n",)),
    Check(check_only_dc_n, {"T": (1, 4), **_ONE}, form="vjp", takes=("dc_n",)),
    Check(check_initial_state, {"T": (1, 3), **_ONE}, takes=("h0",)),
    Check(
        check_carried_state,
        {"T": (2, 6), **_ONE},
        form="vjp",
        needs=("h_n", "c_n", "dh0", "dc0"),
        takes=("h0", "c0", "dh_n", "dc_n"),
        varies="T",
    ),
    Check(check_batch_is_sum_of_members, {"T": (1, 4), "B": (2, 3), "L": 1}, varies="B"),
    Check(check_stacks, {"T": (1, 4), "L": (2, 3)}),
    Check(check_linearity, {"T": (1, 4)}, form="vjp"),
    Check(check_clipping, {"T": (1, 4), **_ONE}),
    Check(check_gradients, {}, weight=6),
    Check(check_long, {"T": (24, 50), "B": 1, "H": (1, 4)}),
)


def reasons_by_check(expected: Mapping[str, str] | None) -> dict[str, str]:
    """Expected failures by the whole names of their checks.

    Raises:
        ValueError: one is of no check.
    """
    known = {check.name.removeprefix("check_"): check.name for check in CHECKS}
    found = {}
    for name, reason in (expected or {}).items():
        short = name.removeprefix("check_")
        if short not in known:
            raise ValueError(
                f"expected_failures names {name!r}, which is not a check: {', '.join(known)}."
            )
        found[known[short]] = reason
    return found


def not_applicable(check: Check, subject: Subject) -> str | None:
    """Why a check cannot be run on a subject; None if it can."""
    abilities, implementation = subject.abilities, subject.implementation
    form = "vjp" if implementation.head_inside is None else "loss"
    if check.form not in (None, form):
        return f"it is for the {check.form} form"
    if missing := [name for name in check.needs if name not in abilities.returned]:
        return f"it needs {', '.join(missing)}"
    of_weights = [n for n in abilities.returned if n.startswith(("dweight", "dbias"))]
    if check.function is check_batch_is_sum_of_members and not of_weights:
        return "it needs the gradient of a weight"
    if ignored := [name for name in check.takes if name in abilities.ignored]:
        return f"it needs {', '.join(ignored)}"
    if check.function is check_linearity and implementation.form == "program":
        return "a program remembers nothing from one run to the next"
    if implementation.head_inside == "bounded":
        if check.function is check_improbable_target:
            return "the bounded head gives no class a probability near 0"
        if check.function is check_clipping:
            return "the bounded head's gradients are never large"
    if check.varies in implementation.sizes:
        return f"it needs {check.varies} to vary"
    return _size_refused(check, implementation.sizes, abilities)


def _size_refused(check: Check, bound: Mapping[str, int], abilities: Abilities) -> str | None:
    able = {
        "L": abilities.stacks or "L" in abilities.meant,
        "B": abilities.batches or "B" in abilities.meant,
    }
    for size, wanted in check.sizes.items():
        least, most = (wanted, wanted) if isinstance(wanted, int) else wanted
        if least > 1 and not able.get(size, True):
            return f"it needs {size} of at least {least}{abilities.raised_for(size)}"
        # More than a check would draw is no obstacle, but where it is for just so many steps.
        exactly = size == "T" and least == most
        if size in bound and (bound[size] < least or (exactly and bound[size] > most)):
            return f"it needs {size} of {'at least ' * (not exactly)}{least}"
    return None
