"""A failing case kept as an exchange file, so that it can be run again."""

import hashlib
from pathlib import Path

from torch_ref.harness.exchange.files import save_case
from torch_ref.oracles.case import Case
from torch_ref.oracles.variant import STANDARD


def save_failing(case: Case, folder: str | Path = "out") -> Path:
    """Write a case to folder/failing-XXXXXXXX, named after its numbers; a folder of .npy files.

    Raises:
        ValueError: it cannot be written.
    """
    digest = hashlib.sha256()
    arrays = (*case.params.values(), case.x, case.h0, case.c0, case.dh_n, case.dc_n)
    for array in (*arrays, case.dy if case.targets is None else case.targets):
        digest.update(str((array is None or array.shape, case.dtype)).encode())
        digest.update(b"" if array is None else array.tobytes())
    if case.variant != STANDARD:
        digest.update(str(case.variant).encode())
    path = Path(folder) / f"failing-{digest.hexdigest()[:8]}"
    if path.exists():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"folder {str(folder)!r} cannot be made: {error.strerror}.") from None
    try:
        save_case(case, path)
    except ValueError:
        if not path.exists():  # else another run has just kept the same case
            raise
    return path
