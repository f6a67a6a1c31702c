"""The case that an implementation is really given, where it does not take all of one."""

from dataclasses import replace
from typing import Literal

import numpy as np

from torch_ref.harness.layouts.layout import Layout
from torch_ref.oracles.case import Case

# What only the top layer's part is taken of, as of a loss of the last step.
BELOW_THE_TOP = "dh_n below the top"


def restricted(case: Case, ignored: frozenset[str]) -> Case:
    """The case that an implementation which ignores these is really given: they are zero."""
    zeros = {name: np.zeros_like(getattr(case, name)) for name in ignored - {BELOW_THE_TOP}}
    if BELOW_THE_TOP in ignored:
        zeros["dh_n"] = case.dh_n * (np.arange(len(case.dh_n)) == len(case.dh_n) - 1)[:, None, None]
    return replace(case, **zeros)


def without_biases(case: Case, layout: Layout | Literal["auto"]) -> Case:
    """The case that is really given where a layout has no place for biases: they are zero."""
    if layout == "auto" or layout.bias != "none":
        return case
    zeros = {n: np.zeros_like(a) for n, a in case.params.items() if n.startswith("bias_l")}
    return replace(case, params={**case.params, **zeros})
