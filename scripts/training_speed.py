"""Windows per second: training by hand against nn.LSTM with autograd and torch.optim.

python scripts/training_speed.py [--rounds 30]

T = 26, V = 26, H = 26, batch 1, one thread, Adam, clipping by norm, the state carried: the same
work on either side, in alternation, and the median of the rounds' ratios, so that whatever else
the machine does touches both sides alike.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

from manual_lstm import CharModel, alphabet, one_hot, window
from manual_lstm.optim import Optimizer
from manual_lstm.train import Schedule, start, train_window

SIZE, CLIP, RATE = 26, 5.0, 0.01


def by_hand(dtype: str) -> Callable[[], None]:
    schedule = Schedule(CharModel(SIZE, SIZE), Optimizer("adam", RATE), clip_norm=CLIP)
    text, state = alphabet(SIZE), start(schedule, dtype=dtype)

    def one() -> None:
        nonlocal state
        state, _ = train_window(schedule, text, state)

    return one


def by_torch(dtype: str) -> Callable[[], None]:
    kind = getattr(torch, dtype)
    lstm = nn.LSTM(SIZE, SIZE, dtype=kind)
    layer = nn.Linear(SIZE, SIZE, dtype=kind)
    weights = [*lstm.parameters(), *layer.parameters()]
    optimizer = torch.optim.Adam(weights, RATE)
    state = None
    text, place = alphabet(SIZE), 0

    def one() -> None:
        nonlocal state, place
        indices, targets = window(text, SIZE, 1, place)
        place = (place + SIZE) % SIZE
        x = torch.from_numpy(one_hot(indices, SIZE, dtype))
        y, state = lstm(x, state)
        state = tuple(each.detach() for each in state)
        logits = layer(y).reshape(-1, SIZE)
        loss = nn.functional.cross_entropy(logits, torch.from_numpy(targets).reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(weights, CLIP)
        optimizer.step()
        float(loss.detach())

    return one


def seconds(one: Callable[[], None], windows: int) -> float:
    began = time.perf_counter()
    for _ in range(windows):
        one()
    return (time.perf_counter() - began) / windows


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--windows", type=int, default=20, help="in each round, on each side")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    for dtype in ("float32", "float64"):
        sides = by_hand(dtype), by_torch(dtype)
        for one in sides:
            seconds(one, options.windows)
        pairs = [
            tuple(seconds(one, options.windows) for one in sides) for _ in range(options.rounds)
        ]
        hand, torchs = (statistics.median(each) for each in zip(*pairs, strict=True))
        low, middle, high = np.percentile([right / left for left, right in pairs], [10, 50, 90])
        print(
            f"{dtype}   by hand {1 / hand:.0f} windows/s   nn.LSTM {1 / torchs:.0f} windows/s   "
            f"ratio {middle:.2f} (80 % of rounds {low:.2f} to {high:.2f})"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
