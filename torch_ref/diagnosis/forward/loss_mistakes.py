"""Mistakes in the head and the loss, equations (19) and (23) to (25)."""

from dataclasses import replace
from typing import Any

import numpy as np

from torch_ref.diagnosis.backward.quantities import FLOAT64
from torch_ref.diagnosis.forward.gate_mistakes import Found, LinesEdit, changed
from torch_ref.diagnosis.forward.lines import Lines, forward_outputs
from torch_ref.diagnosis.forward.losses import LOSSES, PARTS, SOFTMAXES
from torch_ref.diagnosis.matching.unknown import simplest
from torch_ref.oracles.case import Case

_RIGHT = "loss = mean(-log p[target])"
_SCALES = {
    "T B": 'it is the sum over steps and batch, not their mean (meant so, it is reduction="sum")',
    "T": "it is summed over the steps, not averaged",
    "B": "it is summed over the batch, not averaged",
    "1/T": "it is divided by T once too often",
    "1/B": "it is divided by B once too often",
    "1/(T B)": "it is divided by T B twice",
    "1/V": "it is divided by V, over which no mean is taken",
    "T/(T-1)": "it is divided by T - 1, not T",
    "-1": "it has the wrong sign",
    "2": "it is doubled",
    "1/2": "it is halved",
}
_PENALISED = {"every weight and bias": ("weight", "bias"), "every weight": ("weight",)}
_AT = {
    "[t-1]": "that of t-1, at t=0 the last",
    "[t+1]": "that of t+1, at the end the first",
    "[T-1-t]": "in the opposite order",
}


def of_loss(**values: Any) -> LinesEdit:
    """Give the lines from h to the loss other values."""
    return lambda lines: replace(lines, loss=replace(lines.loss, **values))


def loss_mistakes(head: str) -> Found:
    """Those of the loss; `head` is "linear" or "bounded"."""
    for scale, words in _SCALES.items():
        line = "loss = " + (f"loss * {scale}" if "1/" not in scale else f"loss / {scale[2:]}")
        sentence = f"the loss is right but for a factor: {words}."
        yield f"loss * {scale}", sentence, "(25)", line, _RIGHT, of_loss(scale=(scale,))
    for loss in LOSSES:
        sentence = f"the loss is that of {loss}, not of -log p[target]."
        line = f"loss = mean({loss})"
        yield f"loss.{loss}", sentence, "(25)", line, _RIGHT, of_loss(line=loss)
    for over in list(PARTS)[1:]:
        for over_all, mean in ((False, ""), (True, ", divided by T B")):
            line = f"sum(-log p[target] of {over}) / (T B)"
            yield (
                f"loss over {over}{mean}",
                f"the loss is that of {over} only{mean}.",
                "(25)",
                f"loss = {line if over_all else f'mean(-log p[target] of {over})'}",
                _RIGHT,
                of_loss(over=over, over_all=over_all),
            )
    for order, words in _AT.items():
        sentence = f"the targets are read at another step: {words}."
        edit = of_loss(targets=order)
        yield f"targets{order}", sentence, "(25)", f"targets{order}", "targets[t]", edit
    for h in ("c", "h[t-1]"):
        sentence = f"the head is given {h} where it needs h[t]."
        yield f"head.{h}", sentence, "(19)", f"logits of {h}", "logits of h[t]", of_loss(head=h)
    sentence = "every layer hands up c where it must hand up h, the top one to the head."
    right = "... = h[t]"
    yield "head and stack.c", sentence, "(8)", "x[t] = c[t] of the layer below", right, _all_c
    if head == "linear":
        right = "logits = weight_out @ h[t] + bias_out"
        for edit, identifier, sentence, line in (
            (of_loss(bias_out=0), "bias_out.left out", "bias_out is not added.",
             "logits = weight_out @ h[t]"),
            (of_loss(bias_out=2), "bias_out * 2", "bias_out is added twice.",
             "logits = weight_out @ h[t] + 2 * bias_out"),
            (of_loss(weight_out="transposed"), "weight_out.transposed",
             "weight_out is transposed.", "logits = weight_out.T @ h[t] + bias_out"),
            (of_loss(weight_out="left out"), "weight_out.left out",
             "the head is left out: the softmax is taken of h itself.", "logits = h[t]"),
        ):  # fmt: skip
            yield identifier, sentence, "(19)", line, right, edit
    for over in list(SOFTMAXES)[1:]:
        axes, _, shift = over.partition(", behind")
        behind = f"behind{shift} logit " if shift else ""
        sentence = f"{behind}the softmax is taken over {axes}, not over the classes of each row."
        line = f"p = exp(logits) / (sum of exp(logits) over {axes})"
        right = "p = exp(logits) / (sum of exp(logits) over the classes)"
        yield f"softmax over {over}", sentence, "(24)", line, right, of_loss(softmax=over)


def _all_c(lines: Lines) -> Lines:
    return changed(below="c")(of_loss(head="c")(lines))


def numbers_in_loss(right: Lines, case: Case, loss: float, error: float, summed: bool) -> Found:
    """A loss with a number of its own in it, which makes `loss` of this case.

    Args:
        right: the lines without it. loss: what came of the case, as a mean. error: how far it may
            be off. summed: whether it is a sum over the steps and the batch.
    """
    with np.errstate(all="ignore"):
        plain, spread = (
            float(forward_outputs(case, lines, FLOAT64)["loss"])
            for lines in (right, of_loss(smoothed="1")(right))
        )
    if not np.isfinite([loss, plain, spread]).all():
        return
    if loss == 0 != plain:
        yield "loss * 0", "the loss is 0.", "(25)", "loss = 0", _RIGHT, of_loss(scale=("0",))
    elif plain:
        number = simplest(loss / plain, error / abs(plain))
        yield (
            f"loss * {number}",
            f"the loss is right but for a factor: it is {float(number):.10g} times as large.",
            "(25)",
            f"loss = {float(number):.10g} * loss",
            _RIGHT,
            of_loss(scale=(str(number),)),
        )
    if spread != plain:
        share = simplest((loss - plain) / (spread - plain), error / abs(spread - plain))
        given = f"{float(share):.10g}"
        yield (
            f"loss.smoothed by {share}",
            f"the loss is that of smoothed targets: {given} of each is spread over all classes.",
            "(25)",
            f"loss = mean(-(1 - {given}) * log p[target] - {given} * mean(log p))",
            _RIGHT,
            of_loss(smoothed=str(share)),
        )
    assert case.targets is not None
    count = case.targets.size if summed else 1
    for name, of in _PENALISED.items():
        squares = sum(
            float(np.sum(np.square(value, dtype=np.float64)))
            for weight, value in case.params.items()
            if weight.startswith(of)
        )
        if squares and loss != plain:
            share = simplest((loss - plain) * count / squares, error * count / squares)
            given = f"{float(share):.10g}"
            yield (
                f"loss.penalty of {share} on {name}",
                f"a penalty is in the loss: {given} times the sum of the squares of {name}.",
                "(25)",
                f"loss = mean(-log p[target]) + {given} * sum(w**2)",
                _RIGHT,
                of_loss(penalty=str(share), penalised=of, on_sum=summed),
            )
