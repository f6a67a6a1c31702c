"""An equation of a table as a line of code."""

from collections.abc import Mapping, Sequence
from fractions import Fraction

from torch_ref.diagnosis.backward.reshaped import RESHAPED
from torch_ref.diagnosis.backward.table import (
    SCALES,
    SUMS,
    Again,
    Equation,
    Factor,
    Table,
    Term,
    Uncut,
    Weight,
)
from torch_ref.oracles.variant import Variant

_FUNCTIONS = {
    "": "{y}",
    "y(1-y)": "{y} * (1 - {y})",
    "1-y^2": "(1 - {y}**2)",
    "(y(1-y))^2": "({y} * (1 - {y}))**2",
    "(1-y^2)^2": "(1 - {y}**2)**2",
    "1-y": "(1 - {y})",
    "1+y^2": "(1 + {y}**2)",
    "y(1-y^2)": "{y} * (1 - {y}**2)",
    "y(1+y)": "{y} * (1 + {y})",
    "y^2-1": "({y}**2 - 1)",
    "y^2": "{y}**2",
    "1/y": "1 / {y}",
    "(1-y)^2": "(1 - {y})**2",
    "sigmoid(y)": "sigmoid({y})",
    "tanh(y)": "tanh({y})",
    "s(1-s), s = sigmoid(y)": "sigmoid({y}) * (1 - sigmoid({y}))",
    "1-tanh(y)^2": "(1 - tanh({y})**2)",
    "1 for each": "ones_like({y})",
    "its class": "argmax({y})",
    "summed over the units": "{y}.sum(over units)",
    "of the next member": "{y} of the next member",
    "of the previous member": "{y} of the previous member",
    "of any member": "{y} of any member",
    "of the first member only": "{y} of member 0",
    "of the last member only": "{y} of member B-1",
    "of the first member for all": "{y} of member 0 for all",
    "of the last member for all": "{y} of member B-1 for all",
    "1, 0 in the last": "(0 in the last unit)",
    "1, 0 in the first": "(0 in the first unit)",
    "y, 0 in the last": "({y}, 0 in the last)",
    "y, 0 in the first": "({y}, 0 in the first)",
    "y, 1 in the last": "({y}, 1 in the last unit)",
    "y, 1 in the first": "({y}, 1 in the first unit)",
    "1, y in the last": "({y} in the last unit only)",
    "1, y in the first": "({y} in the first unit only)",
    "1 in the last": "(0 but in the last unit)",
    "of the next unit": "{y} of unit j+1",
    "of the previous unit": "{y} of unit j-1",
    "of the first unit": "{y} of unit 0",
    "how many": "{y}.shape[-1]",
    **dict.fromkeys(RESHAPED, "reshape({y})"),
}
_Z = "z = weight_ih @ x[t] + weight_hh @ h[t-1] + bias"
_AGAIN: Mapping[Again, str] = {
    "h[t]": _Z.replace("h[t-1]", "h[t]"),
    "h = 0 at t=0": _Z.replace("h[t-1]", "(h[t-1], 0 at t=0)"),
    "h = 0": _Z.replace(" + weight_hh @ h[t-1]", ""),
    "c[t-1]": _Z.replace("h[t-1]", "c[t-1]"),
    "x[t-1]": _Z.replace("x[t]", "x[t-1]"),
    "x[t+1]": _Z.replace("x[t]", "x[t+1]"),
    "no bias": _Z.replace(" + bias", ""),
    "the bias twice": _Z.replace("bias", "2 * bias"),
}
_AT_STEP = {"c", "c_new", "h_out", "h", "x", "dy", "dlogits", "dx", "dy_top"}
_ALIASES = {
    "dh_above": "dh0 of the layer above",
    "dc_above": "dc0 of the layer above",
    "dy_top": "dy",
    "h_out": "y",
    "c_new": "c",
    "h_lowest": "h of the lowest layer",
    "x_before": "h[t-1] of the layer below",
    "onehot_any": "(onehot of every t and b)",
    "x_in": "x[t]",
    "log_p": "log(p)",
    "dh_begin": "dh_carry",
    "dc_begin": "dc_carry",
}
_MOST_LINES = 2
_ONLY = {
    "every": "",
    "first": "  at t=0 only",
    "last": "  at t=T-1 only",
    "not the first": "  except at t=0",
    "not the last": "  except at t=T-1",
    "first of several": "  at t=0 only, where T > 1",
    "last of several": "  at t=T-1 only, where T > 1",
    "not the first of several": "  except at t=0, where T > 1",
    "not the last of several": "  except at t=T-1, where T > 1",
    "none": "  never",
}


def render_difference(wrong: Table, right: Table, variant: Variant) -> tuple[str, str, str]:
    """The lines in which two tables differ, and the number of the first of their equations.

    Returns:
        The wrong lines, the right ones, and the equation: "df = dc * c[t]", "df = dc * c[t-1]",
        "(14)". Of more than two lines the first two stand for the others.
    """
    if wrong.own is not None:
        return render_difference(wrong.own, right, variant)
    if wrong.forwards:
        return "for t in range(T):", "for t in reversed(range(T)):", "(9)"
    if wrong.learning_rate:
        line = f"weight_hh -= {float(wrong.learning_rate)} * dweight_hh"
        return f"{line} within the loop", f"{line} after the loop", "(16b)"
    if wrong.again:
        return _AGAIN[wrong.again], _Z, "(1)"
    if wrong.decay:
        name = wrong.decayed[0]
        line = f"d{name} = {float(wrong.decay):.9g} * {name} + ..."
        return line, f"d{name} = ...", "(18)"
    if wrong.one_array:
        name, what = wrong.one_array[0]
        line = f"{name} {'=' if what == 'lowest' else '+='} ... in one array for every layer"
        return line, f"{name} += ... in an array of its own", "(18)"
    if wrong.carries:
        carry, how = wrong.carries[0]
        slot = {"one for all": "", "the top layer's": "[-1]", "the lowest layer's": "[0]"}
        number = "(9)" if carry == "dh_carry" else "(11)"
        if how in slot:
            return f"... + {carry}{slot[how]}", f"... + {carry}[k]", number
        return f"{carry}[{-1 if 'top' in how else 0}] = ...", f"{carry}[k] = ...", number
    if wrong.reshaped:
        name, _ = wrong.reshaped[0]
        number = {"dh0": "(16b)", "dc0": "(16a)", "dx": "(17)"}.get(name, "(18)")
        return f"{name} = reshape({name})", f"{name} = transpose({name})", number
    if wrong.kept != "own":
        return f"kept = cache of the {wrong.kept} layer", "kept = cache of this layer", "(8)"
    differing = [name for name in right.equations if wrong[name] != right[name]]
    shown = differing[:_MOST_LINES]
    dots = ["..."] if len(differing) > _MOST_LINES else []
    lines = [
        "; ".join([render(table[name], variant) for name in shown] + dots)
        for table in (wrong, right)
    ]
    return lines[0], lines[1], right[differing[0]].number if differing else ""


def render(equation: Equation, variant: Variant) -> str:
    """One equation: "dc = dh * o * (1 - tanh(c[t])**2) + dc_carry"."""
    target = _ALIASES.get(equation.target, equation.target)
    if target == "below":
        target = "dy of the layer below"
    kind, _, gate = target.partition(".")
    summed = target in SUMS or target in ("dweight_out", "dbias_out")
    text, there = "", [term for term in equation.terms if _term(term, variant)[0]]
    for term in there:
        line, negative = _term(term, variant)
        if len(there) > 1 and term.steps != "every":
            line = f"({line.replace('  ', ', ', 1)})"
        sign = (" - " if negative else " + ") if text else ("-" if negative else "")
        text += sign + line
    text = text or "0"
    if equation.clip is not None:
        limit = f"{float(equation.clip):.9g}"
        text = f"clip({text}, -{limit}, {limit})"
    return f"{kind}{f'[{gate}]' if gate else ''} {'+=' if summed else '='} {text}"


def _term(term: Term, variant: Variant) -> tuple[str, bool]:
    """A term without its sign, and whether that is negative; "" for one that is not there."""
    if "0" in term.scale or term.steps == "none":
        return "", False
    text = " * ".join(_factor(f, variant) for f in term.factors if f.name not in ("one", "dloss"))
    text = text or "1"
    if term.weight is not None:
        text = f"{_in_product(text)} @ {_weight(term.weight)}"
    if term.after is not None:
        text = f"{text} * {_factor(term.after, variant)}"
    if term.outer is not None and term.outer.function == "how many":
        text = f"{_factor(term.outer, variant)} * {text}"
    elif term.outer is not None and term.outer.name != "one":
        left, right = f"{_in_product(text)}.T", _factor(term.outer, variant)
        text = f"{left} @ {_in_product(right)}"
        text = f"({text}).T" if term.transposed else text
    negative = term.scale.count("-1") % 2 == 1
    for scale in term.scale:
        if scale.startswith("1/"):
            text = f"{text} / {scale[2:]}"
        elif scale != "-1":
            number = scale if scale in SCALES else f"{float(Fraction(scale)):.9g}"
            text = f"{number.replace(' ', ' * ')} * {text}"
    at = cut_in_words(term.steps) if isinstance(term.steps, Uncut) else _ONLY[term.steps]
    return text + at, negative


def cut_in_words(steps: Uncut) -> str:
    """Where a term is not there: "  but where t % 4 == 0"."""
    t = "t" if steps.at == "handed on" else "(t + 1)"
    total = {"t": "(T - t)", "(t + 1)": "(T - 1 - t)"}[t]
    plain = t.strip("()")
    where = {
        "multiple": f"{t} % {steps.period} == {steps.phase}",
        "multiple from the end": f"{total} % {steps.period} == 0",
        "middle": f"{plain} == T // 2",
        "but the last": f"{plain} <= T - {steps.period}",
    }[steps.rule]
    return f"  but where {where}{' < T' if steps.at == 'between' else ''}"


def _in_product(text: str) -> str:
    return f"({text})" if " " in text else text


def _weight(weight: Weight) -> str:
    block = f"[{weight.block}]" if weight.block else ""
    leak = {
        "": "",
        "added": " and bias",
        "onto last": " with the bias on column -1",
        "onto first": " with the bias on column 0",
        "last": " from column 1 and bias",
        "first": " from column -1",
    }
    if weight.columns:
        matrices, where = weight.columns.split(" ", 1)
        return f"[{matrices}]{block} {where}"
    of = "" if weight.layer == "own" else f" of the {weight.layer} layer"
    if weight.altered == "row sums":
        return f"diag({weight.name}{block}.sum(axis=1))"
    if " to " in weight.altered:
        return f"reshape({weight.name}{block})"
    if weight.altered:
        of += f" {weight.altered}{' column' * ('without' in weight.altered)}"
    return f"{weight.name}{block}{of}{leak[weight.bias]}{'.T' if weight.transposed else ''}"


def _factor(factor: Factor, variant: Variant) -> str:
    name, at = factor.name, _time(factor)
    if name == "c_out":
        inner = f"c[t{at}]" if not factor.at else f"c[{_fixed(factor)}]"
        y = f"tanh({inner})" if variant.output == "tanh" else inner
    elif name in ("c_lowest", "c_top"):
        y = f"c[t{at}] of the {name.removeprefix('c_')} layer"
    elif name in ("dh_n", "dc_n", "dh0", "dc0"):
        y = name
    elif factor.at:
        y = f"{_plain(name)}[{_fixed(factor)}]"
    elif at or name in _AT_STEP:
        y = f"{_plain(name)}[t{at}]"
    else:
        y = _plain(name)
    y += " without c0" if name == "c_new" else ""
    which = "another" if factor.layer == 1 else f"the {factor.layer}"
    y += f" of {which} layer" if factor.layer else ""
    y += f" of step t{factor.step:+d}" if factor.step else ""
    return _FUNCTIONS[factor.function].format(y=y)


def _plain(name: str) -> str:
    return _ALIASES.get(name, name)


def _time(factor: Factor) -> str:
    return f"{factor.shift:+d}" if factor.shift else ""


def _fixed(factor: Factor) -> str:
    fixed = {"last": f"T-{1 - factor.shift}", "reversed": "T-1-t"}
    return fixed.get(factor.at, f"{factor.shift}")


def joined(parts: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    *front, last = parts
    return f"{', '.join(front)} and {last}" if front else last
