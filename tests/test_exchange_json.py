"""A case and a result as one JSON file each, for a language that has nothing else."""

import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exchange_files import arrays_of, assert_same_bits, loss_case, stack_case

from torch_ref import Implementation, diagnose
from torch_ref.compare.diff import run_manual
from torch_ref.harness.campaign import check_implementation
from torch_ref.harness.exchange import archive, document
from torch_ref.harness.exchange.files import load_case, load_result, save_case, save_result
from torch_ref.harness.program import run_program

ROOT = Path(__file__).parents[1]
FORWARDS = {
    "nested": lambda value: value,
    "in one list": lambda value: np.ravel(value).tolist(),
    "without float32's further digits": lambda value: json.loads(
        json.dumps(value, default=str), parse_float=lambda word: float(str(np.float32(word)))
    ),
}


def written(folder: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    """The result of a case as JSON, its arrays changed."""
    path = folder / "result.json"
    save_result(run_manual(stack_case()), stack_case(), path)
    found = json.loads(path.read_text(encoding="utf-8"))
    change(found)
    path.write_text(json.dumps(found), encoding="utf-8")
    return path


@pytest.mark.parametrize("way", FORWARDS)
def test_numbers_that_another_language_writes_otherwise(tmp_path: Path, way: str) -> None:
    """Lists along the axes or one list, all digits of the double or those of the float."""

    def rewrite(found: dict[str, Any]) -> None:
        found["arrays"] = {name: FORWARDS[way](value) for name, value in found["arrays"].items()}

    case = stack_case()
    assert_same_bits(load_result(written(tmp_path, rewrite), case), run_manual(case))


def test_whole_numbers_in_the_place_of_floats(tmp_path: Path) -> None:
    """1.0 is written as 1 in JavaScript, and so is a one-hot x; a class that is 1.0 is no class."""
    case = loss_case()
    save_case(case, tmp_path / "case.json")
    text = (tmp_path / "case.json").read_text(encoding="utf-8")
    found = json.loads(text)
    found["arrays"]["x"] = np.asarray(found["arrays"]["x"]).astype(int).tolist()
    (tmp_path / "case.json").write_text(json.dumps(found), encoding="utf-8")
    assert_same_bits(arrays_of(load_case(tmp_path / "case.json")), arrays_of(case))
    found["arrays"]["targets"] = np.asarray(found["arrays"]["targets"]).astype(float).tolist()
    (tmp_path / "case.json").write_text(json.dumps(found), encoding="utf-8")
    with pytest.raises(ValueError, match=r"targets.*float64"):
        load_case(tmp_path / "case.json")


def test_a_large_number_that_javascript_writes_without_a_point(tmp_path: Path) -> None:
    """Below 1e21 it writes no exponent: of nothing but such numbers no integer holds all."""
    path = written(tmp_path, lambda found: found["arrays"].update(h_n=[10**20] * 20))
    assert load_result(path, stack_case())["h_n"][0, 0, 0] == np.float32(1e20)


def test_a_case_that_is_written_and_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program would fill its time with a file that no result can match."""
    monkeypatch.setattr(document, "MAX_TEXT", 100)
    with pytest.raises(ValueError, match=r"would be JSON of more than 100 bytes: use \.npy files"):
        save_case(stack_case(), tmp_path / "case.json")
    assert not os.listdir(tmp_path)


def array_is(value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda found: found["arrays"].update(h_n=value)


REFUSED = {
    "a word": (array_is([["1.0"]]), "has h_n with '1.0' where a number must be"),
    "true": (array_is([[True]]), "has h_n with True where a number must be"),
    "deeper": (array_is([1, [2]]), "has h_n with a list where a number must be"),
    "ragged": (array_is([[1, 2], [3]]), "has h_n in lists of unequal lengths"),
    "less deep": (array_is([[1], 2]), "has h_n in lists of unequal lengths"),
    "empty": (array_is([[]]), "has h_n of shape (1, 0) but every axis must have at least one"),
    "an object": (array_is({"data": [1]}), "where a number must be"),
    "huge": (array_is([10**400]), "has h_n with a whole number beyond float64"),
    "misshapen": (array_is([1.0] * 7), "h_n has shape (7,) but must be (2, 2, 5)"),
    "null": (array_is([None] * 20), "h_n[0, 0, 0] is nan but every element must be finite"),
    "too large": (array_is([1e39] * 20), "h_n[0, 0, 0] is inf but every element must be finite"),
    "no arrays": (lambda found: found.pop("arrays"), 'has no object "arrays"'),
    "a list": (lambda found: found.update(arrays=[1]), 'has no object "arrays"'),
    "a name": (lambda found: found["arrays"].update({"../h": [1]}), "a name must begin with a"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_json_that_is_misread(tmp_path: Path, what: str) -> None:
    """Not a number, not an array, or not this result: said in a sentence."""
    change, sentence = REFUSED[what]
    path = written(tmp_path, change)
    with pytest.raises(ValueError, match=re.escape(sentence)) as refused:
        load_result(path, stack_case())
    assert str(refused.value).startswith(str(path))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is not JSON"),
        ("[1]", "is not a JSON object"),
        ('{"arrays": {"y": 1, "y": 2}}', "is not JSON (one key twice)"),
        ("[" * 100_000, "is not JSON"),
        ('{"arrays": {}, ' + " " * 200 + "}", "is JSON of more than 100 bytes: use .npy files"),
    ],
)
def test_a_text_that_is_no_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, sentence: str
) -> None:
    """Damaged, or longer than what is taken into memory."""
    if "more than" in sentence:
        for module in (archive, document):
            monkeypatch.setattr(module, "MAX_TEXT", 100)
    (tmp_path / "result.json").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=re.escape(sentence)):
        load_result(tmp_path / "result.json", stack_case())


@pytest.mark.parametrize("endings", [(".json", ".json"), ("", ".json"), (".json", "")])
def test_a_program_that_is_handed_another_file_than_it_asked_for(
    tmp_path: Path, endings: tuple[str, str]
) -> None:
    """JSON on one side of a program, or on both."""
    (block,) = re.findall(
        r"```python\n(import sys\n\nfrom manual_lstm import vjp.*?)```",
        (ROOT / "docs" / "your_lstm.md").read_text(encoding="utf-8"),
        re.DOTALL,
    )
    (tmp_path / "program.py").write_text(block, encoding="utf-8")
    given, made = endings
    command = f"{sys.executable} '{tmp_path / 'program.py'}' {{case}}{given} {{result}}{made}"
    case = stack_case()
    assert_same_bits(run_program(command, case, timeout=60), run_manual(case))


@pytest.fixture
def javascript(tmp_path: Path) -> Callable[[str, str], Implementation]:
    """The page's program in JavaScript, on tests/foreign/lstm.js with a line replaced."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("there is no node to run JavaScript with")
    page = (ROOT / "docs" / "your_lstm.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```javascript\n(.*?)```", page, re.DOTALL)
    (tmp_path / "program.js").write_text(block, encoding="utf-8")

    def make(right: str, wrong: str) -> Implementation:
        source = (ROOT / "tests" / "foreign" / "lstm.js").read_text(encoding="utf-8")
        assert source.count(right) == 1
        (tmp_path / "lstm.js").write_text(source.replace(right, wrong), encoding="utf-8")
        command = f"{node} '{tmp_path / 'program.js'}' {{case}}.json {{result}}.json"
        sizes = {"L": 1, "B": 1}
        return Implementation("js", command=command, head=None, dtype="float64", sizes=sizes)

    return make


def test_javascript_that_is_accused(javascript: Callable[[str, str], Implementation]) -> None:
    """The page's program, nothing replaced."""
    report = check_implementation(javascript("c = c0", "c = c0"), examples=20)
    assert report.verdict == "agree", report.failures


def test_a_wrong_line_of_javascript(javascript: Callable[[str, str], Implementation]) -> None:
    """What is wrong in a language without NumPy is named as everywhere."""
    finding = diagnose(javascript("s.c_before[j] * s.f[j] *", "s.c_before[j] *")).finding
    assert finding is not None
    assert [mistake.identifier for mistake in finding.mistakes] == ["dz_f.1-y"]


def test_a_case_in_json_that_is_no_json_to_others(tmp_path: Path) -> None:
    """One document, an array in a line, each number with all its digits."""
    case = stack_case()
    save_case(case, tmp_path / "case.json")
    lines = (tmp_path / "case.json").read_text(encoding="utf-8").splitlines()
    found = json.loads("\n".join(lines), parse_constant=lambda word: pytest.fail(word))
    assert found["format"] == "manual-lstm-case"
    assert [line for line in lines if line.startswith('    "x": [[[')]
    np.testing.assert_array_equal(np.float32(found["arrays"]["x"]), case.x)
    assert os.listdir(tmp_path) == ["case.json"]
