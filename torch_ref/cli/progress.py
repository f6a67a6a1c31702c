"""What is going on, on a terminal; nothing where standard error is a file, a pipe, or closed."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console


@contextmanager
def doing(what: str) -> Iterator[Callable[[str], None]]:
    """A spinner beside `what`; the function that it gives changes the words."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _: None
        return
    with console.status(what) as status:
        yield status.update
