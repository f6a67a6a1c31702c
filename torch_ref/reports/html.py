"""The report as one page that needs nothing else, with jinja2: the optional extra `report`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from manual_lstm.params import GATES
from torch_ref.compare.errors import Comparison, TensorError
from torch_ref.diagnosis.blind_spots import Blindness
from torch_ref.diagnosis.diagnose import Diagnosis
from torch_ref.diagnosis.elements import Elements
from torch_ref.diagnosis.maps import Maps
from torch_ref.diagnosis.step_gradients import StepErrors, in_words
from torch_ref.harness.campaign import CheckReport
from torch_ref.oracles.equations import Array
from torch_ref.reports.arrangement import arranged
from torch_ref.reports.as_json import checks_json
from torch_ref.reports.check_text import facts, headline, remarks
from torch_ref.reports.diagnosis import (
    alternatives,
    blindness_text,
    diagnosis_json,
    explained_by,
)
from torch_ref.reports.files import write_whole
from torch_ref.reports.heat_map import HeatMap, heat_map, legend, scale_power
from torch_ref.reports.names import element_name
from torch_ref.reports.text import COLUMNS, summary, tensor_cells


@dataclass(frozen=True)
class Page:
    """What the page says, section by section; what is empty is left out.

    Attributes:
        name: of what was checked. facts: phrases about the run.
        verdict: "agree" or "disagree".
        headline: sentences that follow the verdict.
        mistakes: of the finding, each with "sentence", "equation", "wrong" and "right".
        remarks: further sentences: layout, scale, clipping, other checks.
        tensors: of every tensor the worst that was seen.
        maps: what to draw. no_maps: why there is nothing.
        checks: each with "name", "verdict" and "sentence".
        unverified: phrases.
        blind: what the case cannot tell, in sentences; blind_list: mistake by mistake.
        reproduce: the command line that gives this again.
    """

    name: str
    facts: Sequence[str]
    verdict: str
    headline: Sequence[str]
    reproduce: str
    mistakes: Sequence[dict[str, Any]] = ()
    remarks: Sequence[str] = ()
    tensors: Sequence[TensorError] = ()
    maps: Maps | None = None
    no_maps: str = ""
    checks: Sequence[dict[str, str]] = ()
    unverified: Sequence[str] = ()
    blind: Sequence[str] = ()
    blind_list: Sequence[str] = field(default=())


def require_jinja2() -> None:
    """ValueError with what to install where jinja2 is missing."""
    try:
        import jinja2 as _  # noqa: F401
    except ImportError:
        raise ValueError(
            "a page needs jinja2, which is not installed: pip install 'manual-lstm[report]'."
        ) from None


def check_page(
    report: CheckReport,
    reproduce: str,
    diagnosis: Diagnosis | None = None,
    blindness: Blindness | None = None,
    maps: Maps | None = None,
) -> Page:
    """A campaign's report as a page."""
    finding = None if diagnosis is None else diagnosis.finding
    if finding is not None:
        first = [f"{explained_by(finding)}.", *alternatives(finding)]
    else:
        first = [line.plain for line in headline(report, diagnosis)]
    crashed = any(failure.error is not None for failure in report.failures)
    return Page(
        name=report.name,
        facts=facts(report),
        verdict=report.verdict,
        headline=first,
        mistakes=[] if finding is None else diagnosis_json(diagnosis),
        remarks=list(remarks(report, diagnosis)),
        tensors=report.tensors,
        maps=maps,
        no_maps="It raised an exception, so there is nothing to draw."
        if crashed
        else "No case could be run and judged, so there is nothing to draw.",
        checks=checks_json(report),
        unverified=(*report.unverified, *report.notes),
        blind=() if blindness is None else (blindness_text(blindness),),
        blind_list=[] if blindness is None else [m.sentence for m in blindness.blind],
        reproduce=reproduce,
    )


def diff_page(
    comparison: Comparison,
    facts: Sequence[str],
    sides: tuple[str, str],
    hidden: Sequence[str],
    reproduce: str,
    maps: Maps,
) -> Page:
    """The comparison of manual_lstm with its twin as a page.

    Args:
        facts: phrases about the case.
        sides: what to call the two.
        hidden: what the case hides, phrases as `hides` gives them.
    """
    _, sentence = summary(comparison, *sides).plain.split(". ", 1)
    return Page(
        name=" and ".join(sides),
        facts=facts,
        verdict=comparison.verdict,
        headline=(sentence,),
        tensors=comparison.tensors,
        maps=maps,
        blind=(f"What this case hides: {'; '.join(hidden)}.",) if hidden else (),
        reproduce=reproduce,
    )


def write_html(page: Page, target: str) -> None:
    """Write a page, whole or not at all.

    Raises:
        ValueError: jinja2 is missing, or the file cannot be written.
    """
    write_whole(render(page), target, "--html file")


def render(page: Page) -> str:
    """The page as HTML: no script, no other file, nothing from a network.

    Raises:
        ValueError: jinja2 is missing.
    """
    require_jinja2()
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("torch_ref.reports", "templates"),
        autoescape=True,  # names and sentences come from somebody else's code
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    maps = page.maps
    power = _power(maps)
    steps = [] if maps is None else [_step_map(maps, each, power) for each in maps.steps]
    tensors = [] if maps is None else [_tensor_map(maps.elements, n, power) for n in _names(maps)]
    return environment.get_template("report.html.j2").render(
        page=page,
        columns=COLUMNS,
        rows=[(tensor_cells(tensor), tensor.verdict) for tensor in page.tensors],
        step_maps=steps,
        step_sentence=in_words(maps.steps) if maps is not None and maps.steps else "",
        wrong_maps=[each for each in tensors if each.wrong],
        right_maps=[each for each in tensors if not each.wrong],
        case=_case_in_words(maps),
        legend=legend(power),
    )


def _names(maps: Maps) -> list[str]:
    """The tensors that are drawn; what is drawn as steps already is not drawn again."""
    steps = {each.source for each in maps.steps if each.source.startswith("dz")}
    return [name for name in maps.elements.names if name not in steps]


def _power(maps: Maps | None) -> int:
    """The scale of all maps of a page."""
    if maps is None:
        return scale_power([], 1.0)
    shares = [maps.elements.shares(name) for name in maps.elements.names]
    eps = float(np.finfo(maps.elements.case.dtype).eps)
    return scale_power([*shares, *(each.shares for each in maps.steps)], eps)


def _step_map(maps: Maps, errors: StepErrors, power: int) -> HeatMap:
    shares, shape = errors.shares, errors.actual.shape

    def describe(index: int) -> str:
        t, b, gate, unit = np.unravel_index(index, shape)
        where = f"t={t} b={b} {GATES[gate]}[{unit}]"
        return _off(where, shares, errors.actual, errors.expected, index)

    layer = f" of layer {errors.layer}" if maps.steps_case.num_layers > 1 else ""
    title = f"dz{layer}: gate by time step"
    return heat_map(title, shares, arranged("dz", shape), describe, power)


def _tensor_map(elements: Elements, name: str, power: int) -> HeatMap:
    shares = elements.shares(name)
    actual, expected = elements.actual[name], np.asarray(elements.expected[name])

    def describe(index: int) -> str:
        at = tuple(int(k) for k in np.unravel_index(index, shares.shape))
        where = element_name(name, shares.shape, at)
        return _off(where, shares, actual, expected, index)

    title = f"{name} ({', '.join(map(str, shares.shape))})"
    return heat_map(title, shares, arranged(name, shares.shape), describe, power)


def _off(where: str, shares: Array, actual: Array, expected: Array, index: int) -> str:
    """An element, how far it is off, and the two numbers."""
    share = float(shares.flat[index])
    numbers = f"{float(actual.flat[index]):.3g} where {float(expected.flat[index]):.3g} is right"
    if np.isnan(share):
        return f"{where}, {numbers}"
    if np.isinf(share):
        return f"{where}, where nothing is allowed ({numbers})"
    if share > 1:
        return f"{where}, {share:.2g} times its budget ({numbers})"
    return f"{where}, {share:.0%} of its budget"


def _case_in_words(maps: Maps | None) -> str:
    if maps is None:
        return ""
    case = maps.elements.case
    steps, batch, inputs = case.x.shape
    layers, _, hidden = case.h0.shape
    return f"{maps.of}: T={steps} B={batch} I={inputs} H={hidden} L={layers}, {case.dtype}"
