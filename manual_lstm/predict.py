"""Prediction one by one: each symbol that is chosen is the next one's input."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from manual_lstm.arrays import FloatArray, check_array, check_count, check_indices, check_number
from manual_lstm.model import CharModel
from manual_lstm.tasks import one_hot


@dataclass(frozen=True)
class Prediction:
    """One predicted symbol.

    Attributes:
        index: of the symbol.
        probabilities: (V,), the model's, at a temperature of 1 whatever the choice was made at.
    """

    index: int
    probabilities: FloatArray


def predict(
    model: CharModel,
    params: Mapping[str, FloatArray],
    prompt: Sequence[int],
    count: int,
    *,
    temperature: float = 0.0,
    rng: np.random.Generator | None = None,
    h: FloatArray | None = None,
    c: FloatArray | None = None,
) -> Iterator[Prediction]:
    """Symbols that follow a prompt, one by one, each fed back as the next input.

    Args:
        params: as `CharModel.init_params` returns them.
        prompt: at least one index from 0 to V - 1; they are fed first, and the first prediction
            follows the last of them.
        count: how many predictions.
        temperature: 0 takes the most probable symbol, the first of equals; otherwise one is drawn
            with the probabilities softmax(logits / temperature): below 1 the likely ones come more
            often, above 1 less.
        rng: what draws; needed where the temperature is not 0.
        h, c: (L, 1, H), the state before the prompt; None is zero.

    Raises:
        ValueError: an empty prompt, an index out of range, a count below 1, a temperature below
            0, a missing rng, or an array that does not go with the model.
    """
    check_count("count", count)
    if check_number("temperature", temperature) < 0:
        raise ValueError(f"temperature is {temperature} but must be at least 0.")
    if temperature > 0 and rng is None:
        raise ValueError("rng is None but must be given: a temperature above 0 draws.")
    indices = check_indices("prompt", np.asarray(prompt, int), model.num_classes)
    if indices.ndim != 1 or not len(indices):
        raise ValueError("prompt is empty but must have at least one symbol: something to follow.")
    return _predictions(model, params, indices, count, temperature, rng, h, c)


def _predictions(
    model: CharModel,
    params: Mapping[str, FloatArray],
    indices: np.ndarray[tuple[int, ...], np.dtype[np.int64]],
    count: int,
    temperature: float,
    rng: np.random.Generator | None,
    h: FloatArray | None,
    c: FloatArray | None,
) -> Iterator[Prediction]:
    dtype = next(iter(params.values())).dtype
    for _ in range(count):
        x = one_hot(indices[:, None], model.num_classes, dtype)  # (T, 1, V)
        logits, h, c = model.logits(params, x, h, c)
        last = check_array("logits", logits[-1, 0], "V", {"V": model.num_classes}).astype(float)
        index = int(np.argmax(last))
        if rng is not None and temperature > 0:
            index = int(rng.choice(model.num_classes, p=_probabilities(last, temperature)))
        yield Prediction(index, _probabilities(last).astype(dtype))
        indices = np.array([index])


def _probabilities(logits: FloatArray, temperature: float = 1.0) -> FloatArray:
    with np.errstate(over="ignore"):  # to -inf, where the temperature is next to 0
        exponentials = np.exp((logits - logits.max()) / temperature)
    return np.asarray(exponentials / exponentials.sum())
