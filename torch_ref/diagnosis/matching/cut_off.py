"""What is carried back dropped at some steps: a truncation inside the window.

Every K steps from one end or the other, in the middle, or everywhere but in the last K steps; of
h's gradient, the cell's, or both.
"""

from collections.abc import Iterator, Sequence
from typing import Literal

from torch_ref.diagnosis.backward.render import render_difference
from torch_ref.diagnosis.backward.table import Table, Uncut
from torch_ref.diagnosis.evidence import Evidence, draw_case, gather
from torch_ref.diagnosis.matching.single import near, share_used
from torch_ref.diagnosis.mistakes.catalogue import Catalogue, Mistake
from torch_ref.diagnosis.mistakes.edits import Edit, Place, only_at, together
from torch_ref.harness.judge import Subject

_LONG = {"T": 33, "B": 1, "I": 2, "H": 2, "L": 1}
# The long case is cut twice at least, so that one step alone is not told as many.
_PERIODS = range(2, 17)
_AT: tuple[Literal["handed on", "between", "received"], ...] = ("handed on", "between", "received")
_OF = {
    ("dh", "dc"): "what the gradients of h and c hand to t-1",
    ("dh",): "what h's gradient hands to t-1",
    ("dc",): "what the cell's gradient hands to t-1",
}


def match_cut_off(
    subject: Subject, known: Catalogue, evidence: Sequence[Evidence], seed: int
) -> tuple[Mistake, float] | None:
    """The steps between which nothing is carried back, if that explains all the evidence.

    Args:
        evidence: what it has to explain, beside a long case that is drawn here.

    Returns:
        With the greatest share of its budget that an element uses; None if nothing fits.
    """
    long = gather(subject, draw_case(subject, _LONG, seed))
    if long is None or long.right or not long.actual or not long.forward_right:
        return None
    seen = [*evidence, long]
    wrong = [each for each in seen if not each.right]
    fits: dict[tuple[object, ...], bool] = {}
    for carried in _OF:
        for cut in _cuts():
            edit = _edit(known.table, carried, cut)
            table, handed = edit(known.table), cut.at == "handed on"
            for n, each in enumerate(wrong):
                key = n, carried, handed, cut.dropped(len(each.case.x))
                if key not in fits:
                    fits[key] = near(subject, known, table, each)
                if not fits[key]:
                    break
            else:
                used = share_used(subject, table, [*seen, *_at_its_ends(subject, cut, seed)])
                if used is not None:
                    return _mistake(subject, known, carried, cut, edit), used
    return None


def _at_its_ends(subject: Subject, cut: Uncut, seed: int) -> list[Evidence]:
    """Cases as long as a period and as a phase, which end where they are cut if anywhere."""
    lengths = {cut.period or 1, cut.phase or cut.period or 1}
    drawn = [gather(subject, draw_case(subject, {**_LONG, "T": n}, seed)) for n in sorted(lengths)]
    return [each for each in drawn if each is not None and each.actual]


def _cuts() -> Iterator[Uncut]:
    for at in _AT:
        for period in _PERIODS:
            for phase in range(period):
                yield Uncut("multiple", period, phase, at)
            yield Uncut("multiple from the end", period, 0, at)
            yield Uncut("but the last", period, 0, at)
        yield Uncut("middle", at=at)


def _edit(right: Table, carried: tuple[str, ...], cut: Uncut) -> Edit:
    edits = []
    for name in carried:
        state = "dc_total" if name == "dc" and "dc_total" in right.equations else name
        handed = [Place(f"{name}_carry", k) for k in range(len(right[f"{name}_carry"].terms))]
        places = handed if cut.at == "handed on" else [Place(state, 1)]
        edits += [only_at(place, cut) for place in places]
    return together(*edits)


def _mistake(
    subject: Subject, known: Catalogue, carried: tuple[str, ...], cut: Uncut, edit: Edit
) -> Mistake:
    variant = subject.implementation.variant
    wrong, right, number = render_difference(edit(known.table), known.table, variant)
    where = {
        "multiple": f"wherever t % {cut.period} == {cut.phase}",
        "multiple from the end": f"every {cut.period} steps, counted from the end",
        "middle": "at t = T // 2",
        "but the last": f"in all but the last {cut.period} steps",
    }[cut.rule]
    ends = {"between": ", within the window", "received": ", t = T included"}.get(cut.at, "")
    of = _OF[carried]
    return Mistake(
        f"{' and '.join(f'{name}_carry' for name in carried)}.cut {cut.rule} {cut.period} "
        f"{cut.phase} {cut.at}",
        f"{of[0].upper()}{of[1:]} is dropped {where}{ends}: a truncation of its own.",
        number,
        wrong,
        right,
        edit,
    )
