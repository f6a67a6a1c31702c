"""What a layer of a stack takes for its own carry, where that is another layer's."""

from collections.abc import Mapping, Sequence

import numpy as np

from torch_ref.diagnosis.backward.table import Carrying
from torch_ref.oracles.equations import Array

# Of each layer, of "dh_carry" or "dc_carry" what each step takes in the place of its own, or None.
Received = Sequence[Mapping[str, Sequence[Array | None]]]
Env = Mapping[str, Array]


def received(carries: Sequence[tuple[str, Carrying]], envs: Sequence[Env]) -> Received:
    """What each layer takes at each step, by what every layer has handed on so far.

    The loop over the steps is the outer one, that over the layers goes from the top: a layer finds
    what those above it have handed on at this step, those below it at the next.

    Args:
        envs: of each layer its carries (..., T, B, H) after each step, and dh_n and dc_n.
    """
    top = len(envs) - 1
    found: list[dict[str, Sequence[Array | None]]] = [{} for _ in envs]
    for carry, how in carries if top else ():
        handed = [list(np.moveaxis(env[carry], -3, 0)) for env in envs]
        of_next: list[list[Array | None]] = [[*each[1:], None] for each in handed]
        for k, env in enumerate(envs):
            begun = [_begun(env, carry)] * len(handed[k])
            if how == "kept as the top layer's":
                found[k][carry] = [*of_next[0][:-1], begun[0]] if k == top else begun
            elif how == "kept as the lowest layer's":
                found[k][carry] = begun if k else handed[1]
            elif how == "one for all":
                found[k][carry] = of_next[0] if k == top else handed[k + 1]
            elif how == "the top layer's" and k < top:
                found[k][carry] = handed[top]
            elif how == "the lowest layer's" and k > 0:
                found[k][carry] = [*of_next[0][:-1], _begun(envs[0], carry)]
    return found


def left_of(
    values: list[Array], envs: Sequence[Env], carry: str, carries: Sequence[tuple[str, Carrying]]
) -> list[Array]:
    """A carry's last values, dh0 or dc0 of each layer, where it is kept as another layer's."""
    how, begun = dict(carries).get(carry), [_begun(env, carry) for env in envs]
    if how == "one for all":
        return values[:1] * len(values)
    if how == "kept as the lowest layer's":
        return [values[0], *begun[1:]]
    return [*begun[:-1], values[0]] if how == "kept as the top layer's" else values


def _begun(env: Env, carry: str) -> Array:
    """What a layer's carry begins with."""
    return env[{"dh_carry": "dh_n", "dc_carry": "dc_n"}[carry]][..., 0, :, :]
