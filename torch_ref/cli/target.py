"""The implementation that `check` is told of, and the files that it is made of."""

import importlib
import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch_ref.harness.contract import Implementation, as_implementation
from torch_ref.harness.theirs import raised, theirs
from torch_ref.reports.files import require_apart


def load_target(target: str) -> Implementation:
    """Import package.module:object, the current folder first.

    Raises:
        ValueError: there is no such module or object, or it is neither callable nor an
            Implementation.
    """
    module_name, _, attribute = target.partition(":")
    if not module_name or not attribute:
        raise ValueError(f"target is {target!r} but must be package.module:object.")
    if module_name.endswith(".py") or os.sep in module_name:
        path = Path(module_name).with_suffix("")
        named = path.name if path.is_absolute() or ".." in path.parts else ".".join(path.parts)
        raise ValueError(
            f"target is {target!r} but must be package.module:object, a module's name and not its "
            f"file's: {named}:{attribute}, from the folder that it is imported from."
        )
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        with theirs():
            found: Any = importlib.import_module(module_name)
    except Exception as error:
        raise ValueError(f"target {target!r} cannot be imported: {raised(error)}.") from None
    for name in attribute.split("."):
        if not hasattr(found, name):
            raise ValueError(f"target {target!r}: {module_name} has no {attribute}.")
        found = getattr(found, name)
    return as_implementation(found, name=target)


def require_unread(implementation: Implementation, written: Mapping[str, str | None]) -> None:
    """That no report takes the place of a module that is loaded, or of a file of the program.

    Args:
        written: the reports' files by their options.

    Raises:
        ValueError: one would.
    """
    taken = {os.path.realpath(file) for file in written.values() if file not in (None, "-")}
    modules = [getattr(module, "__file__", None) for module in [*sys.modules.values()]]
    for file in (*modules, *shlex.split(implementation.command or "")) if taken else ():
        if file and os.path.realpath(file) in taken:
            require_apart({implementation.name: file, **written})
