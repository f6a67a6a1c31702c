"""How time and memory grow when one size doubles."""

import tracemalloc
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from bench.sides import MANUAL, PRODUCTS, TORCH, Sizes, by_hand, sides_of, work_of
from bench.timing import take_turns

BASE = Sizes(64, 16, 64, 64)
AXES = ("steps", "batch", "hidden", "layers")


@dataclass(frozen=True)
class Growth:
    """One size, and what manual_lstm and nn.LSTM take at it.

    Attributes:
        axis, value: which size of `BASE` is changed, and to what.
        seconds, torch_seconds: of one forward and backward, medians.
        mebibytes: the most that NumPy had allocated at once.
    """

    axis: str
    value: int
    seconds: float
    torch_seconds: float
    mebibytes: float


def grow(doublings: Sequence[int], dtype: str, rounds: int) -> list[Growth]:
    """Each size of `BASE` doubled so many times, the others as they are."""
    found = []
    for axis in AXES:
        for k in doublings:
            value = asdict(BASE)[axis] * 2**k
            work = work_of(replace(BASE, **{axis: value}), dtype)
            sides = sides_of(work, without=("twin", "JAX", PRODUCTS))
            timing = take_turns(sides, rounds)
            tracemalloc.start()
            try:
                by_hand(work)()
                most = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
            seconds = timing.seconds
            found.append(Growth(axis, value, seconds[MANUAL], seconds[TORCH], most / 2**20))
    return found
