"""Checkpoints: damage is told, and a file is whole or not there."""

import io
import json
import os

import numpy as np
import pytest
from test_train import AB, run, small

from manual_lstm.checkpoint import load_checkpoint, previous_path, save_checkpoint
from manual_lstm.train import (
    start,
)


def saved(path, windows=3):
    schedule = small()
    state = run(schedule, AB, start(schedule), windows)
    save_checkpoint(path, schedule, AB, state)
    return schedule, state


def test_a_file_cut_off_anywhere(tmp_path):
    """A checkpoint that lacks its end, at any length, is refused, and the one before it named."""
    path = tmp_path / "run.npz"
    saved(path, 2)
    saved(path, 3)
    content = path.read_bytes()
    for length in range(0, len(content), 97):
        path.write_bytes(content[:length])
        with pytest.raises(
            ValueError,
            match=r"torn or no \.npz file .* '.*run\.previous\.npz', is whole: window 2\.",
        ):
            load_checkpoint(path)
    assert load_checkpoint(previous_path(path))[2].windows == 2


def test_a_byte_that_changed(tmp_path):
    """A flipped byte in an array's data is found by its checksum, never trained on."""
    path = tmp_path / "run.npz"
    _, state = saved(path)
    content = bytearray(path.read_bytes())
    place = bytes(content).index(state.params["weight_hh_l0"].tobytes())
    content[place] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(ValueError, match=r"is torn or no \.npz file .*weight_hh_l0"):
        load_checkpoint(path)


def rewritten(path, change):
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    about = json.loads(str(arrays["about"]))
    change(arrays, about)
    if "about" in arrays:
        arrays["about"] = np.array(json.dumps(about))
    np.savez(path, **arrays)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda arrays, about: about.update(version=2), "has version 2 but must have 1"),
        (lambda arrays, about: about.update(format="x"), "is not one: it has no entry that says"),
        (lambda arrays, about: arrays.pop("about"), "is not one: it has no entry that says"),
        (lambda arrays, about: arrays.pop("h"), "is damaged: KeyError 'h'"),
        (lambda arrays, about: about.pop("windows"), "is damaged: KeyError 'windows'"),
        (lambda arrays, about: arrays.pop("params.bias_l0"), "is damaged: it has .* but must have"),
        (lambda arrays, about: arrays.pop("second.bias_l0"), "is damaged: it has"),
        (
            lambda arrays, about: arrays.update({"params.bias_l0": np.zeros(8)}),
            r"is damaged: bias_l0 is float64 of shape \(8,\) but must be float32",
        ),
        (lambda arrays, about: arrays.update(c=arrays["c"][0]), "is damaged: c has shape"),
        (lambda arrays, about: arrays.update(text=np.array([0, 2])), r"is damaged: text\[1\] is 2"),
        (lambda arrays, about: arrays.update(text=arrays["text"][:0]), r"text has shape \(0,\)"),
        (lambda arrays, about: about["schedule"].update(steps=0), "is damaged: steps is 0"),
        (lambda arrays, about: about.update(random={}), "is damaged: "),
    ],
)
def test_a_checkpoint_that_is_foreign_newer_or_incomplete(change, message, tmp_path):
    """Each is refused with a sentence, and the one before it stays usable."""
    path = tmp_path / "run.npz"
    saved(path)
    rewritten(path, change)
    with pytest.raises(ValueError, match=message):
        load_checkpoint(path)
    saved(path)
    saved(path)
    rewritten(path, change)
    with pytest.raises(ValueError, match="is whole: window 3"):
        load_checkpoint(path)


def test_a_pickle_in_a_checkpoint(tmp_path):
    """An object array is refused before anything in it runs, and none is ever written."""

    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    path = tmp_path / "run.npz"
    np.savez(path, about=np.array([Bomb()], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"is torn or no \.npz file"):
        load_checkpoint(path)
    assert not (tmp_path / "ran").exists()
    saved(path)
    with np.load(path, allow_pickle=False) as file:
        assert all(file[name].dtype != object for name in file.files)


def test_another_file_than_a_checkpoint(tmp_path):
    """A missing file, a text, one .npy array and somebody's .npz are refused."""
    path = tmp_path / "x.npz"
    with pytest.raises(ValueError, match="cannot be read: No such file"):
        load_checkpoint(path)
    path.mkdir()
    with pytest.raises(ValueError, match="is a folder or a device but must be a file"):
        load_checkpoint(path)
    path.rmdir()
    path.write_text("not an archive")
    with pytest.raises(ValueError, match=r"is torn or no \.npz file"):
        load_checkpoint(path)
    buffer = io.BytesIO()
    np.save(buffer, np.ones(3))
    path.write_bytes(buffer.getvalue())
    with pytest.raises(ValueError, match=r"is torn or no \.npz file"):
        load_checkpoint(path)
    np.savez(path, w=np.ones(3))
    with pytest.raises(ValueError, match="is not one"):
        load_checkpoint(path)


def test_a_checkpoint_that_only_its_writer_can_read(tmp_path):
    """A temporary file is its owner's alone; the checkpoint that it becomes is not."""
    path = tmp_path / "run.npz"
    saved(path)
    saved(path)
    for each in (path, previous_path(path)):
        assert each.stat().st_mode & 0o777 == 0o644


def test_a_write_that_fails_half_way(tmp_path, monkeypatch):
    """A full disk leaves the old checkpoint as it was, and no litter."""
    path = tmp_path / "run.npz"
    schedule, state = saved(path)
    before = path.read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("manual_lstm.checkpoint.os.fsync", full)
        with pytest.raises(ValueError, match="cannot be written: No space left on device"):
            save_checkpoint(path, schedule, AB, run(schedule, AB, state, 5))
    assert path.read_bytes() == before
    assert load_checkpoint(path)[2].windows == 3
    assert [each.name for each in tmp_path.iterdir()] == ["run.npz"]


def test_a_torn_file_that_replaces_the_last_whole_one(tmp_path, monkeypatch):
    """Saving over a torn file keeps the whole one before it until the new one is written."""
    path = tmp_path / "run.npz"
    saved(path, 2)
    schedule, state = saved(path, 3)
    path.write_bytes(path.read_bytes()[:-99])

    def full(_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("manual_lstm.checkpoint.os.fsync", full)
        with pytest.raises(ValueError, match="cannot be written"):
            save_checkpoint(path, schedule, AB, state)
    save_checkpoint(path, schedule, AB, state)
    assert load_checkpoint(path)[2].windows == 3
    assert load_checkpoint(previous_path(path))[2].windows == 2
