"""The page: what stands on it, where, and what never does."""

import errno
import os
import re
import sys
from itertools import pairwise

import numpy as np
import pytest
from commands import command_in
from pages import HOSTILE, KINDS, parsed, rendered

from torch_ref.diagnosis.elements import Elements
from torch_ref.diagnosis.maps import Maps
from torch_ref.harness.cases import sized_case
from torch_ref.reports.html import Page, render, require_jinja2, write_html

MODULE = """
import manual_lstm
def vjp(params, x, h0, c0):
    outputs, pullback = manual_lstm.vjp(params, x, h0, c0)
    return outputs, lambda dy, dh_n, dc_n: pullback(dy, dh_n, 0 * dc_n)
"""


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_that_needs_something_else(kind):
    """No script, no handler, no address and no other file: a reader needs the page alone."""
    root = parsed(rendered(kind))
    for node in root.all():
        assert node.tag not in ("script", "iframe", "img", "object", "base", "form"), node
        for name, value in node.attributes.items():
            assert not name.startswith("on")
            assert name != "src"
            assert name != "href" or value == "data:,"
    (style,) = root.all("style")
    assert "url(" not in style.text
    assert "@import" not in style.text
    (policy,) = root.all("meta", http_equiv="Content-Security-Policy")
    assert policy.attributes["content"].startswith("default-src 'none'")


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_that_cannot_be_heard(kind):
    """Headings in order, a scope on every table header, words for every picture."""
    root = parsed(rendered(kind))
    (html,) = root.all("html")
    assert html.attributes["lang"] == "en"
    levels = [int(node.tag[1]) for node in root.all() if re.fullmatch("h[1-6]", node.tag)]
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert all(node.attributes["scope"] in ("row", "col") for node in root.all("th"))
    for svg in root.all("svg"):
        assert svg.attributes.get("aria-hidden") == "true" or len(svg.attributes["aria-label"]) > 40
    for scrolled in root.all(class_="scroll"):
        assert scrolled.attributes["tabindex"] == "0"
        named = scrolled.attributes.get("aria-label")
        by = scrolled.attributes.get("aria-labelledby")
        assert named or root.all(id=by)


def test_a_finding_that_does_not_come_first():
    """The verdict, the sentence, and the line as it is and as it should be lead the page."""
    root = parsed(rendered("finding"))
    (verdict,) = root.all("section", aria_label="Verdict")
    assert verdict.text.startswith("DISAGREES. One mistake explains every difference to rounding.")
    assert "What the cell's gradient hands to t-1 lacks the factor f." in verdict.text
    (was,), (right,) = (verdict.all("div", class_=name) for name in ("was", "is"))
    assert was.text == "as it is dc_carry = dc"
    assert right.text == "as it should be dc_carry = dc * f"
    assert "Equation (16a)" in verdict.text
    (main_part,) = root.all("main")
    assert main_part.children[0] is verdict
    assert root.all("title")[0].text == "DISAGREES: mine:finding"


def test_a_step_map_that_says_another_step_than_it_shows():
    """The map of gate by time is right in the last step's columns, and so are its words."""
    root = parsed(rendered("finding"))
    (svg,) = [
        node
        for node in root.all("svg")
        if (node.attributes.get("aria-label") or "").startswith("Map of dz")
    ]
    columns = {}
    for rect in svg.all("rect"):
        kind = rect.attributes["class"]
        if kind != "ring":
            columns.setdefault(int(rect.attributes["x"]), []).append(int(kind[1:]))
    by_step = [columns[x] for x in sorted(columns)]
    assert len(by_step) == 8
    assert max(by_step[7]) <= 2
    assert min(by_step[6][:12]) > 2
    assert max(by_step[6][12:]) <= 2
    words = "Walking backward, right at t=7; first wrong at t=6, in i, f and g, not in o."
    assert words in root.text


def test_a_legend_of_another_scale_than_the_maps():
    """A cell's class is the one that the legend has for its number, and the scale ends at 1/eps."""
    root = parsed(rendered("finding"))
    (legend,) = root.all("ul", class_="legend")
    begins = {kind: int(legend.all("text", class_=f"in on{kind}")[0].text) for kind in (3, 4, 5, 6)}
    numbers = {kind: [] for kind in begins}
    for svg in root.all("svg", role="img"):
        for kind, found in numbers.items():
            found += [int(text.text) for text in svg.all("text", class_=f"in on{kind}")]
    assert all(numbers.values())
    assert max(numbers[3]) <= begins[3]
    assert set(numbers[4]) == {begins[4]}
    assert set(numbers[5]) == {begins[5]}
    assert min(numbers[6]) == begins[6]
    assert begins[6] == min(15, max(numbers[6]))


def test_clipping_that_is_drawn_as_an_error():
    """Gradients that are clipped inside are said to be, and held to what clipping leaves."""
    root = parsed(rendered("clipped"))
    assert "Gradients are clipped inside, by value at 0.05" in root.text
    assert not root.all("rect", class_="ring")


def test_a_tensor_that_is_not_in_the_table():
    """The table has each tensor once, with its verdict beside its name, as the text report."""
    root = parsed(rendered("finding"))
    table = root.all("table")[0]
    headers = [node.text for node in table.all("thead")[0].all("th")]
    assert headers[:3] == ["tensor", "verdict", "shape"]
    assert headers[-1] == "worst element"
    rows = {row.all("th")[0].text: row for row in table.all("tbody")[0].all("tr")}
    assert {"y", "dweight_ih_l0", "dx", "dc0"} <= set(rows)
    assert rows["y"].all("td")[0].text == "ok"
    assert rows["dc0"].all("td")[0].text == "WRONG"
    assert all(len(row.all("td")) == len(headers) - 1 for row in rows.values())


def test_a_page_that_accuses_a_right_lstm():
    """Agreement: no wrong tensor, no wrong cell, and what the given case cannot tell."""
    root = parsed(rendered("agree"))
    (verdict,) = root.all("section", aria_label="Verdict")
    assert verdict.text.startswith("AGREES. Rounding explains every difference")
    (main_part,) = root.all("main")
    assert "WRONG" not in main_part.text
    assert not root.all("rect", class_="ring")
    maps = [svg for svg in root.all("svg") if svg.attributes.get("role") == "img"]
    assert len(maps) == 10
    kinds = {rect.attributes["class"] for svg in maps for rect in svg.all("rect")}
    assert kinds <= {"k0", "k1", "k2"}
    assert "Every gate's gradient is right at every step." in root.text
    assert "This case could not have seen" in root.text


def test_a_page_without_a_finding_that_names_one():
    """Where nothing explains it the page says so, which check failed, and where to look."""
    root = parsed(rendered("unexplained"))
    (verdict,) = root.all("section", aria_label="Verdict")
    assert "No mistake in the catalogue explains this, nor do any two or three that" in verdict.text
    assert "fails:" in verdict.text
    assert not verdict.all("dl")
    assert "Fails too:" in verdict.text
    # dz is read from dweight_ih_l0, which is right
    assert "Every gate's gradient is right at every step." in root.text


def test_a_nan_that_is_shown_as_a_number():
    """NaN has its own mark on the map and its own words in table and caption."""
    root = parsed(rendered("nan"))
    assert root.all("rect", class_="k7")
    assert "nan where" in root.text
    assert "×" in [text.text for text in root.all("text", class_="in on7")]


def test_what_is_not_verified_that_passes_silently():
    """What an implementation does not take or return is listed, and so is what cannot be drawn."""
    root = parsed(rendered("unverified"))
    listed = [node.text for node in root.all("li")]
    assert {"a non-zero h0", "the gradient dx", "the upstream gradient dc_n"} <= set(listed)
    assert "not verified" in [node.text for node in root.all("td")]


def test_a_name_that_becomes_markup():
    """A hostile name is text wherever it stands: in the title, the heading and the command."""
    root = parsed(rendered("hostile"))
    assert root.all("h1")[0].text == HOSTILE
    assert root.all("title")[0].text == f"DISAGREES: {HOSTILE}"
    assert HOSTILE in root.all("pre")[0].text
    assert "<script" not in rendered("hostile")
    assert "<img" not in rendered("hostile")


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("crash", ("It raises IndexError: list index out of range", "nothing to draw")),
        ("malformed", ("returned NoneType but must return", "nothing to draw")),
    ],
)
def test_a_crash_without_a_page(kind, words):
    """An implementation that raises, or returns nonsense, gets a page that says so."""
    text = parsed(rendered(kind)).text
    assert text.count("DISAGREES.") == 1
    for each in words:
        assert each in text


def test_a_page_that_grows_with_the_tensors():
    """A weight of 4096 x 1024 and a sequence of a million elements make a small page."""
    assert len(rendered("large")) < 500_000
    text = parsed(rendered("large")).text
    assert "1 of 4194304 elements are beyond the budget: f 1 of 1048576." in text
    assert "Worst, ringed: f[476] h[700], 1e+06 times its budget (1 where 1 is right)." in text
    assert "Too large to draw each element" in text


@pytest.mark.parametrize(
    ("off", "allowed", "words"),
    [
        (0.5, 1.0, "x[0], 50% of its budget"),
        (2.0, 1.0, "x[0], 2 times its budget (3 where 1 is right)"),
        (2.0, 0.0, "x[0], where nothing is allowed (3 where 1 is right)"),
    ],
)
def test_an_element_beyond_its_budget_that_is_told_as_a_share_of_it(off, allowed, words):
    """What is within the budget is a share of it, what is beyond so many times it."""
    case, right = sized_case({"T": 2, "B": 1, "I": 2, "H": 2, "L": 1}), np.ones((2, 1, 2))
    actual = right.copy()
    actual[1, 0, 0] += off
    elements = Elements(case, {"dx": actual}, {"dx": right}, {"dx": np.full((2, 1, 2), allowed)})
    maps = Maps("a case", elements, (), case)
    page = Page("mine", (), "disagree", ("It is wrong.",), "again", maps=maps)
    assert words in parsed(render(page)).text


def test_half_a_page(tmp_path, monkeypatch):
    """A full disk or Ctrl-C leaves the older page as it was, and no other file."""
    path, page = tmp_path / "report.html", Page("mine", (), "agree", (), "again")
    write_html(page, str(path))
    before = path.read_bytes()
    replace = os.replace

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(ValueError, match=r"--html file .* cannot be written: No space left"):
        write_html(page, str(path))
    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_html(page, str(path))
    monkeypatch.setattr(os, "replace", replace)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_page_without_jinja2(monkeypatch):
    """The extra that is missing is named, in one sentence."""
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(ValueError, match=r"not installed: pip install 'manual-lstm\[report\]'"):
        require_jinja2()


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """A function from arguments to (exit status, stdout, stderr), in a folder with mine.py."""
    (tmp_path / "mine.py").write_text(MODULE, encoding="utf-8")
    return command_in(tmp_path, monkeypatch, capsys)


def test_a_check_that_writes_no_page(command, tmp_path):
    """check --html writes the page beside the text report, with the exit status as without."""
    status, out, _ = command("check", "mine:vjp", "--examples", 19, "--html", "page.html")
    assert status == 1
    assert "DISAGREES" in out
    root = parsed((tmp_path / "page.html").read_text(encoding="utf-8"))
    (again,) = [line for line in out.splitlines() if line.startswith("Again:")]
    assert root.all("pre")[0].text == again.removeprefix("Again:").strip()
    assert "dc_n" in root.all("section")[0].text
    case = again.split("--case ")[1]
    assert command("check", "mine:vjp", "--case", case, "--html", "given.html")[0] == 1
    root = parsed((tmp_path / "given.html").read_text(encoding="utf-8"))
    assert "The maps show the given case: T=" in root.text
    assert "Blind spots" in [node.text for node in root.all("h2")]


def test_a_diff_that_writes_no_page(command, tmp_path):
    """diff --html shows the compared case; its first steps where they outnumber the symbols."""
    small = ["--steps", 6, "--inputs", 4, "--hidden", 3]
    assert command("diff", *small, "--html", "page.html")[0] == 0
    text = parsed((tmp_path / "page.html").read_text(encoding="utf-8")).text
    assert "AGREES. manual_lstm and the autograd twin agree in all 11 tensors" in text
    assert "The maps show the compared case: T=6 B=1 I=4 H=3 L=1, float64" in text
    assert "It is the first 4 of 6 steps of the case" in text
    assert "What this case hides: one sequence" in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("check", "mine:vjp", "--html", "-"), "--html is '-' but must be a file's name"),
        (("diff", "--html", "nowhere/page.html"), "--html file 'nowhere/page.html' cannot be"),
    ],
)
def test_a_page_that_cannot_be_written(command, arguments, words):
    """Exit status 2 and one line that says why, and nothing on standard output."""
    status, out, err = command(*arguments)
    assert (status, out) == (2, "")
    assert words in err
    assert err.count("\n") == 1


def test_a_missing_extra_that_is_found_after_the_work(command, monkeypatch):
    """Without jinja2 --html stops with exit status 2 before anything is run."""
    monkeypatch.setitem(sys.modules, "jinja2", None)
    monkeypatch.setattr(sys.modules["torch_ref.cli.check"], "load_target", pytest.fail)
    status, out, err = command("check", "mine:vjp", "--html", "page.html")
    assert (status, out) == (2, "")
    assert "a page needs jinja2" in err


def test_a_dump_without_a_page(command, tmp_path):
    """check --dump --html reads the steps of the dump's own one-hot inputs."""
    (tmp_path / "dump").mkdir()
    sizes = ("--steps", 5, "--inputs", 5)
    assert command("case", "--out", "dump/case.npz", *sizes)[0] == 0
    from torch_ref import load_case, run_case, save_result

    case = load_case("dump/case.npz")
    results = run_case(case, __import__("manual_lstm").CharModel(5, 5).vjp)
    wrong = results["dweight_ih_l0"].copy()
    wrong[5 + 2, int(np.argmax(case.x[3, 0]))] += 1
    save_result(results | {"dweight_ih_l0": wrong}, case, "dump/result.npz")
    assert command("check", "--dump", "dump", "--html", "page.html")[0] == 1
    text = parsed((tmp_path / "page.html").read_text(encoding="utf-8")).text
    assert "t=3 b=0 f[2]" in text
    assert "dx is right, and with it every dz" in text
