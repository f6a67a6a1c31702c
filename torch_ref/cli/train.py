"""`manual-lstm train`: truncated back-propagation, by hand, by the twin, or by both."""

import math
import os
import shlex
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import IO, Annotated, Any

import typer
from rich.console import Console

from manual_lstm.checkpoint import load_checkpoint, save_checkpoint
from manual_lstm.history import (
    open_history,
    read_history,
    recorded,
    sync_history,
    write_history,
)
from manual_lstm.model import CharModel
from manual_lstm.monitor import GateSizes, gate_sizes, write_gate_sizes
from manual_lstm.optim import Optimizer
from manual_lstm.plateau import levels, uniform_loss
from manual_lstm.tasks import Text, alphabet, read_text
from manual_lstm.train import Schedule, Trained, TrainState, start, train_window
from manual_lstm.train import train as run_training
from torch_ref.cli.options import require_of_use, require_same
from torch_ref.cli.page import check_outputs
from torch_ref.cli.progress import losses
from torch_ref.cli.side_by_side import compare_both
from torch_ref.cli.window import DType, HeadName, require_memory
from torch_ref.interrupts import leaving_at_once
from torch_ref.reports.as_json import write_json
from torch_ref.reports.files import require_writable
from torch_ref.reports.plots import plot_gates, plot_history, require_matplotlib


class Engine(StrEnum):
    """Who trains."""

    manual = "manual"
    torch = "torch"


class MethodName(StrEnum):
    """The optimisers."""

    momentum = "momentum"
    average = "average"
    rmsprop = "rmsprop"
    adam = "adam"


def train(
    context: typer.Context,
    windows: Annotated[int, typer.Option(min=1, help="How many, counted from the start.")] = 3000,
    inputs: Annotated[
        int | None, typer.Option(min=1, help="V, the symbols of the alphabet.  [default: 26]")
    ] = None,
    text: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="A UTF-8 text; its characters are the symbols."),
    ] = None,
    head: Annotated[HeadName, typer.Option(help="From h to the logits.")] = HeadName.linear,
    hidden: Annotated[
        int | None, typer.Option(min=1, help="H, units of a layer.  [default: as many as symbols]")
    ] = None,
    layers: Annotated[int, typer.Option(min=1, help="L, the layers of the stack.")] = 1,
    steps: Annotated[
        int | None, typer.Option(min=1, help="T, steps of a window.  [default: V, but 4 to 100]")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="B, the sequences side by side.")] = 1,
    carry: Annotated[
        bool, typer.Option("--carry/--reset", help="The state: into the next window, or zero.")
    ] = True,
    random_start: Annotated[
        bool, typer.Option("--random-start", help="Windows from anywhere; needs --reset.")
    ] = False,
    optimizer: Annotated[MethodName, typer.Option(help="The method.")] = MethodName.adam,
    learning_rate: Annotated[float, typer.Option(min=0.0, help="Of every method.")] = 0.01,
    momentum: Annotated[float, typer.Option(help="Of momentum.")] = 0.2,
    beta: Annotated[
        float | None, typer.Option(help="Of average, rmsprop, adam.  [default: 0.9, rmsprop 0.99]")
    ] = None,
    bias_correction: Annotated[bool, typer.Option("--bias-correction", help="Of average.")] = False,
    clip_norm: Annotated[float | None, typer.Option(help="Limit of the joint norm.")] = None,
    clip_value: Annotated[float | None, typer.Option(help="Limit of every element.")] = None,
    forget_bias: Annotated[
        float | None, typer.Option(help="First bias of the forget gates.  [default: drawn]")
    ] = None,
    dtype: Annotated[DType, typer.Option(help="Precision.")] = DType.float32,
    seed: Annotated[int, typer.Option(min=0, help="Of the first weights.")] = 0,
    engine: Annotated[Engine, typer.Option(help="By hand, or autograd and torch.optim.")] = (
        Engine.manual
    ),
    compare: Annotated[
        bool, typer.Option("--compare", help="Both, until they part beyond rounding.")
    ] = False,
    checkpoint: Annotated[
        str | None,
        typer.Option(metavar="FILE.npz", help="Where the state is kept; new, or --resume."),
    ] = None,
    save_every: Annotated[int, typer.Option(min=0, help="Windows; 0: at the end.")] = 0,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from --checkpoint, as it was trained.")
    ] = False,
    history: Annotated[
        str | None, typer.Option(metavar="FILE.jsonl", help="Every window's loss, as JSON lines.")
    ] = None,
    plot: Annotated[
        str | None, typer.Option(metavar="FILE.png", help="Loss and levels; needs --history.")
    ] = None,
    monitor: Annotated[
        str | None, typer.Option(metavar="FILE.jsonl", help="Gradient sizes, as JSON lines.")
    ] = None,
    monitor_every: Annotated[int, typer.Option(min=1, help="Windows between them.")] = 100,
    monitor_plot: Annotated[
        str | None, typer.Option(metavar="FILE.png", help="The last of them as a heat map.")
    ] = None,
    json: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write the result here; - is stdout.")
    ] = None,
) -> None:
    """Train the character model: a..z repeated, unless --inputs or --text say otherwise.

    Exit status 0: trained, or with --compare, rounding explains every difference. 1: --compare
    found the window at which both part. 2: wrong usage or input, or a loss that is no number.
    130: interrupted, with the state saved to --checkpoint.
    """
    if text is not None and inputs is not None:
        raise ValueError("--inputs and --text both say what the symbols are: give one of them.")
    if plot is not None and history is None:
        raise ValueError("--plot draws the history, so --history must be given too.")
    if resume and checkpoint is None:
        raise ValueError("--resume goes on from a checkpoint, so --checkpoint must be given too.")
    require_of_use(context)
    records = {"--text": text, "--checkpoint": checkpoint, "--history": history}
    pictures = {"--plot": plot, "--monitor-plot": monitor_plot}
    check_outputs(None, json, {**records, "--monitor": monitor, **pictures})
    require_writable(checkpoint, "checkpoint")
    if not resume and not compare:
        if checkpoint is not None:
            _require_new(checkpoint)
        for written, what in ((history, "history"), (monitor, "--monitor file")):
            _require_empty(written, what)
    for drawn in pictures.values():
        require_writable(drawn, "plot")
    if plot is not None or monitor_plot is not None:
        require_matplotlib()
    if resume:
        assert checkpoint is not None
        schedule, symbols, state = load_checkpoint(checkpoint)
        require_same(context, schedule, symbols, state)
    else:
        symbols = alphabet(26 if inputs is None else inputs) if text is None else read_text(text)
        num_classes = len(symbols.symbols)
        schedule = Schedule(
            CharModel(num_classes, num_classes if hidden is None else hidden, layers, head.value),
            Optimizer(
                optimizer.value,
                learning_rate,
                momentum,
                (0.99 if optimizer is MethodName.rmsprop else 0.9) if beta is None else beta,
                bias_correction=bias_correction,
            ),
            steps=min(max(num_classes, 4), 100) if steps is None else steps,
            batch=batch,
            carry_state=carry,
            random_start=random_start,
            clip_norm=clip_norm,
            clip_value=clip_value,
        )
        sizes = {"T": schedule.steps, "B": batch, "I": num_classes}
        require_memory(sizes | {"H": schedule.model.hidden_size, "L": layers}, dtype.value)
        state = start(schedule, dtype=dtype.value, seed=seed, forget_bias=forget_bias)
    words, floor = shlex.join(["manual-lstm", *sys.argv[1:]]), _floor(schedule)
    if compare:
        raise typer.Exit(compare_both(schedule, symbols, state, windows, json, words, floor))

    advance = _advance(engine)
    sink = _Sink(schedule, symbols, monitor_every)
    began, first = time.perf_counter(), state.windows

    def save(current: TrainState) -> None:
        assert checkpoint is not None
        if sink.history is not None:
            sync_history(sink.history)
        save_checkpoint(checkpoint, schedule, symbols, current)

    with ExitStack() as stack:
        if history is not None:
            sink.history = stack.enter_context(recorded(open_history(history, state.windows)))
        if monitor is not None:
            sink.monitor = stack.enter_context(recorded(_opened(monitor, "a" if resume else "w")))
        sink.watch = monitor is not None or monitor_plot is not None
        show = stack.enter_context(losses(floor, windows, state.windows))

        def each(current: TrainState, trained: Trained) -> None:
            sink(current, trained)
            show(trained)

        state, ending = run_training(
            schedule,
            symbols,
            state,
            windows,
            each=each,
            save=None if checkpoint is None else save,
            save_every=save_every,
            advance=advance,
        )
    rate = (state.windows - first) / max(time.perf_counter() - began, 1e-9)
    if plot is not None and history is not None:
        on_alphabet = len(symbols.indices) == len(symbols.symbols)
        known = levels(
            schedule.model.num_classes,
            schedule.model.head,
            text=None if on_alphabet else symbols.indices,
        )
        plot_history(read_history(history), known, plot)
    if monitor_plot is not None and sink.sizes is not None:
        plot_gates(sink.sizes, monitor_plot)
    last = sink.last
    report = {
        "ending": ending,
        "windows": state.windows,
        "loss": last and last.loss,
        "perplexity": last and (last.perplexity if math.isfinite(last.perplexity) else None),
        "floor": floor,
        "windows_per_second": rate,
        "checkpoint": checkpoint,
        "monitor": sink.sizes and {"verdict": sink.sizes.verdict, "reason": sink.sizes.reason},
        "reproduce": words,
    }
    if json is not None:
        write_json(report, json)
    if json != "-":
        _print(schedule, report, last, sink.sizes)
    raise typer.Exit(130 if ending == "interrupted" else 0)


def _advance(engine: Engine) -> Callable[..., tuple[TrainState, Trained]]:
    if engine is Engine.manual:
        return train_window
    with leaving_at_once():
        from torch_ref.harness.twin_training import twin_window  # and torch, here alone

    return twin_window


def _require_new(checkpoint: str) -> None:
    """ValueError where a run that was not resumed would take the place of another."""
    if not os.path.lexists(checkpoint):
        return
    try:
        windows = load_checkpoint(checkpoint)[2].windows
    except ValueError:
        raise ValueError(
            f"checkpoint {checkpoint!r} exists already: choose another file or remove it."
        ) from None
    raise ValueError(
        f"checkpoint {checkpoint!r} exists already, at window {windows}: go on from it with "
        "--resume, or to begin anew choose another file or remove it."
    )


def _require_empty(target: str | None, what: str) -> None:
    """ValueError where the windows of another run would be lost; what is no file keeps none."""
    if target is not None and os.path.isfile(target) and os.path.getsize(target):
        raise ValueError(f"{what} {target!r} exists already: choose another file or remove it.")


class _Sink:
    """Where each window goes: the history, the monitor, and the last of both."""

    def __init__(self, schedule: Schedule, text: Text, every: int) -> None:
        self.schedule, self.text, self.every = schedule, text, every
        self.history: IO[str] | None = None
        self.monitor: IO[str] | None = None
        self.watch = False
        self.last: Trained | None = None
        self.sizes: GateSizes | None = None

    def __call__(self, state: TrainState, trained: Trained) -> None:
        self.last = trained
        if self.history is not None:
            write_history(self.history, trained)
        if self.watch and state.windows % self.every == 0:
            self.sizes = gate_sizes(self.schedule, self.text, state)
            if self.monitor is not None:
                write_gate_sizes(self.monitor, self.sizes)


def _print(
    schedule: Schedule, report: dict[str, Any], last: Trained | None, sizes: GateSizes | None
) -> None:
    console = Console(soft_wrap=True, highlight=False)
    if last is None:
        console.print(f"Nothing to do: {report['windows']} windows are trained already.")
        return
    console.print(
        f"{report['ending']} after window {report['windows']}: loss {last.loss:.5g}, perplexity "
        f"{last.perplexity:.4g}; the {schedule.model.head} head's floor is "
        f"{report['floor']:.5g}, uniform guessing {uniform_loss(schedule.model.num_classes):.5g}; "
        f"{report['windows_per_second']:.0f} windows/s",
        markup=False,
    )
    if sizes is not None:
        console.print(f"Gradients are {sizes.reason}", markup=False)
    if report["ending"] == "interrupted":
        console.print(
            f"Saved to {report['checkpoint']}; go on with --resume."
            if report["checkpoint"]
            else "Nothing is saved: there was no --checkpoint.",
            markup=False,
        )
    console.print(f"Again:  {report['reproduce']}", markup=False)


def _floor(schedule: Schedule) -> float:
    """The head's own."""
    known = levels(schedule.model.num_classes, schedule.model.head)
    return next(level.loss for level in known if level.kind == "floor")


def _opened(path: str, mode: str) -> IO[str]:
    try:
        return Path(path).open(mode, encoding="utf-8")
    except OSError as error:
        raise ValueError(f"--monitor file {path!r} cannot be written: {error.strerror}.") from None
