"""What is going on, on a terminal; nothing on a dumb one, in a file or pipe, or if closed."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)

from manual_lstm.train import Trained


@contextmanager
def doing(what: str) -> Iterator[Callable[[str], None]]:
    """A spinner beside `what`; the function that it gives changes the words."""
    console = Console(stderr=True)
    if not console.is_interactive:
        yield lambda _: None
        return
    with console.status(what) as status:
        yield status.update


@contextmanager
def measuring(what: str) -> Iterator[Callable[[float, float], None]]:
    """A bar beside `what` and about how long it takes; its function is told what is done of all."""
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn(what), BarColumn(), "about", TimeRemainingColumn())
    with Progress(
        *columns, "left", console=console, transient=True, disable=not console.is_interactive
    ) as bar:
        task = bar.add_task("", total=1.0)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def counting(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar with how many are done of all; its function is told how many more are."""
    columns = (BarColumn(), MofNCompleteColumn(), f"{what}, about", TimeRemainingColumn(), "left")
    console = Console(stderr=True)
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_interactive
    ) as bar:
        task = bar.add_task("", total=total)
        yield lambda count: bar.advance(task, count)


@contextmanager
def losses(floor: float, windows: int, done: int) -> Iterator[Callable[[Trained], None]]:
    """A bar of a training's windows beside the last one's loss, the head's floor and the rate."""
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    console, began = Console(stderr=True), time.perf_counter()
    with Progress(
        *columns,
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_interactive,
    ) as bar:
        task = bar.add_task("", total=windows, completed=done)

        def show(trained: Trained) -> None:
            rate = (trained.window - done) / max(time.perf_counter() - began, 1e-9)
            bar.update(
                task,
                completed=trained.window,
                description=f"loss {trained.loss:.4f}  perplexity {trained.perplexity:.3f}  "
                f"floor {floor:.4f}  {rate:.0f}/s",
            )

        yield show
