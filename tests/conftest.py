"""Profiles, `dev`, the default, and `ci`, chosen by HYPOTHESIS_PROFILE; the C++ LSTM."""

import os
from collections import Counter
from pathlib import Path

import pytest
import torch
from cpp import HEADER, SOURCES, compile_program
from hypothesis import HealthCheck, settings
from remembered import remembering

from torch_ref.harness import judge

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
EACH = 4  # of the tests that are `sampled`, `dev` runs one of so many in each file
PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "dev")
settings.load_profile(PROFILE)

judge.error_budget = remembering(judge.error_budget)

pytest.register_assert_rewrite("agreement", "chromium", "pages", "planted")
torch.set_num_threads(1)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of the whole suite, leave to CI what is `thorough`, and of what is `sampled` three of four in
    each file; a file that is named runs whole.
    """
    if PROFILE == "ci" or not all(Path(each).is_dir() for each in config.args):
        return
    of_file: Counter[Path] = Counter()
    left, run = [], []
    for item in items:
        thorough = item.get_closest_marker("thorough") is not None
        if not thorough and item.get_closest_marker("sampled") is not None:
            thorough = of_file[item.path] % EACH != 0
            of_file[item.path] += 1
        (left if thorough else run).append(item)
    config.hook.pytest_deselected(items=left)
    items[:] = run


@pytest.fixture(scope="session")
def my_lstm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The LSTM of tests/foreign as a program."""
    target = tmp_path_factory.mktemp("cpp") / "my_lstm"
    return compile_program(sorted(SOURCES.glob("*.cpp")), target, f"-I{HEADER}")


@pytest.fixture
def unshrunk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A failing case need not be a small one."""
    monkeypatch.setattr("torch_ref.harness.search.SHRINK_SECONDS", 0.0)
