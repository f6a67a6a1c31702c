"""The head and the loss as data: equations (19) and (23) to (25), and wrong ones."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from torch_ref.diagnosis.backward.table import Sizes, scale_of
from torch_ref.oracles.case import Case
from torch_ref.oracles.equations import Arithmetic, Array, LossStep, loss_forward

# What somebody adds to a probability, or does not let it fall below, so that its logarithm is
# finite: powers of ten, and the distance of 1 to the next number in either precision.
EPSILONS = (*(f"1e-{n:02}" for n in range(3, 17)), "1.19e-07", "2.22e-16")
_EXACT = {"1.19e-07": float(np.finfo(np.float32).eps), "2.22e-16": float(np.finfo(np.float64).eps)}


@dataclass(frozen=True)
class LossLines:
    """The lines from h to the loss.

    Attributes:
        head: what the output layer multiplies, "h", "c" or "h[t-1]".
        bias_out: its factor. weight_out: "plain", "transposed" or "left out".
        softmax: over what, a key of SOFTMAXES.
        line: what is averaged, a key of LOSSES.
        smoothed: by how much the one-hot row is, as a fraction: "1/10" takes a tenth from the
            target and spreads it over all classes.
        penalty, penalised: how much of the squares of the weights is added, and of which: what
            their names begin with. on_sum: whether it is added to the sum over steps and batch.
        targets: a key of ORDERS. scale: keys of SCALES, or fractions.
        over: whose losses are added up, a key of PARTS. over_all: whether their sum is divided by
            how many there are in all.
    """

    head: str = "h"
    bias_out: int = 1
    weight_out: str = "plain"
    softmax: str = "the classes"
    line: str = "-log p[target]"
    smoothed: str = "0"
    penalty: str = "0"
    penalised: tuple[str, ...] = ()
    on_sum: bool = False
    targets: str = "[t]"
    scale: tuple[str, ...] = ()
    over: str = "all"
    over_all: bool = False


RIGHT_LOSS = LossLines()
ORDERS: Mapping[str, Callable[[int, int], int]] = {
    "[t]": lambda t, steps: t,
    "[t-1]": lambda t, steps: (t - 1) % steps,
    "[t+1]": lambda t, steps: (t + 1) % steps,
    "[T-1-t]": lambda t, steps: steps - 1 - t,
    "[0]": lambda t, steps: 0,
    "[T-1]": lambda t, steps: steps - 1,
}
# The axes of (..., T, B, V), and whether each row's largest logit is subtracted first, which
# changes nothing over the classes alone.
SOFTMAXES: Mapping[str, tuple[tuple[int, ...], bool]] = {
    "the classes": ((-1,), True),
    "the batch": ((-2,), False),
    "the batch, behind the shift by each row's largest": ((-2,), True),
    "the steps": ((-3,), False),
    "the steps, behind the shift by each row's largest": ((-3,), True),
    "the classes and the batch": ((-2, -1), False),
    "the classes and the batch, behind the shift by each row's largest": ((-2, -1), True),
    "the classes and the steps": ((-3, -1), False),
    "the classes and the steps, behind the shift by each row's largest": ((-3, -1), True),
    "classes, steps and batch": ((-3, -2, -1), False),
    "classes, steps and batch, behind the shift by each row's largest": ((-3, -2, -1), True),
}


def _log_of_sum(eps: str) -> Callable[[Arithmetic, LossStep], Array]:
    added = _EXACT.get(eps, float(eps))
    return lambda a, s: -a.rnd(a.log(np.where(s.hot == 1, a.rnd(s.p + added), 1.0)))


def _log_of_clipped(eps: str) -> Callable[[Arithmetic, LossStep], Array]:
    least = _EXACT.get(eps, float(eps))
    return lambda a, s: -a.rnd(a.log(np.where(s.hot == 1, np.clip(s.p, least, 1 - least), 1.0)))


def _log_of_share(eps: str) -> Callable[[Arithmetic, LossStep], Array]:
    """Of exp(z) / (sum + eps), where the largest of the exponentials is 1: the sum is 1 / max p."""
    added = _EXACT.get(eps, float(eps))

    def line(a: Arithmetic, s: LossStep) -> Array:
        more = a.log(a.rnd(1 + a.rnd(added * s.p.max(axis=-1, keepdims=True))))
        return np.where(s.hot == 1, a.rnd(more - a.log(np.where(s.hot == 1, s.p, 1.0))), 0.0)

    return line


# Of each class; what stands for a step and sequence is the sum over them.
LOSSES: Mapping[str, Callable[[Arithmetic, LossStep], Array] | None] = {
    "-log p[target]": None,  # of the logits, which does not overflow
    "-p[target]": lambda a, s: -(s.p * s.hot),
    "1 - p[target]": lambda a, s: a.rnd(s.hot - s.p * s.hot),
    "(p - onehot)^2": lambda a, s: a.rnd(np.square(a.rnd(s.p - s.hot))),
    "-log p[target] - log(1 - p) of the others": lambda a, s: (
        -a.rnd(a.log(np.where(s.hot == 1, s.p, a.rnd(1 - s.p))))
    ),
    "-p log p": lambda a, s: -a.rnd(s.p * a.rnd(a.log(s.p))),
    "-log2 p[target]": lambda a, s: -a.rnd(a.log(np.where(s.hot == 1, s.p, 1.0)) / np.log(2)),
    "-log10 p[target]": lambda a, s: -a.rnd(a.log(np.where(s.hot == 1, s.p, 1.0)) / np.log(10)),
    **{f"-log(p[target] + {eps})": _log_of_sum(eps) for eps in EPSILONS},
    **{f"-log(clip(p[target], {eps}, 1 - {eps}))": _log_of_clipped(eps) for eps in EPSILONS},
    **{f"-log(exp(z[target]) / (sum(exp(z)) + {eps}))": _log_of_share(eps) for eps in EPSILONS},
}
# Of which steps and of which sequences a loss may be.
_ALL, _FIRST, _LAST = slice(None), slice(1), slice(-1, None)
PARTS: Mapping[str, tuple[slice, slice]] = {
    "all": (_ALL, _ALL),
    "step T-1": (_LAST, _ALL),
    "t=0": (_FIRST, _ALL),
    "all steps but the last": (slice(-1), _ALL),
    "all steps but t=0": (slice(1, None), _ALL),
    "member B-1": (_ALL, _LAST),
    "member 0": (_ALL, _FIRST),
    "step T-1 of member B-1": (_LAST, _LAST),
}


def loss_of(
    w: Mapping[str, Array],
    hs: list[Array],
    cs: list[Array],
    case: Case,
    lines: LossLines,
    a: Arithmetic,
) -> Array:
    """The loss (...) of a case by these lines.

    Args:
        hs, cs: T + 1 of (..., B, H), the state before the first step in front.

    Raises:
        ValueError: a matrix in the place of another one does not fit.
    """
    assert case.targets is not None
    steps, batch = len(case.x), case.x.shape[-2]
    head = {"h": hs[1:], "c": cs[1:], "h[t-1]": hs[:-1]}[lines.head]
    targets = np.stack([case.targets[ORDERS[lines.targets](t, steps)] for t in range(steps)])
    if "weight_out" in w:
        weight = w["weight_out"]
        if lines.weight_out == "transposed":
            weight = np.swapaxes(weight, -1, -2)
        w = {**w, "weight_out": weight, "bias_out": lines.bias_out * w["bias_out"]}
    if lines.weight_out == "left out":
        if hs[0].shape[-1] != w["weight_out"].shape[-2]:
            raise ValueError("h is no class's logit: H is not V.")
        w = {name: value for name, value in w.items() if not name.endswith("_out")}
    these_steps, members = PARTS[lines.over]
    head = [h[..., members, :] for h in head[these_steps]]
    if not head:
        return np.zeros(hs[0].shape[:-2])
    count = len(head) * head[0].shape[-2]
    loss, found = loss_forward(w, head, targets[these_steps][..., members], a)
    line = LOSSES[lines.line]
    if lines.softmax != "the classes":
        loss = _mean_of(_entropies_over(w, found, *SOFTMAXES[lines.softmax], a), count, a)
    elif line is not None:
        loss = _mean(line, found, count, a)
    if lines.smoothed != "0":
        share = float(scale_of(lines.smoothed, Sizes(1, 1, 1, 1)))
        of_all = _mean(_log_of_each, found, count, a)
        loss = a.rnd(a.rnd((1 - share) * loss) + a.rnd(share * of_all))
    for name in [name for name in w if lines.penalty != "0" and name.startswith(lines.penalised)]:
        share = float(scale_of(lines.penalty, Sizes(1, 1, 1, 1))) / (count if lines.on_sum else 1)
        loss = a.rnd(loss + share * np.sum(np.square(w[name])))
    if lines.over_all:
        loss = a.rnd(loss * (count / (steps * batch)))
    sizes = Sizes(steps, batch, found[0].p.shape[-1], hs[0].shape[-1])
    for scale in lines.scale:
        loss = a.rnd(loss * a.number(scale_of(scale, sizes)))
    return loss


def _log_of_each(a: Arithmetic, s: LossStep) -> Array:
    return -a.rnd(a.rnd(a.log(s.p)) / s.p.shape[-1])


def _mean(
    line: Callable[[Arithmetic, LossStep], Array], found: list[LossStep], count: int, a: Arithmetic
) -> Array:
    return _mean_of([line(a, step) for step in found], count, a)


def _mean_of(classes: list[Array], count: int, a: Arithmetic) -> Array:
    """Of T of (..., B, V), summed over the classes."""
    every = [each.sum(axis=-1, keepdims=True) for each in classes]
    ones = [np.ones_like(each) for each in every]
    return a.rnd(a.sum_over_steps(every, ones) / count)[..., 0, 0]


def _entropies_over(
    w: Mapping[str, Array],
    found: list[LossStep],
    axes: tuple[int, ...],
    shifted: bool,
    a: Arithmetic,
) -> list[Array]:
    """-log p[target], the probabilities adding up to 1 over other axes than the classes alone.

    By the logarithm of the sum, which rounds where exp(z) / sum may be exactly 1.
    """
    h = np.stack([step.h for step in found], axis=-3)  # (..., T, B, H)
    logits = h
    if "weight_out" in w:
        weight = np.swapaxes(w["weight_out"], -1, -2)[..., None, :, :]
        logits = a.rnd(a.matmul(h, weight) + w["bias_out"][..., None, None, :])
    if shifted:
        logits = a.rnd(logits - logits.max(axis=-1, keepdims=True))
    total = a.rnd(a.rnd(a.exp(logits)).sum(axis=axes, keepdims=True))
    entropies = a.rnd(a.rnd(a.log(total)) - logits)
    return [entropies[..., t, :, :] * step.hot for t, step in enumerate(found)]
