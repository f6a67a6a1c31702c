"""Mistakes of a loss that is a sum, in words: the catalogues' are of one that is a mean."""

import re
from collections.abc import Mapping
from dataclasses import replace

from torch_ref.diagnosis.mistakes.catalogue import Mistake

_GRADIENT: Mapping[str, str] = {
    "T": "is multiplied by T",
    "B": "is multiplied by B",
    "T B": "is multiplied by T B",
    "1/T": "is divided by T: it is that of a mean over the steps, the loss is the sum",
    "1/B": "is divided by B: it is that of a mean over the batch, the loss is the sum",
    "1/(T B)": "is divided by T B: it is that of the mean, the loss is the sum",
    "T/(T-1)": "is multiplied by T / (T - 1)",
}
_LOSS: Mapping[str, str] = {
    "T": "it is multiplied by T",
    "B": "it is multiplied by B",
    "T B": "it is multiplied by T B",
    "1/T": "it is averaged over the steps, not summed",
    "1/B": "it is averaged over the batch, not summed",
    "1/(T B)": 'it is the mean over steps and batch, not a sum (meant so, it is reduction="mean")',
    "T/(T-1)": "it is multiplied by T / (T - 1)",
}
# The mean's own factor comes first in a term, whatever follows.
_MEAN = re.compile(r" / \(T B\)((?: / \(T B\))?)")


def of_a_sum(mistake: Mistake) -> Mistake:
    """A mistake in an implementation whose loss is the sum over steps and batch."""
    name, _, factor = mistake.identifier.partition(" * ")
    sentence = mistake.sentence
    if name == "dlogits" and factor in _GRADIENT:
        sentence = f"The gradient at the softmax {_GRADIENT[factor]}."
    if name == "forward.loss" and factor in _LOSS:
        sentence = f"The loss is right but for a factor: {_LOSS[factor]}."
    return replace(
        mistake, sentence=sentence, wrong=_line(mistake.wrong), right=_line(mistake.right)
    )


def _line(line: str) -> str:
    return _MEAN.sub(r"\1", line).replace("loss = mean(", "loss = sum(")
