"""The backward pass as data: equations (9) to (18c), (20) to (23), (26) and a variant's as terms.

A gradient is a sum of terms, a term a product of factors, times a block of a weight if it has one.
`interpreter.py` computes a table, `mistakes/catalogue.py` makes wrong ones of the right one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Literal, NamedTuple

from manual_lstm.params import GATES
from torch_ref.oracles.variant import STANDARD, Variant

Steps = Literal[
    "every",
    "first",
    "last",
    "not the first",
    "not the last",
    "first of several",
    "last of several",
    "not the first of several",
    "not the last of several",
    "none",
]
Again = Literal[
    "",
    "h[t]",
    "h = 0 at t=0",
    "h = 0",
    "c[t-1]",
    "x[t-1]",
    "x[t+1]",
    "no bias",
    "the bias twice",
]
OtherLayer = Literal["lowest", "top"]
Layer = Literal["own"] | OtherLayer
Edge = Literal["wrap", "clamp", "zero"]
AllLayers = Literal["sum", "so far", "lowest"]
Carrying = Literal[
    "one for all",
    "the top layer's",
    "the lowest layer's",
    "kept as the top layer's",
    "kept as the lowest layer's",
]
Columns = Literal[
    "",
    "W|U from the first",
    "W|U the last",
    "W|U one early",
    "W|U one late",
    "U|W from the first",
    "U|W the last",
    "U|W one early",
    "U|W one late",
]
Altered = Literal[
    "",
    "without the first",
    "without the last",
    "summed up",
    "(N, M) to (M, N)",
    "(M, N) to (N, M)",
    "block (N, M) to (M, N)",
    "block (M, N) to (N, M)",
    "row sums",
]


class Sizes(NamedTuple):
    """What a scale may depend on."""

    T: int
    B: int
    V: int
    H: int


SCALES: Mapping[str, Callable[[Sizes], Fraction]] = {
    "0": lambda s: Fraction(0),
    "-1": lambda s: Fraction(-1),
    "2": lambda s: Fraction(2),
    "1/2": lambda s: Fraction(1, 2),
    "1/T": lambda s: Fraction(1, s.T),
    "1/B": lambda s: Fraction(1, s.B),
    "1/(T B)": lambda s: Fraction(1, s.T * s.B),
    "1/V": lambda s: Fraction(1, s.V),
    "1/H": lambda s: Fraction(1, s.H),
    "T": lambda s: Fraction(s.T),
    "B": lambda s: Fraction(s.B),
    "T B": lambda s: Fraction(s.T * s.B),
    "T/(T-1)": lambda s: Fraction(s.T, max(s.T - 1, 1)),
}


class Uncut(NamedTuple):
    """Every step but those at which what is carried back is dropped.

    Attributes:
        rule: where between t and t-1 that is: "multiple", t % period == phase; "multiple from the
            end", (T - t) % period == 0; "middle", t == T // 2; "but the last", t <= T - period.
        period, phase: whole numbers.
        at: whether it is dropped where t hands it on, so that dh0 and dc0 may be, or where t - 1
            "received" it, so that dh_n and dc_n may be, or neither of these, "between".
    """

    rule: Literal["multiple", "multiple from the end", "middle", "but the last"]
    period: int = 0
    phase: int = 0
    at: Literal["handed on", "received", "between"] = "handed on"

    def dropped(self, count: int) -> tuple[int, ...]:
        """At which of so many steps the term is not there."""
        after = 0 if self.at == "handed on" else 1
        whole = count - (self.at == "between")
        return tuple(t for t in range(whole) if self._cuts(t + after, count))

    def _cuts(self, t: int, count: int) -> bool:
        if self.rule == "middle":
            return t == count // 2
        if self.rule == "but the last":
            return t <= count - self.period
        if self.rule == "multiple":
            return t % self.period == self.phase
        return (count - t) % self.period == 0


def scale_of(key: str, sizes: Sizes) -> Fraction:
    """What a scale is: one of SCALES, or any number as a fraction, "7/10"."""
    return SCALES[key](sizes) if key in SCALES else Fraction(key)


def steps_of(count: int, which: Steps | Uncut) -> Sequence[int]:
    """Which of so many steps. One alone is neither the first nor the last of several."""
    if which == "every":
        return range(count)
    if isinstance(which, Uncut):
        dropped = which.dropped(count)
        return [t for t in range(count) if t not in dropped]
    several = int(count > 1)
    return {
        "first": range(1),
        "last": range(count - 1, count),
        "not the first": range(1, count),
        "not the last": range(count - 1),
        "first of several": range(several),
        "last of several": range(count - several, count),
        "not the first of several": range(several, count),
        "not the last of several": range(count - several),
        "none": range(0),
    }[which]


@dataclass(frozen=True)
class Factor:
    """A quantity at a step.

    Attributes:
        name: "i", "f", "g", "o", "c", "h", "h_out" and "c_new" (h and c without h0 and c0), "c_out"
            (what o multiplies), "h_lowest", "c_lowest", "c_top" and "x_before" (the lowest layer's
            h, that and the top one's c, the h[t-1] of the layer below), "x", "z_i", ..., "dy",
            "dh_n", "dc_n", "dh_above" and "dc_above" (dh0 and dc0 of the layer above), "w_ci", ...,
            "p", "onehot", "dloss" and what else `Quantities.loss` has, "one", a key of
            `quantities.JOINED`, or a gradient of the table.
        shift: c and h at t are those after step t, so c[t-1] has the shift -1.
        function: of the quantity, a key of `quantities.FUNCTIONS`.
        edge: what a step before the first or after the last is: Python's negative index, the
            nearest step that there is, or zero.
        at: "last" or "first", for that step's value at every step, and that of `shift` steps
            from it; "reversed" for T-1-t's at t.
        step: of which step, counted from t, everything that it kept is taken, cyclically or, with
            the edge "clamp", at the end the nearest.
        layer: how many layers further up, cyclically, for dh_n, dc_n, dh0 and dc0; or "lowest" or
            "top", for dh_n and dc_n.
    """

    name: str
    shift: int = 0
    function: str = ""
    edge: Edge = "wrap"
    at: Literal["", "last", "first", "reversed"] = ""
    step: int = 0
    layer: int | OtherLayer = 0

    @property
    def key(self) -> str:
        """Its name, with the layer that it is of where that is another."""
        return f"{self.name} {self.layer}" if self.layer else self.name


@dataclass(frozen=True)
class Weight:
    """What a term is multiplied by: the block of a gate's rows of a weight, W^T d as d @ W.

    `name` is "weight_ih", "weight_hh" or "weight_out", which has no blocks. `bias` says how the
    bias, a further column, gets into it where it should not be: added to every column, to the
    last or the first one, or as the last or the first column of a block that starts one column
    too late or too early. `columns` takes as many columns elsewhere of the two matrices side by
    side. `layer` says of which layer the weight is. `altered` takes a column for zero, or for each
    column the sum of those up to it, or reshapes the whole matrix or the block, or has the sum of
    each row on the diagonal. `order` is that of the gates in a matrix that is reshaped whole.
    """

    name: str
    block: str = ""
    transposed: bool = False
    bias: Literal["", "added", "onto last", "onto first", "last", "first"] = ""
    columns: Columns = ""
    layer: Layer = "own"
    altered: Altered = ""
    order: str = "ifgo"


@dataclass(frozen=True)
class Term:
    """A product.

    Attributes:
        factors: their product, element by element.
        weight: what that is multiplied by, or None.
        outer: in a sum over the steps, what the product is multiplied by: (18).
        scale: for `scale_of`; all of them apply.
        steps: at which steps the term is there.
        transposed: whether a sum is laid down transposed.
        after: what the product is multiplied by after the weight, as it should not be.
    """

    factors: tuple[Factor, ...]
    weight: Weight | None = None
    outer: Factor | None = None
    scale: tuple[str, ...] = ()
    steps: Steps | Uncut = "every"
    transposed: bool = False
    after: Factor | None = None


@dataclass(frozen=True)
class Equation:
    """target = the sum of its terms; `clip` bounds it, as no equation does."""

    target: str
    number: str
    terms: tuple[Term, ...]
    clip: Fraction | None = None


@dataclass(frozen=True)
class Table:
    """The equations by their target, in the order in which they are computed.

    Attributes:
        learning_rate: of an update of weight_hh within the loop, which should not be.
        forwards: whether the loop runs from the first step to the last, as it should not.
        again: what the gates are computed from once more, where it is not what they were.
        kept: of which layer everything is that a layer's forward pass has kept.
        decay, decayed: how much of the weights is added to their gradients, and of which: what
            their names begin with.
        reshaped: of gradients what their names begin with, and a key of `RESHAPED`, or that behind
            "block ": how they are returned. order: as for a Weight.
        one_array: of gradients what their names begin with, and what every layer's is where one
            array stands for all of them: the sum of the layers, what is the sum when the layer is
            done, or the lowest layer's.
        carries: of "dh_carry" or "dc_carry" by what a layer takes for its own, in a loop over the
            layers, from the top, within that over the steps.
        own, own_layers: the table of some layers, from the lowest up as from the first step, in
            the place of this one.
    """

    equations: Mapping[str, Equation] = field(default_factory=dict)
    learning_rate: Fraction = Fraction(0)
    forwards: bool = False
    again: Again = ""
    kept: Layer = "own"
    decay: Fraction = Fraction(0)
    decayed: tuple[str, ...] = ()
    reshaped: tuple[tuple[str, str], ...] = ()
    order: str = "ifgo"
    one_array: tuple[tuple[str, AllLayers], ...] = ()
    carries: tuple[tuple[str, Carrying], ...] = ()
    own: "Table | None" = None
    own_layers: Steps = "none"

    def __getitem__(self, target: str) -> Equation:
        return self.equations[target]

    def with_equation(self, equation: Equation) -> "Table":
        """The table with one equation in the place of the one with the same target."""
        return replace(self, equations={**self.equations, equation.target: equation})


LOSS = ("dlogits", "dy")
HEAD_SUMS = ("dweight_out", "dbias_out")
_GATE_STEPS = {f"d{stage}{gate}" for stage in ("", "z_") for gate in GATES}
STEP = frozenset({"dh", "dc_total", "dc", "dc_carry", "dh_carry", *_GATE_STEPS})
BEGIN = ("dh_begin", "dc_begin")
END = ("dh0", "dc0")
PEEPHOLES = {"weight_ci": "i", "weight_cf": "f", "weight_co": "o"}
# The second of two biases has equations of its own where it does not have those of the first.
KINDS = ("weight_ih", "weight_hh", "bias", "bias_hh")
SUMS = tuple(f"d{kind}.{gate}" for kind in KINDS for gate in GATES) + tuple(
    f"d{name}" for name in PEEPHOLES
)
# What each gate's dz is multiplied by in its sums over the steps, equations (18).
OUTER = {"weight_ih": Factor("x"), "weight_hh": Factor("h", -1), "bias": Factor("one")}
SUM_OF_DZ = {
    f"d{kind}.{gate}": (Term((Factor(f"dz_{gate}"),), outer=outer),)
    for gate in GATES
    for kind, outer in OUTER.items()
}
DERIVATIVE = {"sigmoid": "y(1-y)", "tanh": "1-y^2"}


def backward_table(variant: Variant = STANDARD, head: str | None = None) -> Table:
    """The right equations.

    Args:
        variant: the cell.
        head: "linear", "bounded", or None where dy is given.
    """
    one = Factor
    c, c_before, c_out = Factor("c"), Factor("c", -1), Factor("c_out")
    squashed = Factor("c_out", function=DERIVATIVE["tanh"])
    equations = []

    def equation(target: str, number: str, *terms: Term) -> None:
        equations.append(Equation(target, number, terms))

    def product(*factors: Factor, scale: tuple[str, ...] = ()) -> Term:
        return Term(factors, scale=scale)

    if head is not None:
        mean, upstream = ("1/(T B)",), one("dloss")
        equation(
            "dlogits",
            "(26)",
            product(one("p"), upstream, scale=mean),
            product(one("onehot"), upstream, scale=("-1", *mean)),
        )
        weight = Weight("weight_out") if head == "linear" else None
        equation("dy", "(20)" if weight else "(23)", Term((one("dlogits"),), weight))
    if head == "linear":
        equation("dweight_out", "(21)", Term((one("dlogits"),), outer=one("h")))
        equation("dbias_out", "(22)", Term((one("dlogits"),), outer=one("one")))

    equation("dh_begin", "(9)", product(one("dh_n")))
    equation("dc_begin", "(11)", product(one("dc_n")))
    equation("dh", "(9)", product(one("dy")), product(one("dh_carry")))

    def output_gate() -> None:
        equation("do", "(10)", product(one("dh"), c_out))
        equation("dz_o", "(15)", product(one("do"), one("o", function=DERIVATIVE["sigmoid"])))

    if variant.peepholes:  # dc needs dz_o
        output_gate()
    through = (squashed,) if variant.output == "tanh" else ()
    cell = [product(one("dh"), one("o"), *through), product(one("dc_carry"))]
    if variant.peepholes:
        cell.append(product(one("dz_o"), one("w_co")))
    if variant.state == "tanh":
        equation("dc_total", "(11)", *cell)
        equation("dc", "(32)", product(one("dc_total"), replace(c, function=DERIVATIVE["tanh"])))
    else:
        equation("dc", "(11)", *cell)
    if not variant.peepholes:
        output_gate()
    equation("di", "(12)", product(one("dc"), one("g"), scale=("0",) * variant.coupled))
    equation("dg", "(13)", product(one("dc"), one("i")))
    coupled = (product(one("dc"), one("g"), scale=("-1",)),) if variant.coupled else ()
    equation("df", "(14)", product(one("dc"), c_before), *coupled)
    for gate in ("i", "f", "g"):
        activation = variant.candidate if gate == "g" else "sigmoid"
        derivative = one(gate, function=DERIVATIVE[activation])
        equation(f"dz_{gate}", "(15)", product(one(f"d{gate}"), derivative))
    seen = ("i", "f") if variant.peepholes else ()
    equation(
        "dc_carry",
        "(16a)",
        product(one("dc"), one("f")),
        *(product(one(f"dz_{gate}"), one(f"w_c{gate}")) for gate in seen),
    )
    for target, number, name in (("dh_carry", "(16b)", "weight_hh"), ("dx", "(17)", "weight_ih")):
        equation(
            target, number, *(Term((one(f"dz_{gate}"),), Weight(name, gate)) for gate in GATES)
        )
    for target, terms in SUM_OF_DZ.items():
        kind, _, _ = target.removeprefix("d").partition(".")
        equation(
            target, {"weight_ih": "(18a)", "weight_hh": "(18b)", "bias": "(18c)"}[kind], *terms
        )
    for name, gate in PEEPHOLES.items() if variant.peepholes else ():
        state = c if gate == "o" else c_before
        equation(f"d{name}", "(37)", Term((one(f"dz_{gate}"), state), outer=one("one")))
    equation("below", "(8)", product(one("dx")))
    equation("dh0", "(16b)", product(one("dh_carry")))
    equation("dc0", "(16a)", product(one("dc_carry")))
    return Table({each.target: each for each in equations})
