"""What an implementation can do, found by trying; the rest is reported as not verified."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from torch_ref.harness.cases import sized_case
from torch_ref.harness.contract import Answer, Implementation, run_implementation
from torch_ref.harness.given import BELOW_THE_TOP, restricted
from torch_ref.harness.layouts.layout import Layout
from torch_ref.harness.meant import half_done
from torch_ref.harness.theirs import it_raises
from torch_ref.oracles.case import Case

OUTPUTS = ("loss", "y", "h_n", "c_n")
_PARTS = {
    "h0": "a non-zero h0",
    "c0": "a non-zero c0",
    "dy": "the upstream gradient dy",
    "dh_n": "the upstream gradient dh_n",
    "dc_n": "the upstream gradient dc_n",
}
_MORE = {"B": "batches (more than one sequence)", "L": "stacks (more than one layer)"}
SIZE_WORDS = {"B": "batches", "L": "stacks"}
_REQUIRED = "it is required"
_SQUARE = "with I = H it works"
BOUND = "--sizes I=3,H=3 says so"


@dataclass(frozen=True)
class Abilities:
    """What may be asked of an implementation.

    Attributes:
        ignored: what it does not take, of "h0", "c0", "dy", "dh_n", "dc_n" and BELOW_THE_TOP.
        returned: the names of the results it gives.
        dtypes: the dtypes in which it computes.
        stacks: whether it takes more than one layer. batches: more than one sequence.
        lacking: what it cannot do, "stacks" or "dx" say, to a phrase for the report.
        meant: where it raises for "L" or "B" above 1 though it is meant to take that, a case on
            which it does: there it is a failure.
        notes: sentences on what raises, and how to say whether it should.
    """

    ignored: frozenset[str]
    returned: frozenset[str]
    dtypes: tuple[str, ...]
    stacks: bool
    batches: bool
    lacking: Mapping[str, str]
    meant: Mapping[str, Case] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def unverified(self) -> tuple[str, ...]:
        """A phrase for each thing that it cannot do."""
        return tuple(self.lacking.values())

    def raised_for(self, size: str) -> str:
        """What it raises for more than one of "B" or "L", ": it raises ...", or ""."""
        return self.lacking.get(SIZE_WORDS[size], "").removeprefix(_MORE[size])


@dataclass(frozen=True)
class _Trial:
    """Whether two layers or sequences can be run, else what came of it and why it should not have.

    Attributes:
        able: it runs. why: what was raised, or is missing; "" for what says itself that it cannot.
        raised: the case on which it raised. meant: what shows that it is meant to run, or "".
    """

    able: bool
    why: str = ""
    raised: Case | None = None
    meant: str = ""


def find_abilities(implementation: Implementation) -> Abilities:
    """Try an implementation on small cases: both dtypes, then two sequences, then two layers.

    Raises:
        Exception: what the implementation raises on the plainest case of all.
    """
    names = (implementation.dtype,) if implementation.dtype else ("float64", "float32")
    answers: dict[str, Answer] = {}
    refusals: dict[str, Exception] = {}
    for name in names:
        try:
            answers[name] = run_implementation(implementation, probe(implementation, name))
        except Exception as error:
            refusals[name] = error
    if not answers:
        raise refusals[names[0]]
    # Declared as float64 it is held to that; else float32 is no mistake, where all of it is.
    dtypes = ("float64",) if implementation.dtype == "float64" else _dtypes(answers)
    first = next(iter(answers.values()))
    expected = _expected_names(implementation, probe(implementation, dtypes[0]))
    lacking = {name: phrase for name, phrase in _PARTS.items() if name in first.ignored}
    lacking |= {name: described(name) for name in sorted({*expected} - {*first.results})}
    trials = {size: _trial(implementation, dtypes[0], size, first.ignored) for size in _MORE}
    lacking |= {
        SIZE_WORDS[size]: _MORE[size] + (f": {trial.why}" if trial.why and not trial.meant else "")
        for size, trial in trials.items()
        if not trial.able
    }
    ignored = first.ignored
    one_output = "h_n" not in first.results and "dy" in ignored and "dh_n" not in ignored
    if one_output and trials["L"].able and _takes_the_top_alone(implementation, dtypes[0]):
        ignored |= {BELOW_THE_TOP}
        lacking[BELOW_THE_TOP] = "the upstream gradient dh_n of the layers below the top"
    for name in names:
        if name in refusals:
            lacking[name] = f"{name}: {it_raises(refusals[name])}"
        elif name not in dtypes:
            lacking[name] = f"{name}: it computes in {dtypes[0]}"
    return Abilities(
        ignored,
        frozenset(first.results),
        dtypes,
        trials["L"].able,
        trials["B"].able,
        lacking,
        {size: trial.raised for size, trial in trials.items() if trial.raised and trial.meant},
        _notes(trials),
    )


def _takes_the_top_alone(implementation: Implementation, dtype: str) -> bool:
    """Whether dh_n is the gradient of one output, the top layer's last h, and of no other's."""
    case = probe(implementation, dtype, L=2)
    lower = restricted(case, frozenset({BELOW_THE_TOP}))
    first, second = (run_implementation(implementation, each).results for each in (case, lower))
    return first.keys() == second.keys() and all(
        np.array_equal(value, second[name]) for name, value in first.items()
    )


def _notes(trials: Mapping[str, _Trial]) -> tuple[str, ...]:
    """How a stack or a batch that raises is taken, and how to say otherwise."""
    raising = {size: trial.meant for size, trial in trials.items() if trial.raised}
    notes = [
        f"It is taken to be meant for {SIZE_WORDS[size]}, as {meant}. If it is not: --sizes "
        f"{size}=1 says so{f'; if it is bound to that: {BOUND}' * (meant == _SQUARE)}."
        for size, meant in raising.items()
        if meant not in ("", _REQUIRED)
    ]
    if left := [size for size, meant in raising.items() if not meant]:
        words = ",".join(SIZE_WORDS[size] for size in left)
        sizes = ",".join(f"{size}=1" for size in left)
        notes.append(
            f"It is taken not to be meant for {words.replace(',', ' and ')}. If it is: --require "
            f"{words} makes what it raises a failure. If not: --sizes {sizes} says so."
        )
    return tuple(notes)


def probe(implementation: Implementation, dtype: str, **sizes: int) -> Case:
    """A small case that the implementation's own sizes admit."""
    wanted = {"T": 3, "B": 1, "I": 2, "H": 3, "L": 1} | sizes | dict(implementation.sizes)
    return sized_case(
        wanted,
        dtype=dtype,
        targets=implementation.head_inside is not None,
        head=implementation.head_inside,
        variant=implementation.variant,
    )


def _dtypes(answers: dict[str, Answer]) -> tuple[str, ...]:
    """The dtypes that come back as they went in; failing that, the one that always comes back."""
    kept = tuple(
        name
        for name, answer in answers.items()
        if _dtype_of(answer) == name and not _widens(answer, name)
    )
    return kept or (_dtype_of(next(iter(answers.values()))),)


def _widens(answer: Answer, dtype: str) -> bool:
    """Whether some result is float64 although the case is float32: np.zeros(shape) is, say."""
    found = [np.asarray(v).dtype for k, v in answer.results.items() if k != "loss"]
    return dtype == "float32" and any(each == np.float64 for each in found)


def _dtype_of(answer: Answer) -> str:
    """The one that the arithmetic was done in: the narrowest, but where outputs have more digits.

    A float32 gradient beside outputs in float64 is a slip, and no arithmetic in float32.
    """
    found = {k: np.asarray(v) for k, v in answer.results.items() if k != "loss"}
    outputs = [v for k, v in found.items() if k in OUTPUTS and v.dtype == np.float64]
    wide = any(np.any(v != v.astype(np.float32)) for v in outputs)
    narrow = any(v.dtype == np.float32 for v in found.values())
    return "float32" if narrow and not wide else "float64"


def _trial(
    implementation: Implementation, dtype: str, size: str, ignored: frozenset[str]
) -> _Trial:
    layout = implementation.layout
    assert isinstance(layout, Layout)
    single = layout.single_layer if size == "L" else layout.single_batch
    if single or size in implementation.sizes:
        return _Trial(implementation.sizes.get(size, 1) > 1)
    case = probe(implementation, dtype, **{size: 2})
    try:
        return _judged(implementation, case)
    except NotImplementedError:
        return _Trial(False)
    except Exception as error:
        meant = _REQUIRED if {SIZE_WORDS[size], "all"} & implementation.requires else ""
        if size == "L" and not meant:
            meant = _works_square(implementation, dtype) or half_done(implementation, case, ignored)
        return _Trial(False, it_raises(error), case, meant)


def _judged(implementation: Implementation, case: Case) -> _Trial:
    """Of a case that runs. Without a gradient of a layer it has not refused it, but not done it."""
    results = run_implementation(implementation, case).results
    missing = [name for name in _weights(implementation, case) if name not in results]
    if "dweight_ih_l0" not in results or not missing:
        return _Trial(True)
    return _Trial(False, f"it returns no {missing[0]}")


def _works_square(implementation: Implementation, dtype: str) -> str:
    """That a stack runs where I = H, as where the upper layers' weights are made for I inputs."""
    case = probe(implementation, dtype, L=2, I=3, H=3)
    try:
        return _SQUARE if _judged(implementation, case).able else ""
    except Exception:
        return ""


def _weights(implementation: Implementation, case: Case) -> list[str]:
    layout = implementation.layout
    biased = layout == "auto" or layout.bias != "none"
    return [f"d{name}" for name in case.params if biased or not name.startswith("bias_l")]


def described(name: str) -> str:
    """A result that is not there, as a phrase of what is not verified."""
    return f"the output {name}" if name in OUTPUTS else f"the gradient {name}"


def _expected_names(implementation: Implementation, case: Case) -> list[str]:
    outputs = ["y", "h_n", "c_n"] if implementation.head_inside is None else ["loss"]
    return [*outputs, *_weights(implementation, case), "dx", "dh0", "dc0"]
