"""The diagnosis: the backward as data, its mistakes, and which of them an implementation has."""

import random
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import count
from typing import Any

import numpy as np
import pytest
from agreement import assert_agree, truth
from planted import MISTAKES, plant

import manual_lstm
from manual_lstm import CharModel
from manual_lstm.params import GATES, lstm_sizes
from torch_ref import autograd_vjp, diagnose, error_budget
from torch_ref.diagnosis.backward.identity import signature
from torch_ref.diagnosis.backward.interpreter import run_table
from torch_ref.diagnosis.backward.table import Table, backward_table
from torch_ref.diagnosis.blind_spots import blind_spots, hides
from torch_ref.diagnosis.evidence import LOUD, SIZES, draw_case
from torch_ref.diagnosis.mistakes.catalogue import Catalogue, Mistake, catalogue
from torch_ref.diagnosis.mistakes.planted import planted_loss, planted_vjp
from torch_ref.harness.answers import MalformedAnswer
from torch_ref.harness.cases import sized_case
from torch_ref.harness.checks import check_called_twice
from torch_ref.harness.contract import Implementation
from torch_ref.harness.judge import Subject
from torch_ref.harness.subject import subject_of
from torch_ref.oracles.variant import STANDARD, Variant

pytestmark = pytest.mark.sampled

HEADS = (None, "linear", "bounded")
VARIANTS = (
    STANDARD,
    Variant(candidate="sigmoid", output="identity"),
    Variant(state="tanh", peepholes=True),
    Variant(coupled=True),
    Variant("sigmoid", "tanh", "identity", True, True),
)


def subject_for(table: Table, head: str | None, dtype: Any = None) -> Subject:
    """An implementation that computes a table; with I = H where its shapes admit no other."""
    form: dict[str, Any] = {"vjp": planted_vjp(table)}
    if head is not None:
        form = {"loss_and_grads": planted_loss(table), "head": head}
    try:
        return subject_of(Implementation("planted", dtype=dtype, **form))
    except (ValueError, MalformedAnswer):
        return subject_of(Implementation("planted", dtype=dtype, sizes={"I": 3, "H": 3}, **form))


def by_name(known: Catalogue, identifier: str) -> Mistake:
    """A mistake of the catalogue."""
    (found,) = [each for each in known.mistakes if each.identifier == identifier]
    return found


def named(implementation: Any, **options: Any) -> list[str]:
    """The identifiers of the mistakes that a diagnosis finds."""
    finding = diagnose(implementation, **options).finding
    return [] if finding is None else [mistake.identifier for mistake in finding.mistakes]


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("variant", VARIANTS, ids=Variant.describe)
def test_unedited_table_is_the_truth(variant: Variant, head: str | None) -> None:
    """An equation of the table that is not DERIVATION.md's, or a step at which it is not there."""
    case = sized_case(
        {"T": 4, "B": 2, "I": 3, "H": 3, "L": 2},
        targets=head is not None,
        head="bounded" if head == "bounded" else "linear",
        variant=variant,
    )
    found = run_table(backward_table(variant, head), case)
    assert_agree(found, truth(case), error_budget(case).allowed, "the table")


@pytest.mark.parametrize("head", HEADS)
def test_catalogue_holds_distinct_mistakes_in_whole_sentences(head: str | None) -> None:
    """Two entries that nothing could tell apart, or one that does not say what is wrong."""
    known = catalogue(STANDARD, head)
    assert len(known.mistakes) >= 150
    for attribute in ("identifier", "sentence"):
        assert len({getattr(each, attribute) for each in known.mistakes}) == len(known.mistakes)
    for each in known.mistakes:
        assert each.sentence.endswith("."), each
        assert each.equation, each
        assert each.wrong != each.right, each


def test_two_edits_with_the_same_mathematics_are_one_entry() -> None:
    """A mistake listed twice under two names, so that no diagnosis could choose."""
    known = catalogue()
    sign = partial(signature, variant=STANDARD, loss=False, linear=False)
    doubled = by_name(known, "dc_carry[0] * 2").edit
    halved = by_name(known, "dc_carry[0] * 1/2").edit
    assert sign(halved(doubled(known.table))) == sign(known.table)
    assert sign(doubled(known.table)) != sign(halved(known.table))
    assert known.same["dh[1] is left out at the last step"] == "dh_n * 0"


@pytest.mark.parametrize("head", HEADS[:2])
def test_built_in_cases_have_no_blind_spot(head: str | None) -> None:
    """A mistake that no case of the diagnosis would show."""
    subject = subject_for(backward_table(head=head), head)
    unseen = None
    for k, sizes in enumerate(SIZES):
        case = draw_case(subject, sizes, k, LOUD if k == len(SIZES) - 1 else 1.0)
        blind = {each.identifier for each in blind_spots(case).blind}
        unseen = blind if unseen is None else unseen & blind
        if not unseen:
            break
    assert not unseen


def test_poor_case_is_told_what_it_hides() -> None:
    """A user's case of one step from a zero state that is taken for a test of the recurrence."""
    case = sized_case({"T": 1, "B": 1, "I": 2, "H": 2, "L": 1})
    poor = replace(case, h0=0 * case.h0, c0=0 * case.c0, dc_n=0 * case.dc_n)
    blindness = blind_spots(poor)
    blind = {each.identifier for each in blindness.blind}
    assert {"dc_n * 0", "weight_hh * 0", "bias * 1/T", "stack.dx * 0"} <= blind
    assert "df.c[t]" not in blind
    assert "dweight_hh_l0" not in {each.identifier for each in blindness.seen}
    for phrase in ("T=1", "B=1", "L=1", "h0 is zero", "c0 is zero", "dc_n is zero"):
        assert any(phrase in why for why in hides(poor)), phrase
    assert not hides(sized_case(SIZES[1]))


def test_blind_spot_of_two_sides_that_is_seen_by_one() -> None:
    """A change just beyond one side's budget, which is within that of two that both round."""
    case, known = sized_case({"T": 1, "B": 1, "I": 2, "H": 2, "L": 1}), catalogue()
    without, right = (
        run_table(edit(known.table), case)
        for edit in (by_name(known, "dc_n * 0").edit, lambda table: table)
    )
    allowed = error_budget(replace(case, dc_n=0 * case.dc_n)).allowed
    share = max(np.max(abs(right[n] - without[n]) / allowed[n]) for n in right if n[0] == "d")
    faint = replace(case, dc_n=case.dc_n * (1.2 / share))
    for sides, hidden in ((1, False), (2, True)):
        blind = {each.identifier for each in blind_spots(faint, sides=sides).blind}
        assert ("dc_n * 0" in blind) == hidden


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("seed", range(3))
def test_planted_mistake_is_named_first(head: str | None, seed: int) -> None:
    """A mistake of the catalogue that the diagnosis takes for another, or for none."""
    known = catalogue(STANDARD, head)
    planted = random.Random(seed).choice(known.mistakes)
    subject = subject_for(planted.edit(known.table), head, dtype=None if seed % 2 else "float32")
    assert named(subject, seconds=0) == [planted.identifier]


def test_mistake_that_is_no_number_on_a_loud_case_is_named() -> None:
    """Gradients that are NaN on one case, which no mistake explains, so that none is named."""
    known = catalogue(STANDARD, "linear")
    planted = by_name(known, "dlogits.-onehot/p")  # a loud case's p rounds to 0
    subject = subject_for(planted.edit(known.table), "linear")
    assert named(subject, seconds=0) == [planted.identifier]


def test_mistake_in_a_variant_is_named() -> None:
    """A catalogue that is that of the standard cell whatever the implementation computes."""
    variant = Variant(candidate="sigmoid", output="identity")
    known = catalogue(variant)
    planted = by_name(known, "df.c[t]")

    def vjp(params: Any, x: Any, h0: Any, c0: Any) -> Any:
        outputs, _ = autograd_vjp(params, x, h0, c0, variant=variant)

        def pullback(dy: Any, dh_n: Any, dc_n: Any) -> Any:
            case = replace(sized_case(SIZES[0], variant=variant), params=params, x=x, h0=h0, c0=c0)
            case = replace(case, dy=dy, dh_n=dh_n, dc_n=dc_n)
            found = run_table(planted.edit(known.table), case)
            return {name: value for name, value in found.items() if name[0] == "d"}

        return outputs, pullback

    implementation = Implementation("variant", vjp=vjp, variant=variant, dtype="float64")
    assert named(implementation, seconds=0) == ["df.c[t]"]


def loss_and_grads(params: Any, x: Any, targets: Any, h0: Any, c0: Any) -> Any:
    """manual_lstm's character model in the contract's loss form."""
    classes, hidden, layers, _ = lstm_sizes(params)
    return CharModel(classes, hidden, layers, "linear").loss_and_grads(params, x, targets, h0, c0)


IN_THE_SOURCE = {
    "df takes c[t] for c[t-1]": "df.c[t]",
    "dg without the square": "dz_g.1-y",
    "do multiplied by dc": "do.dc for dh",
    "dc without o": "dc.without o",
    "dh subtracted": "dh[0] * -1",
    "dh's carry without the output gate": "dh_carry[3] * 0",
    "dc_n ignored": "dc_n * 0",
    "dweight_hh takes h[t] for h[t-1]": "weight_hh.h[t] wrap",
    "dweight_ih with members of the batch mixed": "weight_ih.previous member",
    "dy given to every layer": "stack.dy for every layer",
    "softmax gradient of the opposite sign": "dlogits * -1",
    "loss averaged over the steps only": "dlogits * B",
    "head passes nothing on at the first step": "dy.not the first",
}


@pytest.mark.parametrize("identifier", IN_THE_SOURCE)
def test_wrong_line_in_real_source_is_named(
    identifier: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mistake that is known by the interpreter's own arithmetic only, not in written code."""
    plant(monkeypatch, *MISTAKES[identifier])
    head = identifier.startswith(("softmax", "loss", "head"))
    implementation = loss_and_grads if head else manual_lstm.vjp
    assert named(implementation, seconds=0) == [IN_THE_SOURCE[identifier]]


def spoiled(spoil: Callable[[dict[str, Any], Any], None]) -> Callable[..., Any]:
    """manual_lstm with something done to its gradients that is in no catalogue."""

    def vjp(params: Any, x: Any, h0: Any, c0: Any) -> Any:
        outputs, pullback = manual_lstm.vjp(params, x, h0, c0)

        def spoiling(dy: Any, dh_n: Any, dc_n: Any) -> Any:
            gradients = dict(pullback(dy, dh_n, dc_n))
            spoil(gradients, x)
            return gradients

        return outputs, spoiling

    return vjp


def _odd_bias(gradients: dict[str, Any], x: Any) -> None:
    bias = gradients["dbias_l0"]
    hidden = len(bias) // len(GATES)
    bias[hidden : 2 * hidden] *= np.cos(bias[hidden : 2 * hidden])


def _late(gradients: dict[str, Any], x: Any) -> None:
    if len(x) > 1:
        gradients["dx"][:-1] **= 3


@pytest.mark.parametrize(
    ("spoil", "phrases"),
    [
        (_odd_bias, ("Wrong for a single step", "dbias_l0 for the gates f only", "(18)")),
        (_late, ("Right at T=1", "dx at t=0")),
    ],
)
def test_what_no_mistake_explains_is_located_and_not_guessed(
    spoil: Callable[[dict[str, Any], Any], None], phrases: tuple[str, ...]
) -> None:
    """A diagnosis that names the nearest mistake although it does not explain the numbers."""
    diagnosis = diagnose(spoiled(spoil), seconds=0)
    assert diagnosis.finding is None
    for phrase in phrases:
        assert phrase in diagnosis.located, diagnosis.located


def test_gradients_that_are_not_numbers_match_no_mistake() -> None:
    """NaN that passes a comparison with a mistake's prediction."""

    def spoil(gradients: dict[str, Any], x: Any) -> None:
        gradients["dbias_l0"][:] = np.nan

    assert diagnose(spoiled(spoil), seconds=0).finding is None


def test_accumulator_of_the_last_call_is_named() -> None:
    """A gradient buffer that is not set to zero."""
    total: dict[Any, Any] = {}

    def spoil(gradients: dict[str, Any], x: Any) -> None:
        for name in [name for name in gradients if name.startswith("dweight")]:
            key = name, gradients[name].shape, gradients[name].dtype
            total[key] = total.get(key, 0) + gradients[name]
            gradients[name] = total[key].copy()

    assert named(spoiled(spoil), seconds=0) == ["kept.accumulator"]


def test_accumulator_of_the_last_call_is_named_where_there_is_only_a_loss() -> None:
    """A comparison that breaks on the loss, which has no accumulator, and finds nothing."""
    total: dict[Any, Any] = {}

    def keeps(params: Any, x: Any, targets: Any, h0: Any, c0: Any) -> Any:
        loss, gradients = loss_and_grads(params, x, targets, h0, c0)
        for name in [name for name in gradients if name.startswith(("dweight", "dbias"))]:
            key = name, gradients[name].shape, gradients[name].dtype
            total[key] = total.get(key, 0) + gradients[name]
        kept = {
            name: total.get((name, value.shape, value.dtype), value).copy()
            for name, value in gradients.items()
        }
        return loss, kept

    assert named(keeps, seconds=0) == ["kept.accumulator"]


def _reordered(params: Any, x: Any, h0: Any, c0: Any) -> Any:
    """manual_lstm with every sum over the units in the opposite order."""
    flip = slice(None, None, -1)

    def turned(name: str, value: Any) -> Any:
        blocks = np.stack(np.split(value, 4))[:, flip]  # (4, H, ...)
        columns = name.startswith("weight_hh") or (
            name.startswith("weight_ih") and not name.endswith("l0")
        )
        blocks = blocks[..., flip] if columns else blocks
        return np.ascontiguousarray(blocks.reshape(value.shape))

    turned_params = {name: turned(name, value) for name, value in params.items()}
    states = [np.ascontiguousarray(each[..., flip]) for each in (h0, c0)]
    outputs, pullback = manual_lstm.vjp(turned_params, x, *states)

    def back(dy: Any, dh_n: Any, dc_n: Any) -> Any:
        given = [np.ascontiguousarray(each[..., flip]) for each in (dy, dh_n, dc_n)]
        found = pullback(*given)
        gradients = {f"d{name}": turned(name, found[f"d{name}"]) for name in params}
        return gradients | {
            "dx": found["dx"],
            "dh0": found["dh0"][..., flip],
            "dc0": found["dc0"][..., flip],
        }

    return tuple(each[..., flip] for each in outputs), back


_call = count()


def _in_another_order_each_time(params: Any, x: Any, h0: Any, c0: Any) -> Any:
    """As threads add up: every other call is `_reordered`."""
    return (manual_lstm.vjp, _reordered)[next(_call) % 2](params, x, h0, c0)


def test_an_order_of_sums_that_is_taken_for_something_kept() -> None:
    """A correct LSTM of many threads, two runs of which are not equal to the bit."""
    subject = subject_of(Implementation("threads", vjp=_in_another_order_each_time))
    case = sized_case({"T": 4, "B": 2, "I": 3, "H": 8, "L": 1})
    first, second = subject.run(case), subject.run(case)
    assert any(np.any(first[name] != second[name]) for name in first)
    check_called_twice(subject, case)


def test_gradients_of_zero_that_a_loop_is_blamed_for() -> None:
    """Nothing but zeros, which a loop that leaves out all steps would give as well."""

    def spoil(gradients: dict[str, Any], x: Any) -> None:
        gradients.update({name: 0 * value for name, value in gradients.items()})

    diagnosis = diagnose(spoiled(spoil), seconds=0)
    assert diagnosis.wrong
    assert diagnosis.finding is None
    assert not diagnosis.sought
    assert diagnosis.located.startswith("Every gradient is exactly 0")


@pytest.mark.parametrize(
    "implementation",
    [
        manual_lstm.vjp,
        loss_and_grads,
        autograd_vjp,
        _reordered,
        _in_another_order_each_time,
        Implementation("float32", vjp=manual_lstm.vjp, dtype="float32"),
        *(
            Implementation(
                variant.describe(), vjp=partial(autograd_vjp, variant=variant), variant=variant
            )
            for variant in VARIANTS[1:]
        ),
    ],
)
def test_correct_implementation_has_no_finding(implementation: Any) -> None:
    """A false alarm."""
    diagnosis = diagnose(implementation)
    assert not diagnosis.wrong
    assert diagnosis.finding is None
    assert diagnosis.located == ""


def test_mistakes_that_its_own_sizes_cannot_tell_apart_are_all_told() -> None:
    """A guess between 1/2 and 1/T, which are the same for code that is bound to T = 2."""
    known = catalogue()
    halved = planted_vjp(by_name(known, "weight_ih * 1/2").edit(known.table))
    bound = Implementation("bound", vjp=halved, sizes={"T": 2}, dtype="float64")
    finding = diagnose(bound, seconds=0).finding
    assert finding is not None
    told = {mistake.identifier for each in finding.alternatives for mistake in each}
    told |= {mistake.identifier for mistake in finding.mistakes}
    assert told == {"weight_ih * 1/2", "weight_ih * 1/T"}
