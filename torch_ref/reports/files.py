"""A report as a file, whole or not at all."""

import errno
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

# A name from the command line may hold bytes that are no UTF-8: they are written as \udcff.
_LONE = "backslashreplace"
# Of a file on its way: short, as the file's own name may be as long as a name can be.
_PREFIX = ".manual-lstm-"


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
    with _refused(target, what):
        _try_to_write(target)


def _try_to_write(target: str) -> None:
    """OSError where `write_whole` would have one. What is there stays, and nothing new is left."""
    mode = _mode(target)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if stat.S_ISREG(mode):
        os.close(os.open(target, os.O_WRONLY))
    if stat.S_ISREG(mode) or not mode:
        with tempfile.TemporaryFile(dir=_place(target).parent):
            pass


def _mode(target: str) -> int:
    """What the system says a file is, a pipe of which a link has no path too; 0 for none."""
    try:
        return os.stat(target).st_mode
    except FileNotFoundError:
        return 0


def _place(target: str) -> Path:
    """Where a file is or will be, whatever links lead there."""
    if not target:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    return Path(os.path.realpath(target))


@contextmanager
def _refused(target: str, what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ValueError(f"{what} {target!r} cannot be written: {error.strerror}.") from None


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
    folders = {Path(os.path.realpath(t)): o for o, t in given.items() if os.path.isdir(t)}
    for option, target in given.items():
        if os.path.exists(target) and not os.path.isfile(target):
            continue
        path = Path(os.path.realpath(target))  # links in a circle are a path too
        inside = [
            folders[each] for each in path.parents if each in folders and os.path.exists(path)
        ]
        other = inside[0] if inside else options.setdefault(str(path), option)
        if other != option:
            raise ValueError(
                f"{option} is {target!r}, which is the file of {other} too: choose another."
            )


def write_whole(content: str | bytes, target: str | Path, what: str) -> None:
    """Write a file: the older one stays, whole, until the new one is, whatever happens.

    Args:
        content: what to write; a text in UTF-8.
        target: the file. A device or a pipe is written to, never replaced; of a link, what it
            points to is.
        what: it is, for the error: "--json file".

    Raises:
        ValueError: the file cannot be written.
    """
    target = os.fspath(target)
    raw = content.encode(errors=_LONE) if isinstance(content, str) else content
    with _refused(target, what):
        path, mode = _place(target), _mode(target)
        if mode and not stat.S_ISREG(mode):
            Path(target).write_bytes(raw)
            return
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=_PREFIX, delete=False) as file:
            temporary = Path(file.name)
            try:
                file.write(raw)
                file.flush()
                os.umask(umask := os.umask(0))
                temporary.chmod(0o666 & ~umask)  # as open() would
                os.replace(temporary, path)
            except BaseException:  # Ctrl-C too leaves nothing behind
                temporary.unlink(missing_ok=True)
                raise
