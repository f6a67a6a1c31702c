"""A program in a layout of its own: its files hold the arrays as it has them."""

from dataclasses import replace
from typing import Any

from torch_ref.harness.exchange.files import own_sizes
from torch_ref.harness.layouts.layout import Layout
from torch_ref.harness.program import run_program
from torch_ref.oracles.case import Case, Results

PROGRAM_SECONDS = 10.0


def arranged(case: Case, layout: Layout) -> Case:
    """The case with its arrays as `layout` has them; x, the states and dy keep their names.

    Raises:
        ValueError: a layout that one array cannot hold: a list of arrays, or a joined state.
    """
    if layout.joined_state or ":" in layout.sequence:
        what = "a joined state" if layout.joined_state else "a list of arrays"
        raise ValueError(f"the layout has {what} but a program's must have an array for each file.")
    h0, c0 = layout.states_to(case.h0, case.c0)
    dh_n, dc_n = layout.states_to(case.dh_n, case.dc_n)
    given: dict[str, Any] = {"h0": h0, "c0": c0, "dh_n": dh_n, "dc_n": dc_n}
    given |= {"params": layout.params_to(case.params), "x": layout.input_to(case.x)}
    if case.dy is not None:
        given["dy"] = layout.sequence_to(case.dy, "dy")
    if case.targets is not None:
        given["targets"] = layout.targets_to(case.targets)
    return replace(case, **given)


def run_arranged_program(
    command: str, layout: Layout, case: Case, *, timeout: float | None = None
) -> Results:
    """`run_program` with the case arranged as `layout` says, and its results in ours again.

    The files of x, the states and what belongs to them keep their names, "x", "h0", "dy", "dx".

    Args:
        timeout: in seconds; None is PROGRAM_SECONDS.

    Raises:
        ValueError: as `arranged`.
        Exception: as `run_program`.
    """
    timeout = PROGRAM_SECONDS if timeout is None else timeout
    if layout == Layout():
        return run_program(command, case, timeout=timeout)
    found = run_program(
        command,
        arranged(case, layout),
        timeout=timeout,
        layout_json=layout.to_json(),
        sizes=own_sizes(case),
        head=case.head,
    )
    theirs = {"dx": f"d{layout.x}", "dh0": f"d{layout.h0}", "dc0": f"d{layout.c0}"}
    gradients = {theirs.get(name, name): v for name, v in found.items() if name.startswith("d")}
    results = {name: value for name, value in found.items() if name == "loss"}
    if "y" in found:
        results["y"] = layout.sequence_from(found["y"])
    for name in ("h_n", "c_n"):
        if name in found:
            results[name] = layout.state_from(found[name], name)
    return results | layout.gradients_from(gradients, like=case.params)
