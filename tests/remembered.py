"""Error budgets, remembered over the tests of a process: most campaigns begin with equal cases.

A budget is a function of its arguments, the seed of its replicas among them, so it is the same
whether it is computed or remembered. Its arrays cannot be written to.
"""

import hashlib
from collections.abc import Callable
from dataclasses import fields
from functools import partial
from typing import Any

import numpy as np

from torch_ref import Case, ErrorBudget
from torch_ref.oracles.equations import solve


def remembering(error_budget: Callable[..., ErrorBudget]) -> Callable[..., ErrorBudget]:
    """`error_budget`, which computes that of equal arguments once."""
    known: dict[Any, ErrorBudget] = {}

    def remembered(case: Case, **options: Any) -> ErrorBudget:
        equations = options.pop("equations", solve)
        plain = equations if isinstance(equations, partial) else partial(equations)
        if plain.func is not solve:
            return error_budget(case, equations=equations, **options)
        key = (_digest(case), repr(sorted(plain.keywords.items())), repr(sorted(options.items())))
        if key not in known:
            known[key] = error_budget(case, equations=equations, **options)
            for array in known[key].allowed.values():
                array.setflags(write=False)
        return known[key]

    return remembered


def _digest(case: Case) -> bytes:
    digest = hashlib.sha256()

    def add(name: str, value: Any) -> None:
        digest.update(f"{name} ".encode())
        if isinstance(value, np.ndarray):
            digest.update(f"{value.dtype} {value.shape} ".encode() + value.tobytes())
        elif isinstance(value, dict):
            for key in sorted(value):
                add(key, np.asarray(value[key]))
        else:
            digest.update(repr(value).encode())

    for field in fields(case):
        add(field.name, getattr(case, field.name))
    return digest.digest()
