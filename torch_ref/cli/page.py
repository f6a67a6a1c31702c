"""What a command writes beside its report: JSON, and of `check` and `diff` a page."""

from collections.abc import Mapping
from typing import Annotated

import typer

from torch_ref.reports.files import require_apart, require_writable
from torch_ref.reports.html import require_jinja2

Html = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="Write a page for people here: one file, no network."),
]


def check_outputs(html: str | None, json: str | None, read: Mapping[str, str | None]) -> None:
    """ValueError, before any work is done, where the page or the JSON could not be written.

    Or would take the place of what is `read` or written beside it, by its option.
    """
    if html == "-":
        raise ValueError("--html is '-' but must be a file's name: only --json has stdout.")
    require_writable(json, "--json file")
    require_writable(html, "--html file")
    require_apart({**read, "--html": html, "--json": json})
    if html is not None:
        require_jinja2()
