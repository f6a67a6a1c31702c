"""What a person reads: the table, the names of elements, the sentence."""

import errno
import io
import json
import os
import re
from unittest import mock

import numpy as np
import pytest
from rich.console import Console

from manual_lstm.plateau import levels
from manual_lstm.train import Trained
from torch_ref import compare_gradients
from torch_ref.harness.campaign import CheckReport
from torch_ref.harness.search import Failure
from torch_ref.reports.as_json import comparison_json, write_json
from torch_ref.reports.check_text import remarks
from torch_ref.reports.files import require_apart, require_writable, write_whole
from torch_ref.reports.names import element_name, locate
from torch_ref.reports.plots import plot_history
from torch_ref.reports.text import comparison_table, summary

LARGE = {
    "loss": (),
    "h_n": (12, 128, 1024),
    "dweight_ih_l11": (4096, 1024),
    "dweight_out": (1000, 1024),
    "dx": (1000, 128, 512),
}


def printed(comparison, width=80):
    console = Console(file=io.StringIO(), width=width)
    console.print(comparison_table(comparison, width=width))
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())


def small_and_wrong(actual):
    expected = {"dbias_l0": np.arange(8.0), "dx": np.ones((2, 1, 3))}
    return compare_gradients(expected | actual, expected, {"dbias_l0": 0.5, "dx": 0.5})


@pytest.mark.parametrize(
    ("name", "shape", "index", "words"),
    [
        ("dweight_ih_l0", (20, 4), (7, 1), "f[2] x[1]"),
        ("dweight_ih_l12", (20, 5), (0, 4), "i[0] x[4]"),
        ("dweight_hh_l1", (20, 5), (14, 3), "g[4] h[3]"),
        ("dbias_l0", (20,), (19,), "o[4]"),
        ("dweight_out", (3, 5), (2, 4), "class 2 h[4]"),
        ("dbias_out", (3,), (1,), "class 1"),
        ("dx", (6, 3, 4), (0, 1, 3), "t=0 b=1 x[3]"),
        ("y", (6, 3, 5), (5, 2, 4), "t=5 b=2 h[4]"),
        ("h_n", (2, 3, 5), (1, 2, 4), "l=1 b=2 h[4]"),
        ("c_n", (2, 3, 5), (1, 2, 0), "l=1 b=2 c[0]"),
        ("dh0", (2, 3, 5), (0, 0, 4), "l=0 b=0 h[4]"),
        ("dc0", (2, 3, 5), (1, 0, 4), "l=1 b=0 c[4]"),
        ("dz_l1", (6, 3, 20), (0, 1, 7), "t=0 b=1 f[2]"),
        ("dh_l0", (6, 3, 5), (5, 0, 4), "t=5 b=0 h[4]"),
        ("dc_l0", (6, 3, 5), (5, 0, 4), "t=5 b=0 c[4]"),
        ("loss", (), (), ""),
        ("dx", (6, 3, 4), None, ""),
        ("dpeephole", (5,), (3,), "(3,)"),
    ],
)
def test_an_element_under_another_name(name, shape, index, words):
    """An element is named by its gate and unit, or by time, member and unit."""
    assert element_name(name, shape, index) == words


@pytest.mark.parametrize(
    ("name", "shape", "index", "found"),
    [
        ("dz_l1", (5, 2, 12), (3, 1, 7), {"layer": 1, "time": 3, "gate": "g"}),
        ("dc_l1", (5, 2, 3), (3, 1, 2), {"layer": 1, "time": 3}),
        ("dweight_hh_l1", (12, 3), (4, 0), {"layer": 1, "gate": "f"}),
        ("dx", (5, 2, 3), (3, 1, 2), {"time": 3}),
        ("dh0", (2, 2, 3), (1, 0, 2), {"layer": 1}),
        ("dbias_out", (4,), (2,), {}),
    ],
)
def test_a_script_that_is_sent_to_another_element(name, shape, index, found):
    """Each tensor's layer, step and gate for a script; null for what it does not have."""
    nothing = {"tensor": name, "layer": None, "time": None, "gate": None}
    assert locate(name, shape, index) == nothing | found | {"index": list(index)}


def test_a_remark_on_nothing_or_none_on_a_tensor_without_elements():
    """What cannot be compared is told with its reason, and no check that holds is not listed."""
    tensors = compare_gradients({"dx": np.ones((2, 3))}, {"dx": np.ones((2, 1, 3))}, {"dx": 1.0})
    failures = (Failure("check_x", "", "It is wrong."),)
    told = "dx: shape (2, 3), expected (2, 1, 3)."
    for passed, holds in (((), []), (("check_y", "check_z"), ["Holds: check_y, check_z."])):
        report = CheckReport(
            "mine", ("float64",), passed, {}, failures, tensors.tensors, (), 3, 0.0
        )
        assert list(remarks(report, None)) == [told, *holds]


def test_a_line_that_does_not_fit():
    """Large shapes and indices leave every name, verdict and column within 80 columns."""
    tensors = {
        name: np.broadcast_to(np.float64(-1e-100), shape[:1] + (1,) * len(shape[1:]))
        for name, shape in LARGE.items()
    }
    wrong = {name: value + 1e-3 for name, value in tensors.items()}
    text = printed(compare_gradients(wrong, tensors, dict.fromkeys(tensors, 1e-300)))
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    for name in tensors:
        (line,) = (line for line in lines if line.startswith(f"{name} "))
        assert line.split()[-1] == "WRONG"
        assert ">999%" in line
    assert "…" not in text


def test_a_narrow_terminal_that_cuts_off_the_verdict():
    """In 40 columns every name, share and verdict is whole, and a NaN says so."""
    wrong = {"dx": np.full((2, 1, 3), np.nan)}
    text = printed(small_and_wrong(wrong), width=40)
    assert "…" not in text
    bias, dx, *_ = text.splitlines()[1:]
    assert bias.split() == ["dbias_l0", "0.0e+00", "0%", "ok"]
    assert dx.split()[0] == "dx"
    assert dx.split()[-1] == "WRONG"
    assert "nan where 1 was" in " ".join(text.split())


def test_a_table_that_hides_a_wrong_tensor():
    """Right and wrong tensors each have their line, and what cannot be compared says why."""
    text = printed(small_and_wrong({"dx": np.full((2, 1, 3), np.nan), "extra": np.ones(1)}))
    bias, dx, more, extra = text.splitlines()[1:]
    assert bias.split()[0] == "dbias_l0"
    assert bias.endswith("ok")
    assert dx.split()[0] == "dx"
    assert dx.endswith("WRONG")
    assert "t=0 b=0 x[0] nan where 1" in dx
    assert more.strip() == "was expected"
    assert "not expected" in extra
    assert extra.endswith("WRONG")


def test_a_sentence_that_names_another_tensor():
    """Agreement counts the tensors and names the one nearest its budget; disagreement names all."""
    agree = small_and_wrong({"dx": np.full((2, 1, 3), 1.25)})
    assert summary(agree, "mine", "the twin").plain == (
        "AGREES. mine and the twin agree in all 2 tensors: rounding explains every difference. "
        "dx uses most of its budget, 50%."
    )
    disagree = small_and_wrong({"dx": np.full((2, 1, 3), 2.0)})
    assert summary(disagree, "mine", "the twin").plain == (
        "DISAGREES. mine and the twin differ by more than rounding explains in 1 of 2 tensors: dx."
    )
    nothing = compare_gradients({}, {}, {})
    assert summary(nothing, "mine", "the twin").plain == (
        "DISAGREES. mine and the twin have no tensor to compare."
    )


def test_a_number_that_json_does_not_know():
    """NaN and infinity are null, and the text is JSON."""
    report = comparison_json(small_and_wrong({"dx": np.full((2, 1, 3), np.inf)}), "again")
    entry = report["tensors"][1]
    assert (entry["max_abs"], entry["verdict"], entry["worst_index"]) == (
        None,
        "disagree",
        (0, 0, 0),
    )
    assert json.loads(json.dumps(report, allow_nan=False))["reproduce"] == "again"


@pytest.mark.parametrize(
    ("name", "reason"),
    [("", "Is a directory"), ("nowhere/x", "No such file or directory"), ("new", ""), ("old", "")],
)
def test_a_file_that_is_found_to_be_unwritable_after_the_work(tmp_path, name, reason):
    """What can be known before is said before, in the words that come after."""
    (tmp_path / "old").write_text("older", encoding="utf-8")
    path = str(tmp_path / name)
    if not reason:
        require_writable(path, "--json file")
        assert [each.name for each in tmp_path.iterdir()] == ["old"]
        return
    sentence = re.escape(f"--json file {path!r} cannot be written: {reason}.")
    with pytest.raises(ValueError, match=sentence):
        require_writable(path, "--json file")
    with pytest.raises(ValueError, match=sentence):
        write_whole("text", path, "--json file")


@pytest.mark.parametrize("name", ["old", "new"])
def test_a_read_only_disk_that_is_told_as_a_missing_permission(tmp_path, monkeypatch, name):
    """Nobody can be asked for the permission; what the system says is told."""
    (tmp_path / "old").write_text("older", encoding="utf-8")

    def read_only(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "open", read_only)
    monkeypatch.setattr(os, "access", lambda *_: False)
    path = str(tmp_path / name)
    told = re.escape(f"--json file {path!r} cannot be written: Read-only file system.")
    with pytest.raises(ValueError, match=told):
        require_writable(path, "--json file")
    with pytest.raises(ValueError, match=told):
        write_whole("text", path, "--json file")


def test_an_older_plot_that_a_full_disk_takes_with_it(tmp_path, monkeypatch):
    """matplotlib empties the file before it has drawn the new one."""
    path = tmp_path / "plot.png"
    path.write_bytes(b"older")
    full = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(os, "replace", mock.Mock(side_effect=full))
    with pytest.raises(ValueError, match=r"^plot .* cannot be written: No space left on device\."):
        plot_history([Trained(1, 1.0, 0.5)], levels(2), path)
    assert path.read_bytes() == b"older"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_is_read_or_written_as_another_too(tmp_path, monkeypatch):
    """A text is replaced by a report on it, or two records are mixed in one file."""
    (tmp_path / "text").write_text("ab", encoding="utf-8")
    (tmp_path / "link").symlink_to("text")
    monkeypatch.chdir(tmp_path)
    not_yet = f"../{tmp_path.name}/new"
    for one, other in (("text", "./text"), ("link", str(tmp_path / "text")), ("new", not_yet)):
        with pytest.raises(ValueError, match=r"^--json is .*, which is the file of --text too: "):
            require_apart({"--text": one, "--history": None, "--json": other})
    require_apart({"--text": "text", "--json": "-", "--html": "-"})
    require_apart({"--text": "a", "--json": "b", "--monitor": None, "--plot": None})
    require_apart({"--history": "/dev/null", "--monitor": "/dev/null"})
    require_apart({"--case": str(tmp_path), "--dump": str(tmp_path), "--json": "new"})
    with pytest.raises(ValueError, match=r"^--json is 'text', which is the file of --case too: "):
        require_apart({"--case": str(tmp_path), "--json": "text"})


def test_half_a_report(tmp_path, monkeypatch):
    """What fails on the way leaves the older report as it was, and no other file."""
    path = tmp_path / "report.json"
    path.write_text("older", encoding="utf-8")
    with pytest.raises(ValueError, match="JSON"):
        write_json({"scale": float("nan")}, str(path))

    for error, told in (
        (OSError(errno.ENOSPC, "No space left on device"), ValueError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ):
        monkeypatch.setattr(os, "replace", mock.Mock(side_effect=error))
        with pytest.raises(told, match=r"cannot be written: No space left on device\.|^$"):
            write_json({"scale": 1.0}, str(path))
        assert path.read_text(encoding="utf-8") == "older"
        assert list(tmp_path.iterdir()) == [path]


def test_a_report_that_only_its_writer_can_read(tmp_path):
    """A temporary file is its owner's alone; the report that it becomes is not."""
    path = tmp_path / "report.json"
    write_json({"scale": 1.0}, str(path))
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_pipe_that_is_taken_for_a_missing_folder():
    """What /dev/stdout and a shell's >(...) are: of a pipe the link leads to no path."""
    reading, writing = os.pipe()
    try:
        target = f"/dev/fd/{writing}"
        require_writable(target, "--json file")
        write_whole("text", target, "--json file")
        assert os.read(reading, 10) == b"text"
    finally:
        os.close(reading)
        os.close(writing)


def test_links_in_a_circle_that_are_a_traceback(tmp_path):
    """What is read is named by its reader; here it is a file like any other."""
    circle = tmp_path / "circle"
    circle.symlink_to(circle)
    require_apart({"--case": str(circle), "--json": str(tmp_path / "report.json")})
    with pytest.raises(ValueError, match="cannot be written: Too many levels of symbolic links"):
        write_whole("text", circle, "--json file")
