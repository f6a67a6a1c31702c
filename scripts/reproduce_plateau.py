"""A bounded head that stops learning: what was observed, its closed form, what comes out here.

python scripts/reproduce_plateau.py [--quick] [--figures docs/figures]

--quick takes under two minutes, all of it under thirty. Exit status 1: something that was to be
reproduced was not.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from manual_lstm import CharModel, alphabet, one_hot, softmax
from manual_lstm.model import Head
from manual_lstm.optim import Method, Optimizer
from manual_lstm.plateau import (
    Level,
    ab_attractors,
    alphabet_attractor,
    highest_loss,
    levels,
    lowest_loss,
    uniform_loss,
)
from manual_lstm.tasks import Text
from manual_lstm.train import Schedule, TrainState, next_window, start, train
from torch_ref.reports.plots import plot_attractors, plot_losses

Verdict = Literal["reproduced", "explained", "cannot be what it says", "NOT REPRODUCED"]
# How near to a closed form a run counts as being there, and how little the probabilities of a run
# that has settled still change in its second half.
NEAR = 0.005
PARTS = 20
# What was seen of "ab", by the name of its closed form.
SEEN = {
    "both units flip at every step": "a=0.8205, b=0.8205, error 0.2",
    "one unit flips, one keeps its sign": "a=0.68, b=0.85, error 0.28",
}


@dataclass(frozen=True)
class Row:
    """One observation."""

    observed: str
    closed_form: str
    measured: str
    verdict: Verdict
    reason: str


@dataclass(frozen=True)
class Run:
    """A training: its losses, and the target's probabilities half way and at the end, (T,)."""

    losses: np.ndarray
    half_way: np.ndarray
    end: np.ndarray

    @property
    def settled(self) -> bool:
        return bool(np.abs(self.end - self.half_way).max() < NEAR)


def run(
    symbols: int,
    head: Head,
    windows: int,
    *,
    method: Method = "adam",
    rate: float = 0.01,
    steps: int | None = None,
    seed: int = 0,
    below: float | None = None,
) -> Run:
    """Train on an alphabet, in float32, the state carried; end early at a loss below `below`."""
    text = alphabet(symbols)
    schedule = Schedule(
        CharModel(symbols, symbols, head=head),
        Optimizer(method, rate, momentum=0.2),
        steps=max(symbols, 4) if steps is None else steps,
        clip_norm=5.0,
    )
    state = start(schedule, seed=seed)
    losses: list[float] = []
    half_way = probabilities(schedule, text, state)
    for part in range(1, PARTS + 1):
        state, ending = train(
            schedule,
            text,
            state,
            windows * part // PARTS,
            each=lambda _, trained: losses.append(trained.loss),
        )
        if ending == "interrupted":
            raise KeyboardInterrupt
        if part == PARTS // 2:
            half_way = probabilities(schedule, text, state)
        if below is not None and losses[-1] < below:
            break
    return Run(np.array(losses), half_way, probabilities(schedule, text, state))


def probabilities(schedule: Schedule, text: Text, state: TrainState) -> np.ndarray:
    """The target's at each step of the next window, (T,)."""
    indices, targets, _, _ = next_window(schedule, text, state)
    classes = schedule.model.num_classes
    x = one_hot(indices, classes, state.h.dtype)
    logits, _, _ = schedule.model.logits(state.params, x, state.h, state.c)
    return softmax(logits)[np.arange(len(targets)), 0, targets[:, 0]]


def nearest(pair: np.ndarray) -> tuple[Level, float]:
    """The attractor of "ab" next to two probabilities, and the greater difference."""
    distances = [
        (float(np.abs(np.sort(pair) - level.probabilities).max()), level)
        for level in ab_attractors()
    ]
    distance, level = min(distances, key=lambda each: each[0])
    return level, distance


def ab_rows(starts: int, windows: int, figures: Path, progress: Progress) -> list[Row]:
    task = progress.add_task('"ab", many starts', total=starts)
    runs = []
    for seed in range(starts):
        runs.append(run(2, "bounded", windows, rate=0.03, seed=seed))
        progress.advance(task)
    settled = [each for each in runs if each.settled]
    found = [nearest(each.end[-2:]) for each in settled]
    far = [distance for _, distance in found if distance > NEAR]
    drawn = [level for level in ab_attractors() if level in {there for there, _ in found}]
    plot_attractors([each.end[-2:] for each in settled], drawn, figures / "ab_attractors.png")
    rows: list[Row] = []
    for level in ab_attractors():
        at = [each for each, (there, _) in zip(settled, found, strict=True) if there == level]
        if not at and level.name not in SEEN:
            continue
        measured = "no run of these starts"
        verdict: Verdict = "NOT REPRODUCED"
        if at:
            middle = np.median([np.sort(each.end[-2:]) for each in at], axis=0)
            measured = f"{middle[0]:.4f}, {middle[1]:.4f}; {len(at)} of {len(settled)} settled runs"
            verdict = "NOT REPRODUCED" if far else "reproduced"
        p = ", ".join(f"{p:.4f}" for p in level.probabilities)
        rows.append(
            Row(
                SEEN.get(level.name, "(not mentioned)"),
                f"{p}; loss {level.loss:.4f} {level.equation}",
                measured,
                verdict,
                f"{level.name}; the first weights decide",
            )
        )
    lowest = min(float(each.losses.min()) for each in runs)
    rows.append(
        Row(
            '"ab": error never below 0.2',
            f"loss > {ab_attractors()[0].loss:.5f} in the long run (46)",
            f"lowest of all windows {lowest:.5f}; {len(runs) - len(settled)} of {len(runs)} runs "
            f"unsettled; farthest settled run {max((d for _, d in found), default=0):.4f} off",
            "NOT REPRODUCED" if far or not found else "reproduced",
            "a unit that flips starts from zero: |c| < 1, |h| < tanh 1",
        )
    )
    first = [float(each.losses[0]) for each in runs]
    rows.append(
        Row(
            '"ab" starts at 0.8',
            f"uniform {uniform_loss(2):.3f}, worst {highest_loss(2):.3f}",
            f"first losses {min(first):.3f} to {max(first):.3f}",
            "explained",
            "random first weights lie on either side of guessing",
        )
    )
    return rows


def within(value: float, low: float, high: float) -> Verdict:
    return "reproduced" if low < value < high else "NOT REPRODUCED"


def letters_rows(quick: bool, figures: Path, progress: Progress) -> list[Row]:
    floor = lowest_loss(26)
    settings: list[tuple[str, Method, float, int, int]] = [("Adam 0.01", "adam", 0.01, 2000, 0)]
    settings.append(("momentum 0.2, rate 0.05", "momentum", 0.05, 2000, 0))
    if not quick:
        settings = [(f"Adam 0.01, start {seed}", "adam", 0.01, 12000, seed) for seed in range(3)]
        settings.append(("momentum 0.2, rate 0.05", "momentum", 0.05, 60000, 0))
        settings.append(("momentum 0.2, rate 0.0004", "momentum", 0.0004, 40000, 0))
    task = progress.add_task("26 letters, both heads", total=len(settings) + 1)
    curves, rows, lowest, first = {}, [], np.inf, []
    for name, method, rate, windows, seed in settings:
        each = run(26, "bounded", windows, method=method, rate=rate, seed=seed)
        progress.advance(task)
        curves[f"bounded head, {name}"] = (np.arange(1, windows + 1), each.losses)
        lowest = min(lowest, float(each.losses.min()))
        first.append(float(each.losses[0]))
        rows.append(
            Row(
                "26 letters stuck at 2.35; at 2.28 with rate 0.0004",
                f"floor {floor:.4f} (40), uniform {uniform_loss(26):.3f}, attractor "
                f"{alphabet_attractor(26).loss:.4f} (47)",
                f"{name}: {each.losses[-1]:.3f} after {windows:,} windows",
                "explained" if floor < each.losses[-1] < uniform_loss(26) else "NOT REPRODUCED",
                "slow, and on its way to a floor that it cannot pass",
            )
        )
    rows.append(
        Row(
            "26 letters: no run gets below the plateau",
            f"loss > {floor:.4f} (40)",
            f"lowest of all windows {lowest:.4f}",
            within(lowest, floor, np.inf),
            "h = o tanh(c) is in (-1, 1)",
        )
    )
    rows.append(
        Row(
            "26 letters: error 7.0 at the start",
            f"worst mean {highest_loss(26):.3f} (40)",
            f"first losses {min(first):.3f} to {max(first):.3f}",
            "cannot be what it says",
            "no weights give this head a mean cross-entropy above 5.224 nats",
        )
    )
    cured = run(26, "linear", 3000, below=None if not quick else 0.005)
    progress.advance(task)
    curves["linear head, Adam 0.01"] = (np.arange(1, len(cured.losses) + 1), cured.losses)
    rows.append(cured_row("26 letters", cured, 3000))
    plot_losses(
        {name: (w[:3000], y[:3000]) for name, (w, y) in curves.items()},
        levels(26),
        figures / "loss_and_floors.png",
        title="a to z: the bounded head has a floor, the linear head has none",
    )
    return rows


def cured_row(name: str, found: Run, limit: int) -> Row:
    under = np.flatnonzero(found.losses < 0.01)
    measured = f"below 0.01 at window {under[0] + 1}" if len(under) else "never below 0.01"
    return Row(
        f"{name}, linear head: it converges",
        "loss > 0 (40)",
        f"{measured}; last {found.losses[-1]:.5f}",
        "reproduced" if len(under) and under[0] < limit else "NOT REPRODUCED",
        "an unactivated layer lets the logits grow",
    )


def other_rows(progress: Progress) -> list[Row]:
    task = progress.add_task('56 symbols, one symbol, "ab" cured', total=4)
    many = run(56, "linear", 5000, rate=0.01, below=0.005)
    progress.advance(task)
    bounded = run(56, "bounded", 100)
    progress.advance(task)
    one = run(1, "bounded", 50), run(1, "linear", 50)
    progress.advance(task)
    ab = run(2, "linear", 3000, rate=0.03)
    progress.advance(task)
    zero = all(not each.losses.any() for each in one)
    sure = float(ab.end.min())
    return [
        Row(
            "56 symbols: stuck at 4.5",
            f"uniform {uniform_loss(56):.3f}, floor {lowest_loss(56):.3f}",
            f"first loss {bounded.losses[0]:.3f}, {bounded.losses[-1]:.3f} after 100 windows",
            "cannot be what it says",
            "a mean in nats that stays above guessing, 4.025, has learnt nothing",
        ),
        cured_row("56 symbols", many, 5000),
        Row(
            "one symbol: error 0",
            "0 (40)",
            "exactly 0 in every window" if zero else "not 0",
            "reproduced" if zero else "NOT REPRODUCED",
            "softmax over one class is 1",
        ),
        Row(
            '"ab", linear head: it converges',
            "p < 1",
            f"lowest p {sure:.5f} after 3000 windows",
            within(sure, 0.999, 1.0 + NEAR),
            "an unactivated layer lets the logits grow",
        ),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer starts and windows")
    parser.add_argument("--figures", type=Path, default=Path("docs/figures"), help="folder of PNGs")
    options = parser.parse_args(arguments)
    options.figures.mkdir(parents=True, exist_ok=True)
    starts, windows = (16, 1500) if options.quick else (60, 3000)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        rows = ab_rows(starts, windows, options.figures, progress)
        rows += letters_rows(options.quick, options.figures, progress)
        rows += other_rows(progress)
    table = Table(box=None, padding=(0, 1, 1, 0), pad_edge=False)
    for header in ("they observed", "closed form", "measured here", "verdict", "why"):
        table.add_column(header)
    for row in rows:
        table.add_row(row.observed, row.closed_form, row.measured, row.verdict, row.reason)
    width = Console().width
    Console(width=max(width, 120) if not sys.stdout.isatty() else width).print(table)
    return 1 if any(row.verdict == "NOT REPRODUCED" for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
