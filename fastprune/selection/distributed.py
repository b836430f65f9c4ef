"""`select_topk` for scores that are spread over the ranks of a torch.distributed group.

The threshold is found from all-reduced histograms of the digits of the keys. So the communication does not grow with
the number of scores. `all_reduce` is the only collective. It runs on the device of the scores.
"""

from __future__ import annotations

import operator
from typing import NamedTuple, get_args

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from fastprune.platform.collectives import (
    Failure,
    all_reduce,
    collective_device,
    device_types,
    exchange_numbers,
    failure_of,
    joined,
    raise_everywhere,
    world,
)
from fastprune.selection.keys import order_keys
from fastprune.selection.ties import Ties, check_ties, tie_priorities

__all__ = ["select_topk"]

_DTYPES = (
    torch.float16, torch.bfloat16, torch.float32, torch.float64,
    torch.int8, torch.int16, torch.int32, torch.int64,
    torch.uint8, torch.uint16, torch.uint32, torch.uint64,
)  # fmt: skip
_NAN = ("raise", "first", "last")
_TIES = get_args(Ties)
_DIGIT_BITS = 11
_INT64_MAX = torch.iinfo(torch.int64).max


def select_topk(
    local_scores: Tensor,
    k: int,
    *,
    ids: Tensor | None = None,
    group: dist.ProcessGroup | None = None,
    largest: bool = True,
    nan: str = "raise",
    ties: Ties = "index",
    seed: int = 0,
    round: int = 0,
) -> Tensor:
    """This rank's part of the k largest scores of all ranks.

    The call is collective. Every rank of `group` must make it, even without scores, with the same `k`, `largest`,
    `nan`, `ties`, `seed` and `round`. If torch.distributed is not available or not initialised, it selects among the
    local scores alone.

    Args:
        local_scores: (n_local,) scores of this rank, with the same dtype on all ranks. It is floating point of 16 to 64
            bits, or a signed or unsigned integer of 8 to 64 bits. The number n_local may differ between ranks and may
            be 0.
        k: How many to select over all ranks, from 0 to the total number of scores.
        ids: (n_local,) int64 on the device of the scores, the global index of each local score. They are not negative,
            in any order, with or without gaps. Pass them on all ranks or on none. By default rank 0 has 0 to n_0 - 1,
            and each rank continues after the one before. They must be distinct over all ranks, which is not checked. If
            an id repeats among ties at the threshold, its scores are kept or dropped together, so more than k may be
            kept.
        group: The process group, by default the one of all ranks. It needs a backend for the device of the scores: NCCL
            for CUDA, Gloo for the CPU, or both ("cpu:gloo,cuda:nccl").
        largest: False selects the k smallest.
        nan: What a NaN score means. With "first" it is selected before every number, and with "last" after every
            number, whatever `largest` is. With "raise" it is an error.
        ties: Which of the equal scores at the threshold are kept. With "index", those with the smaller ids. With
            "random", those with the larger draws from (seed, round, id).
        seed: As for `fastprune.select_topk`.
        round: As for `fastprune.select_topk`.

    Returns:
        int64 positions in `local_scores`, ascending, on its device. Over all ranks they are exactly the k examples that
        `fastprune.select_topk` would select in one process, with an id in place of the index. Here -0.0 equals 0.0, NaN
        equals NaN, and infinities are ordinary values.

    Raises:
        ValueError: An argument is wrong on some rank or differs between ranks, or a score is NaN and `nan` is "raise".
            The error names the smallest id of a NaN.
        TypeError: An argument has the wrong type on some rank.
        RuntimeError: A rank failed with another error, such as lack of memory.

    All ranks raise the same error, and the group stays usable. An error about `group` itself is different: it is not
    initialised, or this rank is not a member. Only that rank raises it, because it cannot reach the others.

    Cost: O(n_local) time a round. Later rounds read only the keys that share the digits known so far. The peak memory
    is 12 to 24 bytes a score depending on the dtype, including the result. It is up to 35 bytes where most scores tie
    at the threshold. Each round waits for the device.

    Communication: 104 bytes a rank for the arguments and 16 bytes for the range of the keys. Then at most 3 rounds (6
    for 64-bit scores) all-reduce at most 16,392 bytes each. There are fewer rounds if the threshold is found earlier.
    Ties at the threshold add 16 bytes, and one such round for each 11 bits of the range of tied ids. That is 2 rounds
    up to 4 million ids, and 6 at most. So float32 scores of 4 million examples take at most 8 all-reduces of 82 kB in
    total, and the 104 bytes a rank. With ties="random" the draws of tied scores are made on the CPU. That adds as much
    communication as the threshold of 64-bit scores.

    Example:
        Without a process group it selects among the local scores.

        >>> import torch
        >>> select_topk(torch.tensor([0.2, 0.9, 0.4]), 2)
        tensor([1, 2])
    """
    group = joined(group, "select_topk")
    keys, facts = _agreed(local_scores, k, ids, largest, nan, (ties, seed, round), group)
    own = facts[world(group)[0]]
    if own.k == 0:
        return torch.empty(0, dtype=torch.int64, device=keys.device)
    key, wanted = _kth_key(keys, own.k, group)
    kept = keys >= key
    if wanted:
        tied = (keys == key).nonzero().squeeze(1)
        tied_ids = tied + _first_id(facts, world(group)[0]) if ids is None else ids[tied]
        kept[tied] = _of_tied(tied_ids, wanted, seed if own.ties else None, round, group)
    return kept.nonzero().squeeze(1)


# --- the threshold ----------------------------------------------------------------------------------------


def _kth_key(keys: Tensor, k: int, group: dist.ProcessGroup | None) -> tuple[int, int]:
    """Where the k largest keys of all ranks end. k is at least 1 and at most the number of keys.

    Args:
        keys: (n_local,) int32 or int64, the keys of this rank.
        k: How many to keep.
        group: The process group.

    Returns:
        (key, ties). If ties is 0, the k largest keys are those >= key. Otherwise they are all keys > key and `ties` of
        the keys equal to it, of which there are more.
    """
    low, high = _range(keys, group)
    while True:
        # At most 2^11 + 1 bins. The extra one is needed if the range does not begin at a multiple of a bin's width.
        shift = max((high - low).bit_length() - _DIGIT_BITS, 0)
        base = low >> shift
        digits = (keys >> shift).sub_(base)
        counts = torch.bincount(digits, minlength=(high >> shift) - base + 1)
        all_reduce(counts, group)
        digit, above, inside = _bin_of_kth(counts, k)
        k -= above
        low = (base + digit) << shift
        high = low + (1 << shift) - 1
        if k == inside:
            return low, 0
        if low == high:
            return low, k
        keys = keys[digits == digit]


def _of_tied(ids: Tensor, wanted: int, seed: int | None, round: int, group: dist.ProcessGroup | None) -> Tensor:
    """Which of this rank's tied examples are kept, (len(ids),) bool.

    Over all ranks `wanted` are kept, fewer than there are. The ones with larger draws are kept. Equal draws go by
    smaller id. Without a seed all go by smaller id.
    """
    if seed is not None:
        order = order_keys(tie_priorities(ids, seed, round)).to(ids.device)
    else:
        order = ~ids  # inverted bits put smaller ids first, because larger keys are selected first
    last, still_tied = _kth_key(order, wanted, group)
    kept = order >= last
    if still_tied and seed is not None:
        equal = order == last
        kept[equal] = _of_tied(ids[equal], still_tied, None, round, group)
    return kept


def _range(keys: Tensor, group: dist.ProcessGroup | None) -> tuple[int, int]:
    """The smallest and the largest key of all ranks. At least one rank has keys."""
    # ~ turns the maximum into a minimum, so one all-reduce finds both.
    ends = torch.full((2,), _INT64_MAX, dtype=torch.int64, device=keys.device)
    if keys.numel():
        low, high = keys.aminmax()
        ends = torch.stack([low, ~high]).to(torch.int64)
    all_reduce(ends, group, "MIN")
    low, reversed_high = ends.tolist()
    return low, ~reversed_high


def _bin_of_kth(counts: Tensor, k: int) -> tuple[int, int, int]:
    """The bin that holds the k-th largest key, the number of keys in the bins above it, and the number in it."""
    counts = counts.cpu()
    from_top = counts.flip(0).cumsum(0)
    at = int(torch.searchsorted(from_top, k))
    digit = counts.shape[0] - 1 - at
    inside = int(counts[digit])
    return digit, int(from_top[at]) - inside, inside


# --- arguments, checked on each rank and then together -----------------------------------------------------


class _Facts(NamedTuple):
    """What a rank tells the others first, as int64."""

    n: int = 0
    k: int = 0
    dtype: int = 0
    device: int = 0
    largest: int = 0
    nan: int = 0
    ties: int = 0
    seed: int = 0  # seed and round are 0 if nothing is drawn
    round: int = 0
    has_ids: int = 0
    first_nan: int = -1  # the smallest id of a NaN, or its position without ids (-1: none found, or none looked for)
    failure: int = 0  # the fields of `Failure`
    failure_bytes: int = 0


def _agreed(
    scores: Tensor,
    k: int,
    ids: Tensor | None,
    largest: bool,
    nan: str,
    draw: tuple[Ties, int, int],
    group: dist.ProcessGroup | None,
) -> tuple[Tensor, list[_Facts]]:
    """This rank's keys, and the facts of all ranks by rank. If they are wrong, all ranks raise the same error."""
    device = collective_device(scores.device if isinstance(scores, Tensor) else torch.device("cpu"), group)
    own, keys, error = _prepare(scores, k, ids, largest, nan, draw, group)
    facts = [_Facts(*numbers) for numbers in exchange_numbers(own, device, group)]
    raise_everywhere([Failure(f.failure, f.failure_bytes) for f in facts], error, device, group)
    _check_agreement(facts, group)
    _check_nan(facts)
    return keys, facts


def _prepare(
    scores: Tensor,
    k: int,
    ids: Tensor | None,
    largest: bool,
    nan: str,
    draw: tuple[Ties, int, int],
    group: dist.ProcessGroup | None,
) -> tuple[_Facts, Tensor, Exception | None]:
    """This rank's facts, keys and error.

    It never raises, because the other ranks would then wait for this one forever.
    """
    try:
        facts = _check(scores, k, ids, largest, nan, draw, device_types(group))
        keys = order_keys(scores.detach().resolve_neg(), largest=bool(largest), nan=nan)
        return facts, keys, None
    except Exception as error:
        kind, size = failure_of(error, group)
        return _Facts(failure=kind, failure_bytes=size), torch.empty(0, dtype=torch.int32, device="cpu"), error


def _check(
    scores: Tensor,
    k: int,
    ids: Tensor | None,
    largest: bool,
    nan: str,
    draw: tuple[Ties, int, int],
    supported: list[str] | None,
) -> _Facts:
    """The facts of this rank, after checks of everything that one rank can check alone."""
    if not isinstance(scores, Tensor):
        raise TypeError(f"local_scores must be a torch.Tensor, got {type(scores).__name__}; use torch.as_tensor")
    if scores.dim() != 1:
        raise ValueError(f"local_scores must be 1-D, got shape {tuple(scores.shape)}; use .reshape(-1)")
    if scores.dtype not in _DTYPES:
        dtype = _name(scores.dtype)
        raise TypeError(f"local_scores of dtype {dtype} are not supported; convert them to float32 or int64")
    if nan not in _NAN:
        raise ValueError(f"nan must be 'raise', 'first' or 'last', got {nan!r}")
    ties, seed, round = check_ties(draw[0]), _check_word("seed", draw[1]), _check_word("round", draw[2])
    if ids is not None:
        _check_ids(ids, scores)
    return _Facts(
        n=scores.shape[0],
        k=_check_k(k),
        dtype=_DTYPES.index(scores.dtype),
        device=_check_device(scores.device.type, supported),
        largest=bool(largest),
        nan=_NAN.index(nan),
        ties=_TIES.index(ties),
        seed=seed if ties == "random" else 0,
        round=round if ties == "random" else 0,
        has_ids=ids is not None,
        first_nan=_first_nan(scores, ids) if nan == "raise" else -1,
    )


def _check_k(k: int) -> int:
    if isinstance(k, (bool, np.bool_)) or not hasattr(k, "__index__"):
        raise TypeError(f"k must be an int, got {k!r}; round a fraction of the number of scores to a count")
    k = operator.index(k)
    if abs(k) > _INT64_MAX:
        raise ValueError(f"k must be in [0, number of scores over all ranks], got {k}")
    return k


def _check_word(name: str, number: int) -> int:
    """A seed or a round as int64. Both count modulo 2^64."""
    if not hasattr(number, "__index__"):
        raise TypeError(f"{name} must be an int, got {number!r}; give the same one on all ranks")
    return (operator.index(number) + 2**63) % 2**64 - 2**63


def _check_ids(ids: Tensor, scores: Tensor) -> None:
    if not isinstance(ids, Tensor):
        raise TypeError(f"ids must be a torch.Tensor, got {type(ids).__name__}; use torch.as_tensor")
    if ids.dtype != torch.int64:
        raise TypeError(f"ids must be int64, got {_name(ids.dtype)}; use .to(torch.int64)")
    if ids.shape != scores.shape:
        raise ValueError(
            f"ids must have the shape of local_scores, {tuple(scores.shape)}, got {tuple(ids.shape)}; "
            "give one id a score"
        )
    if ids.device != scores.device:
        raise ValueError(f"ids must be on the device of local_scores, {scores.device}, got {ids.device}; move them")
    if ids.numel() and ids.min() < 0:
        at = int((ids < 0).nonzero()[0])
        raise ValueError(f"ids must not be negative, got ids[{at}] = {int(ids[at])}; give global indices")


def _check_device(device_type: str, supported: list[str] | None) -> int:
    """The place of the scores' device type among those that the backend of the group can reduce."""
    if supported is None:
        return 0
    if device_type not in supported:
        raise ValueError(
            f"local_scores are on {device_type}, but the backend of group reduces on {' and '.join(supported)} alone; "
            "move them there, or initialise with a backend for each device, such as 'cpu:gloo,cuda:nccl'"
        )
    return supported.index(device_type)


def _first_nan(scores: Tensor, ids: Tensor | None) -> int:
    """The smallest id of a NaN, or its position without ids. It is -1 if there is no NaN."""
    if not scores.dtype.is_floating_point:
        return -1
    at = scores.isnan().nonzero().squeeze(1)
    if not at.numel():
        return -1
    return int(at[0] if ids is None else ids[at].min())


def _check_agreement(facts: list[_Facts], group: dist.ProcessGroup | None) -> None:
    """Raises the same error on all ranks if their arguments differ or k is out of range."""
    types = device_types(group) or ["cpu"]
    same: list[tuple[str, list[str], str]] = [
        ("the dtype of local_scores", [_name(_DTYPES[f.dtype]) for f in facts], "convert them to one dtype"),
        ("the device type of local_scores", [types[f.device] for f in facts], "move them to one"),
        ("k", [str(f.k) for f in facts], "it counts over all ranks"),
        ("largest", [str(bool(f.largest)) for f in facts], "select one way"),
        ("nan", [repr(_NAN[f.nan]) for f in facts], "choose one policy"),
        ("ties", [repr(_TIES[f.ties]) for f in facts], "choose one rule"),
        ("seed", [str(f.seed) for f in facts], "or the ranks draw apart"),
        ("round", [str(f.round) for f in facts], "or the ranks draw apart"),
        ("ids", ["a tensor" if f.has_ids else "None" for f in facts], "give them on all ranks or on none"),
    ]
    for name, on, fix in same:
        other = next((rank for rank, value in enumerate(on) if value != on[0]), 0)
        if other:
            raise ValueError(
                f"{name} must be the same on all ranks, got {on[0]} on rank 0 and {on[other]} on rank {other}; {fix}"
            )
    k, total = facts[0].k, sum(f.n for f in facts)
    if not 0 <= k <= total:
        raise ValueError(f"k must be in [0, {total}] for {total} scores over all ranks, got {k}")


def _check_nan(facts: list[_Facts]) -> None:
    found = [
        f.first_nan + (0 if f.has_ids else _first_id(facts, rank)) for rank, f in enumerate(facts) if f.first_nan >= 0
    ]
    if found:
        raise ValueError(
            f"the score of id {min(found)} is NaN; drop or replace NaN scores, or choose their place with "
            "nan='first' or nan='last'"
        )


def _first_id(facts: list[_Facts], rank: int) -> int:
    """Where the ids of `rank` begin when no ids are given."""
    return sum(f.n for f in facts[:rank])


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
