"""The checks: one function for each property.

A check takes a subject and a case and returns what it compared, if anything, or raises CheckFailed.
Its docstring says what it would catch. check_list.py has them in the order in which they are run,
the plainest properties first, so that the first failure is the one to read.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from manual_lstm.arrays import FloatArray
from torch_ref.compare.errors import Comparison, compare_gradients
from torch_ref.harness.abilities import OUTPUTS
from torch_ref.harness.cases import member_of
from torch_ref.harness.judge import Subject, apart, expected_of, judge
from torch_ref.harness.required import (
    CheckFailed,
    require,
    require_shapes,
    require_sound,
    with_sound_states,
)
from torch_ref.oracles.case import Case, Results

_UPSTREAM = ("dy", "dh_n", "dc_n")
_LOUDER = 2.0**20
_SMALL = 1e-3  # above it no epsilon is behind a probability, but a mistake
_AS_MUCH = f"Upstream gradients {_LOUDER:.0f} times as large do not give gradients as much larger"


def check_shapes_and_dtypes(subject: Subject, case: Case) -> Comparison | None:
    """A result of the wrong shape or dtype, or one that is not a number."""
    if lacking := subject.lacking_required:
        raise CheckFailed(f"It is required to have but has not: {'; '.join(lacking)}.")
    expected, _ = expected_of(subject, case)
    for name, value in subject.run(case).items():
        if name not in expected:
            raise CheckFailed(f"{name} is returned but is the gradient of nothing in the case.")
        require_sound(name, np.asarray(value), np.shape(expected[name]), case.dtype)
    return None


def check_forward(subject: Subject, case: Case) -> Comparison | None:
    """Another cell, gate order or layout than declared, which would make every gradient differ."""
    return require(
        judge(subject, case, only=OUTPUTS), "The forward pass is not the declared cell's"
    )


def check_improbable_target(subject: Subject, case: Case) -> Comparison | None:
    """A target that is left out of the loss because its probability rounds to 0."""
    # Logits as far apart as exp can take them one by one, so that a softmax without a shift
    # survives; and a class of the lesser ones as the target.
    bias = case.params["bias_out"]
    limit = 0.9 * np.log(float(np.finfo(case.dtype).max))
    far = np.where(np.arange(len(bias)) % 2 == 0, limit, -limit).astype(case.dtype)
    assert case.targets is not None
    targets = np.full_like(case.targets, len(bias) > 1)
    loud = replace(case, params={**case.params, "bias_out": far}, targets=targets)
    expected, allowed = expected_of(subject, loud)
    actual = subject.run(loud)["loss"]
    if np.isposinf(actual):
        return None
    comparison = compare_gradients(
        {"loss": actual}, {"loss": expected["loss"]}, {"loss": allowed["loss"]}
    )
    told = f"The loss is {float(actual):.3g} where it must be {float(expected['loss']):.3g}"
    terms = targets.size if subject.implementation.reduction == "sum" else 1
    # An epsilon makes it less than it must be.
    if len(bias) > 1 and -np.log(_SMALL) * terms < actual < expected["loss"]:
        least = np.exp(-float(actual) / terms)  # every p[target] is 0: this stands in its place
        if least > 0:
            told += f", as of log(max(p, {least:.3g})) or log(p + {least:.3g}), not of log-sum-exp"
    return require(comparison, told)


def check_one_step(subject: Subject, case: Case) -> Comparison | None:
    """A mistake inside a single step, from y alone and with zero states: nothing is carried."""
    return require(_judge_inside(subject, _plain(case)), "Wrong for a single step (T=1)")


def check_two_steps(subject: Subject, case: Case) -> Comparison | None:
    """A carry that is lost, doubled or taken before its update: T=2 is the first to have one."""
    return require(_judge_inside(subject, _plain(case)), "Wrong for two steps (T=2)")


def check_every_step(subject: Subject, case: Case) -> Comparison | None:
    """dy or the loss used at some steps only, or at the wrong ones."""
    return require(_judge_inside(subject, _plain(case)), "Wrong for several steps")


def check_zero_upstream(subject: Subject, case: Case) -> Comparison | None:
    """A gradient that does not come from upstream: a stale buffer, a loss of its own."""
    silent = replace(case, **{name: np.zeros_like(getattr(case, name)) for name in _UPSTREAM})
    for name, value in _gradients(subject.run(silent)).items():
        if np.any(value != 0):
            raise CheckFailed(f"With zero upstream gradients {name} must be exactly 0 but is not.")
    return None


def check_only_dh_n(subject: Subject, case: Case) -> Comparison | None:
    """dh_n ignored, or added somewhere other than to the last h."""
    alone = replace(_plain(case), dy=np.zeros_like(case.dy), dh_n=case.dh_n)
    return require(_judge_inside(subject, alone), "Wrong with dh_n alone")


def check_only_dc_n(subject: Subject, case: Case) -> Comparison | None:
    """dc_n ignored, or added somewhere other than to the last c."""
    alone = replace(_plain(case), dy=np.zeros_like(case.dy), dc_n=case.dc_n)
    return require(_judge_inside(subject, alone), "Wrong with dc_n alone")


def check_initial_state(subject: Subject, case: Case) -> Comparison | None:
    """h0 or c0 taken as zero: in the first step's forget gate, or in the recurrent weights."""
    with_states = replace(_plain(case), h0=case.h0, c0=case.c0)
    comparison = _judge_inside(subject, with_states)
    return require(comparison, "Wrong with a non-zero initial state")


def check_gradients(subject: Subject, case: Case) -> Comparison | None:
    """Any wrong gradient, on cases with everything in them."""
    return require(judge(subject, case), "A gradient is wrong")


def check_long(subject: Subject, case: Case) -> Comparison | None:
    """What takes many steps to show: `=` for `+=`, a truncation of its own, a bounded buffer."""
    return require(judge(subject, case), "Wrong for many steps")


def check_batch_is_sum_of_members(subject: Subject, case: Case) -> Comparison | None:
    """A mean over the batch for a sum, members that mix, or one that is left out."""
    batch = case.x.shape[1]
    if case.targets is not None:
        # A mean over the batch counts each member 1/B, but what comes through the states fully.
        case = replace(case, dh_n=np.zeros_like(case.dh_n), dc_n=np.zeros_like(case.dc_n))
    _, allowed = expected_of(subject, case)
    whole = subject.run(case)
    weights = [name for name in whole if name.removeprefix("d") in case.params]
    share = 1 if case.targets is None or subject.implementation.reduction == "sum" else 1 / batch
    members = [subject.run(member_of(case, b)) for b in range(batch)]
    budgets = [expected_of(subject, member_of(case, b))[1] for b in range(batch)]
    own = [name for name in ("dx", "dh0", "dc0") if name in whole]
    require_shapes([*weights, *own], allowed, whole)
    for budget, member in zip(budgets, members, strict=True):
        require_shapes([*weights, *own], budget, member)

    def added_up(name: str, results: Sequence[Mapping[str, np.ndarray]]) -> np.ndarray:
        return np.asarray(sum(share * each[name] for each in results))

    def side_by_side(name: str, results: Sequence[Mapping[str, np.ndarray]]) -> np.ndarray:
        return share * np.concatenate([each[name] for each in results], axis=1)

    def compared(
        names: Sequence[str], join: Callable[..., np.ndarray], sentence: str
    ) -> Comparison:
        expected = {name: join(name, members) for name in names}
        limit = {name: allowed[name] + join(name, budgets) for name in names}
        comparison = compare_gradients({name: whole[name] for name in names}, expected, limit)
        return require(comparison, sentence)

    first = compared(weights, added_up, "A batch's gradient is not the sum of its members'")
    if not own:
        return first
    alone = "The gradient of a sequence of the batch is not what it is alone"
    return Comparison((*first.tensors, *compared(own, side_by_side, alone).tensors))


def check_stacks(subject: Subject, case: Case) -> Comparison | None:
    """Layers that are joined wrongly: dx of a layer not passed down, states or weights mixed up."""
    return require(judge(subject, _plain(case)), "Wrong for a stack of layers")


def check_called_twice(subject: Subject, case: Case) -> Comparison | None:
    """An accumulator or state that is kept from the last call."""
    first, second = _copied(subject.run(case)), subject.run(case)
    _, allowed = expected_of(subject, case)
    for name, value in first.items():
        if name not in second or apart(value, np.asarray(second[name]), allowed.get(name, 0)):
            raise CheckFailed(f"{name} is not the same when the same case is run a second time.")
    return None


def check_inputs_unmodified(subject: Subject, case: Case) -> Comparison | None:
    """A weight, input or upstream gradient that is changed in place."""
    for name in subject.answer(case).modified:
        raise CheckFailed(f"{name} is changed by the call; it must be left as it was.")
    return None


def check_linearity(subject: Subject, case: Case) -> Comparison | None:
    """A pullback that remembers: asked again for other upstream gradients it must add up."""
    flipped = {name: np.flip(getattr(case, name)).copy() for name in _UPSTREAM}
    summed = {name: getattr(case, name) + flipped[name] for name in _UPSTREAM}
    asked = (case, replace(case, **flipped), replace(case, **summed))
    first, second, whole = subject.run_pullback(asked)
    budgets = [expected_of(subject, each)[1] for each in asked]
    whole = {name: value for name, value in whole.items() if name in budgets[0]}
    require_shapes(whole, budgets[0], first, second, whole)
    total = {name: first[name] + second[name] for name in whole}
    limit = {name: sum(budget[name] for budget in budgets) for name in whole}
    comparison = compare_gradients(whole, total, limit)
    truth = expected_of(subject, asked[1])[0]
    names = [name for name in second if name in truth]
    kept = {name: first[name] + truth[name] for name in names}
    adds = compare_gradients({name: second[name] for name in names}, kept, limit)
    if comparison.verdict != adds.verdict == "agree":
        return require(comparison, "The pullback adds to the gradients of its last call")
    return require(comparison, "The pullback is not linear: it remembers its last call")


def check_clipping(subject: Subject, case: Case) -> Comparison | None:
    """A gradient that is clipped inside: it no longer grows with the upstream gradient."""
    if case.dy is not None:
        # By its own gradients, so that what is wrong at any size is no clipping. dh_n and dc_n too:
        # what has an output after the last step alone takes no dy.
        quiet, factor = replace(_plain(case), dh_n=case.dh_n, dc_n=case.dc_n), _LOUDER
        loud = replace(quiet, **{name: getattr(case, name) * factor for name in _UPSTREAM})
        small, large = (_gradients(subject.run(each)) for each in (quiet, loud))
        budgets = [expected_of(subject, each)[1] for each in (quiet, loud)]
        names = [name for name in small if name in budgets[0]]
        require_shapes(names, budgets[0], small, large)
        with np.errstate(over="ignore"):
            grown = {name: np.asarray(small[name], np.float64) * factor for name in names}
        limit = {name: budgets[0][name] * factor + budgets[1][name] for name in names}
        require(compare_gradients({name: large[name] for name in names}, grown, limit), _AS_MUCH)
        return None  # its errors are those of no ordinary case
    # The output weights as large as a softmax without a shift survives: |h| is below 1.
    weight, bias = case.params["weight_out"], case.params["bias_out"]
    most = float(np.abs(weight).sum(axis=1).max() + np.abs(bias).max())
    limit_of_exp = 0.9 * np.log(float(np.finfo(case.dtype).max))
    factor = case.dtype.type(limit_of_exp / most if most > 0 else 1.0)
    loud = replace(case, params={**case.params, "weight_out": weight * factor})
    inside = {*subject.abilities.returned} - {*OUTPUTS, "dh0", "dc0"}
    comparison, ordinary = (judge(subject, each, only=inside) for each in (loud, case))
    if comparison.verdict == ordinary.verdict == "disagree":
        require(comparison, "Wrong with large output weights, as with small ones")
    require(comparison, "Large gradients are cut off")
    return None


def check_carried_state(subject: Subject, case: Case) -> Comparison | None:
    """A state that is not carried over: two windows must give what one of both lengths gives."""
    assert case.dy is not None
    half = case.x.shape[0] // 2
    zero = np.zeros_like(case.dh_n)
    first = replace(case, x=case.x[:half], dy=case.dy[:half], dh_n=zero, dc_n=zero)
    early = with_sound_states(subject.run(first), case)
    second = replace(case, x=case.x[half:], dy=case.dy[half:], h0=early["h_n"], c0=early["c_n"])
    late = with_sound_states(subject.run(second), case)
    early = subject.run(replace(first, dh_n=late["dh0"], dc_n=late["dc0"]))
    _, allowed = expected_of(subject, case)
    weights = [name for name in late if name.removeprefix("d") in case.params]
    require_shapes(weights, allowed, early, late)
    expected = {name: early[name] + late[name] for name in weights}
    expected |= {"h_n": late["h_n"], "c_n": late["c_n"]}
    expected |= {name: early[name] for name in ("dh0", "dc0") if name in early}
    whole = subject.run(case)
    require_shapes(expected, allowed, whole)
    limit = {name: 2 * allowed[name] for name in expected}  # both sides round
    comparison = compare_gradients({name: whole[name] for name in expected}, expected, limit)
    return require(comparison, "Two windows with the state carried are not one window")


def _plain(case: Case) -> Case:
    """The case with zero states and nothing from beyond the window."""
    zero = np.zeros_like(case.h0)
    return replace(case, h0=zero, c0=zero.copy(), dh_n=zero.copy(), dc_n=zero.copy())


def _judge_inside(subject: Subject, case: Case) -> Comparison:
    """All but what goes to the window before: that is for check_carried_state."""
    names = {*subject.abilities.returned} - {"dh0", "dc0"}
    return judge(subject, case, only=names)


def _gradients(results: Results) -> dict[str, FloatArray]:
    return {name: value for name, value in results.items() if name not in OUTPUTS}


def _copied(results: Results) -> Results:
    return {name: np.array(value) for name, value in results.items()}
