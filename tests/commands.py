"""`manual-lstm` as a function, for the tests of its commands."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from torch_ref.cli import main

Command = Callable[..., tuple[int, str, str]]


def command_in(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """From arguments to (exit status, stdout, stderr), in a folder whose modules are found."""
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["manual-lstm", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        out, err = capsys.readouterr()
        return stopped.value.code or 0, out, err

    return run
