"""The peak of a process that has imported manual_lstm alone and recomputes a long sequence.

python scripts/bench/long.py 100000 64 float32
"""

import sys

import numpy as np

from manual_lstm import init_params, recomputing_vjp


def main() -> None:
    """T steps of batch 1 with I = H: run them, so that the process's peak can be read."""
    steps, hidden, dtype = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    rng = np.random.default_rng(0)
    params = init_params(hidden, hidden, dtype=dtype, rng=rng)
    kind = np.dtype(dtype).type
    x, dy = (rng.random((steps, 1, hidden), dtype=kind) for _ in range(2))
    outputs, pullback = recomputing_vjp(params, x)
    gradients = pullback(dy, None, None)
    assert (outputs[0].shape, gradients["dx"].shape) == (dy.shape, x.shape)
    with open("/proc/self/status", encoding="ascii") as status:
        print(next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM")))


if __name__ == "__main__":
    main()
