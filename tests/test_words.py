"""What a function is called in a sentence and written as in a line is what is computed."""

import re
from dataclasses import replace

import numpy as np
import pytest

from torch_ref.diagnosis.backward.quantities import FLOAT64, FUNCTIONS
from torch_ref.diagnosis.backward.render import render
from torch_ref.diagnosis.backward.table import Equation, Factor, Term
from torch_ref.diagnosis.backward.words import FUNCTION_WORDS, capitalised, quantity
from torch_ref.oracles.variant import STANDARD

# Functions under which these numbers stay whole sixteenths, sixty-fourths, ...: nothing rounds.
EXACT = replace(FLOAT64, tanh=lambda y: y / 2, sigmoid=lambda y: y / 4)
Y = np.array([0.25, 0.5, 0.75])
NAMESPACE = {"i": Y, "tanh": EXACT.tanh, "sigmoid": EXACT.sigmoid, "ones_like": np.ones_like}
# Of a whole array or of a unit's place in it, which a line tells in words.
ROWS = r"member|class|unit|how many|in the (fir|la)st|\) to \("
OF_ROWS = {name for name in FUNCTIONS if re.search(ROWS, name)}
# Told in words, without a formula.
TOLD = {name for name, words in FUNCTION_WORDS.items() if "twice" in words or "already" in words}


@pytest.mark.parametrize("name", sorted(set(FUNCTIONS) - OF_ROWS))
def test_a_line_that_is_not_what_was_computed(name):
    """The line of code that a finding shows for a function gives that function's values."""
    term = Term((Factor("i", function=name),))
    line = render(Equation("di", "(12)", (term,)), STANDARD).removeprefix("di = ")
    assert np.array_equal(eval(line, dict(NAMESPACE)), FUNCTIONS[name](EXACT, Y))


@pytest.mark.parametrize("name", sorted(set(FUNCTION_WORDS) - TOLD - {""}))
def test_a_sentence_that_is_not_what_was_computed(name):
    """The formula in a finding's sentence gives the function's values."""
    said = re.sub(r"^\w+'s derivative ", "", quantity(Factor("i", function=name)))
    formula = said.replace("^", "**").replace("i (", "i * (")
    assert np.array_equal(eval(formula, dict(NAMESPACE)), FUNCTIONS[name](EXACT, Y))


@pytest.mark.parametrize("name", ["c[t-1]", "dy[t]", "bias_out", "h_n", "c0", "x", "di", "df"])
def test_a_name_that_becomes_another_at_the_head_of_a_sentence(name):
    """A sentence has a capital in front, but a name stays as it is written in code."""
    assert capitalised(f"{name} is left out.") == f"{name} is left out."
    assert capitalised(f"the sum, or {name}, is left out.").startswith("The sum, or ")
