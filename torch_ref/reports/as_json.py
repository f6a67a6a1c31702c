"""The comparison for a script, in the form that every command prints."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from torch_ref.compare.errors import Comparison, TensorError
from torch_ref.diagnosis.blind_spots import Blindness
from torch_ref.diagnosis.diagnose import Diagnosis
from torch_ref.harness.campaign import CheckReport
from torch_ref.harness.theirs import raised
from torch_ref.reports.diagnosis import diagnosis_json
from torch_ref.reports.files import write_whole
from torch_ref.reports.names import locate

_KEYS = (
    "name",
    "shape",
    "max_abs",
    "max_rel",
    "max_ulp",
    "tolerance",
    "used",
    "worst_index",
    "verdict",
    "reason",
)


def comparison_json(
    comparison: Comparison, reproduce: str, blind_spots: Sequence[str] = ()
) -> dict[str, Any]:
    """The report as JSON holds it. What this command does not look for is empty or null.

    A number that is NaN or infinite is null: JSON has no word for it.
    """
    return {
        "verdict": comparison.verdict,
        "tensors": [_entry(tensor) for tensor in comparison.tensors],
        "arbitration": comparison.arbitration,
        "sharpness": None if comparison.sharpness is None else asdict(comparison.sharpness),
        "diagnosis": [],
        "first_wrong": None,
        "layout": {},
        "scale": None,
        "unverified": [],
        "blind_spots": list(blind_spots),
        "reproduce": reproduce,
    }


def check_json(
    report: CheckReport,
    reproduce: str,
    diagnosis: Diagnosis | None = None,
    blindness: Blindness | None = None,
) -> dict[str, Any]:
    """A campaign's report, in the form that every command prints, and its checks one by one."""
    first = report.failures[0] if report.failures else None
    worst = None
    if first is not None and first.comparison is not None:
        worst = max(first.comparison.tensors, key=lambda tensor: tensor.used)
    first_wrong = worst and locate(worst.name, worst.shape, worst.worst_index)
    walked = diagnosis.first_wrong if diagnosis else None
    if walked is not None and walked.tensor:
        layer = int(walked.tensor.partition("_l")[2])
        first_wrong = {"tensor": walked.tensor, "layer": layer, "time": walked.index[0]}
        first_wrong |= {"gate": walked.gate or None, "index": list(walked.index)}
    errors = [failure.error for failure in report.failures if failure.error is not None]
    return {
        **comparison_json(Comparison(report.tensors), reproduce),
        "verdict": report.verdict,
        "crash": raised(errors[0]) if errors else None,
        "first_wrong": first_wrong,
        "layout": {"sentence": report.layout} if report.layout else {},
        "scale": report.scale and report.scale.ratio,
        "clipping": report.clipping and asdict(report.clipping),
        "coarse_tanh": report.coarse_tanh,
        "diagnosis": diagnosis_json(diagnosis),
        "unverified": list(report.unverified),
        "notes": list(report.notes),
        "blind_spots": [m.identifier for m in blindness.blind] if blindness else [],
        "checks": checks_json(report),
    }


def checks_json(report: CheckReport) -> list[dict[str, str]]:
    """Every check with its verdict and a sentence: those that hold, fail, and cannot be run."""
    checks = [{"name": name, "verdict": "agree", "sentence": ""} for name in report.passed]
    checks += [
        {"name": failure.check, "verdict": "disagree", "sentence": failure.sentence}
        for failure in report.failures
    ]
    checks += [
        {"name": name, "verdict": "fails as expected", "sentence": reason}
        for name, reason in report.expected_failures.items()
    ]
    checks += [
        {"name": name, "verdict": "not verified", "sentence": reason}
        for name, reason in report.skipped.items()
    ]
    return checks


def write_json(report: dict[str, Any], target: str) -> None:
    """Write a report to a file, whole or not at all, or to standard output for "-".

    Raises:
        ValueError: the file cannot be written.
        OSError: standard output cannot be written.
    """
    text = json.dumps(report, indent=2, allow_nan=False) + "\n"
    if target == "-":
        sys.stdout.write(text)
        sys.stdout.flush()
        return
    write_whole(text, target, "--json file")


def _entry(tensor: TensorError) -> dict[str, Any]:
    return {
        key: None if isinstance(value, float) and not np.isfinite(value) else value
        for key, value in ((key, getattr(tensor, key)) for key in _KEYS)
    }
