"""Which exceptions are an implementation's own, and which are about what it was asked."""

from collections.abc import Iterator
from contextlib import contextmanager

_NOTE = "Raised by the implementation under test."


@contextmanager
def theirs() -> Iterator[None]:
    """Around a call of somebody's code: what it raises is noted to be its own."""
    try:
        yield
    except Exception as error:
        error.add_note(_NOTE)
        raise


def is_theirs(error: BaseException) -> bool:
    """Whether an exception comes from within `theirs`."""
    return _NOTE in getattr(error, "__notes__", ())
