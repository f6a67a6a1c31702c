"""The command `manual-lstm`, also as `python -m torch_ref`."""

from torch_ref.interrupts import leaving_at_once


def run() -> None:
    """Import the command, which takes a second, and run it; Ctrl-C is one line from the start."""
    with leaving_at_once():
        from torch_ref.cli import main
    main()


if __name__ == "__main__":
    run()
