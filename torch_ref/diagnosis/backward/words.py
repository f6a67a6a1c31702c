"""What the table's quantities are called in a sentence."""

import re
from dataclasses import replace

from torch_ref.diagnosis.backward.table import Factor

GATE_WORDS = {
    "i": "the input gate",
    "f": "the forget gate",
    "g": "the candidate",
    "o": "the output gate",
}
TARGET_WORDS = {
    "dh": "the gradient of h",
    "dc": "the cell's gradient",
    "dc_total": "the cell's gradient",
    **{f"d{gate}": f"{words}'s gradient" for gate, words in GATE_WORDS.items()},
    **{f"dz_{g}": f"the gradient before {w}'s activation" for g, w in GATE_WORDS.items()},
    "dc_carry": "what the cell's gradient hands to t-1",
    "dh_carry": "what h's gradient hands to t-1",
    "dx": "the gradient of x",
    "dh0": "the gradient of h0",
    "dc0": "the gradient of c0",
    "weight_ih": "the gradient of weight_ih",
    "weight_hh": "the gradient of weight_hh",
    "bias": "the gradient of the bias",
    "dlogits": "the gradient at the softmax",
    "dy": "the gradient that the output layer hands to h",
    "dweight_out": "the gradient of weight_out",
    "dbias_out": "the gradient of bias_out",
    "dweight_ci": "the gradient of the input gate's peephole",
    "dweight_cf": "the gradient of the forget gate's peephole",
    "dweight_co": "the gradient of the output gate's peephole",
}
FUNCTION_WORDS = {
    "": "without a derivative",
    "y(1-y)": "sigmoid's derivative {y} (1 - {y})",
    "1-y^2": "tanh's derivative 1 - {y}^2",
    "(y(1-y))^2": "sigmoid's derivative twice",
    "(1-y^2)^2": "tanh's derivative twice",
    "1-y": "1 - {y}",
    "1+y^2": "1 + {y}^2",
    "y(1-y^2)": "{y} (1 - {y}^2)",
    "y(1+y)": "{y} (1 + {y})",
    "y^2-1": "{y}^2 - 1",
    "(1-y)^2": "(1 - {y})^2",
    "y^2": "{y}^2",
    "sigmoid(y)": "sigmoid({y})",
    "tanh(y)": "tanh({y})",
    "s(1-s), s = sigmoid(y)": "sigmoid's derivative at {y}, which is already the activated value",
    "1-tanh(y)^2": "tanh's derivative at {y}, which is already the activated value",
}
# "c[t-1]", "dy[t]", "bias_out", "c0", "x", "g", "df".
_NAME = re.compile(r"\w*[\[_0]|([xy]|d?[ifgoch])\b")


def name_of(factor: Factor, squashes: bool = True) -> str:
    """A quantity at its step: "c[t-1]", "tanh(c[t])", "f", "f[t+1]".

    Args:
        factor: the quantity; its function is left out.
        squashes: whether the cell's output is tanh(c), and not c.
    """
    if factor.name == "h_out":
        factor = replace(factor, name="h")
    at = f"{factor.shift:+d}" if factor.shift else ""
    if factor.name == "c_out":
        return f"tanh(c[t{at}])" if squashes else f"c[t{at}]"
    timed = factor.name in ("c", "h", "x", "dy", "p", "onehot") or at
    return f"{factor.name}[t{at}]" if timed else factor.name


def quantity(factor: Factor, squashes: bool = True) -> str:
    """`name_of` with its function around it."""
    y = name_of(factor, squashes)
    return FUNCTION_WORDS[factor.function].format(y=y) if factor.function else y


def capitalised(sentence: str) -> str:
    """The sentence with a capital in front, unless it begins with a name."""
    return sentence if _NAME.match(sentence) else sentence[0].upper() + sentence[1:]
