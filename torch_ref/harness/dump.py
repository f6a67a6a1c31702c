"""A case and a result as files, made whenever and wherever: judged once, nothing is run."""

import os
import time
from functools import partial
from pathlib import Path

import numpy as np

from torch_ref.compare.budget import error_budget
from torch_ref.compare.errors import compare_gradients
from torch_ref.harness.abilities import described
from torch_ref.harness.campaign import CheckReport
from torch_ref.harness.checks import check_gradients
from torch_ref.harness.exchange.archive import ENDINGS
from torch_ref.harness.exchange.files import load_case, load_result
from torch_ref.harness.search import Failure
from torch_ref.oracles.case import Case, Results
from torch_ref.oracles.equations import is_step_gradient, solve
from torch_ref.oracles.truth import truth


def check_dump(folder: str | Path) -> CheckReport:
    """Compare the result in a folder with the truth of the case beside it.

    Args:
        folder: holds "case" and "result": folders of .npy, or .npz, .safetensors or .json files.

    Raises:
        ValueError: one of them is missing or damaged, or rounding alone decides the case.
    """
    started = time.perf_counter()
    case, actual, exact, allowed = dump_arrays(folder)
    expected = {name: value for name, value in exact.items() if name in actual}
    missing = [n for n in exact if n not in actual and not is_step_gradient(n)]
    comparison = compare_gradients(actual, expected, allowed)
    wrong = [tensor.name for tensor in comparison.tensors if tensor.verdict == "disagree"]
    name = check_gradients.__name__
    failure = Failure(name, "", f"Wrong: {', '.join(wrong)}.", case, comparison)
    return CheckReport(
        name=str(folder),
        dtypes=(str(np.dtype(case.dtype)),),
        passed=() if wrong else (name,),
        skipped={},
        failures=(failure,) if wrong else (),
        tensors=comparison.tensors,
        unverified=tuple(map(described, missing)),
        examples=1,
        seconds=time.perf_counter() - started,
    )


def dump_arrays(folder: str | Path) -> tuple[Case, Results, Results, Results]:
    """The case in a folder, the result beside it, the truth, and how far each may be off.

    Raises:
        ValueError: as `check_dump`.
    """
    case = load_case(_inside(folder, "case"))
    actual = load_result(_inside(folder, "result"), case)
    steps = any(map(is_step_gradient, actual))
    budget = error_budget(case, equations=partial(solve, steps=steps))
    if not budget.conclusive:
        raise ValueError(f"{folder}: in {case.dtype} rounding alone decides what comes out.")
    return case, actual, truth(case, steps=steps), budget.allowed


def _inside(folder: str | Path, name: str) -> Path:
    for ending in ("", *ENDINGS):
        path = Path(folder) / f"{name}{ending}"
        try:
            os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise ValueError(f"{folder} cannot be read: {error.strerror}.") from None
        if ending == ".json" and any(Path(folder).glob("*.npy")):
            raise ValueError(
                f"{folder} is itself what one program writes: give the folder above it, which "
                "holds case and result."
            )
        return path
    files = ", ".join(f"{name}{ending}" for ending in ENDINGS)
    raise ValueError(f"{folder} has no {name} and none of {files}.")
