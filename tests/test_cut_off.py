"""A truncation inside the window: what is carried back is dropped at some steps."""

import pytest
from test_diagnosis import named
from test_neighbours import stacked
from test_others import made as of_style

from torch_ref import diagnose
from torch_ref.diagnosis.backward.table import Uncut, steps_of

pytestmark = pytest.mark.sampled

HANDED, BEFORE = "dc_next = dc * f", "x, h, c, i, f, g, o, tc = tapes[k][t]"
NONE = "dh_next, dc_next = 0 * dh_next, 0 * dc_next"
# The line, what stands in its place, and what has to be told.
CUTS = [
    (HANDED, f"dc_next = dc * f\n            if t and t % 4 == 0:\n                {NONE}",
     "What the gradients of h and c hand to t-1 is dropped wherever t % 4 == 0, within the window"),
    (BEFORE, f"if t % 5 == 4:\n                {NONE}\n            {BEFORE}",
     "What the gradients of h and c hand to t-1 is dropped wherever t % 5 == 0, t = T included"),
    ("dh_next = dz @ U", "dh_next = dz @ U * (t != T // 2)",
     "What h's gradient hands to t-1 is dropped at t = T // 2: a"),
    (HANDED, f"dc_next = dc * f\n            if t <= T - 5:\n                {NONE}",
     "What the gradients of h and c hand to t-1 is dropped in all but the last 5 steps: a"),
]  # fmt: skip


@pytest.mark.thorough
@pytest.mark.parametrize(("old", "new", "told"), CUTS)
def test_truncation_inside_the_window_that_is_only_located(old: str, new: str, told: str) -> None:
    """Windows of their own within the window, of which one step is told."""
    finding = diagnose(stacked((old, new)), seconds=0).finding
    assert finding is not None
    (mistake,) = finding.mistakes
    assert mistake.sentence.startswith(told), mistake.sentence
    assert mistake.wrong != mistake.right


@pytest.mark.thorough
def test_truncation_behind_a_loss_that_is_only_located() -> None:
    """The same where dh0 and dc0 are not returned, and every gradient is wrong."""
    line = "dh, dc = da @ self.Wh.T, dc * f"
    cut = of_style(
        "char_trainer", line, f"{line}\n            if t % 4 == 0: dh, dc = 0 * dh, 0 * dc"
    )
    (found,) = named(cut, seconds=0)
    assert found.startswith("dh_carry and dc_carry.cut multiple 4 0")


def test_truncation_that_is_taken_for_another() -> None:
    """Steps at which a term is dropped that are one too early, too late or too many."""
    assert list(steps_of(6, Uncut("multiple", 3, 0))) == [1, 2, 4, 5]
    assert list(steps_of(6, Uncut("multiple", 3, 0, "between"))) == [0, 1, 3, 4, 5]
    assert list(steps_of(6, Uncut("multiple", 3, 0, "received"))) == [0, 1, 3, 4]
    assert list(steps_of(6, Uncut("multiple from the end", 2))) == [1, 3, 5]
    assert list(steps_of(6, Uncut("middle"))) == [0, 1, 2, 4, 5]
    assert list(steps_of(6, Uncut("but the last", 2))) == [5]
