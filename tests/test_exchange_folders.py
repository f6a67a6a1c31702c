"""A case written into a folder that is there: whole or not at all, and nothing else is lost."""

import os
from pathlib import Path

import pytest
from exchange_files import arrays_of, assert_same_bits, loss_case

from torch_ref.harness.exchange.files import load_case, save_case


def test_an_empty_folder_is_filled_and_one_that_holds_anything_is_not(tmp_path: Path) -> None:
    """The {result} that a program is given is refused, or something of somebody's is lost."""
    for name in ("empty", "full", "empty.npz", "linked"):
        (tmp_path / name).mkdir()
    (tmp_path / "full/.hidden").write_text("mine")
    (tmp_path / "link").symlink_to("linked")
    save_case(loss_case(), tmp_path / "empty")
    assert_same_bits(arrays_of(load_case(tmp_path / "empty")), arrays_of(loss_case()))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    for name in ("empty", "full", "empty.npz", "link"):
        with pytest.raises(ValueError, match=rf"{name} exists already: choose another path"):
            save_case(loss_case(), tmp_path / name)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_the_current_folder_is_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that is in {result} and writes to "." cannot, or writes to what is gone by then."""
    monkeypatch.chdir(tmp_path)
    inside = os.open(".", os.O_RDONLY)
    try:
        for name in (".", str(tmp_path)):
            save_case(loss_case(), name)
            assert_same_bits(arrays_of(load_case(".")), arrays_of(loss_case()))
            assert sorted(os.listdir(inside)) == sorted(os.listdir(tmp_path))
            with pytest.raises(ValueError, match="exists already: choose another path"):
                save_case(loss_case(), name)
            for path in tmp_path.iterdir():
                path.unlink()
    finally:
        os.close(inside)


@pytest.mark.parametrize("after", [0, 3])
def test_an_empty_folder_that_is_half_filled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """Ctrl-C between two files leaves some of them; or a reader finds case.json before the rest."""
    rename, seen = Path.rename, []

    def interrupt(path: Path, target: Path) -> Path:
        if len(seen) == after:
            raise KeyboardInterrupt
        seen.append(target.name)
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", interrupt)
        with pytest.raises(KeyboardInterrupt):
            save_case(loss_case(), tmp_path)
    assert os.listdir(tmp_path) == []
    assert "case.json" not in seen
    save_case(loss_case(), tmp_path)
    assert_same_bits(arrays_of(load_case(tmp_path)), arrays_of(loss_case()))


@pytest.mark.parametrize(
    ("theirs", "words"),
    [("theirs", "Directory not empty"), (".manual-lstm-writing/x.npy", "File exists")],
)
def test_a_folder_that_is_filled_meanwhile_keeps_what_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, theirs: str, words: str
) -> None:
    """Two programs write to one folder, which was empty when both looked."""
    mkdir = Path.mkdir

    def fill_and_make(path: Path) -> None:
        (tmp_path / "case" / theirs).parent.exists() or mkdir((tmp_path / "case" / theirs).parent)
        (tmp_path / "case" / theirs).write_text("first")
        mkdir(path)

    (tmp_path / "case").mkdir()
    monkeypatch.setattr(Path, "mkdir", fill_and_make)
    with pytest.raises(ValueError, match=rf"case cannot be written: {words}\."):
        save_case(loss_case(), tmp_path / "case")
    found = [path for path in (tmp_path / "case").rglob("*") if path.is_file()]
    assert found == [tmp_path / "case" / theirs]
    assert found[0].read_text() == "first"
