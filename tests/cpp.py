"""The system's C++ compiler, and the sources that the tests compile."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from torch_ref.harness import clients

SOURCES = Path(__file__).parent / "foreign"
HEADER = Path(clients.__file__).parent / "cpp"
STRICT = ("-std=c++17", "-O0", "-Wall", "-Wextra", "-Wpedantic", "-Werror")


def compiler() -> str:
    """The system's C++ compiler; CI must have one, elsewhere the tests are skipped without."""
    found = next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))), None)
    if found is None:
        reason = "there is no C++ compiler: none of c++, g++ and clang++ was found"
        pytest.fail(reason) if "CI" in os.environ else pytest.skip(reason)
    return found


def compile_program(sources: list[Path], target: Path, *options: str) -> Path:
    words = [compiler(), *STRICT, *options, *map(str, sources), "-o", str(target)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target
