"""An LSTM written by hand in NumPy: forward, backward, heads, loss, clipping and training.

| name | what it is | equations |
|---|---|---|
| `init_params` | Glorot uniform weights for a stack | (27) |
| `lstm_forward`, `lstm_backward` | the stack, forward and backward | (1) to (18) |
| `vjp` | both, as outputs and a pullback | (1) to (18) |
| `recomputing_vjp` | the same for long sequences in little memory | (1) to (18) |
| `linear_forward`, `linear_backward` | the linear head | (19) to (22) |
| `bounded_forward`, `bounded_backward` | the bounded head | (23) |
| `bounded_probability_range` | what the bounded head can reach | (30) |
| `softmax` | probabilities | (24) |
| `cross_entropy`, `cross_entropy_backward` | the loss | (25), (26) |
| `clip_grad_norm`, `clip_grad_value` | clipping | (28), (29) |
| `CharModel` | stack, head and loss in one | (1) to (26) |
| `Text`, `alphabet`, `read_text`, `window`, `one_hot` | texts as indices | |

Training is in modules of its own:

| module | what it has | equations |
|---|---|---|
| `manual_lstm.optim` | `Optimizer`, and each method as a step function | |
| `manual_lstm.train` | `Schedule`, `start`, `train_window`, `train` | |
| `manual_lstm.checkpoint`, `.history` | states and losses in files | |
| `manual_lstm.predict` | `predict`: one by one, each fed back | |
| `manual_lstm.monitor` | `gate_sizes`: gradients by gate and step, with a verdict | (9) to (17) |
| `manual_lstm.plateau` | `levels`, `locate`, `explain`: what a loss can reach | (40) to (48) |

The equations are in DERIVATION.md, beside this file.
"""

from manual_lstm.clip import clip_grad_norm, clip_grad_value
from manual_lstm.head import (
    bounded_backward,
    bounded_forward,
    bounded_probability_range,
    cross_entropy,
    cross_entropy_backward,
    linear_backward,
    linear_forward,
    softmax,
)
from manual_lstm.lstm import lstm_backward, lstm_forward, vjp
from manual_lstm.model import CharModel
from manual_lstm.params import init_params
from manual_lstm.recompute import recomputing_vjp
from manual_lstm.tasks import Text, alphabet, one_hot, read_text, window

__all__ = [
    "CharModel",
    "Text",
    "alphabet",
    "bounded_backward",
    "bounded_forward",
    "bounded_probability_range",
    "clip_grad_norm",
    "clip_grad_value",
    "cross_entropy",
    "cross_entropy_backward",
    "init_params",
    "linear_backward",
    "linear_forward",
    "lstm_backward",
    "lstm_forward",
    "one_hot",
    "read_text",
    "recomputing_vjp",
    "softmax",
    "vjp",
    "window",
]
