"""Other forms made into the contract: torch modules, autograd functions, updates, executors."""

import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch

import manual_lstm as ml
from torch_ref import Implementation, Layout, check_implementation, diagnose, preset
from torch_ref.harness.adapters import (
    from_module,
    from_steps,
    from_torch,
    gradients_from_update,
    update_learning_rate,
)
from torch_ref.harness.answers import MalformedAnswer
from torch_ref.harness.cases import sized_case
from torch_ref.harness.contract import as_implementation, run_implementation

SIZES = {"I": 3, "H": 4, "L": 2}


class Holder(torch.nn.Module):
    """A module with an LSTM inside, as it can be scripted."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = torch.nn.LSTM(3, 4, 2)

    def forward(
        self, x: torch.Tensor, state: tuple[torch.Tensor, torch.Tensor]
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        return self.lstm(x, state)


def scripted():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch deprecates its own compiler
        return torch.jit.script(Holder())


def exported():
    h0, c0 = torch.zeros(2, 2, 4), torch.zeros(2, 2, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.export.export(
            torch.nn.LSTM(3, 4, 2), (torch.zeros(4, 2, 3), (h0, c0))
        ).module()


@pytest.mark.parametrize(
    ("make", "prefix", "sizes"),
    [
        (lambda: torch.nn.LSTM(3, 4, 2), "", SIZES),
        (scripted, "lstm.", SIZES),
        (exported, "", {**SIZES, "T": 4, "B": 2}),
    ],
    ids=["module", "scripted", "exported"],
)
def test_a_torch_module_that_is_accused(make, prefix, sizes):
    """nn.LSTM as it is, scripted and exported, agrees in every check that its sizes admit."""
    vjp = from_module(make(), prefix)
    dtype = "float32" if "T" in sizes else None
    implementation = Implementation(
        "torch", vjp=vjp, layout=preset("torch"), sizes=sizes, dtype=dtype
    )
    report = check_implementation(implementation, examples=20)
    assert report.verdict == "agree", report.failures
    assert "check_gradients" in report.passed


class Sigmoid(torch.autograd.Function):
    """A custom function; `slope` is what its backward multiplies by."""

    @staticmethod
    def forward(ctx, z, right):
        y = torch.sigmoid(z)
        ctx.save_for_backward(y)
        ctx.right = right
        return y

    @staticmethod
    def backward(ctx, dy):
        (y,) = ctx.saved_tensors
        return dy * (y * (1 - y) if ctx.right else y), None


@pytest.mark.parametrize("right", [True, False])
def test_a_custom_autograd_function(right):
    """A wrong backward of a custom autograd.Function is noticed, a right one is not accused."""

    def call(params, x, h0, c0):
        h, c, ys = h0[0], c0[0], []
        for x_t in x:
            z = x_t @ params["weight_ih_l0"].T + h @ params["weight_hh_l0"].T + params["bias_l0"]
            i, f, g, o = z.chunk(4, dim=1)
            c = Sigmoid.apply(f, right) * c + Sigmoid.apply(i, True) * torch.tanh(g)
            h = Sigmoid.apply(o, True) * torch.tanh(c)
            ys.append(h)
        return torch.stack(ys), h[None], c[None]

    implementation = Implementation("custom", vjp=from_torch(call), sizes={"L": 1})
    report = check_implementation(implementation, examples=20)
    assert report.verdict == ("agree" if right else "disagree"), report.failures


class LastState(torch.autograd.Function):
    """x sent on, h0 and c0 without a gradient, as a Function may leave them."""

    @staticmethod
    def forward(ctx, x, h0, c0):
        return x.clone(), h0.clone(), c0.clone()

    @staticmethod
    def backward(ctx, dx, dh0, dc0):
        return dx, None, None


@pytest.mark.parametrize("right", [True, False])
def test_a_function_of_tensors_that_returns_y_alone(right):
    """y by itself is not taken for a tuple of its steps, nor a gradient never given for zero."""

    def call(params, x, h0, c0):
        x, h0, c0 = LastState.apply(x, h0, c0)
        names = ("weight_ih_l0", "weight_hh_l0", "bias_l0")
        weights = [params[name] for name in names]
        weights.append(torch.zeros_like(weights[-1]))
        y = torch.lstm(x, (h0, c0), weights, True, 1, 0.0, False, False, False)[0]
        return y if right else y + (y - y.detach()) * 0.5

    implementation = Implementation("y alone", vjp=from_torch(call), sizes={"L": 1})
    report = check_implementation(implementation, examples=20)
    assert report.verdict == ("agree" if right else "disagree"), report.failures
    ignored = {"the upstream gradient dh_n", "the gradient dh0", "the gradient dc0"}
    assert ignored <= set(report.unverified)


def test_a_weight_that_autograd_does_not_reach():
    """A weight without a gradient has a gradient of zero, and that is wrong."""

    def call(params, x):
        weights = [params["weight_ih_l0"], params["weight_hh_l0"].detach(), params["bias_l0"]]
        weights.append(torch.zeros_like(weights[-1]))
        state = x.new_zeros(1, x.shape[1], weights[1].shape[1])
        return torch.lstm(x, (state, state), weights, True, 1, 0.0, False, False, False)[0]

    frozen = Implementation("frozen", vjp=from_torch(call), sizes={"L": 1})
    report = check_implementation(frozen, examples=20)
    assert [t.name for t in report.tensors if t.verdict == "disagree"] == ["dweight_hh_l0"]
    assert "a non-zero h0" in report.unverified


def test_a_step_that_works_in_place_and_is_accused():
    """What a step does to the state and the gradients that its own loop hands it is its own."""

    def forward(params, x_t, h, c):
        (_, h_n, c_n), cache = ml.lstm_forward(params, x_t[None], h[None], c[None])
        h[...], c[...] = h_n[0], c_n[0]
        return h, c, cache

    def backward(params, dh, dc, cache):
        found = ml.lstm_backward(dh[None], None, dc[None], cache)
        dc[...] = found.pop("dc0")[0]
        return found.pop("dx")[0], found.pop("dh0")[0], dc, found

    vjp = from_steps(forward, backward)
    in_place = Implementation("in place", vjp=vjp, layout=Layout(states="BH"), sizes={"L": 1})
    report = check_implementation(in_place, examples=20)
    assert report.verdict == "agree", report.failures
    assert not diagnose(in_place).wrong


@pytest.mark.parametrize("right", [True, False])
def test_a_step_that_adds_dy_itself_and_whose_sum_is_not_checked(right):
    """A step that forgets what t+1 hands back is found out, one that adds it is not accused."""

    def forward(params, x_t, h, c):
        (_, h_n, c_n), cache = ml.lstm_forward(params, x_t[None], h[None], c[None])
        return h_n[0], c_n[0], cache

    def backward(params, dy, dh, dc, cache):
        found = ml.lstm_backward((dy + dh if right else dy)[None], None, dc[None], cache)
        return found.pop("dx")[0], found.pop("dh0")[0], found.pop("dc0")[0], found

    vjp = from_steps(forward, backward)
    apart = Implementation("apart", vjp=vjp, layout=Layout(states="BH"), sizes={"L": 1})
    diagnosis = diagnose(apart)
    assert diagnosis.wrong is not right
    if not right:
        assert diagnosis.finding is not None, diagnosis.located
        sentence = "What t+1 hands back in the gradient of h is left out."
        assert diagnosis.finding.mistakes[0].sentence == sentence


def test_a_default_of_its_own_that_is_overwritten():
    """A pullback that keeps its cache as a default is given dh_n in its place."""

    def vjp(params, x, h0, c0, steps=None):
        outputs, cache = ml.lstm_forward(params, x, h0, c0)
        assert steps is None
        return outputs, lambda dy, cache=cache: ml.lstm_backward(dy, None, None, cache)

    report = check_implementation(vjp, examples=20)
    assert report.verdict == "agree", report.failures
    assert "the upstream gradient dh_n" in report.unverified


def test_an_update_that_loses_the_gradient():
    """The gradient comes back from an update to within its budget; a wrong one stays wrong."""

    def by_update(sign):
        def vjp(params, x, h0, c0):
            outputs, pullback = ml.vjp(params, x, h0, c0)

            def back(dy, dh_n, dc_n):
                found = pullback(dy, dh_n, dc_n)
                rate = update_learning_rate(x.dtype)
                after = {n: w - sign * rate * found["d" + n] for n, w in params.items()}
                return gradients_from_update(params, after)

            return outputs, back

        return vjp

    assert check_implementation(by_update(1), examples=20).verdict == "agree"
    wrong = check_implementation(by_update(-1), examples=20)
    assert wrong.scale is not None
    assert wrong.scale.words == "-1"


def test_an_update_that_loses_a_gradient_of_1e_80():
    """A saturated softmax leaves such gradients, and beside a weight nothing else of them."""

    def loss_and_grads(params, x, targets, h0, c0):
        model = ml.CharModel(x.shape[2], h0.shape[2], len(h0))
        loss, found = model.loss_and_grads(params, x, targets, h0, c0)
        rate = update_learning_rate(x.dtype)
        after = {n: w - rate * found["d" + n] for n, w in params.items()}
        return loss, gradients_from_update(params, after)

    report = check_implementation(loss_and_grads, examples=20)
    assert report.verdict == "agree", report.failures


def test_a_module_that_is_not_what_it_was_after_a_check():
    """Somebody's trained model, its weights and its dtype."""
    module = torch.nn.LSTM(3, 4, dtype=torch.float64)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    mine = Implementation("mine", vjp=from_module(module), layout=preset("torch"))
    check_implementation(replace(mine, sizes={"I": 3, "H": 4, "L": 1}), examples=5)
    for name, value in module.state_dict().items():
        assert value.dtype == torch.float64
        assert torch.equal(value, before[name])


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (3, "the implementation is int but must be an Implementation, or a callable"),
        (None, "the implementation is NoneType but must be"),
    ],
)
def test_what_is_no_implementation(target, message):
    """Something that cannot be called is refused in a sentence."""
    with pytest.raises(ValueError, match=message):
        as_implementation(target)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "'x' must have just one of vjp, loss_and_grads, command"),
        ({"vjp": ml.vjp, "command": "a {case} {result}"}, "must have just one of"),
        (
            {"vjp": ml.vjp, "reduction": "max"},
            "reduction is 'max' but must be one of 'mean', 'sum'",
        ),
        ({"vjp": ml.vjp, "dtype": "float16"}, "dtype is 'float16' but must be one of"),
        ({"vjp": ml.vjp, "sizes": {"Q": 1}}, "sizes is 'Q' but must be one of"),
    ],
)
def test_an_implementation_that_contradicts_itself(arguments, message):
    """A wrong word, or no form or two, is refused in a sentence."""
    with pytest.raises(ValueError, match=message):
        Implementation("x", **arguments)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (None, r"mine returned NoneType but must return \(\(y, h_n, c_n\), pullback\)"),
        ((1, 2, 3), "mine returned a tuple of 3 but must return"),
        (
            ((np.zeros((3, 1, 3)),), lambda dy, dh_n, dc_n: [1]),
            "as its gradients but must",
        ),
        (((np.zeros((3, 1, 3)),), lambda dy, dh_n, dc_n: {"dw": np.ones(2)}), "dw"),
        (((np.zeros(3),), lambda dy, dh_n, dc_n: {}), r"y has shape \(3,\)"),
    ],
)
def test_an_answer_that_cannot_be_read(returned, message):
    """What the contract has no place for is said, and is a failed verdict, not a crash."""

    def mine(params, x, h0, c0):
        return returned

    case = sized_case({"T": 3, "B": 1, "I": 2, "H": 3, "L": 1})
    with pytest.raises(MalformedAnswer, match=message):
        run_implementation(Implementation("mine", vjp=mine), case)
    report = check_implementation(mine, examples=20)
    assert report.verdict == "disagree"
    assert report.failures[0].error is None


def test_an_executor_that_loses_findings():
    """Checks that are run by threads or by a Dask cluster find what they find here."""

    def wrong(params, x, h0, c0):
        outputs, pullback = ml.vjp(params, x, h0, c0)
        return outputs, lambda dy, dh_n, dc_n: pullback(dy, dh_n, 0 * dc_n)

    here = [f.check for f in check_implementation(wrong, examples=20).failures]
    with ThreadPoolExecutor(2) as pool:
        there = check_implementation(wrong, examples=20, executor=pool)
        assert [f.check for f in there.failures] == here
        assert check_implementation(ml.vjp, examples=20, executor=pool).verdict == "agree"


def test_a_dask_cluster():
    """A campaign on dask.distributed's local cluster gives the same verdicts."""
    distributed = pytest.importorskip("distributed", reason="dask.distributed is not installed")
    with (
        warnings.catch_warnings(),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        warnings.simplefilter("ignore")
        report = check_implementation(ml.vjp, examples=20, executor=client.get_executor())
    assert report.verdict == "agree"
    assert report.examples > 18


def test_a_flat_vector_of_parameters():
    """All weights in one vector, and one gradient for them."""
    layout = Layout(flat="weight_ih weight_hh bias_ih", flat_name="theta")

    def vjp(params, x, h0, c0):
        like = ml.init_params(x.shape[2], h0.shape[2], len(h0), dtype=x.dtype, rng=RNG)
        ours = layout.params_from(params, like=like)
        outputs, pullback = ml.vjp(ours, x, h0, c0)

        def back(dy, dh_n, dc_n):
            found = pullback(dy, dh_n, dc_n)
            flat = layout.params_to({name: found["d" + name] for name in ours})
            return {"d" + name: value for name, value in flat.items()}

        return outputs, back

    report = check_implementation(Implementation("flat", vjp=vjp, layout=layout), examples=20)
    assert report.verdict == "agree", report.failures


RNG = np.random.default_rng(0)
