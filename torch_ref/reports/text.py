"""The comparison as a table of at most 80 columns."""

from rich.table import Table
from rich.text import Text

from torch_ref.compare.errors import Comparison, Sharpness, TensorError
from torch_ref.harness.layouts.fields import LayoutFields
from torch_ref.reports.names import element_name

COLUMNS = ("tensor", "shape", "max abs", "max rel", "ULP", "allowed", "used", "worst element")


# In fewer columns the numbers would be cut off: what matters most of them is left.
NARROW = 72
_NARROW_COLUMNS = ("tensor", "max abs", "used")


def printable(text: str) -> str:
    """A text whose control characters are written out: a terminal would obey those in somebody's
    own words, an exception's or a gradient's name.
    """
    return "".join(
        each if each.isprintable() or each == "\n" else each.encode("unicode_escape").decode()
        for each in text
    )


def comparison_table(
    comparison: Comparison, layout: LayoutFields | None = None, width: int = 80
) -> Table:
    """One line for each tensor: how far off, what was allowed, where, and the verdict.

    Args:
        layout: that of an implementation, in whose arrays the worst elements are named.
        width: of the terminal. Below NARROW columns a line is shorter.
    """
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    if width < NARROW:
        return _narrow(table, comparison)
    # Where a line is too long the shape and the element go on below; the verdict stays.
    name, shape, *numbers, where = COLUMNS
    table.add_column(name, no_wrap=True)
    table.add_column(shape, overflow="fold")
    for header in numbers:
        table.add_column(header, justify="right", no_wrap=True)
    table.add_column(where, overflow="fold")
    table.add_column("", no_wrap=True)
    for tensor in comparison.tensors:
        table.add_row(*tensor_cells(tensor, layout), _verdict(tensor))
    return table


def _narrow(table: Table, comparison: Comparison) -> Table:
    for header in (*_NARROW_COLUMNS, ""):
        table.add_column(header, justify="right" if header in COLUMNS[1:] else "left")
    for tensor in comparison.tensors:
        cells = dict(zip(COLUMNS, tensor_cells(tensor), strict=True))
        cells["max abs"] = tensor.reason or cells["max abs"]
        table.add_row(*(cells[header] for header in _NARROW_COLUMNS), _verdict(tensor))
    return table


def _verdict(tensor: TensorError) -> Text:
    return Text("ok", "green") if tensor.verdict == "agree" else Text("WRONG", "bold red")


def summary(comparison: Comparison, left: str, right: str) -> Text:
    """The verdict in a sentence, and in another which side is right, if that is known."""
    tensors = comparison.tensors
    if not tensors:
        return Text.assemble(
            ("DISAGREES. ", "bold red"), f"{left} and {right} have no tensor to compare."
        )
    wrong = [tensor.name for tensor in tensors if tensor.verdict == "disagree"]
    if not wrong:
        most = max(tensors, key=lambda tensor: tensor.used)
        return Text.assemble(
            ("AGREES. ", "bold green"),
            f"{left} and {right} agree in all {len(tensors)} tensors: rounding explains every "
            f"difference. {most.name} uses most of its budget, {_percent(most.used)}.",
            _sharpness(comparison.sharpness),
        )
    return Text.assemble(
        ("DISAGREES. ", "bold red"),
        f"{left} and {right} differ by more than rounding explains in {len(wrong)} of "
        f"{len(tensors)} tensors: {', '.join(wrong)}.",
        "" if comparison.arbitration is None else f" {comparison.arbitration}",
    )


def _sharpness(sharp: Sharpness | None) -> str:
    if sharp is None:
        return ""
    return (
        f" A change by {sharp.change:.0e} of any gradient element of at least {sharp.share:g} of "
        "its tensor's largest would have shown."
    )


def tensor_cells(tensor: TensorError, layout: LayoutFields | None = None) -> list[str]:
    """A tensor's line without its verdict: a text for each of COLUMNS."""
    shape = "(" + ",".join(map(str, tensor.shape)) + ")"
    where = element_name(tensor.name, tensor.shape, tensor.worst_index, layout)
    if tensor.reason:
        return [tensor.name, shape, "", "", "", "", "", f"{where} {tensor.reason}".strip()]
    return [
        tensor.name,
        shape,
        f"{tensor.max_abs:.1e}",
        f"{tensor.max_rel:.1e}",
        f"{tensor.max_ulp:.2g}" if tensor.max_ulp < 10 else _whole(tensor.max_ulp),
        f"{tensor.tolerance:.1e}",
        _percent(tensor.used),
        where,
    ]


def _whole(number: float) -> str:
    return f"{number:.0f}" if number < 1e5 else f"{number:.0e}"


def _percent(used: float) -> str:
    return f"{used:.0%}" if used < 10 else ">999%"
