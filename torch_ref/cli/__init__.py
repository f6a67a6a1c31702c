"""The command `manual-lstm`, one module for each of its commands.

Exit status: 0 agrees; 1 disagrees; 2 wrong usage or input, or an output that cannot be written;
3 the implementation under test crashed; 4 it ran out of time.
"""

import io
import os
import sys
import threading
from _thread import interrupt_main
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn, cast

import typer

from torch_ref.cli.case import case
from torch_ref.cli.check import check
from torch_ref.cli.diff import diff
from torch_ref.cli.init_client import init_client
from torch_ref.cli.mistakes import mistakes
from torch_ref.cli.plateau import plateau
from torch_ref.cli.predict import predict
from torch_ref.cli.train import train
from torch_ref.reports.text import printable

INTERRUPTED = 130
LONGEST = 1000
_AGAIN_SECONDS = 0.02

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",  # in "rich" a bracket in a help text is lost
    help="Verify a hand-written LSTM: forward, backward, loss.",
)
app.command()(diff)
app.command()(check)
app.command()(case)
app.command()(mistakes)
app.command("init-client")(init_client)
app.command()(train)
app.command()(predict)
app.command()(plateau)

# UsageError of the click that typer carries within itself, or of the one beside it.
_UsageError = cast("type[typer.BadParameter]", typer.BadParameter.__base__)


@app.callback(invoke_without_command=True)
def _commands(context: typer.Context) -> None:
    """Without a command, the help and exit status 2."""
    if context.invoked_subcommand is None:
        sys.stdout.write(context.get_help() + "\n")
        raise typer.Exit(2)


def main() -> None:
    """Run the command line; bad input is one line on standard error and exit status 2."""
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    if sys.stdout is None:
        _stop("the output cannot be written: standard output is closed.")
    if isinstance(sys.stdout, io.TextIOWrapper):  # a terminal that is not UTF-8 loses no report
        sys.stdout.reconfigure(errors="backslashreplace")
    if not os.environ.get("COLUMNS", "1").strip("0"):  # of no columns, nothing would be printed
        del os.environ["COLUMNS"]
    try:
        with _no_interrupt_lost():
            status = app(standalone_mode=False)
        sys.stdout.flush()
    except _UsageError as error:
        _stop(_usage(error))
    except ValueError as error:
        _stop(str(error))
    except (MemoryError, OverflowError) as error:
        _stop(f"there is not enough memory ({error}): choose smaller sizes.")
    except OSError as error:
        _stop_unwritten(error)
    except SystemExit as ended:  # typer's own end where nobody reads the output, with status 1
        if isinstance(ended.__context__, OSError):
            _stop_unwritten(ended.__context__)
        raise
    except (KeyboardInterrupt, typer.Abort):
        _stop("interrupted.", INTERRUPTED)
    if status == INTERRUPTED:  # typer itself turns Ctrl-C into this
        _stop("interrupted.", INTERRUPTED)
    sys.exit(status)


@contextmanager
def _no_interrupt_lost() -> Iterator[None]:
    """Python drops a Ctrl-C that comes in a callback of the garbage collector, such as Hypothesis
    has: it is given again a moment later.
    """
    before = sys.unraisablehook

    def hook(unraisable: "sys.UnraisableHookArgs") -> None:
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            before(unraisable)
            return
        again = threading.Timer(_AGAIN_SECONDS, interrupt_main)
        again.daemon = True
        again.start()

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before


def _usage(error: typer.BadParameter) -> str:
    """What typer says, with what came: where pydantic finds the fault that is left out."""
    message = " ".join(error.format_message().split()).replace("Value error, ", "").rstrip(".")
    faults: list[dict[str, object]] = getattr(error.__cause__, "errors", list)()
    if faults and repr(faults[0].get("input")) not in message:
        message += f", but is {faults[0].get('input')!r}"
    return f"{message}{'' if message.endswith('?') else '.'} Try --help."


def _stop_unwritten(error: OSError) -> NoReturn:
    if error.filename is not None:  # it is not standard output
        _stop(f"file {error.filename!r} cannot be used: {error.strerror}.")
    # What is still to be written cannot be: not even Python itself may try again.
    sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    _stop(f"the output cannot be written: {error.strerror}.")


def _stop(message: str, status: int = 2) -> NoReturn:
    # One line, also where the message is an implementation's own and prints an array.
    try:
        sys.stderr.write(f"manual-lstm: {printable(' '.join(message.split()))[:LONGEST]}\n")
        sys.stderr.flush()
    except OSError:  # the status still tells
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    sys.exit(status)
