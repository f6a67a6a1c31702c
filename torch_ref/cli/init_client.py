"""`manual-lstm init-client`: a program in another language to start from."""

from enum import StrEnum
from typing import Annotated

import typer
from rich.console import Console

from torch_ref.harness.clients import write_client


class Language(StrEnum):
    """The languages there is a client for."""

    cpp = "cpp"
    rust = "rust"


_COMPILE = {
    Language.cpp: "c++ -std=c++17 -O2 my_lstm.cpp -o my_lstm",
    Language.rust: "rustc --edition 2021 -O my_lstm.rs",
}
_CHECK = (
    'manual-lstm check --command "./my_lstm {case} {result}"              # loss inside',
    'manual-lstm check --command "./my_lstm {case} {result}" --head none  # no loss: given dy',
)


def init_client(
    language: Annotated[Language, typer.Argument(help="Of the program.")],
    folder: Annotated[str, typer.Argument(metavar="DIR", help="Where to; created if missing.")],
) -> None:
    """Write a program that reads cases and writes results, to put your LSTM into.

    It compiles as it is and answers with zeros. Existing files are never overwritten.
    """
    console = Console(soft_wrap=True, highlight=False)
    for path in write_client(language.value, folder):
        console.print(str(path), markup=False)
    console.print(f"\nPut your LSTM into it; then, in {folder}:", markup=False)
    for line in (_COMPILE[language], *_CHECK):
        console.print(f"    {line}", markup=False)
