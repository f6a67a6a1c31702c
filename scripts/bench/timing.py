"""Time: sides that take turns in one run, and the medians of the rounds and of their ratios."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

# A turn is at least so long, in seconds, that the threads of the side before it have gone to rest.
_TURN = 0.03


@dataclass(frozen=True)
class Timing:
    """What one round took in the median, in seconds, and each side over the first, in every round.

    Attributes:
        seconds: name to the median.
        ratios: name to the median of (its time / the first side's) over the rounds.
        low, high: name to the 10th and 90th percentile of the same.
    """

    seconds: dict[str, float]
    ratios: dict[str, float]
    low: dict[str, float]
    high: dict[str, float]


def take_turns(sides: Mapping[str, Callable[[], Any]], rounds: int) -> Timing:
    """Run all sides in alternation, each once to warm up, the order rotating with the rounds."""
    names = list(sides)
    repeats = {}
    for name, run in sides.items():
        run()
        repeats[name] = max(1, round(_TURN / max(once(run), 1e-9)))
    times: dict[str, list[float]] = {name: [] for name in names}
    for k in range(rounds):
        turn = k % len(names)
        for name in names[turn:] + names[:turn]:
            times[name].append(once(sides[name], repeats[name]))
    first = times[names[0]]
    ratios = {
        name: [mine / base for mine, base in zip(each, first, strict=True)]
        for name, each in times.items()
    }
    return Timing(
        {name: statistics.median(each) for name, each in times.items()},
        {name: statistics.median(each) for name, each in ratios.items()},
        {name: _percentile(each, 0.1) for name, each in ratios.items()},
        {name: _percentile(each, 0.9) for name, each in ratios.items()},
    )


def once(run: Callable[[], Any], repeats: int = 1) -> float:
    """Seconds of one call, the mean of a few in a row."""
    began = time.perf_counter()
    for _ in range(repeats):
        run()
    return (time.perf_counter() - began) / repeats


def _percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[round(share * (len(ordered) - 1))]
