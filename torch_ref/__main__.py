"""`python -m torch_ref` is the command `manual-lstm`."""

from torch_ref.cli import main

main()
