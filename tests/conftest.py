"""Hypothesis profiles: `dev`, the default, and `ci`, chosen by HYPOTHESIS_PROFILE."""

import os

import pytest
import torch
from hypothesis import HealthCheck, settings

# No limit on time: a shared machine decides how long an example takes, not the code.
UNTIMED = {
    "deadline": None,
    "print_blob": True,
    "suppress_health_check": [HealthCheck.too_slow],
}
settings.register_profile("dev", max_examples=12, **UNTIMED)
# ci draws the same examples every time, so that a change is judged by the change alone; new
# examples come from the runs of `dev`, which are random and remember what failed.
settings.register_profile("ci", max_examples=60, derandomize=True, **UNTIMED)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))

pytest.register_assert_rewrite("agreement", "chromium", "pages", "planted")
torch.set_num_threads(1)
