"""Random numbers by counter: the draw of example i depends on (seed, round, i) alone (csrc/selection/draws.h).

Nothing else moves them: not how many examples there are, not the threads, not the machine. The global random
state is neither read nor moved. Seeds and rounds are taken modulo 2^64.

Within `of_class` the class is part of the counter, so that the j-th examples of two classes draw apart.
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
    """Everything that is drawn inside is drawn for this class; classes within classes draw apart, too."""
    outer = _class_word.get()
    # The upper half of the round's word: rounds below 2^32 of two classes never meet.
    token = _class_word.set((outer * 0x9E3779B1 + ((operator.index(label) + 1) << 32)) % 2**64)
    try:
        yield
    finally:
        _class_word.reset(token)


def uniforms(n: int, seed: int, round: int) -> Tensor:
    """(n,) float64 on the CPU, uniform in (0, 1): Philox4x32-10 of the counter (i, round) under the key seed."""
    out = _empty(n)
    _core.uniforms(_word(seed), _round_word(round), 0, n, torch.get_num_threads(), out.data_ptr())
    return out


def uniforms_of(ids: Tensor, seed: int, round: int) -> Tensor:
    """(n,) float64 on the CPU: for ids (n,) int64 >= 0 the draw of each, uniforms(max(ids) + 1, seed, round)[ids]."""
    ids = ids.to("cpu", torch.int64).contiguous()
    out = _empty(len(ids))
    threads = torch.get_num_threads()
    _core.uniforms_of(_word(seed), _round_word(round), ids.data_ptr(), len(out), threads, out.data_ptr())
    return out


def gumbel_keys(log_weights: Tensor, seed: int, round: int) -> Tensor:
    """(n,) float64: each log weight plus a standard Gumbel draw.

    The k largest are k draws without replacement, each in proportion to the weights that are left.
    """
    log_weights = log_weights.to("cpu", torch.float64).contiguous()
    out = _empty(len(log_weights))
    threads = torch.get_num_threads()
    _core.gumbel_keys(_word(seed), _round_word(round), log_weights.data_ptr(), len(out), threads, out.data_ptr())
    return out


def logarithms(x: Tensor) -> Tensor:
    """(n,) float64: log x of finite x > 0, the same bits on every machine, which torch.log does not promise."""
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
