"""Random numbers by counter: the draw of example i depends on (seed, round, i) alone (csrc/selection/draws.h).

The number of examples, the threads and the machine do not change a draw. The global random state is neither read nor
changed. Seeds and rounds are taken modulo 2^64.

Inside `of_class` the class is part of the counter, so that two classes draw independently.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

import fastprune._core as _core

_class_word: ContextVar[int] = ContextVar("class_word", default=0)


@contextmanager
def of_class(label: int) -> Iterator[None]:
    """Make every draw inside the block depend on this class too. Nested classes draw independently."""
    outer = _class_word.get()
    # The class goes into the upper half of the round's word. So rounds below 2^32 of two classes never collide.
    token = _class_word.set((outer * 0x9E3779B1 + ((operator.index(label) + 1) << 32)) % 2**64)
    try:
        yield
    finally:
        _class_word.reset(token)


def uniforms(n: int, seed: int, round: int) -> Tensor:
    """(n,) float64 on the CPU, uniform in (0, 1): Philox4x32-10 with counter (i, round) and key seed."""
    out = _empty(n)
    _core.uniforms(_word(seed), _round_word(round), 0, n, torch.get_num_threads(), out.data_ptr())
    return out


def uniforms_of(ids: Tensor, seed: int, round: int) -> Tensor:
    """The draws of some examples, (n,) float64 on the CPU.

    They equal ``uniforms(max(ids) + 1, seed, round)[ids]``.

    Args:
        ids: (n,) int64, not negative.
        seed: As for `uniforms`.
        round: As for `uniforms`.
    """
    ids = ids.to("cpu", torch.int64).contiguous()
    out = _empty(len(ids))
    threads = torch.get_num_threads()
    _core.uniforms_of(_word(seed), _round_word(round), ids.data_ptr(), len(out), threads, out.data_ptr())
    return out


def gumbel_keys(log_weights: Tensor, seed: int, round: int) -> Tensor:
    """Each log weight plus a standard Gumbel draw, (n,) float64.

    The k largest are k draws without replacement. Each draw is in proportion to the weights that are left.
    """
    log_weights = log_weights.to("cpu", torch.float64).contiguous()
    out = _empty(len(log_weights))
    threads = torch.get_num_threads()
    _core.gumbel_keys(_word(seed), _round_word(round), log_weights.data_ptr(), len(out), threads, out.data_ptr())
    return out


def logarithms(x: Tensor) -> Tensor:
    """The natural logarithm of x, (n,) float64, for finite x > 0.

    It has the same bits on every machine. torch.log does not promise that.
    """
    x = x.to("cpu", torch.float64).contiguous()
    out = _empty(len(x))
    _core.logarithms(x.data_ptr(), len(x), torch.get_num_threads(), out.data_ptr())
    return out


def _round_word(round: int) -> int:
    return _word(operator.index(round) + _class_word.get())


def _word(number: int) -> int:
    return operator.index(number) % 2**64


def _empty(n: int) -> Tensor:
    return torch.empty(n, dtype=torch.float64, device="cpu")
