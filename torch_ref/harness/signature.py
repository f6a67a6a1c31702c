"""What a callable takes, by its signature."""

import inspect
from collections.abc import Callable
from typing import Any


def arguments_taken(
    function: Callable[..., Any], already: int, names: tuple[str, ...]
) -> tuple[str, ...]:
    """Which of the further arguments a callable takes: by its parameters' names, or number.

    Beside parameters of these names one of another name with a default is its own: cache=cache.
    """
    further = parameters(function, (*range(already), *names))[already:]
    if set(further) & set(names):
        own = _with_defaults(function) - set(names)
        further = tuple(name for name in further if name not in own)
    if further and set(further) <= set(names):
        return tuple(name for name in names if name in further)
    return names[: len(further)]


def parameters(function: Callable[..., Any], default: tuple[Any, ...]) -> tuple[Any, ...]:
    """The names of a callable's parameters by position; `default` where they cannot be told."""
    try:
        found = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return default
    if any(p.kind is p.VAR_POSITIONAL for p in found):
        return default
    return tuple(p.name for p in found if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD))


def check_parameters(
    name: str, function: Callable[..., Any], names: tuple[str, ...], least: int
) -> None:
    """Whether a function can be called with so many arguments by position.

    Args:
        name: of the implementation, for the error.
        names: the arguments, of which all behind the first `least` may be left out.

    Raises:
        ValueError: it takes fewer than the least, demands more than all, or by name.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # a builtin has none to look at
        return
    parameters = signature.parameters
    kinds = [p.kind for p in parameters.values()]
    positional = [
        p for p in parameters.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    demanded = [p for p in parameters.values() if p.default is p.empty]
    by_name = [p for p in demanded if p.kind is p.KEYWORD_ONLY]
    enough = len(positional) >= least or inspect.Parameter.VAR_POSITIONAL in kinds
    if enough and not by_name and sum(p in demanded for p in positional) <= len(names):
        return
    raise ValueError(
        f"{name} has the parameters {signature} but must take "
        f"({', '.join(names)}) by position, of which {' and '.join(names[least:])} may be left out"
        f"{_of_a_class(function, list(parameters))}."
    )


def _of_a_class(function: Callable[..., Any], names: list[str]) -> str:
    """What to give in place of a class, or of a method that has no instance."""
    if inspect.isclass(function):
        return ": it is a class, so give an instance of it, or a method of one"
    return ": it is a method, so give that of an instance" if names[:1] == ["self"] else ""


def _with_defaults(function: Callable[..., Any]) -> set[str]:
    try:
        found = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return set()
    return {p.name for p in found if p.default is not p.empty}
