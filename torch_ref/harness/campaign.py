"""A campaign: all checks of one implementation, on cases that Hypothesis draws and shrinks."""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, as_completed
from dataclasses import dataclass, field, replace
from typing import Any

import hypothesis
import numpy as np
from hypothesis import HealthCheck, Phase, given, settings

from torch_ref.compare.errors import Comparison, TensorError, compare_gradients
from torch_ref.harness.abilities import find_abilities
from torch_ref.harness.checks import CHECKS, OUTPUTS, Check, CheckFailed, check_gradients
from torch_ref.harness.checks import not_applicable
from torch_ref.harness.contract import Implementation
from torch_ref.harness.judge import Inconclusive, Subject, expected_of
from torch_ref.harness.scale import Scale, common_ratio, in_words
from torch_ref.harness.strategies import cases, model_cases
from torch_ref.oracles.case import Case

SHRINK_SECONDS = 10.0


@dataclass(frozen=True)
class Failure:
    """The smallest case that was found on which a check fails."""

    check: str
    sentence: str
    case: Case
    comparison: Comparison | None
    error: Exception | None = None


@dataclass(frozen=True)
class CheckReport:
    """What a campaign found.

    Attributes:
        name: of the implementation.
        passed: names of the checks that hold. skipped: check to why it could not be run.
        failures: one for each check that failed, in the order of the checks.
        expected_failures: check to reason, of those that failed as expected.
        tensors: the worst of every tensor over all cases on which all gradients were compared.
        scale: the one ratio that explains every gradient, or None.
        layout: how the layout was found, a sentence, or "".
        unverified: what the implementation cannot be asked.
        examples: how many cases were run. seconds: how long it took.
    """

    name: str
    passed: tuple[str, ...]
    skipped: Mapping[str, str]
    failures: tuple[Failure, ...]
    tensors: tuple[TensorError, ...]
    scale: Scale | None
    unverified: tuple[str, ...]
    examples: int
    seconds: float
    expected_failures: Mapping[str, str] = field(default_factory=dict)
    layout: str = ""

    @property
    def verdict(self) -> str:
        """ "agree" if every check that could be run holds or failed as expected."""
        return "disagree" if self.failures or not self.passed else "agree"
