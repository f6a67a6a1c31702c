"""The command `manual-lstm`, one module for each of its commands.

Exit status: 0 agrees; 1 disagrees; 2 wrong usage or input; 3 the implementation under test
crashed; 4 it ran out of time.
"""

import sys

import typer

from torch_ref.cli.case import case
from torch_ref.cli.check import check
from torch_ref.cli.diff import diff
from torch_ref.cli.init_client import init_client
from torch_ref.cli.plateau import plateau
from torch_ref.cli.predict import predict
from torch_ref.cli.train import train

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Verify a hand-written LSTM: forward, backward, loss.",
)
app.command()(diff)
app.command()(check)
app.command()(case)
app.command("init-client")(init_client)
app.command()(train)
app.command()(predict)
app.command()(plateau)


def main() -> None:
    """Run the command line; bad input is one line on standard error and exit status 2."""
    try:
        app()
    except ValueError as error:
        sys.stderr.write(f"manual-lstm: {error}\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.stderr.write("manual-lstm: interrupted.\n")
        sys.exit(130)
