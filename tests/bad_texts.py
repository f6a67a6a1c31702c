"""Text files that no model can learn from."""

from pathlib import Path

BAD_TEXTS = {
    "missing": (None, "cannot be read: No such file or directory."),
    "a folder": ("folder", "cannot be read: Is a directory."),
    "empty": (b"", "has 0 characters but must have at least 2: each one has to predict the next."),
    "one character": ("é".encode(), "has 1 characters but must have at least 2"),
    "endless": ("endless", "has more than 268435456 bytes but must have at most so many"),
    "not UTF-8, after a mark": (b"\xef\xbb\xbfa\xff", "is not UTF-8 (byte 4) but must be."),
    "not UTF-8": (b"ab\xffcd", "is not UTF-8 (byte 2) but must be."),
}


def bad_text(folder: Path, kind: str) -> tuple[Path, str]:
    """The path of such a file, and how the refusal goes on after its name."""
    content, message = BAD_TEXTS[kind]
    path = folder / "text.txt"
    if content == "folder":
        path.mkdir()
    elif content == "endless":
        path.symlink_to("/dev/zero")
    elif isinstance(content, bytes):
        path.write_bytes(content)
    return path, message
