"""What `manual-lstm train --compare` does: both engines, window by window."""

import math

from rich.console import Console

from manual_lstm.tasks import Text
from manual_lstm.train import Schedule, TrainState
from torch_ref.cli.progress import losses
from torch_ref.interrupts import leaving_at_once
from torch_ref.reports.as_json import write_json
from torch_ref.reports.names import element_name


def compare_both(
    schedule: Schedule,
    text: Text,
    state: TrainState,
    windows: int,
    json: str | None,
    words: str,
    floor: float,
) -> int:
    """Both sides, window by window; 1 if they part beyond rounding.

    Raises:
        ValueError: no window is left, or not even the first can be judged.
    """
    with leaving_at_once():
        from torch_ref.harness.side_by_side import compare_training  # and torch, here alone

    found = None
    count = windows - state.windows
    if count < 1:
        raise ValueError(
            f"--windows is {windows} but must be above {state.windows}, which are trained already."
        )
    with losses(floor, windows, state.windows) as show:
        for found in compare_training(schedule, text, state, count):
            show(found.left)
    assert found is not None
    if not found.conclusive and found.window == state.windows + 1:
        raise ValueError(
            f"window {found.window} cannot be judged in {state.h.dtype}: rounding alone decides "
            "what comes out. Use fewer steps, another checkpoint or float64."
        )
    worst = found.worst
    where = (
        element_name(worst.name, worst.shape, worst.worst_index)
        if worst.worst_index is not None
        else ""
    )
    share = f"{worst.used:.0%}" if worst.used < 10 else f"{worst.used:.3g} times"
    if found.parted:
        sentence = (
            f"They part at window {found.window}: {worst.name} {where} differs by "
            f"{worst.max_abs:.3g}, {share} of what rounding explains."
        )
    elif not found.conclusive:
        sentence = (
            f"They agree up to window {found.window - 1}. From window {found.window} on rounding "
            "alone decides what comes out, so nothing more can be said."
        )
    else:
        sentence = (
            f"They agree in all {count} windows: rounding explains every difference. In the last "
            f"{worst.name} {where} uses most of it, {share}."
        )
    report = {
        "verdict": "disagree" if found.parted else "agree",
        "window": found.window,
        "conclusive": found.conclusive,
        "tensor": worst.name,
        "used": worst.used if math.isfinite(worst.used) else None,
        "losses": {"manual": found.left.loss, "torch": found.right.loss},
        "sentence": sentence,
        "reproduce": words,
    }
    if json is not None:
        write_json(report, json)
    if json != "-":
        console = Console(soft_wrap=True, highlight=False)
        console.print(
            f"window {found.window}   manual_lstm: loss {found.left.loss:.7g}, gradient "
            f"{found.left.norm:.6g}   torch: loss {found.right.loss:.7g}, gradient "
            f"{found.right.norm:.6g}",
            markup=False,
        )
        console.print(sentence, markup=False)
        console.print(f"Again:  {words}", markup=False)
    return 1 if found.parted else 0
