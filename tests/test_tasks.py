"""Alphabets, text files and windows."""

import os
import string
import threading

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from manual_lstm import Text, alphabet, one_hot, read_text, window

MARK = "\ufeff"  # the byte order mark


def test_an_alphabet_in_another_order():
    """26 symbols are a to z, 2 are "ab", and 56 are all different."""
    assert "".join(alphabet(26).symbols) == string.ascii_lowercase
    assert alphabet(2).symbols == ("a", "b")
    assert alphabet(1).symbols == ("a",)
    assert len(set(alphabet(56).symbols)) == 56
    assert alphabet(56).indices.tolist() == list(range(56))


@given(
    text=st.text(st.characters(exclude_categories=["Cs"]), min_size=2).filter(
        lambda text: text[0] != MARK
    )
)
@example(text="a\r\nb\rc\n")
@example(text=f"a{MARK}")
def test_a_text_that_comes_back_changed(text, tmp_path_factory):
    """The indices spell the file, line ends and all, and the symbols are sorted."""
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_bytes(text.encode())
    for given_path in (path, str(path)):
        read = read_text(given_path)
        assert "".join(read.symbols[k] for k in read.indices) == text
        assert list(read.symbols) == sorted(set(text))


def test_a_byte_order_mark_that_is_learnt(tmp_path):
    """Text from some editors has one symbol more than it seems to, at the very start."""
    path = tmp_path / "text.txt"
    path.write_bytes("ab".encode("utf-8-sig"))
    assert read_text(path).symbols == ("a", "b")


@given(
    length=st.integers(1, 9),
    steps=st.integers(1, 20),
    batch=st.integers(1, 12),
    start=st.integers(0, 30),
)
def test_a_target_that_is_not_the_next_symbol(length, steps, batch, start):
    """Targets are the indices one step on, members are spread over the text, and it goes round."""
    text = Text(
        tuple(string.ascii_lowercase[:length]), np.random.default_rng(0).permutation(length)
    )
    indices, targets = window(text, steps, batch, start)
    assert indices.shape == targets.shape == (steps, batch)
    endless = list(text.indices) * (steps + batch + start + 2)
    for b in range(batch):
        first = start + b * length // batch
        assert indices[:, b].tolist() == endless[first : first + steps]
        assert targets[:, b].tolist() == endless[first + 1 : first + 1 + steps]


def test_a_text_from_a_pipe_that_is_cut_or_refused(tmp_path):
    """What a program writes is read to its end, however it comes."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_text("ba" * 50_000))
    writer.start()
    read = read_text(pipe)
    writer.join()
    assert read.symbols == ("a", "b")
    assert read.indices.tolist() == [1, 0] * 50_000


@given(classes=st.integers(1, 9), dtype=st.sampled_from(["float32", "float64"]), data=st.data())
def test_a_row_that_is_not_one_hot(classes, dtype, data):
    """Each row has a 1 at its index and 0 elsewhere, in the dtype asked for."""
    indices = (
        np.array(data.draw(st.lists(st.lists(st.integers(0, classes - 1), min_size=2, max_size=2))))
        .reshape(-1, 2)
        .astype(int)
    )
    rows = one_hot(indices, classes, dtype)
    assert rows.dtype == dtype
    assert rows.shape == (*indices.shape, classes)
    assert np.all((rows == 1) == (np.arange(classes) == indices[..., None]))
    assert np.all((rows == 0) | (rows == 1))


@pytest.mark.parametrize("index", [-1, 3])
def test_an_index_that_wraps_round(index):
    """An index out of range is an error, not the row of another class."""
    with pytest.raises(ValueError, match=rf"indices\[0, 1\] is {index} but must be from 0 to 2"):
        one_hot(np.array([[0, index]]), 3)
