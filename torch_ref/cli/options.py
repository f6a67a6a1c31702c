"""Which options somebody gave, and those of `train` that would be ignored."""

from collections.abc import Mapping

import numpy as np
import typer

from manual_lstm.tasks import Text, alphabet, read_text
from manual_lstm.train import Schedule, TrainState

_METHODS = {
    "momentum": ("momentum",),
    "beta": ("average", "rmsprop", "adam"),
    "bias_correction": ("average",),
}
_RECORDS = ("history", "plot", "monitor", "monitor_plot")


def is_given(context: typer.Context, name: str) -> bool:
    """Whether an option was given, its default or another value."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def require_of_use(context: typer.Context) -> None:
    """ValueError for an option of `train` that would be ignored beside the others."""
    options = context.params
    for name in _RECORDS:
        if options["compare"] and options[name] is not None:
            raise ValueError(f"{_word(name)} is for a training: --compare keeps no record.")
    if options["compare"]:
        _require_of_compare(context)
    if is_given(context, "save_every") and options["checkpoint"] is None:
        raise ValueError("--save-every is for --checkpoint, which must be given too.")
    if options["resume"]:
        return
    method = options["optimizer"].value
    for name, methods in _METHODS.items():
        if is_given(context, name) and method not in methods:
            raise ValueError(
                f"{_word(name)} is for --optimizer {' or '.join(methods)}, but the optimizer is "
                f"{method}: give another, or leave {_word(name)} out."
            )


def _require_of_compare(context: typer.Context) -> None:
    for name in ("engine", "save_every"):
        if is_given(context, name):
            raise ValueError(
                f"{_word(name)} is for a training: --compare runs both engines and saves neither."
            )
    if context.params["checkpoint"] is not None and not context.params["resume"]:
        raise ValueError("--checkpoint is beside --compare for --resume, which must be given too.")


def require_same(context: typer.Context, schedule: Schedule, text: Text, state: TrainState) -> None:
    """ValueError for an option beside --resume that says otherwise than the checkpoint.

    The seed and the first forget bias are of weights that are trained by now.
    """
    for name, kept in _kept(schedule, state).items():
        if is_given(context, name) and context.params[name] != kept:
            carried = "--carry" if kept else "--reset"
            shown = carried if name == "carry" else "none" if kept is None else kept
            _refuse(name, context.params[name], f"has {shown}")
    if is_given(context, "inputs") and not _same(alphabet(context.params["inputs"]), text):
        _refuse("inputs", context.params["inputs"], f"has a text of {len(text.symbols)} symbols")
    if is_given(context, "text") and not _same(read_text(context.params["text"]), text):
        _refuse("text", repr(context.params["text"]), "has another text")


def _kept(schedule: Schedule, state: TrainState) -> Mapping[str, object]:
    model, optimizer = schedule.model, schedule.optimizer
    return {
        "head": model.head,
        "hidden": model.hidden_size,
        "layers": model.num_layers,
        "steps": schedule.steps,
        "batch": schedule.batch,
        "carry": schedule.carry_state,
        "random_start": schedule.random_start,
        "optimizer": optimizer.method,
        "learning_rate": optimizer.learning_rate,
        "momentum": optimizer.momentum,
        "beta": optimizer.beta,
        "bias_correction": optimizer.bias_correction,
        "clip_norm": schedule.clip_norm,
        "clip_value": schedule.clip_value,
        "dtype": str(state.h.dtype),
    }


def _same(one: Text, other: Text) -> bool:
    return one.symbols == other.symbols and np.array_equal(one.indices, other.indices)


def _refuse(name: str, value: object, kept: str) -> None:
    word = {"carry": "--carry" if value else "--reset"}.get(name, f"{_word(name)} {value}")
    raise ValueError(
        f"{word} is given but the checkpoint {kept}: leave it out with --resume, or begin anew "
        "with another --checkpoint."
    )


def _word(name: str) -> str:
    return f"--{name.replace('_', '-')}"
