"""What is imported where: no torch in manual_lstm, and no room that looks upwards."""

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import manual_lstm
import torch_ref

MANUAL = Path(manual_lstm.__file__).parent
TORCH_REF = Path(torch_ref.__file__).parent
ROOMS = ("oracles", "compare", "harness", "diagnosis", "reports", "cli")
# Folders of the diagnosis. The files beside them are what several of them share, or use them all.
FOLDERS = ("backward", "mistakes", "matching", "forward", "locating")
# Folders of the harness, which know nothing of the rest of it.
ALONE = ("layouts", "exchange")
EVERY_MODULE = """
import importlib, json, pkgutil, sys
package = importlib.import_module(sys.argv[1])
if sys.argv[2] == "all":
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
if sys.argv[2] == "names":
    for name in set(package.__all__) - set(sys.argv[3:]):
        getattr(package, name)
print(json.dumps([package.__file__, sorted({name.split(".")[0] for name in sys.modules})]))
"""


def loaded_by(package, extent, path, *without):
    """The top-level modules of a fresh interpreter that has imported a package found on `path`."""
    done = subprocess.run(
        [sys.executable, "-c", EVERY_MODULE, package, extent, *without],
        capture_output=True,
        text=True,
        check=True,
        cwd=path,
        env={**os.environ, "PYTHONPATH": str(path)},
    )
    file, modules = json.loads(done.stdout)
    assert Path(file).parent.parent == Path(path)
    return set(modules)


def test_a_hand_written_lstm_that_needs_torch():
    """No module of manual_lstm loads torch, or anything that verifies it."""
    loaded = loaded_by("manual_lstm", "all", MANUAL.parent)
    assert "numpy" in loaded
    assert not loaded & {"torch", "torch_ref", "pytest", "hypothesis"}


@pytest.mark.parametrize("module", ["__init__.py", "tasks.py"])
def test_a_check_for_torch_that_cannot_fail(tmp_path, module):
    """With `import torch` planted in a copy, the check above sees it."""
    shutil.copytree(MANUAL, tmp_path / "manual_lstm")
    (tmp_path / "torch.py").touch()
    with (tmp_path / "manual_lstm" / module).open("a", encoding="utf-8") as file:
        file.write("\nimport torch\n")
    assert "torch" in loaded_by("manual_lstm", "all", tmp_path)


def test_a_reference_that_needs_the_test_tools():
    """Only what draws cases, or is for pytest, loads Hypothesis or pytest."""
    drawing = ("cases", "check_implementation", "parameters", "parametrize_with_checks")
    loaded = loaded_by("torch_ref", "names", TORCH_REF.parent, *drawing)
    assert "torch" in loaded
    assert not loaded & {"pytest", "_pytest", "hypothesis"}


def test_a_package_that_makes_its_command_wait_for_torch():
    """Before `import torch_ref` is done, Ctrl-C is nobody's but Python's: a traceback."""
    assert not loaded_by("torch_ref", "package", TORCH_REF.parent) & {"torch", "numpy"}


NO_TORCH = """
import sys
from torch_ref.cli import main
sys.argv[1:] = sys.argv[1:] or ["--help"]
try:
    main()
except SystemExit as stopped:
    sys.exit(9 if "torch" in sys.modules else stopped.code)
"""


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ((), 0),
        (("check", "manual_lstm:vjp", "--examples", "3"), 0),
        (("train", "--windows", "1", "--inputs", "2"), 0),
        (("diff", "--steps", "2", "--inputs", "2", "--no-blind-spots"), 9),
    ],
)
def test_a_command_that_waits_for_torch_and_does_not_need_it(words, status, tmp_path):
    """Only what computes the twin imports torch, which takes longer than the rest together."""
    done = subprocess.run(
        [sys.executable, "-c", NO_TORCH, *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(TORCH_REF.parent)},
    )
    assert done.returncode == status, done.stderr


def imports(path, root):
    """The dotted names that a file imports, at its top or anywhere else."""
    package = path.relative_to(root.parent).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            before = package[: len(package) - node.level + 1] if node.level else ()
            origin = ".".join((*before, *([node.module] if node.module else [])))
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def violations(torch_ref_folder, manual_folder):
    """Imports that go up: "file imports name"."""
    found = []
    for path in sorted(manual_folder.rglob("*.py")):
        for name in imports(path, manual_folder):
            top = name.split(".")[0]
            if top not in {"numpy", "manual_lstm"} and top not in sys.stdlib_module_names:
                found.append(f"manual_lstm/{path.name} imports {name}")
    for path in sorted(torch_ref_folder.rglob("*.py")):
        own = path.relative_to(torch_ref_folder).with_suffix("").parts[0]
        if own in ("__init__", "__main__", "interrupts"):
            continue
        if own not in ROOMS:
            found.append(f"torch_ref/{own} is no room")
            continue
        for name in imports(path, torch_ref_folder):
            parts = name.split(".")
            if parts[0] != "torch_ref":
                continue
            room = parts[1] if len(parts) > 1 else ""
            if (own, room) == ("cli", "interrupts"):  # what the command has before its room is up
                continue
            folder = path.parent.name
            later = FOLDERS[FOLDERS.index(folder) + 1 :] if folder in FOLDERS else ()
            apart = folder in ALONE and room == own and parts[2] != folder
            if apart or room not in ROOMS[: ROOMS.index(own) + 1] or set(parts[2:3]) & set(later):
                found.append(f"torch_ref/{own}/{path.name} imports {name}")
    return found


def test_a_room_that_imports_from_one_above():
    """oracles <- compare <- harness <- diagnosis <- reports <- cli, and manual_lstm below all."""
    assert violations(TORCH_REF, MANUAL) == []


@pytest.mark.parametrize(
    ("file", "line", "expected"),
    [
        (
            "torch_ref/oracles/twin.py",
            "from torch_ref.compare.budget import error_budget",
            "torch_ref/oracles/twin.py imports torch_ref.compare.budget.error_budget",
        ),
        (
            "torch_ref/compare/errors.py",
            "def late():\n    import torch_ref.harness.cases",
            "torch_ref/compare/errors.py imports torch_ref.harness.cases",
        ),
        (
            "torch_ref/diagnosis/mistakes/edits.py",
            "from torch_ref.diagnosis.matching.single import Finding",
            "torch_ref/diagnosis/edits.py imports torch_ref.diagnosis.matching.single.Finding",
        ),
        (
            "torch_ref/harness/layouts/names.py",
            "from torch_ref.harness.contract import Implementation",
            "torch_ref/harness/names.py imports torch_ref.harness.contract.Implementation",
        ),
        (
            "torch_ref/reports/text.py",
            "from ..cli import diff",
            "torch_ref/reports/text.py imports torch_ref.cli.diff",
        ),
        (
            "torch_ref/oracles/case.py",
            "from torch_ref import error_budget",
            "torch_ref/oracles/case.py imports torch_ref.error_budget",
        ),
        (
            "torch_ref/oracles/case.py",
            "import torch_ref",
            "torch_ref/oracles/case.py imports torch_ref",
        ),
        ("torch_ref/attic.py", "", "torch_ref/attic is no room"),
        ("manual_lstm/lstm.py", "import torch", "manual_lstm/lstm.py imports torch"),
        (
            "manual_lstm/lstm.py",
            "from torch_ref.oracles import twin",
            "manual_lstm/lstm.py imports torch_ref.oracles.twin",
        ),
    ],
)
def test_an_import_upwards_that_is_not_noticed(tmp_path, file, line, expected):
    """Each planted violation is found."""
    planted = tmp_path / file
    planted.parent.mkdir(parents=True)
    planted.write_text(line, encoding="utf-8")
    assert violations(tmp_path / "torch_ref", tmp_path / "manual_lstm") == [expected]


@pytest.mark.parametrize("package", [manual_lstm, torch_ref], ids=lambda p: p.__name__)
def test_a_public_name_that_the_table_does_not_have(package):
    """`__all__` is sorted, complete and in the package's table."""
    assert package.__all__ == sorted(package.__all__)
    for name in package.__all__:
        assert hasattr(package, name)
        assert f"`{name}`" in package.__doc__, name
