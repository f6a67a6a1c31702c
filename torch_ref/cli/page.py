"""The option that writes a page: of `check` and of `diff`."""

from typing import Annotated

import typer

from torch_ref.reports.html import require_jinja2

Html = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="Write a page for people here: one file, no network."),
]


def check_html(html: str | None) -> None:
    """ValueError, before any work is done, where the page could not be written."""
    if html is None:
        return
    if html == "-":
        raise ValueError("--html is '-' but must be a file's name: only --json has stdout.")
    require_jinja2()
