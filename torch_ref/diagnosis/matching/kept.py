"""What an implementation keeps from its last call, found by running one case twice."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from torch_ref.compare.errors import compare_gradients
from torch_ref.diagnosis.backward.render import joined
from torch_ref.diagnosis.evidence import Evidence
from torch_ref.diagnosis.matching.unknown import simplest
from torch_ref.diagnosis.mistakes.catalogue import Mistake
from torch_ref.harness.answers import loaded_torch
from torch_ref.harness.judge import Inconclusive, Subject, apart, expected_of
from torch_ref.oracles.case import Case, Results

_WEIGHTS = ("dweight", "dbias")
# what the second call would have been given, by the results of the first
_CARRIES: Mapping[str, Mapping[str, str]] = {
    "the forward pass begins with the last state of the call before where it needs h0 and c0": {
        "h0": "h_n",
        "c0": "c_n",
    },
    "the backward pass begins with the carry of the call before where it needs dh_n and dc_n": {
        "dh_n": "dh0",
        "dc_n": "dc0",
    },
    "the backward pass begins with the cell's carry of the call before where it needs dc_n": {
        "dc_n": "dc0"
    },
    "the backward pass begins with h's carry of the call before where it needs dh_n": {
        "dh_n": "dh0"
    },
}


def find_kept(
    subject: Subject, case: Case, earlier: Sequence[Evidence] = ()
) -> tuple[Mistake | None, str]:
    """Whether a second call on the same case gives something else, and why.

    What rounding in another order explains is not something else.

    Args:
        earlier: what it made of the same case before.

    Returns:
        The mistake, if one explains the second call exactly, and a sentence for when none does;
        None and "" if both calls are the same.
    """
    first = {name: np.array(value) for name, value in subject.run(case).items()}
    second = {name: np.array(value) for name, value in subject.run(case).items()}
    _, allowed = expected_of(subject, case)
    differing = [
        name
        for name, value in first.items()
        if name in second and apart(value, second[name], allowed.get(name, 0))
    ]
    if not differing:
        return None, _another_than(first, earlier)
    if all(name.startswith(_WEIGHTS) for name in differing):
        previous = {name: first[name] for name in differing}
        if _is(subject, case, second, previous):
            return _accumulates(differing), ""
        share = _momentum(subject, case, second, previous)
        if _is(subject, case, second, {name: share * of for name, of in previous.items()}):
            return _has_momentum(differing, share), ""
    for sentence, given in _CARRIES.items():
        if not all(name in first for name in given.values()):
            continue
        arrays: dict[str, Any] = {to: first[name] for to, name in given.items()}
        kept = replace(case, **arrays)
        if _is(subject, kept, second, {}):
            return _carries(sentence, given), ""
    twice = f"The same case run a second time gives another {joined(differing)}: "
    if _repeats(subject, case, allowed):
        return None, (
            f"{twice}it draws random numbers, and with the same seed gives the same. Is dropout "
            "on? A module of torch is in training mode until eval() is called."
        )
    return None, f"{twice}something is kept from the last call, or drawn at random."


def _repeats(subject: Subject, case: Case, allowed: Mapping[str, Any]) -> bool:
    """Whether two calls give the same with the same seed of Python's, NumPy's and torch's own."""
    torch = loaded_torch()
    kept = random.getstate(), np.random.get_state(), torch and torch.get_rng_state()
    runs = []
    try:
        for _ in range(2):
            random.seed(0)
            np.random.seed(0)
            if torch is not None:
                torch.manual_seed(0)
            runs.append(subject.run(case))
    finally:
        random.setstate(kept[0])
        np.random.set_state(kept[1])
        if torch is not None:
            torch.set_rng_state(kept[2])
    first, second = runs
    return not any(apart(value, second[n], allowed.get(n, 0)) for n, value in first.items())


def _another_than(now: Results, earlier: Sequence[Evidence]) -> str:
    for before in earlier:
        differing = [
            name
            for name, value in before.actual.items()
            if name in now and apart(value, now[name], before.allowed[name])
        ]
        if differing:
            return (
                f"The same case run later gives another {joined(differing)}: something is kept "
                "from the calls in between, or drawn at random."
            )
    return ""


def find_modified(subject: Subject, case: Case) -> Mistake | None:
    """Whether a call changes what it is given: a weight, an input or an upstream gradient."""
    try:
        modified = subject.answer(case).modified
    except Exception:  # a crash is a finding of the campaign's
        return None
    if not modified:
        return None
    names = joined(list(modified))
    return Mistake(
        "kept.modified",
        f"{names} {'is' if len(modified) == 1 else 'are'} changed in place by the call: the caller "
        "has other numbers afterwards.",
        "(9)",
        f"{modified[0]} += ...",
        f"a copy of {modified[0]} += ...",
    )


def _is(subject: Subject, case: Case, second: Results, previous: Results) -> bool:
    try:
        expected, allowed = expected_of(subject, case)
    except Inconclusive:
        return False
    names = [name for name in second if name in expected]
    comparison = compare_gradients(
        {name: second[name] for name in names},
        {name: expected[name] + previous.get(name, 0) for name in names},
        {
            # adding to what was there rounds once more
            name: allowed[name] + np.abs(previous.get(name, 0)) * np.finfo(second[name].dtype).eps
            for name in names
        },
    )
    return comparison.verdict == "agree"


def _momentum(subject: Subject, case: Case, second: Results, previous: Results) -> float:
    """How much of the first call's gradients is in the second's, by the largest element."""
    try:
        expected, allowed = expected_of(subject, case)
    except Inconclusive:
        return 0.0
    name = max(previous, key=lambda each: float(np.max(np.abs(previous[each]))))
    at = np.unravel_index(np.argmax(np.abs(previous[name])), previous[name].shape)
    of = float(previous[name][at])
    if not np.isfinite(of) or of == 0:
        return 0.0
    value = (float(second[name][at]) - float(expected[name][at])) / of
    return float(simplest(value, 2 * float(allowed[name][at]) / abs(of)))


def _has_momentum(names: list[str], share: float) -> Mistake:
    return Mistake(
        "kept.momentum",
        f"{share:.9g} times what the last call left in {joined(names)} is added to it: a momentum, "
        "which belongs to the update.",
        "(18)",
        f"{names[0]} = {share:.9g} * {names[0]} of the last call + ...",
        f"{names[0]} = ...",
    )


def _accumulates(names: list[str]) -> Mistake:
    return Mistake(
        "kept.accumulator",
        f"{joined(names)} is added to what the last call left there: it is not set to zero before "
        "the backward pass.",
        "(18)",
        f"{names[0]} += ...",
        f"{names[0]} = 0, then {names[0]} += ...",
    )


def _carries(sentence: str, given: Mapping[str, str]) -> Mistake:
    name, last = next(iter(given.items()))
    return Mistake(
        f"kept.{'state' if name == 'h0' else 'carry'}",
        sentence[0].upper() + sentence[1:] + ".",
        "(1)" if name == "h0" else "(9)",
        f"{name.removesuffix('_n').removesuffix('0')} = {last} of the last call",
        f"{name.removesuffix('_n').removesuffix('0')} = {name}",
    )
