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
    """From arguments to (exit status, stdout, stderr), in a folder whose modules are found.

    They are forgotten after each run: the next folder may have others of the same names.
    """
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["manual-lstm", *map(str, arguments)])
        before = set(sys.modules)
        with pytest.raises(SystemExit) as stopped:
            main()
        for name in set(sys.modules) - before:
            if Path(getattr(sys.modules[name], "__file__", None) or "/").is_relative_to(folder):
                del sys.modules[name]
        out, err = capsys.readouterr()
        return stopped.value.code or 0, out, err

    return run
