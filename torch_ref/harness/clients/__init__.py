"""What a program in another language starts from: a file that reads and writes, and a skeleton."""

import os
from contextlib import ExitStack
from importlib.resources import files
from pathlib import Path

LANGUAGES = ("cpp", "rust")


def write_client(language: str, folder: str | Path) -> tuple[Path, ...]:
    """Write the files that a client in another language starts from, all or none.

    Args:
        language: one of LANGUAGES.
        folder: is created if it does not exist.

    Returns:
        The paths of the files.

    Raises:
        ValueError: another language, a file that exists already, or one that cannot be written.
    """
    if language not in LANGUAGES:
        raise ValueError(f"language is {language!r} but must be one of: {', '.join(LANGUAGES)}.")
    sources = sorted(files(__package__).joinpath(language).iterdir(), key=lambda file: file.name)
    targets = tuple(Path(folder) / source.name for source in sources)
    for target in targets:
        if os.path.lexists(target):
            raise ValueError(f"{target} exists already: choose another folder or remove it.")
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with ExitStack() as undo:
            for source, target in zip(sources, targets, strict=True):
                with target.open("xb") as file:
                    undo.callback(target.unlink)
                    file.write(source.read_bytes())
            undo.pop_all()
    except OSError as error:
        raise ValueError(
            f"{error.filename or folder} cannot be written: {error.strerror}."
        ) from None
    return targets
