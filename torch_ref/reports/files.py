"""A report as a file, whole or not at all."""

import errno
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

# A name from the command line may hold bytes that are no UTF-8: they are written as \udcff.
_LONE = "backslashreplace"


def require_writable(target: str | None, what: str) -> None:
    """Before long work: whether what it will be written to can be there, as far as that is known.

    Args:
        target: the file; None is none, and "-" standard output.
        what: it is, for the error: "--json file", "checkpoint".

    Raises:
        ValueError: it is a folder, its folder does not exist, or it may not be written to.
    """
    if target is None or target == "-":
        return
    path = Path(target)
    number = 0
    if path.is_dir():
        number = errno.EISDIR
    elif not path.parent.is_dir():
        number = errno.ENOENT
    elif not os.access(path if path.exists() else path.parent, os.W_OK):
        number = errno.EACCES
    if number:
        raise ValueError(f"{what} {target!r} cannot be written: {os.strerror(number)}.")


def require_apart(files: Mapping[str, str | None]) -> None:
    """Before any work: whether what is read and what is written are files of their own.

    Args:
        files: by the option that names each, a folder for all the files in it. None, "-", and
            what is there but is neither, as a device, count as none.

    Raises:
        ValueError: two of them are the same file, so that one would be lost.
    """
    options: dict[str, str] = {}
    given = {o: t for o, t in files.items() if t is not None and t != "-"}
    folders = {Path(t).resolve(): o for o, t in given.items() if os.path.isdir(t)}
    for option, target in given.items():
        if os.path.exists(target) and not os.path.isfile(target):
            continue
        path = Path(target).resolve()
        inside = [folders[each] for each in path.parents if each in folders and path.exists()]
        other = inside[0] if inside else options.setdefault(str(path), option)
        if other != option:
            raise ValueError(
                f"{option} is {target!r}, which is the file of {other} too: choose another."
            )


def write_whole(text: str, target: str, option: str) -> None:
    """Write a file: the older one stays, whole, until the new one is, whatever happens.

    Args:
        text: what to write, in UTF-8.
        target: the file. A device or a pipe is written to, never replaced; of a link, what it
            points to is.
        option: that named the file, for the error: "--json".

    Raises:
        ValueError: the file cannot be written.
    """
    try:
        if Path(target).exists() and not Path(target).is_file():
            Path(target).write_text(text, encoding="utf-8", errors=_LONE)
            return
        path = Path(target).resolve()
        with tempfile.NamedTemporaryFile(
            "w",
            encoding="utf-8",
            errors=_LONE,
            dir=path.parent,
            prefix=f".{path.name}-",
            delete=False,
        ) as file:
            temporary = Path(file.name)
            try:
                file.write(text)
                file.flush()
                os.umask(umask := os.umask(0))
                temporary.chmod(0o666 & ~umask)  # as open() would
                os.replace(temporary, path)
            except BaseException:  # Ctrl-C too leaves nothing behind
                temporary.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise ValueError(f"{option} file {target!r} cannot be written: {error.strerror}.") from None
