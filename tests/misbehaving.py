"""Code that does what it should not, for `manual-lstm check`, as the text of a module."""

ZOO = """
import ctypes
import os
import sys
import time

import numpy as np
import torch

import manual_lstm


def with_gradients(change):
    def vjp(params, x, h0, c0):
        outputs, pullback = manual_lstm.vjp(params, x, h0, c0)
        return outputs, lambda dy, dh_n, dc_n: change(pullback(dy, dh_n, dc_n))

    return vjp


def each(change):
    return with_gradients(lambda found: {name: change(value) for name, value in found.items()})


lists = each(lambda array: array.tolist())
tensors = each(lambda array: torch.tensor(array, requires_grad=True))
big_endian = each(lambda array: array.astype(array.dtype.newbyteorder(">")))
half = each(lambda array: array.astype(np.float16))
whole = each(lambda array: array.astype(int))
complexes = each(lambda array: array + 0j)
objects = each(lambda array: array.astype(object))
ragged = each(lambda array: [[1.0], [1.0, 2.0]])
nothing = each(lambda array: None)
empty = with_gradients(lambda found: {})
numbered = with_gradients(lambda found: dict(enumerate(found.values())))
nan = each(lambda array: array * np.nan)


def by_name(params, x, *, h0, c0):
    return manual_lstm.vjp(params, x, h0, c0)


def too_many(params, x, h0, c0, training):
    return manual_lstm.vjp(params, x, h0, c0)


def too_few(params):
    return None


class Class:
    def method(self, params, x, h0, c0):
        return manual_lstm.vjp(params, x, h0, c0)


instance = Class()


def word(params, x, targets, h0, c0):
    return "a", {"dx": x}


def two_losses(params, x, targets, h0, c0):
    return np.ones(2), {"dx": x}


def leaves(params, x, h0, c0):
    sys.exit(0)


def quits(params, x, h0, c0):
    os._exit(0)


def shortens(params, x, h0, c0):
    returned = manual_lstm.vjp(dict(params), x, h0, c0)
    params.update({name: value[:1] for name, value in params.items()})
    return returned


surplus = with_gradients(lambda found: found | {"dweight_ih_l7": np.ones((4, 4))})


def with_dropout(params, x, h0, c0):
    kept = torch.nn.functional.dropout(torch.ones(x.shape)).numpy().astype(x.dtype)
    outputs, pullback = manual_lstm.vjp(params, x * kept, h0, c0)

    def back(dy, dh_n, dc_n):
        found = pullback(dy, dh_n, dc_n)
        return found | {"dx": found["dx"] * kept}

    return outputs, back


def leaves_late(params, x, h0, c0):
    if len(x) > 3:
        sys.exit("bye")
    return manual_lstm.vjp(params, x, h0, c0)


class Mute(Exception):
    def __str__(self):
        raise RuntimeError


def mute(params, x, h0, c0):
    raise Mute


def slow(params, x, h0, c0):
    time.sleep(30)


def deaf(params, x, h0, c0):
    while True:
        try:
            time.sleep(0.01)
        except Exception:
            pass


C = ctypes.CDLL(None)
C.fdopen.restype = ctypes.c_void_p
buffered = ctypes.c_void_p(C.fdopen(1, b"w"))  # as C's own stdout in a pipe


def prints(params, x, h0, c0):
    print("by print")
    os.write(1, b"by the system\\n")
    C.fputs(b"by C\\n", buffered)
    return manual_lstm.vjp(params, x, h0, c0)
"""


def line(text):
    """The number of the line of the zoo that has this."""
    return ZOO[: ZOO.index(text)].count("\n") + 1
