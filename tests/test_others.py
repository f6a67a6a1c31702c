"""LSTMs in the styles of other people, and the mistakes that are made in each, named."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from torch_ref import Implementation, Layout, Variant, check_implementation, diagnose, preset

pytestmark = pytest.mark.sampled

FOLDER = Path(__file__).parent / "others"
PEEPHOLES = ("weight_ci_l0", "weight_cf_l0", "weight_co_l0")


def bias_row(module: Any) -> Implementation:
    """[1, x, h] @ W, gates i, f, o, g."""
    layout = Layout("ifog", matrices="xh", transposed=True, bias="first", states="BH",
                    weight="W", x="X")  # fmt: skip

    def vjp(params: Any, x: Any, h0: Any, c0: Any) -> Any:
        y, c, cache = module.forward(x, params["W"], h0, c0)
        return (y, y[-1], c[-1]), lambda dy, dh, dc: module.backward(dy, dh, dc, cache)

    return Implementation("bias_row", vjp=vjp, layout=layout)


def columns(module: Any) -> Implementation:
    """W @ [a; x] + b for each gate, (n_x, m, T_x), no c0."""

    def vjp(params: Any, x: Any, h0: Any) -> Any:
        a, caches = module.lstm_forward(x, h0, params)
        return a, lambda dy: module.lstm_backward(dy, caches, params)

    return Implementation("columns", vjp=vjp, layout=preset("columns"))


def time_layers(module: Any) -> Implementation:
    """Objects with params and grads, gates f, g, i, o, a state that stays."""
    layout = Layout("fgio", transposed=True, sequence="BTI", states="BH",
                    weight_ih="Wx", weight_hh="Wh", bias_ih="b")  # fmt: skip

    def vjp(params: Any, x: Any, h0: Any, c0: Any) -> Any:
        layer = module.TimeLSTM(params["Wx"], params["Wh"], params["b"])
        layer.set_state(h0, c0)
        y = layer.forward(x)

        def back(dy: Any) -> Any:
            dx = layer.backward(dy)
            names = ("dx", "dh0", "dWx", "dWh", "db")
            return dict(zip(names, (dx, layer.dh, *layer.grads), strict=True))

        return (y, layer.h, layer.c), back

    return Implementation("time_layers", vjp=vjp, layout=layout)


def char_trainer(module: Any) -> Implementation:
    """Indices (N, T), a loss that is summed over the steps, gates i, f, o, g."""
    layout = Layout("ifog", transposed=True, sequence="BTI", states="BH", weight_ih="Wx",
                    weight_hh="Wh", bias_ih="b", weight_out="Wy", bias_out="by")  # fmt: skip

    def loss_and_grads(params: Any, x: Any, targets: Any, h0: Any, c0: Any) -> Any:
        model = module.CharModel(**params)
        model.h, model.c = h0, c0
        loss, grads = model.loss(x.argmax(axis=-1), targets)
        steps = x.shape[1]  # the contract's loss is the mean
        return loss / steps, {f"d{name}": grad / steps for name, grad in grads.items()}

    return Implementation(
        "char_trainer", loss_and_grads=loss_and_grads, layout=layout, dtype="float64"
    )


def peephole_vectors(module: Any) -> Implementation:
    """One sequence, peepholes in p (3, H)."""

    def vjp(params: Any, x: Any, h0: Any, c0: Any) -> Any:
        weights = [params[name] for name in ("weight_ih_l0", "weight_hh_l0", "bias_l0")]
        given = (*weights, np.array([params[name] for name in PEEPHOLES]), x, h0, c0)
        state = module.forward(*given)

        def back(dy: Any, dh_n: Any, dc_n: Any) -> Any:
            dW, dR, db, dp, *rest = module.backward(*given, state, dy, dh_n, dc_n)
            names = ("dweight_ih_l0", "dweight_hh_l0", "dbias_l0", "dx", "dh0", "dc0")
            found = dict(zip(names, (dW, dR, db, *rest), strict=True))
            return found | {f"d{name}": each for name, each in zip(PEEPHOLES, dp, strict=True)}

        return (state[-1], state[-1][-1], state[-2][-1]), back

    layout, variant = Layout(sequence="TI", states="H"), Variant(peepholes=True)
    return Implementation(
        "peephole_vectors", vjp=vjp, layout=layout, variant=variant, dtype="float64"
    )


def loss_fun(module: Any) -> Implementation:
    """One lossFun over module globals, which clips what it returns."""

    def loss_and_grads(params: Any, x: Any, targets: Any, h0: Any, c0: Any) -> Any:
        vars(module).update(params, vocab_size=x.shape[1], hidden_size=len(h0))
        loss, found, *_ = module.lossFun(x.argmax(axis=1), targets, h0, c0)
        names = ("Wf", "Wi", "Wc", "Wo", "bf", "bi", "bc", "bo", "Why", "by")
        return loss, {f"d{name}": each for name, each in zip(names, found, strict=True)}

    layout = preset("loss_fun")
    return Implementation("lossFun", loss_and_grads=loss_and_grads, layout=layout, reduction="sum")


STYLES: dict[str, Callable[[Any], Implementation]] = {
    each.__name__: each for each in (bias_row, columns, time_layers, char_trainer, peephole_vectors)
}
CLIPS: dict[str, Callable[[Any], Implementation]] = {"loss_fun": loss_fun}


def made(style: str, old: str = "", new: str = "") -> Implementation:
    """A style's LSTM with `old` in its source replaced by `new`."""
    source = (FOLDER / f"{style}.py").read_text(encoding="utf-8")
    assert not old or source.count(old) == 1, f"{old!r} occurs {source.count(old)} times"
    module = ModuleType(style)
    exec(compile(source.replace(old, new), style, "exec"), vars(module))
    return (STYLES | CLIPS)[style](module)


@pytest.mark.parametrize("style", STYLES)
def test_correct_lstm_of_another_style_that_is_accused(style: str) -> None:
    """A false alarm, of the checks or of the diagnosis."""
    implementation = made(style)
    report = check_implementation(implementation, examples=20)
    assert report.verdict == "agree", report.failures
    assert not diagnose(implementation, seconds=0).wrong


# style, the right text, the wrong text, and the mistakes that have to be named
PLANTED = [
    # at t=0 only, or everywhere but there
    ("bias_row", "df = c0 * dC[t]", "df = C[t] * dC[t]", ["df.c without c0 clamp"]),
    ("bias_row", "df = c0 * dC[t]", "df = C[t - 1] * dC[t]", ["df.c without c0 wrap"]),
    # f of the step that takes, beside that of the step which hands on
    ("peephole_vectors", " + dc_next\n", " + dc_next * f[t]\n", ["dc.carry times f"]),
    ("bias_row", "(1 - g**2)", "(1 - C[t] ** 2)",
     ["dz_g.derivative at tanh's derivative 1 - c[t]^2"]),
    ("time_layers", "        di = ds * g * i", "        ds = dc_prev\n        di = ds * g * i",
     ["dc.used after f"]),
    # the joined matrix
    ("columns", "back[:n_a], back[n_a:]", "back[-n_a:], back[n_a:]", ["dh_carry.U|W the last"]),
    ("columns", '{f"dW{gate}": dz[gate] @ concat.T for gate in dz}',
     '{f"dW{gate}": dz[gate if gate != "f" else "i"] @ concat.T for gate in dz}',
     ["weight[f].from i"]),
    # dc written out where it is used
    ("columns", "dc_next * ft + through", "dc_next * ft + (1 - np.tanh(c_next)) * ot",
     ["dc.1-y, only where what the cell's gradient hands to t-1 is computed"]),
    ("columns", "da[:, :, t] + da_prevt", "da[:, :, t]", ["dh[1] * 0"]),
    ("columns", "+ da_prevt, dc_prevt, caches[t]", "+ da_prevt, dc_prevt, caches[t - 1]",
     ["cache.t-1 wrap"]),
    # the order of the gates, in three of four blocks
    ("time_layers", "np.hstack((df, dg, di, do))", "np.hstack((di, df, dg, do))",
     ["dz.g, i, f, o for i, f, g, o"]),
    ("time_layers", "dc_prev = ds * f\n", "ds *= f\n        dc_prev = ds\n", ["dc.used after f"]),
    ("time_layers", "total += grad", "total[...] = grad", ["weights.first"]),
    ("columns", "reversed(range(T_x))", "reversed(range(1, T_x))", ["loop.without t=0"]),
    ("time_layers", "tanh_c = np.tanh(c_next)", "tanh_c = c_next", ["cell.c for tanh(c)"]),
    # the loss, which is all that tells of the forward pass
    ("char_trainer", "dscores /= N", "dscores /= 1", ["dlogits * B"]),
    ("char_trainer", "hs[t + 1].T @ dscores", "hs[t].T @ dscores", ["dweight_out.h[t-1]"]),
    ("char_trainer", "dc = dc + dh * o", "dc = dh * o", ["dc[1] * 0"]),
    # behind gradients that are clipped
    ("loss_fun", "dc * cs[t - 1] * f", "dc * cs[t] * f",
     ["df.c[t]", "gradients.clipped by value"]),
    ("loss_fun", "reversed(range(len(inputs)))", "reversed(range(1, len(inputs)))",
     ["loop.without the first 1", "gradients.clipped by value"]),
    ("loss_fun", " + Wc.T @ dcbar", "", ["dh_carry[2] * 0", "gradients.clipped by value"]),
    # peepholes
    ("peephole_vectors", " + p[2] * do + dc_next", " + dc_next", ["dc[2] * 0"]),
    ("peephole_vectors", "dc * f[t] + p[0] * di + p[1] * df", "dc * f[t]",
     ["peepholes.not handed on"]),
    ("peephole_vectors", "dp[0] += di * c_prev", "dp[0] += di * c[t]", ["weight_ci.c[t]"]),
    # the forward pass
    ("bias_row", "inputs = np.ones(", "inputs = np.zeros(", ["forward.z_*.without b"]),
    ("bias_row", "Y[t - 1] if t > 0 else h0", "Y[t - 1]", ["forward.h[t-1].zero at t=0"]),
    ("columns", "(a_prev, xt), axis=0", "(xt, a_prev), axis=0", ["forward.z.[U|W] on [x, h]"]),
    ("columns", "a0, np.zeros_like(a0)\n", "a0, a0\n", ["forward.c[t-1].the other state at t=0"]),
    ("time_layers", "f, g, i, o = A[", "f, i, g, o = A[",
     ["forward.z.wub of i and g exchanged"]),
    ("time_layers", "f * c_prev + g * i", "c_prev + g * i", ["forward.c.c[t-1] + i * g"]),
    ("char_trainer", "hs.append(o * np.tanh(cs[-1]))", "hs.append(o * cs[-1])",
     ["forward.h.o * c[t]"]),
    ("char_trainer", "hs[-1] @ self.Wy + self.by", "hs[-1] @ self.Wy",
     ["forward.bias_out.left out"]),
    ("char_trainer", "targets[:, t]]).sum() / N", "targets[:, t]]).sum()", ["forward.loss * B"]),
    ("peephole_vectors", "sigma(a_o + p[2] * c[t])", "sigma(a_o + p[2] * c_prev)",
     ["forward.z_o.peephole c[t-1]"]),
    # a factor or a term too many, another state
    ("time_layers", "dc_next + dh_next * o *", "dc_next + h_prev * dh_next * o *",
     ["dc[0].times h[t-1]"]),
    ("time_layers", "dc_prev = ds * f\n",
     "dc_prev = ds * f + ds * c_prev * f * (1 - f) * c_prev\n", ["dc_carry.plus dz_f * c[t-1]"]),
    ("bias_row", "df = C[t - 1] * dC[t]", "df = c0 * dC[t]", ["df.c0"]),
    ("peephole_vectors", "(1 - np.tanh(c[t]) ** 2)", "(1 - np.tanh(y[t]) ** 2)",
     ["dc.1-tanh(h)^2"]),
    # the last step written out, apart from a single one; buffers that keep what t=1 needed
    ("bias_row", "df = C[t - 1] * dC[t]", "df = C[t if t == T - 1 else t - 1] * dC[t]",
     ["df.c[t], at the last step only, where T > 1"]),
    ("time_layers", "            dxs[:, t], dh,",
     "            first = self.layers[0]\n            if t == 0 < T - 1:\n"
     "                stale = self.layers[1].cache[1:3]\n"
     "                first.cache = (first.cache[0], *stale, *first.cache[3:])\n"
     "            dxs[:, t], dh,",
     ["h and c before.stale at t=0"]),
    # W.T @ df * f * (1 - f), from the left to the right
    ("columns", "da_prev, dxt = back[:n_a], back[n_a:]",
     "slope = {'f': ft * (1 - ft), 'i': it * (1 - it), 'c': 1 - cct**2, 'o': ot * (1 - ot)}\n"
     "    parts = [p[f'W{k}'][:, :n_a].T @ (dz[k] / slope[k]) * slope[k] for k in dz]\n"
     "    da_prev, dxt = sum(parts), back[n_a:]",
     ["dh_carry.derivatives after weight_hh"]),
    # a matrix for x and one for h, each with a gradient of its own; steps that are paired wrongly
    ("time_layers", "x.T @ dA, h_prev.T @ dA, dA.sum(axis=0)\n        return dA @",
     "x.T @ (of_x := np.hstack((df, dg, di, ds))), h_prev.T @ dA, of_x.sum(axis=0)\n"
     "        return of_x @", ["side of x.o from dc"]),
    ("bias_row", "dW += inputs[t].T @ dz", "dW += inputs[t - 1].T @ dz * (t > 0)",
     ["joined.pairs of t-1"]),
    ("char_trainer", "self.h, self.c = hs[-1], cs[-1]\n",
     "self.h, self.c = hs[-1], cs[-1]\n        grads['Wy'] *= T\n        grads['by'] *= T\n",
     ["weight_out and bias_out * T"]),
    ("peephole_vectors", "p[0] * di + p[1] * df", "p[0] * di + p[1] * di",
     ["dc_carry.peephole of f with dz_i"]),
    ("peephole_vectors", "a_o + p[2] * c[t])", "a_o + p[2] * c[t] * (t > 0))",
     ["forward.z_o.peephole not at t=0"]),
    # what the forward loop left in a variable, a name for another, a bracket one factor too late
    ("peephole_vectors", "dc_next = dc * f[t]", "dc_next = dc * f[-1]", ["dc_carry.f[T-1]"]),
    ("peephole_vectors", "df = dc * c_prev *", "df = dc * c[len(x) - 2] *", ["df.c[T-2]"]),
    ("peephole_vectors", "do = dy * np.tanh(c[t])", "do = dy * np.tanh(c[-1])",
     ["do.tanh(c[T-1])"]),
    ("peephole_vectors", "(1 - np.tanh(c[t]) ** 2)", "(1 - np.tanh(c[-1]) ** 2)",
     ["dc.derivative at tanh(c[T-1])"]),
    ("peephole_vectors", "* i[t] * (1 - i[t])", "* i[-1] * (1 - i[-1])",
     ["dz_i.derivative at i[T-1]"]),
    ("peephole_vectors", "dc_next = dc * f[t]", "dc_next = dc * df", ["dc_carry.dz_f for f"]),
    ("peephole_vectors", " + p[2] * do + dc_next\n",
     " + p[2] * (do_next if t < len(x) - 1 else 0) + dc_next\n        do_next = do\n",
     ["dc[2].dz_o of t+1"]),
    ("bias_row", "i * dC[t]])\n", "g * dC[t] * dC[t]])\n", ["dg.di for i"]),
    ("time_layers", "ds = dc_next + dh_next * o * (1 -", "ds = (dc_next + dh_next * o) * (1 -",
     ["dc.carry times tanh's derivative 1 - tanh(c[t])^2"]),
    ("time_layers", "ds = dc_next + dh_next * o *", "ds = (dc_next + dh_next) * o *",
     ["dc.carry times o and tanh's derivative 1 - tanh(c[t])^2"]),
    ("time_layers", "tanh_c = np.tanh(c_next)", "tanh_c = np.tanh(o * np.tanh(c_next))",
     ["cell.tanh(h)"]),
    # an activation's derivative for another's, before or after the gates were put in their order
    ("time_layers", "dg = ds * i * (1 - g**2)",
     "s = sigmoid(np.arctanh(g))\n        dg = ds * i * s * (1 - s)",
     ["dz_g.sigmoid's derivative of z"]),
    ("bias_row", "np.hstack([g * dC[t], df,", "np.hstack([df, g * dC[t],",
     ["di and df.exchanged"]),
    # steps that are paired wrongly, of all gates or of one
    ("bias_row", "dW += inputs[t].T @ dz", "dW += inputs[t - 1].T @ dz",
     ["weight.[h, x] kept at t-1"]),
    ("peephole_vectors", "dR += np.outer(da, y_prev)",
     "dR += np.outer(da, y[t]) * (t < len(x) - 1)", ["weight_hh.h[t], not the last"]),
    ("peephole_vectors", "dp[1] += df * c_prev", "dp[1] += df * c[t] * (t < len(x) - 1)",
     ["weight_cf.c[t], not the last"]),
    ("peephole_vectors", "dW += np.outer(da, x[t])",
     "dW += np.outer(da, x[t])\n"
     "        dW[2 * len(y0) : -len(y0)] += np.outer(dz, x[t - 1] - x[t])",
     ["weight_ih[g].x[t-1] wrap"]),
    ("peephole_vectors", "dW += np.outer(da, x[t])",
     "dW += np.outer(da, x[t])\n"
     "        dW[2 * len(y0) : -len(y0)] += np.outer(dz, x[-1] - x[t])",
     ["weight_ih[g].x[T-1]"]),
]  # fmt: skip


@pytest.mark.parametrize(("style", "old", "new", "expected"), PLANTED)
def test_mistake_in_an_lstm_of_another_style_that_is_not_named(
    style: str, old: str, new: str, expected: list[str]
) -> None:
    """A mistake that people make in that style, and that is missed or taken for another."""
    diagnosis = diagnose(made(style, old, new))
    assert diagnosis.wrong
    assert diagnosis.finding is not None, diagnosis.located
    assert [mistake.identifier for mistake in diagnosis.finding.mistakes] == expected


def test_kept_gate_that_is_sent_to_the_cell_alone() -> None:
    """g that changed since the forward pass, where f at t=0 cannot tell that dc is right."""
    wrong = made("columns", "    through = ot", "    cct = cct * (1 + it / 8)\n    through = ot")
    located = diagnose(wrong, seconds=0).located
    assert "i and g are wrong and o is not (f shows nothing" in located
    assert "; or i or g is not as the forward pass kept it." in located


def test_wrong_dx_that_is_sent_to_the_states() -> None:
    """dx alone is wrong, and what there is not is to be looked at."""
    located = diagnose(made("columns", ", back[n_a:]", ", back[n_a:][::-1]"), seconds=0).located
    assert "equation (17)" in located
    assert "(16" not in located
    assert "dc0" not in located


def test_accumulators_that_are_not_reset_between_two_backward_passes() -> None:
    """A pullback that adds to what it returned before, said to be no more than not linear."""
    reset = "        for grad in self.grads:\n            grad[...] = 0\n"
    report = check_implementation(made("time_layers", reset), examples=20)
    (failure,) = report.failures
    assert failure.sentence.startswith("The pullback adds to the gradients of its last call")


def test_array_that_is_changed_in_place_is_named() -> None:
    """An upstream gradient that is not copied, when nothing else is wrong."""
    finding = diagnose(made("bias_row", "dY.copy()", "dY"), seconds=0).finding
    assert finding is not None
    assert [mistake.identifier for mistake in finding.mistakes] == ["kept.modified"]
    assert finding.mistakes[0].sentence.startswith("dy is changed in place")


def test_forward_that_no_line_explains_is_located() -> None:
    """The nearest wrong line named although it does not explain the outputs."""
    diagnosis = diagnose(made("columns", "np.tanh(p[", "np.arctan(p["), seconds=0)
    assert diagnosis.wrong
    assert diagnosis.finding is None
    assert diagnosis.located.startswith("The forward pass is wrong, in y")
    assert "what an activation tends to, (2) to (5)" in diagnosis.located


HEADS = [
    ("dscores /= N", "dscores /= N; dscores[::2] *= 0.5", "equation (26)", "(18)"),
    ('grads["Wy"] += hs[t + 1].T @ dscores',
     'grads["Wy"] += hs[t + 1].T @ dscores + hs[t + 1][1::2].T @ dscores[1::2]',
     "equation (21)", "(26)"),
    ("scores = hs[-1] @ self.Wy + self.by", "scores = (hs[-1] @ self.Wy + self.by) * 0.7",
     "is 0 too: look at the head", "(1) to"),
    ("loss -= ", "loss *= 1.01; loss -= ", "Every gradient is right: look at the loss", "(1) to"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "phrase", "never"), HEADS)
def test_wrong_head_that_is_sent_to_the_cell(old: str, new: str, phrase: str, never: str) -> None:
    """A loss, a softmax or a sum of the output layer that sends the reader to another equation."""
    diagnosis = diagnose(made("char_trainer", old, new), seconds=0)
    assert diagnosis.finding is None
    assert phrase in diagnosis.located, diagnosis.located
    assert never not in diagnosis.located, diagnosis.located


def test_results_in_float64_of_a_float32_case_are_no_accusation() -> None:
    """np.zeros without a dtype, for which a correct LSTM is said to be wrong."""
    report = check_implementation(made("columns"), examples=20)
    assert report.verdict == "agree", report.failures
    assert report.dtypes == ("float64",)
    assert "float32: it computes in float64" in report.unverified
