"""The character model: the stack, a head, softmax and cross-entropy. Equations (1) to (26)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from manual_lstm.arrays import FloatArray, Gradients, Params, check_array, check_count
from manual_lstm.head import (
    LinearCache,
    bounded_backward,
    bounded_forward,
    cross_entropy,
    cross_entropy_backward,
    linear_backward,
    linear_forward,
)
from manual_lstm.lstm import LayerCache, lstm_backward, lstm_forward
from manual_lstm.params import glorot_limit, init_params, lstm_sizes

Head = Literal["bounded", "linear"]
ModelOutputs = tuple[float, FloatArray, FloatArray]
ModelPullback = Callable[[float, ArrayLike | None, ArrayLike | None], Gradients]


@dataclass(frozen=True)
class CharModel:
    """A stack of LSTM layers that predicts the next of V classes.

    Attributes:
        num_classes: V; the input is one-hot, so I = V.
        hidden_size: H. The bounded head needs H = V.
        num_layers: L.
        head: "linear", equation (19), or "bounded", equation (23).

    Raises:
        ValueError: a size below 1, another head, or a bounded head with H other than V.
    """

    num_classes: int
    hidden_size: int
    num_layers: int = 1
    head: Head = "linear"

    def __post_init__(self) -> None:
        check_count("num_classes", self.num_classes)
        check_count("hidden_size", self.hidden_size)
        check_count("num_layers", self.num_layers)
        if self.head not in ("bounded", "linear"):
            raise ValueError(f"head is {self.head!r} but must be 'bounded' or 'linear'.")
        if self.head == "bounded" and self.hidden_size != self.num_classes:
            raise ValueError(
                f"hidden_size is {self.hidden_size} but must be {self.num_classes}: the bounded "
                "head takes h itself as the logits, so there is one unit for each class."
            )

    def init_params(
        self,
        *,
        dtype: DTypeLike = np.float32,
        rng: np.random.Generator,
        forget_bias: float | None = None,
    ) -> dict[str, FloatArray]:
        """`init_params` of the stack and, for the linear head, a Glorot uniform output layer.

        Returns:
            The stack's arrays and "weight_out" (V, H), "bias_out" (V,), the bias drawn too.
        """
        params = init_params(
            self.num_classes,
            self.hidden_size,
            self.num_layers,
            dtype=dtype,
            rng=rng,
            forget_bias=forget_bias,
        )
        if self.head == "linear":
            limit = glorot_limit(self.hidden_size, self.num_classes)  # (27)
            shape = (self.num_classes, self.hidden_size)
            params["weight_out"] = rng.uniform(-limit, limit, shape).astype(dtype)
            params["bias_out"] = rng.uniform(-limit, limit, shape[0]).astype(dtype)
        return params

    def vjp(
        self,
        params: Params,
        x: ArrayLike,
        targets: ArrayLike,
        h0: ArrayLike | None = None,
        c0: ArrayLike | None = None,
    ) -> tuple[ModelOutputs, ModelPullback]:
        """Loss and last states, and the pullback that gives every gradient.

        Args:
            params: as `CharModel.init_params` returns them.
            x: (T, B, I), of the weights' dtype.
            targets: (T, B), whole numbers from 0 to V - 1.
            h0, c0: (L, B, H), the state before the first step; None is zero.

        Returns:
            (loss, h_n, c_n): the mean cross-entropy in nats and the states (L, B, H) to carry
            into the next window; and pullback(dloss, dh_n, dc_n) -> gradients: "dx", "dh0",
            "dc0" and "d" + name for every array of params.

        Raises:
            ValueError: an array of the wrong rank, size or dtype, empty, not finite, or targets
                out of range.
        """
        (logits, h_n, c_n), (cache, head_cache) = self.forward(params, x, h0, c0)
        loss, loss_cache = cross_entropy(logits, targets)

        def pullback(
            dloss: float, dh_n: ArrayLike | None = None, dc_n: ArrayLike | None = None
        ) -> Gradients:
            dlogits = cross_entropy_backward(dloss, loss_cache)
            if head_cache is None:
                return lstm_backward(bounded_backward(dlogits), dh_n, dc_n, cache)
            dy, head_gradients = linear_backward(dlogits, head_cache)
            return lstm_backward(dy, dh_n, dc_n, cache) | head_gradients

        return (loss, h_n, c_n), pullback

    def logits(
        self,
        params: Params,
        x: ArrayLike,
        h0: ArrayLike | None = None,
        c0: ArrayLike | None = None,
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """What the head gives at every step, and the last states.

        Args:
            params, x, h0, c0: as for `vjp`.

        Returns:
            logits (T, B, V), h_n and c_n (L, B, H).

        Raises:
            ValueError: as `vjp`.
        """
        return self.forward(params, x, h0, c0)[0]

    def forward(
        self, params: Params, x: ArrayLike, h0: ArrayLike | None, c0: ArrayLike | None
    ) -> tuple[
        tuple[FloatArray, FloatArray, FloatArray], tuple[list[LayerCache], LinearCache | None]
    ]:
        """What `logits` returns, and the caches of the layers and of a linear head; see `vjp`."""
        self._check_head(params)
        (y, h_n, c_n), cache = lstm_forward(params, x, h0, c0)
        if self.head == "bounded":
            return (bounded_forward(y), h_n, c_n), (cache, None)
        logits, head_cache = linear_forward(params, y)
        return (logits, h_n, c_n), (cache, head_cache)

    def loss_and_grads(
        self,
        params: Params,
        x: ArrayLike,
        targets: ArrayLike,
        h0: ArrayLike | None = None,
        c0: ArrayLike | None = None,
    ) -> tuple[float, Gradients]:
        """The loss and its gradients, nothing coming from beyond the window; see `vjp`."""
        (loss, _, _), pullback = self.vjp(params, x, targets, h0, c0)
        return loss, pullback(1.0, None, None)

    def _check_head(self, params: Params) -> None:
        inputs, hidden, layers, dtype = lstm_sizes(params)
        found = (inputs, hidden, layers)
        expected = (self.num_classes, self.hidden_size, self.num_layers)
        if found != expected:
            raise ValueError(f"params has (I, H, L) = {found} but the model has {expected}.")
        names = {"weight_out": "V,H", "bias_out": "V"} if self.head == "linear" else {}
        sizes = {"V": self.num_classes, "H": self.hidden_size}
        for name, axes in names.items():
            if name not in params:
                raise ValueError(f"params has no {name}, which the linear head needs.")
            check_array(name, params[name], axes, sizes, dtype)
