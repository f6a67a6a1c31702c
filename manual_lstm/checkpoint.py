"""Checkpoints: a training state in one .npz file, without pickles, written whole or not at all."""

import io
import json
import os
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from manual_lstm.arrays import FloatArray, check_array, check_indices, float_dtype
from manual_lstm.model import CharModel
from manual_lstm.optim import Optimizer, OptimizerState
from manual_lstm.tasks import Text
from manual_lstm.train import Schedule, TrainState, generator

FORMAT = "manual-lstm checkpoint"
VERSION = 1
# What np.load raises for a file that is cut off, changed, or (the last two) a single array.
_UNREADABLE = (EOFError, zipfile.BadZipFile, zlib.error, TypeError, AttributeError)
_PARTS = ("params", "first", "second")


def save_checkpoint(path: str | Path, schedule: Schedule, text: Text, state: TrainState) -> None:
    """Write a state, with the schedule and the text that it belongs to.

    The file that was there, if it is whole, is kept as `previous_path(path)`. A reader finds under
    `path` the old file or the new one, never a part of either.

    Raises:
        ValueError: it cannot be written; what was there is still there.
    """
    path = Path(path)
    about = {
        "format": FORMAT,
        "version": VERSION,
        "schedule": asdict(schedule),
        "symbols": list(text.symbols),
        "position": state.position,
        "windows": state.windows,
        "optimizer_steps": state.optimizer.steps,
        "random": dict(state.random),
    }
    arrays: dict[str, Any] = {"about": np.array(json.dumps(about)), "h": state.h, "c": state.c}
    arrays["text"] = text.indices
    for part, values in zip(_PARTS, _arrays_of(state), strict=True):
        arrays |= {f"{part}.{name}": value for name, value in values.items()}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    try:
        # Only a whole file takes the place of the one kept: a torn one would leave none.
        if _is_whole(path):
            _replace(previous_path(path), path.read_bytes())
        _replace(path, buffer.getvalue())
    except OSError as error:
        raise ValueError(f"checkpoint {str(path)!r} cannot be written: {error.strerror}.") from None


def previous_path(path: str | Path) -> Path:
    """Where the checkpoint that a new one replaces is kept: run.npz is run.previous.npz."""
    path = Path(path)
    return path.with_name(f"{path.stem}.previous{path.suffix}")


def load_checkpoint(path: str | Path) -> tuple[Schedule, Text, TrainState]:
    """Read a state, and the schedule and text that it belongs to.

    Returns:
        What `save_checkpoint` was given, bit for bit.

    Raises:
        ValueError: the file is missing, torn, not a checkpoint, of a newer version, or its arrays
            do not go with its schedule; with the name of the checkpoint before it, if that one is
            whole.
    """
    try:
        return _load(Path(path))
    except ValueError as error:
        try:
            before = previous_path(path)
            windows = _load(before)[2].windows
        except ValueError:
            raise error from None
        raise ValueError(
            f"{error} The one before it, {str(before)!r}, is whole: window {windows}."
        ) from None


def _is_whole(path: Path) -> bool:
    try:
        _load(path)
    except ValueError:
        return False
    return True


def _load(path: Path) -> tuple[Schedule, Text, TrainState]:
    name = f"checkpoint {str(path)!r}"
    arrays = _read(path, name)
    try:
        about = json.loads(str(arrays["about"][()]))
        found = (about["format"], about["version"])
    except (KeyError, TypeError, ValueError, IndexError):
        found = (None, None)
    if found[0] != FORMAT:
        raise ValueError(f"{name} is not one: it has no entry that says {FORMAT!r}.")
    if found[1] != VERSION:
        raise ValueError(
            f"{name} has version {found[1]!r} but must have {VERSION}: it was written by another "
            "version of manual_lstm."
        )
    try:
        return _state(arrays, about)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{name} is damaged: {type(error).__name__} {error}.") from None
    except ValueError as error:
        raise ValueError(f"{name} is damaged: {error}") from None


def _read(path: Path, name: str) -> dict[str, Any]:
    if os.path.exists(path) and not os.path.isfile(path):
        raise ValueError(f"{name} is a folder or a device but must be a file.")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{name} cannot be read: {error.strerror}.") from None
    if not content.startswith(b"PK"):
        raise ValueError(f"{name} is torn or no .npz file (it does not begin as one does).")
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            return {key: file[key] for key in file.files}
    except (*_UNREADABLE, ValueError, OSError, KeyError) as error:
        raise ValueError(f"{name} is torn or no .npz file ({error}).") from None


def _state(
    arrays: Mapping[str, Any], about: Mapping[str, Any]
) -> tuple[Schedule, Text, TrainState]:
    settings = dict(about["schedule"])
    model = CharModel(**settings.pop("model"))
    schedule = Schedule(model, Optimizer(**settings.pop("optimizer")), **settings)
    symbols = tuple(map(str, about["symbols"]))
    text = Text(symbols, check_indices("text", arrays["text"], len(symbols)))
    if text.indices.ndim != 1 or not len(text.indices):
        raise ValueError(f"text has shape {text.indices.shape} but must be (N,).")
    params, first, second = (
        {
            key.removeprefix(f"{part}."): value
            for key, value in arrays.items()
            if key.startswith(f"{part}.")
        }
        for part in _PARTS
    )
    dtype = float_dtype(arrays["h"].dtype, "h")
    like = model.init_params(dtype=dtype, rng=np.random.default_rng(0))
    for values in (params, *filter(None, (first, second))):
        if values.keys() != like.keys():
            raise ValueError(f"it has {sorted(values)} but must have {sorted(like)}.")
        for key, value in like.items():
            _check_like(key, values[key], value)
    sizes = {"L": model.num_layers, "B": schedule.batch, "H": model.hidden_size}
    h, c = (check_array(key, arrays[key], "L,B,H", sizes, dtype) for key in ("h", "c"))
    generator(about["random"])
    return (
        schedule,
        text,
        TrainState(
            {key: params[key] for key in like},
            OptimizerState(int(about["optimizer_steps"]), first, second),
            h,
            c,
            int(about["position"]),
            int(about["windows"]),
            about["random"],
        ),
    )


def _check_like(name: str, value: FloatArray, like: FloatArray) -> None:
    if (value.shape, value.dtype) != (like.shape, like.dtype):
        raise ValueError(
            f"{name} is {value.dtype} of shape {value.shape} but must be {like.dtype} of shape "
            f"{like.shape}."
        )


def _arrays_of(state: TrainState) -> tuple[Mapping[str, FloatArray], ...]:
    return state.params, state.optimizer.first, state.optimizer.second


def _replace(path: Path, content: bytes) -> None:
    # Short, as the file's own name may be as long as a name can be.
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".manual-lstm-", delete=False) as new:
        temporary = Path(new.name)
        try:
            new.write(content)
            new.flush()
            os.fsync(new.fileno())
            os.umask(umask := os.umask(0))
            temporary.chmod(0o666 & ~umask)  # as open() would
            os.replace(temporary, path)
        except BaseException:  # a second Ctrl-C too leaves nothing behind
            temporary.unlink(missing_ok=True)
            raise
