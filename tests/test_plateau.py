"""The closed forms: right in exact arithmetic, and never undercut by any weights."""

import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from manual_lstm import (
    CharModel,
    alphabet,
    bounded_probability_range,
    cross_entropy,
    lstm_forward,
    one_hot,
    softmax,
    window,
)
from manual_lstm.plateau import (
    FLIP_LIMIT,
    ab_attractors,
    alphabet_attractor,
    best_probability,
    explain,
    highest_loss,
    levels,
    locate,
    lowest_loss,
    uniform_loss,
    unigram_loss,
)
from torch_ref.harness.strategies import cases

EPS = np.finfo(float).eps
# exp, a product, a sum and a logarithm or quotient, each to one unit in the last place.
ROUNDINGS = 8 * EPS


FLIPS = "both units flip at every step"
ONE_FLIPS = "one unit flips, one keeps its sign"
OWN_STEP = "both units keep their sign, each right at its own step"
SAME_STEP = "both units keep their sign, both right at the same step"
MAIN = (FLIPS, ONE_FLIPS, OWN_STEP, SAME_STEP)
ONE_FORGETS = "one unit keeps its sign, one keeps its sign and forgets"


@pytest.mark.parametrize("classes", [1, 2, 3, 26, 56, 1000])
@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (0.0, 1.0), (-0.5, 3.0)])
def test_a_floor_of_another_output_range(classes, low, high):
    """The floor, the worst loss and the best probability, in 40 digits."""
    with localcontext(prec=40):
        width = Decimal(high) - Decimal(low)
        floor = (1 + (classes - 1) * (-width).exp()).ln()
        worst = (1 + (classes - 1) * width.exp()).ln()
        best = (-floor).exp()
    assert abs(lowest_loss(classes, low, high) - float(floor)) <= ROUNDINGS * float(floor)
    assert abs(highest_loss(classes, low, high) - float(worst)) <= ROUNDINGS * float(worst)
    assert abs(best_probability(classes, low, high) - float(best)) <= ROUNDINGS * float(best)
    if (low, high) == (-1.0, 1.0):
        expected = bounded_probability_range(classes)[1]
        assert abs(best_probability(classes) - expected) <= ROUNDINGS * expected


def test_a_number_of_the_questions_that_is_another():
    """The observed numbers, to the digits that are quoted of them."""
    assert f"{lowest_loss(26):.4f}" == "1.4778"
    assert f"{uniform_loss(26):.3f}" == "3.258"
    assert f"{highest_loss(26):.1f}" == "5.2"
    assert f"{uniform_loss(56):.3f}" == "4.025"
    assert f"{uniform_loss(2):.3f}" == "0.693"
    assert f"{FLIP_LIMIT:.4f}" == "0.7616"
    assert (lowest_loss(1), highest_loss(1), uniform_loss(1)) == (0.0, 0.0, 0.0)
    assert lowest_loss(5, -math.inf, math.inf) == 0.0
    by_name = {level.name: level for level in ab_attractors()}
    assert len(by_name) == 9
    first, second, third, fourth = (by_name[name] for name in MAIN)
    forgets = by_name["one unit flips, one keeps its sign and forgets"]
    assert [f"{p:.4f}" for p in forgets.probabilities] == ["0.6817", "0.8489"]
    assert f"{forgets.loss:.5f}" == "0.27352"
    last = by_name[f"{ONE_FORGETS}, each right at its own step"]
    assert [f"{p:.4f}" for p in last.probabilities] == ["0.7239", "0.7311"]
    assert f"{last.loss:.5f}" == "0.31816"
    assert [f"{p:.4f}" for p in first.probabilities] == ["0.8210", "0.8210"]
    assert f"{first.loss:.5f}" == "0.19722"
    assert [f"{p:.4f}" for p in second.probabilities] == ["0.6817", "0.8534"]
    assert f"{second.loss:.4f}" == "0.2708"
    assert [f"{p:.4f}" for p in third.probabilities] == ["0.7311", "0.7311"]
    assert f"{third.loss:.4f}" == "0.3133"
    assert [f"{p:.4f}" for p in fourth.probabilities] == ["0.5000", "0.8808"]
    assert [f"{alphabet_attractor(26, k).loss:.4f}" for k in (1, 2, 3)] == [
        "1.6753",
        "1.5657",
        "1.5901",
    ]


@given(case=cases(sizes={"B": 1}, max_layers=1))
def test_a_unit_that_flips_and_is_not_bounded_by_tanh_1(case):
    """Where c changes its sign |c| < 1 and |h| < tanh 1; in the k-th step of a sign |c| < k.

    Rounded, i and |g| may be 1 and a sum may round up to k: the order survives as <=.
    """
    (_, _, _), (cache,) = lstm_forward(case.params, case.x, case.h0, case.c0)
    c, h = cache.cell[:, 4, :, 0], cache.h[:, 0]  # (T + 1, H)
    run = np.full(c.shape[1], np.inf)  # for how many steps the sign has been what it is
    for t in range(1, len(c)):
        run = np.where(np.sign(c[t]) * np.sign(c[t - 1]) > 0, run + 1, 1)
        assert np.all(np.abs(c[t]) <= run)
        # tanh and o * tanh(c) round once each.
        eps = float(np.finfo(c.dtype).eps)
        assert np.all(np.abs(h[t]) <= np.tanh(run) * (1 + 2 * eps))


def units(kind):
    """One unit's weights (4, 3): from "a", from "b" and the bias, gates i, f, g, o; large ones.

    Unit "flip" is negative after a and positive after b; "hold" is always positive and shut after
    a, "forget" forgets there too; "hold-" is always negative and shut after b.
    """
    open_, shut = 40.0, -40.0
    return {
        "flip": [[0, 0, open_], [0, 0, shut], [-open_, open_, 0], [0, 0, open_]],
        "hold": [[0, 0, open_], [0, 0, open_], [0, 0, open_], [shut, open_, 0]],
        "forget": [[0, 0, open_], [shut, open_, 0], [0, 0, open_], [shut, open_, 0]],
        "hold-": [[0, 0, open_], [0, 0, open_], [0, 0, -open_], [open_, shut, 0]],
    }[kind]


def weights(of_a, of_b):
    """Unit a as it is, unit b with a and b exchanged."""
    a, b = np.array(units(of_a)), np.array(units(of_b))[:, [1, 0, 2]]
    both = np.stack([a, b], axis=1).reshape(8, 3)
    return {
        "weight_ih_l0": both[:, :2].copy(),
        "weight_hh_l0": np.zeros((8, 2)),
        "bias_l0": both[:, 2].copy(),
    }


@pytest.mark.parametrize(
    ("of_a", "of_b", "name"),
    [
        ("flip", "flip", FLIPS),
        ("flip", "hold", ONE_FLIPS),
        ("hold", "flip", ONE_FLIPS),
        ("hold-", "flip", ONE_FLIPS),
        ("forget", "flip", f"{ONE_FLIPS} and forgets"),
        ("hold", "hold", OWN_STEP),
        ("hold-", "hold-", OWN_STEP),
        ("hold", "forget", f"{ONE_FORGETS}, each right at its own step"),
        ("forget", "forget", "both units keep their sign and forget, each right at its own step"),
        ("hold", "hold-", SAME_STEP),
        ("hold-", "hold", SAME_STEP),
        ("forget", "hold-", f"{ONE_FORGETS}, both right at the same step"),
    ],
)
def test_an_attractor_that_no_weights_reach(of_a, of_b, name):
    """Weights of 40 with the row's signs have its probabilities, to what e^-40 leaves of them.

    A gate's argument of 40 is open or shut to e^-40 = 4e-18, below a float64's rounding of 1, and
    after 60 steps tanh(c) of a unit that keeps its sign is 1.
    """
    indices, targets = window(alphabet(2), 60)
    model = CharModel(2, 2, head="bounded")
    logits, _, _ = model.logits(weights(of_a, of_b), one_hot(indices, 2, float))
    settled = softmax(logits[-2:])[np.arange(2), 0, targets[-2:, 0]]
    (level,) = (level for level in ab_attractors() if level.name == name)
    assert np.all(np.abs(np.sort(settled) - np.array(level.probabilities)) <= ROUNDINGS)
    loss, _ = cross_entropy(logits[-2:], targets[-2:])
    assert abs(loss - level.loss) <= ROUNDINGS


@given(seed=st.integers(0, 2**16), magnitude=st.sampled_from([0.1, 1.0, 4.0, 30.0]))
def test_weights_that_get_below_the_floor_of_ab(seed, magnitude):
    """(46): over N steps from any state the mean loss is at least that of two flipping units.

    The first step may give each unit 1 in place of tanh 1: 2 (1 - tanh 1) / N of margin, and the
    loss falls by at most 1 for each 1 of margin. The roundings of N steps are far below that.
    """
    rng = np.random.default_rng(seed)
    model, steps = CharModel(2, 2, head="bounded"), 40
    params = {
        name: magnitude * value for name, value in model.init_params(dtype=float, rng=rng).items()
    }
    indices, targets = window(alphabet(2), steps)
    h, c = rng.uniform(-1, 1, (1, 1, 2)), rng.uniform(-9, 9, (1, 1, 2))
    (loss, _, _), _ = model.vjp(params, one_hot(indices, 2, float), targets, h, c)
    assert loss >= ab_attractors()[0].loss - 2 * (1 - FLIP_LIMIT) / steps


@given(indices=st.lists(st.integers(0, 4), min_size=1, max_size=40))
def test_an_entropy_that_is_not_the_best_constant_guess(indices):
    """The unigram loss is the cross-entropy of the frequencies, and no other guess is better."""
    found = unigram_loss(indices, 5)
    counts = np.bincount(indices, minlength=5)
    logits = np.full(5, -np.inf)
    logits[counts > 0] = np.log(counts[counts > 0])
    rows = np.broadcast_to(logits, (len(indices), 1, 5))
    loss, _ = cross_entropy(rows.copy(), np.array(indices)[:, None])
    # log-sum-exp of five logits up to ln 40, and a mean of at most 40 losses.
    assert abs(found - loss) <= (40 + 5) * EPS * (1 + math.log(40))
    other, _ = cross_entropy(np.zeros((len(indices), 1, 5)), np.array(indices)[:, None])
    assert found <= other + 40 * EPS * other
    assert math.copysign(1, found) == 1


def test_a_text_without_a_symbol():
    """An empty text has no frequencies."""
    with pytest.raises(ValueError, match="indices is empty"):
        unigram_loss(np.array([], int), 3)


def names(position):
    return tuple(each and each.name for each in (position.on, position.below, position.above))


FLOOR, WORST, UNIFORM = (
    "the bounded head's floor",
    "the bounded head's worst",
    "uniform guessing",
)


LAST = "both units keep their sign and forget, both right at the same step"


@pytest.mark.parametrize(
    ("classes", "loss", "digits", "on", "below", "above"),
    [
        (2, 0.1972, 4, FLIPS, FLOOR, FLIPS),
        (2, 0.1985, 4, None, FLIPS, ONE_FLIPS),
        (2, 0.27, 2, ONE_FLIPS, FLIPS, ONE_FLIPS),
        (2, 0.693, 3, UNIFORM, LAST, UNIFORM),
        (26, 2.35, 2, None, "every unit is positive for the letter itself", UNIFORM),
        (26, 7.0, 1, None, WORST, None),
        (56, 4.5, 1, None, UNIFORM, WORST),
        (26, 1.4, 1, None, None, FLOOR),
        (1, 0.0, 0, FLOOR, None, None),
    ],
)
def test_a_loss_that_is_put_on_another_level(classes, loss, digits, on, below, above):
    """A loss is on a level if the level is within half a unit of its last digit."""
    position = locate(loss, levels(classes), 0.5 * 10.0**-digits)
    assert names(position) == (on, below, above)


@pytest.mark.parametrize(
    ("classes", "head", "loss", "words"),
    [
        (26, "bounded", 2.35, ("More steps", "below 1.4778", "a linear layer between h and")),
        (26, "bounded", 7.0, ("no mean cross-entropy of this head", "a sum where a mean")),
        (26, "bounded", 1.0, ("no mean cross-entropy of this head",)),
        (26, "bounded", 3.4, ("no better than guessing", "check the gradients first")),
        (2, "bounded", 0.19722303923521486, ("Only other first weights", "below 0.12693")),
        (26, "linear", 2.35, ("forbids no loss above 0",)),
        (1, "bounded", 0.0, ("No loss is lower than 0",)),
        (26, "bounded", 1.5, ("Training can lower it as far as that floor",)),
    ],
)
def test_an_advice_that_does_not_fit_the_loss(classes, head, loss, words):
    """What can lower it, what cannot, and what to change follow from where it lies."""
    found = locate(loss, levels(classes, head))
    text = " ".join(explain(found, head, lowest_loss(classes)))
    for word in words:
        assert word in text
    assert ("linear layer" in text) == ("gets below" in text)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: lowest_loss(0), "num_classes is 0 but must be"),
        (lambda: lowest_loss(3, 1.0, 1.0), r"low is 1\.0 but must be below high"),
        (lambda: lowest_loss(3, math.nan, 1.0), "low is nan but must be below high"),
        (lambda: alphabet_attractor(2), "num_classes is 2 but must be at least 3"),
        (lambda: alphabet_attractor(4, 3), "charge is 3 but must be from 1 to 2"),
        (lambda: levels(3, "softmax"), "head is 'softmax' but must be"),
        (lambda: locate(math.nan, levels(3)), "loss is nan but must be one finite number"),
        (lambda: locate(-0.1, levels(3)), r"loss is -0\.1 but must be at least 0"),
        (lambda: locate(1.0, levels(3), -1.0), r"uncertainty is -1\.0 but must be"),
    ],
)
def test_a_question_without_an_answer(call, message):
    """Each is refused with what came and what was expected."""
    with pytest.raises(ValueError, match=message):
        call()


def test_a_loss_so_large_that_all_levels_are_as_far():
    """At 1e17 the distances to all levels are the same number, and the lowest was the nearest."""
    known = levels(26)
    assert names(locate(1e17, known)) == (None, "the bounded head's worst", None)


@pytest.mark.parametrize(
    ("classes", "loss", "above"), [(56, 4.5, True), (56, 3.9, False), (2, 0.693, False)]
)
def test_a_loss_above_guessing_that_is_only_to_be_trained(classes, loss, above):
    """4.5 for 56 symbols, day after day, is no mean in nats; below guessing nothing says so."""
    known = levels(classes)
    said = explain(locate(loss, known, 0.0005), "bounded", lowest_loss(classes))
    assert any("hardly a mean in nats: look for a sum" in each for each in said) == above
