"""Pages to test, and what the standard library's parser finds in one."""

from dataclasses import dataclass, field, replace
from functools import cache
from html.parser import HTMLParser
from typing import Any

import numpy as np

import manual_lstm
from torch_ref import Diagnosis, Implementation, check_implementation
from torch_ref.diagnosis.blind_spots import blind_spots
from torch_ref.diagnosis.elements import Elements
from torch_ref.diagnosis.maps import Maps, maps_of
from torch_ref.diagnosis.matching.single import Finding
from torch_ref.diagnosis.mistakes.catalogue import catalogue
from torch_ref.diagnosis.mistakes.planted import planted_vjp
from torch_ref.harness.cases import sized_case
from torch_ref.reports.html import Page, check_page, render

HOSTILE = "<script>alert('x')</script>&\"ü\" 漢字 </title></code><img src=x onerror=alert(1)>"
VOID = {"meta", "link", "img", "br", "input", "hr"}


@dataclass
class Node:
    """An element, with its text and all that is in it."""

    tag: str
    attributes: dict[str, str | None]
    children: list["Node"] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)

    def all(self, tag=None, **attributes):
        """Every element below, of a tag and with attributes; class_ stands for class."""
        wanted = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()}
        found = []
        for child in self.children:
            has = all(child.attributes.get(name) == value for name, value in wanted.items())
            found += [child] * ((tag is None or child.tag == tag) and has) + child.all(
                tag, **attributes
            )
        return found

    @property
    def text(self):
        """All the text in it, in order, with single blanks."""
        return " ".join(" ".join(self.texts).split())


class _Parser(HTMLParser):
    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.root = Node("", {})
        self.open = [self.root]

    def handle_starttag(self, tag, attrs):
        node = Node(tag, dict(attrs))
        self.open[-1].children.append(node)
        if tag not in VOID:
            self.open.append(node)

    def handle_startendtag(self, tag, attrs):
        self.open[-1].children.append(Node(tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open[-1].tag == tag, f"</{tag}> closes <{self.open[-1].tag}>"
        self.open.pop()

    def handle_data(self, data):
        for node in self.open:
            node.texts.append(data)


def parsed(page: str) -> Node:
    """The page's elements; AssertionError where one is not closed or closes another."""
    parser = _Parser()
    parser.feed(page)
    parser.close()
    assert parser.open == [parser.root], "an element is not closed"
    return parser.root


(MISTAKE,) = [m for m in catalogue().mistakes if m.identifier == "dc_carry.without f"]


def _spoilt(change: Any) -> Any:
    def vjp(params: Any, x: Any, h0: Any, c0: Any) -> Any:
        outputs, pullback = manual_lstm.vjp(params, x, h0, c0)

        def back(dy: Any, dh_n: Any, dc_n: Any) -> Any:
            gradients = pullback(dy, dh_n, dc_n)
            return change(gradients)

        return outputs, back

    return vjp


def _wobble(gradients: Any) -> Any:
    value = gradients["dweight_hh_l0"]
    rows = np.arange(value.size, dtype=value.dtype).reshape(value.shape)
    return gradients | {"dweight_hh_l0": value * (1 + np.sin(rows) / 7)}


def _with_nan(gradients: Any) -> Any:
    gradients["dweight_hh_l0"][0, 0] = np.nan
    return gradients


def _clip(gradients: Any) -> Any:
    return {name: np.clip(value, -0.05, 0.05) for name, value in gradients.items()}


def without_states(params: Any, x: Any) -> Any:
    """One that takes no state and returns neither dx nor the states."""
    (y, _, _), pullback = manual_lstm.vjp(params, x)

    def back(dy: Any) -> Any:
        found = pullback(dy, None, None)
        return {name: value for name, value in found.items() if name not in ("dx", "dh0", "dc0")}

    return y, back


def crashes(params: Any, x: Any, h0: Any, c0: Any) -> Any:
    """One that fails where there is more than one unit."""
    if len(x) > 3:
        raise IndexError("list index out of range")
    return manual_lstm.vjp(params, x, h0, c0)


IMPLEMENTATIONS = {
    "agree": manual_lstm.vjp,
    "finding": planted_vjp(MISTAKE.edit(catalogue().table)),
    "unexplained": _spoilt(_wobble),
    "nan": _spoilt(_with_nan),
    "clipped": _spoilt(_clip),
    "unverified": without_states,
    "crash": crashes,
    "malformed": lambda params, x, h0, c0: None,
}


DIAGNOSES = {
    "finding": Diagnosis(Finding((MISTAKE,), 0.25), "", True, 0.0),
    "unexplained": Diagnosis(
        None, "Right at T=1; wrong at T=2: dweight_hh_l0.", True, 0.0, sought=True
    ),
}


def page_of(kind: str) -> Page:
    """A page of an implementation, after every check on one case.

    What is diagnosed is taken as given: that it is found is for the tests of the diagnosis.
    """
    mine = Implementation(f"mine:{kind}", vjp=IMPLEMENTATIONS[kind])
    case = sized_case({"T": 4, "B": 2, "I": 3, "H": 3, "L": 1})
    report = check_implementation(mine, case=case)
    blindness = None
    if kind == "agree":
        blindness = blind_spots(sized_case({"T": 1, "B": 1, "I": 2, "H": 2, "L": 1}))
    return check_page(
        report,
        f"manual-lstm check mine:{kind} --examples 19 --seed 0",
        DIAGNOSES.get(kind),
        blindness,
        maps_of(mine, report),
    )


def hostile(page: Page) -> Page:
    """The same page of an implementation whose name tries to be markup."""
    return replace(page, name=HOSTILE, reproduce=f"manual-lstm check {HOSTILE}")


def large_page() -> Page:
    """A page with a weight of (4096, 1024), one element of it wrong."""
    case = sized_case({"T": 2, "B": 1, "I": 2, "H": 2, "L": 1})
    right = {"dweight_hh_l0": np.ones((4096, 1024)), "dx": np.ones((500, 40, 64))}
    actual = {name: value.copy() for name, value in right.items()}
    actual["dweight_hh_l0"][1500, 700] += 1e-3
    allowed = {name: np.full(value.shape, 1e-9) for name, value in right.items()}
    maps = Maps("a large case", Elements(case, actual, right, allowed), (), case)
    return Page("large", ("float64",), "disagree", ("A gradient is wrong.",), "again", maps=maps)


KINDS = (*IMPLEMENTATIONS, "hostile", "large")


@cache
def rendered(kind: str) -> str:
    """A page as text, made when it is first asked for."""
    if kind == "hostile":
        return render(hostile(page_of("finding")))
    return render(large_page() if kind == "large" else page_of(kind))
