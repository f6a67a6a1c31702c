"""A reshape where a transpose is needed is named, wherever it stands."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from test_diagnosis import loss_and_grads, named

import manual_lstm
from manual_lstm.arrays import FloatArray, Gradients
from manual_lstm.lstm import lstm_backward, lstm_forward
from torch_ref import Implementation, Layout, diagnose

pytestmark = pytest.mark.sampled

Change = Callable[[FloatArray], FloatArray]


def steps_for_sequences(array: FloatArray) -> FloatArray:
    """What is laid down as (B, T, ...), reshaped to (T, B, ...)."""
    return np.ascontiguousarray(array.swapaxes(0, 1)).reshape(array.shape)


def sequences_for_steps(array: FloatArray) -> FloatArray:
    """What is laid down as (T, B, ...), reshaped to (B, T, ...), in code that is batch-first."""
    steps, batch, *rest = array.shape
    return array.reshape(batch, steps, *rest).swapaxes(0, 1)


def columns_for_rows(array: FloatArray) -> FloatArray:
    """(..., N, M) reshaped to (..., M, N)."""
    return np.ascontiguousarray(array.swapaxes(-1, -2)).reshape(array.shape)


def rows_for_columns(array: FloatArray) -> FloatArray:
    """(..., M, N) reshaped to (..., N, M), in code whose matrices are transposed."""
    *rest, rows, columns = array.shape
    return array.reshape(*rest, columns, rows).swapaxes(-1, -2)


def unchanged(array: FloatArray) -> FloatArray:
    return array


@dataclass(frozen=True)
class Slip:
    """Where manual_lstm is given, or gives, an array that is reshaped.

    Attributes:
        x, dy: of what goes in. y: of what comes out.
        gradient: of a gradient, by its name without the layer.
        kept: of what the backward pass takes from the forward's cache, by its field.
    """

    x: Change = unchanged
    dy: Change = unchanged
    y: Change = unchanged
    gradient: tuple[str, Change] = ("", unchanged)
    kept: tuple[str, Change] | None = None

    def vjp(self, params: Any, x: Any, h0: Any, c0: Any) -> Any:
        """The contract's vjp with the slip in it."""
        (y, h_n, c_n), caches = manual_lstm.lstm_forward(params, self.x(x), h0, c0)
        if self.kept is not None:
            field, change = self.kept
            caches = [each._replace(**{field: change(getattr(each, field))}) for each in caches]

        def pullback(dy: Any, dh_n: Any, dc_n: Any) -> Gradients:
            found = manual_lstm.lstm_backward(self.dy(dy), dh_n, dc_n, caches)
            wanted, change = self.gradient
            return {
                name: change(value) if wanted and name.startswith(wanted) else value
                for name, value in found.items()
            }

        return (self.y(y), h_n, c_n), pullback


def h_flattened_batch_first(h: FloatArray) -> FloatArray:
    """h[t-1] of every step, flattened from (B, T), beside a dz that is not; the last h as it is."""
    return np.concatenate([steps_for_sequences(h[:-1]), h[-1:]])


def x_flat(x: FloatArray) -> FloatArray:
    """x of (T*B, I), reshaped to (I, T*B) for its transpose."""
    steps, batch, inputs = x.shape
    return np.ascontiguousarray(x.reshape(inputs, steps * batch).T).reshape(x.shape)


SLIPS = {
    "dx.(B, T) to (T, B)": Slip(gradient=("dx", steps_for_sequences)),
    "dx.(T, B) to (B, T)": Slip(gradient=("dx", sequences_for_steps)),
    "dy.(B, T) to (T, B)": Slip(dy=steps_for_sequences),
    "dh0.(N, M) to (M, N)": Slip(gradient=("dh0", columns_for_rows)),
    "dc0.(T, B) to (B, T)": Slip(gradient=("dc0", sequences_for_steps)),
    "weight_hh.(M, N) to (N, M)": Slip(gradient=("dweight_hh", rows_for_columns)),
    "weight_ih.x (T*B, N) to (N, T*B)": Slip(kept=("x", x_flat)),
    "weight_hh.h[t-1] (B, T) to (T, B)": Slip(kept=("h", h_flattened_batch_first)),
    "dx.weight_ih (M, N) to (N, M)": Slip(kept=("weight_ih", rows_for_columns)),
    "forward.x.(B, T) to (T, B)": Slip(x=steps_for_sequences),
    "forward.y.(T, B) to (B, T)": Slip(y=sequences_for_steps),
}


@pytest.mark.parametrize("identifier", SLIPS)
def test_reshape_for_a_transpose_is_named(identifier: str) -> None:
    """The numbers are all there, in other places: the search of a minute finds nothing."""
    assert named(SLIPS[identifier].vjp, seconds=0) == [identifier]


def test_targets_flattened_in_another_order_than_the_logits_are_named() -> None:
    """Logits flattened from (T, B), targets from (B, T)."""

    def slipped(params: Any, x: Any, targets: Any, h0: Any, c0: Any) -> Any:
        return loss_and_grads(params, x, steps_for_sequences(targets), h0, c0)

    assert named(slipped, seconds=0) == ["forward.targets.(B, T) to (T, B)"]


@pytest.mark.parametrize("order", ["ifgo", "ofig"])
def test_reshaped_weight_whose_gates_stand_in_another_order(order: str) -> None:
    """U (H, 4H) as U.reshape(4H, H) for U.T: which numbers meet depends on the gates' order."""
    layout = Layout(order, transposed=True)
    there, back_again = (
        [names.index(gate) for gate in gates] for names, gates in (("ifgo", order), (order, "ifgo"))
    )

    def reshaped(weight: FloatArray) -> FloatArray:
        theirs = np.concatenate([np.split(weight, 4)[n] for n in there]).T  # (H, 4H)
        wrong = np.split(theirs.reshape(weight.shape), 4)
        return np.concatenate([wrong[n] for n in back_again])

    def vjp(params: Any, x: Any, h0: Any, c0: Any) -> Any:
        outputs, cache = lstm_forward(layout.params_from(params), x, h0, c0)

        def pullback(dy: Any, dh_n: Any, dc_n: Any) -> Any:
            wrong = [each._replace(weight_hh=reshaped(each.weight_hh)) for each in cache]
            found = lstm_backward(dy, dh_n, dc_n, wrong)
            theirs = layout.params_to({name[1:]: found[name] for name in found if "_l" in name})
            states = {name: found[name] for name in ("dx", "dh0", "dc0")}
            return {f"d{name}": value for name, value in theirs.items()} | states

        return outputs, pullback

    mine = Implementation("mine", vjp=vjp, layout=layout, dtype="float64")
    found = diagnose(mine, seconds=0)
    assert found.finding is not None, found.located
    sentence = found.finding.mistakes[0].sentence
    assert sentence.startswith("What h's gradient hands to t-1 goes through weight_hh_lk reshaped")
