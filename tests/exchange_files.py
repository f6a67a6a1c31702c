"""Small cases for the exchange files, and what can be done to their files."""

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from manual_lstm import alphabet, init_params
from torch_ref import Case, character_case

FORMS = ("", ".npz", ".safetensors", ".json")


def stack_case(dtype: Any = np.float32) -> Case:
    """T=3, B=2, I=4, H=5, L=2, no head; every array drawn."""
    rng = np.random.default_rng(0)

    def draw(*shape: int) -> np.ndarray:
        return rng.uniform(-1, 1, shape).astype(dtype)

    params = init_params(4, 5, 2, dtype=dtype, rng=rng)
    states = [draw(2, 2, 5) for _ in range(4)]
    return Case(params, draw(3, 2, 4), *states, dy=draw(3, 2, 5))


def loss_case(head: str = "linear", dtype: Any = np.float32) -> Case:
    """T=3, B=2, V=4, L=2; H=5 with the linear head."""
    hidden = 5 if head == "linear" else 4
    made = character_case(
        alphabet(4), steps=3, batch=2, hidden=hidden, layers=2, head=head, dtype=dtype
    )
    return replace(made, dloss=0.1)  # no float32 number


def arrays_of(case: Case) -> dict[str, np.ndarray]:
    named = {name: getattr(case, name) for name in ("x", "h0", "c0", "dh_n", "dc_n")}
    last = {"dy": case.dy} if case.targets is None else {"targets": case.targets}
    return dict(case.params) | named | last


def assert_same_bits(actual: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert set(actual) == set(expected)
    for name, value in expected.items():
        found = actual[name]
        assert (found.dtype, found.shape) == (value.dtype, value.shape), name
        assert found.tobytes() == value.tobytes(), name


X = np.zeros((3, 2, 4), np.float32)
NAN = np.where(np.arange(24).reshape(X.shape) == 9, np.nan, X).astype(np.float32)
SIZES = {"T": 3, "B": 2, "I": 4, "H": 5, "L": 2, "V": 4}


def npy(array: np.ndarray, version: tuple[int, int] = (1, 0)) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, version)
    return buffer.getvalue()


def put(name: str, array: np.ndarray) -> Callable[[Path], None]:
    return lambda folder: np.save(folder / name, array, allow_pickle=True)


def edit(name: str = "case.json", **fields: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        document = json.loads((folder / name).read_text())
        document.update(fields)
        kept = {key: value for key, value in document.items() if value != "absent"}
        (folder / name).write_text(json.dumps(kept))

    return change


def raw(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(content) and None


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()
