"""What `check` and `diff` write beside their report: a page, and JSON."""

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

    Or would take the place of what is `read`, by its option.
    """
    require_apart({**read, "--html": html, "--json": json})
    require_writable(json, "--json file")
    if html is None:
        return
    if html == "-":
        raise ValueError("--html is '-' but must be a file's name: only --json has stdout.")
    require_writable(html, "--html file")
    require_jinja2()
