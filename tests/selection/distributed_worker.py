"""What every rank runs under torchrun for test_distributed.py: a mismatch ends it with a message and status 1.

All ranks draw the same data from the same seed, select from their own shard, and compare what all of them
kept with a stable sort of the whole.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from helpers import under_torchrun
from helpers.combinations import some

import fastprune
from fastprune.distributed import select_topk

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
SIGNED = (torch.int8, torch.int16, torch.int32, torch.int64)
UNSIGNED = (torch.uint8, torch.uint16, torch.uint32, torch.uint64)
INF, NAN = float("inf"), float("nan")
LAYOUTS = ("contiguous", "interleaved", "shuffled", "gaps")


def by_sorting(scores: torch.Tensor, k: int, largest: bool, nan: str = "last") -> np.ndarray:
    """The answer of one process, by a stable sort; 64 bits hold every dtype's values."""
    if scores.dtype.is_floating_point:
        values = scores.double().numpy()
        is_nan = np.isnan(values)
        rank_of_nan = ~is_nan if nan == "first" else is_nan
        values = np.where(is_nan, 0, -values if largest else values)
        return np.sort(np.lexsort((values, rank_of_nan))[:k])
    values = scores.numpy()
    # Reversing the bits of integers instead of negating them: -(-2^63) overflows.
    return np.sort(np.argsort(~values if largest else values, kind="stable")[:k])


def data_sets(dtype: torch.dtype, n: int, rng: np.random.Generator) -> Iterator[tuple[str, torch.Tensor]]:
    """Scores of one dtype: spread, many tied, all equal, and the dtype's special values."""
    if dtype.is_floating_point:
        spread = torch.from_numpy(rng.normal(size=n) * 50).to(dtype)
        specials = torch.tensor([0.0, -0.0, INF, -INF, 1.0, -1.0, 6e4, 6e-8, -6e-8], dtype=dtype)
    else:
        info = torch.iinfo(dtype)
        whole_range = rng.integers(info.min, info.max, n, np.dtype(str(dtype).removeprefix("torch.")), endpoint=True)
        spread = torch.from_numpy(whole_range)
        specials = torch.from_numpy(np.array([info.min, info.max, info.max - 1, 0, 1], whole_range.dtype))
    yield "spread", spread
    yield "60 % tied", taken(spread, np.where(rng.random(n) < 0.6, 0, np.arange(n)))
    yield "all equal", spread[:1].expand(n)
    yield "specials", taken(specials, rng.integers(0, len(specials), n))


def taken(scores: torch.Tensor, positions: np.ndarray) -> torch.Tensor:
    """scores[positions], which torch 2.6 lacks for the wider unsigned integers."""
    if scores.dtype in UNSIGNED:
        return torch.from_numpy(scores.numpy()[positions])
    return scores[torch.from_numpy(positions)]


def shards(layout: str, n: int, ranks: int, rng: np.random.Generator) -> tuple[list[np.ndarray], np.ndarray | None]:
    """(positions of each rank in the whole data set, the id of each position or None where ids are left out)."""
    if layout == "interleaved":
        return [np.arange(rank, n, ranks) for rank in range(ranks)], np.arange(n)
    # Sizes differ a lot, and the second rank of several has nothing.
    cuts = np.sort(rng.integers(0, n + 1, ranks - 1))
    cuts[1:2] = cuts[:1]
    if layout == "contiguous":
        return np.split(np.arange(n), cuts), None
    ids = np.arange(n) if layout == "shuffled" else np.sort(rng.choice(2**40, n, replace=False)) << 22
    ids[-1:] = 2**63 - 1 if layout == "gaps" else n - 1
    return np.split(rng.permutation(n), cuts), ids


def gathered(thing: Any, group: dist.ProcessGroup | None = None) -> list[Any]:
    everyone = [None] * dist.get_world_size(group)
    dist.all_gather_object(everyone, thing, group=group)
    return everyone


def expect(condition: Any, message: str) -> None:
    if not condition:
        raise AssertionError(message)


def check(
    name: str,
    scores: torch.Tensor,
    k: int,
    layout: str = "contiguous",
    largest: bool = True,
    nan: str = "raise",
    group: dist.ProcessGroup | None = None,
    **ties: Any,
) -> None:
    """Selects from this rank's shard of `scores` and compares what all ranks kept with one process."""
    rank, ranks = dist.get_rank(group), dist.get_world_size(group)
    positions, ids = shards(layout, len(scores), ranks, np.random.default_rng(len(scores) + k))
    own = positions[rank]
    own_ids = None if ids is None else torch.from_numpy(ids[own])
    got = select_topk(taken(scores, own), k, ids=own_ids, group=group, largest=largest, nan=nan, **ties)
    title = (
        f"{name}, {scores.dtype}, {layout}, k={k} of {len(scores)}, largest={largest}, nan={nan}, {ties}, rank {rank}"
    )
    expect(got.dtype == torch.int64 and got.dim() == 1, f"{title}: returned {got.dtype} of {tuple(got.shape)}")
    expect(got.numel() < 2 or (got.diff() > 0).all(), f"{title}: not ascending: {got.tolist()}")
    kept = np.sort(np.concatenate(gathered(own[got.numpy()], group)))
    wanted = by_sorting(scores, k, largest, nan) if not ties else of_one_process(scores, ids, k, largest, nan, ties)
    expect(np.array_equal(kept, wanted), f"{title}: kept {kept.tolist()}, one process keeps {wanted.tolist()}")


def of_one_process(
    scores: torch.Tensor, ids: np.ndarray | None, k: int, largest: bool, nan: str, ties: dict[str, Any]
) -> np.ndarray:
    """Where fastprune.select_topk draws among ties; with gaps between ids by TopK, which takes any."""
    if ids is None or ids[-1] == len(ids) - 1:
        return fastprune.select_topk(scores, k, largest=largest, nan=nan, **ties).numpy()
    whole = fastprune.TopK(k, largest=largest, nan=nan, **ties)
    whole.push(torch.from_numpy(ids), scores)
    return np.flatnonzero(np.isin(ids, whole.result()[0].numpy()))


turns = itertools.count()


def share(cases: Sequence[Any]) -> Sequence[Any]:
    """The cases, of which four ranks take one, each in its turn: two do all, and four take long on few cores.

    In `make soak` they do all, too.
    """
    if dist.get_world_size() < 4:
        return cases
    turn = next(turns)
    return some(cases, [cases[(turn + turn // len(cases)) % len(cases)]])


def draws_among_ties_as_one_process() -> None:
    rng = np.random.default_rng(5)
    for n in (97, 5_000):
        for layout, seed in zip(LAYOUTS, (0, -1, 2**63, 2**64 - 1), strict=True):
            scores = torch.from_numpy(rng.poisson(0.5, n).astype(np.float32))
            for k in share((1, n // 3, n - 1)):
                check("counts", scores, k, layout, rng.random() < 0.5, ties="random", seed=seed, round=k)
    check("all NaN", torch.full((97,), NAN), 50, "shuffled", nan="first", ties="random")


def agrees_with_one_process() -> None:
    rng = np.random.default_rng(0)
    n = 97
    # One of the ten pairs for each data set and layout: all of them would take minutes on few cores.
    pairs = [(k, largest) for k in (0, 1, n // 3, n - 1, n) for largest in (True, False)]
    for dtype in (*FLOATS, *SIGNED, *UNSIGNED):
        for name, scores in data_sets(dtype, n, rng):
            for layout in share(LAYOUTS):
                k, largest = pairs[rng.integers(len(pairs))]
                check(name, scores, k, layout, largest)


def agrees_on_large_data() -> None:
    rng = np.random.default_rng(1)
    for dtype in (torch.bfloat16, torch.float32, torch.float64, torch.int64):
        for name, scores in data_sets(dtype, 20_000, rng):
            for largest, layout in share([(True, "shuffled"), (False, "contiguous")]):
                check(name, scores, 7_001, layout, largest)


def agrees_on_nothing_and_one() -> None:
    check("no scores at all", torch.empty(0), 0)
    check("one score", torch.tensor([3.0]), 1)
    check("one score", torch.tensor([3.0]), 0)


def puts_nan_where_told() -> None:
    rng = np.random.default_rng(2)
    n = 90
    for dtype in FLOATS:
        for (name, scores), layout in zip(data_sets(dtype, n, rng), LAYOUTS, strict=True):
            scores = scores.clone()
            scores[torch.from_numpy(rng.random(n) < 0.3)] = NAN
            scores[::7] *= -1  # NaN of either sign
            # One of the two cuts through the NaN.
            for nan, k in share([(nan, k) for nan in ("first", "last") for k in (n // 5, n - 5)]):
                check(f"NaN and {name}", scores, k, layout, largest=rng.random() < 0.5, nan=nan)
    for nan in ("first", "last"):
        check("all NaN", torch.full((n,), NAN), n // 2, nan=nan)


def works_in_sub_groups() -> None:
    world = dist.get_world_size()
    scores = torch.from_numpy(np.random.default_rng(3).integers(0, 9, 60))
    halves = [list(range(0, world, 2)), list(range(1, world, 2))] if world > 1 else [[0]]
    groups = [dist.new_group(ranks) for ranks in halves]
    for ranks, group in zip(halves, groups, strict=True):
        if dist.get_rank() in ranks:
            check("sub-group", scores, 20, "shuffled", group=group)
        else:
            expect("not a member of group" in failure(group=group)[1], f"{failure(group=group)} from a stranger")


def failure(**arguments: Any) -> tuple[str, str]:
    """The type and text of what select_topk raises."""
    arguments = {"local_scores": torch.zeros(3), "k": 2} | arguments
    try:
        select_topk(**arguments)
    except Exception as error:
        return type(error).__name__, str(error)
    return "", "nothing raised"


class BrokenIndex:
    def __index__(self) -> int:
        raise ZeroDivisionError("index of nothing")


def one_wrong_rank() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(error, a part of its text, arguments of the one rank that is wrong); the others have 3 scores, k=2."""
    yield "TypeError", "k must be an int, got True", {"k": True}
    yield "TypeError", "k must be an int, got 1.5; round a fraction", {"k": 1.5}
    yield "TypeError", "k must be an int, got None", {"k": None}
    yield "ValueError", "k must be in [0, number of scores over all ranks], got 1000", {"k": 10**30}
    yield "RuntimeError", "ZeroDivisionError: index of nothing", {"k": BrokenIndex()}
    yield "TypeError", "local_scores must be a torch.Tensor, got list", {"local_scores": [1.0]}
    yield (
        "ValueError",
        "local_scores must be 1-D, got shape (3, 1); use .reshape(-1)",
        {"local_scores": torch.ones(3, 1)},
    )
    yield "TypeError", "local_scores of dtype bool are not supported", {"local_scores": torch.ones(3) > 0}
    yield "TypeError", "local_scores of dtype complex64", {"local_scores": torch.ones(3, dtype=torch.complex64)}
    yield "ValueError", "local_scores are on meta, but", {"local_scores": torch.ones(3, device="meta"), "nan": "last"}
    yield "ValueError", "nan must be 'raise', 'first' or 'last', got 'drop'", {"nan": "drop"}
    yield "ValueError", "ties must be 'index' or 'random', got 'first'", {"ties": "first"}
    yield "TypeError", "seed must be an int, got 1.5", {"seed": 1.5}
    yield "TypeError", "ids must be a torch.Tensor, got range", {"ids": range(3)}
    yield "TypeError", "ids must be int64, got int32; use .to(torch.int64)", {"ids": torch.arange(3, dtype=torch.int32)}
    yield "ValueError", "ids must have the shape of local_scores, (3,), got (4,)", {"ids": torch.arange(4)}
    yield "ValueError", "ids must be on the device of local_scores, cpu, got meta", {"ids": torch.arange(3).to("meta")}
    yield "ValueError", "ids must not be negative, got ids[1] = -5", {"ids": torch.tensor([0, -5, -6])}


def one_different_rank() -> Iterator[tuple[str, str, dict[str, Any]]]:
    yield "ValueError", "k must be the same on all ranks, got 2 on rank 0 and 1 on rank ", {"k": 1}
    yield "ValueError", "k must be the same on all ranks, got 2 on rank 0 and -1 on rank ", {"k": -1}
    yield "ValueError", "largest must be the same on all ranks, got True on rank 0 and False", {"largest": False}
    yield "ValueError", "nan must be the same on all ranks, got 'raise' on rank 0 and 'last'", {"nan": "last"}
    yield "ValueError", "ties must be the same on all ranks, got 'index' on rank 0 and 'random'", {"ties": "random"}
    yield "ValueError", "ids must be the same on all ranks, got None on rank 0 and a tensor", {"ids": torch.arange(3)}
    yield (
        "ValueError",
        "the dtype of local_scores must be the same on all ranks, got float32 on rank 0 and float64 on",
        {"local_scores": torch.zeros(3, dtype=torch.float64)},
    )


def all_wrong_together() -> Iterator[tuple[str, str, dict[str, Any]]]:
    rank, world = dist.get_rank(), dist.get_world_size()
    n = 3 * world
    yield "ValueError", f"k must be in [0, {n}] for {n} scores over all ranks, got -1", {"k": -1}
    yield "ValueError", f"k must be in [0, {n}] for {n} scores over all ranks, got {n + 1}", {"k": n + 1}
    yield "TypeError", "rank 0: k must be an int, got False", {"k": False}
    for name in ("seed", "round") if world > 1 else ():
        text = f"{name} must be the same on all ranks, got 0 on rank 0 and 1 on rank 1; or the ranks draw apart"
        yield "ValueError", text, {"ties": "random", name: rank}
    on_last = torch.tensor([1.0, NAN, NAN] if rank == world - 1 else [1.0, 2.0, 3.0])
    yield "ValueError", f"the score of id {n - 2} is NaN; drop or replace", {"local_scores": on_last}
    on_all = {"local_scores": torch.tensor([NAN, 1.0, NAN]), "ids": torch.tensor([99 + rank, 2, world - rank + 50])}
    yield "ValueError", "the score of id 51 is NaN", on_all
    yield "ValueError", "the score of id 51 is NaN", on_all | {"k": 0, "largest": False}


def raises_alike_and_goes_on() -> None:
    rank, world = dist.get_rank(), dist.get_world_size()
    scores = torch.arange(10.0)
    for kind, text, arguments in one_wrong_rank():
        for wrong in share(sorted({0, world - 1})):
            refused(kind, f"rank {wrong}: {text}", arguments if rank == wrong else {})
            check("after an error", scores, 3)
    for kind, text, arguments in one_different_rank() if world > 1 else ():
        refused(kind, text, arguments if rank == world - 1 else {})
        check("after an error", scores, 3)
    for kind, text, arguments in all_wrong_together():
        refused(kind, text, arguments)
        check("after an error", scores, 3)
    kind, text = failure(group="all")
    expect((kind, text) == ("TypeError", "group must be a torch.distributed.ProcessGroup, got str"), f"{kind}: {text}")


def refused(kind: str, text: str, arguments: dict[str, Any]) -> None:
    errors = gathered(failure(**arguments))
    expect(len(set(errors)) == 1, f"ranks raise different errors: {errors}")
    expect(errors[0][0] == kind and errors[0][1].startswith(text), f"expected {kind}: {text}, got {errors[0]}")


def reduces_as_much_whatever_n() -> None:
    world = dist.get_world_size()
    for dtype, key_rounds in ((torch.float32, 3), (torch.float64, 6), (torch.int8, 1)):
        for n in (1_000, 100_000):
            scores = torch.from_numpy(np.random.default_rng(4).normal(size=n) * 30).to(dtype)
            scores[n // 2 :] = scores[:1]
            id_rounds = -(-(n - 1).bit_length() // 11)
            sizes = bytes_reduced(lambda scores=scores, n=n: check("bytes", scores, n // 2, "interleaved"))
            expect(sizes[:2] == [104 * world, 16], f"the arguments and the range took {sizes[:2]} bytes")
            expect(len(sizes) <= 3 + key_rounds + id_rounds, f"{dtype}, {n}: {len(sizes)} all-reduces")
            expect(max(sizes) <= 16_392, f"{dtype}, {n}: an all-reduce of {max(sizes)} bytes")
    for n in (1_000, 100_000):
        sizes = bytes_reduced(lambda n=n: check("bytes", torch.ones(n), n, "contiguous"))
        expect(sizes == [104 * world, 16, 8], f"all of {n} equal scores took {sizes} bytes")


def bytes_reduced(call: Callable[[], None]) -> list[int]:
    """The size of each all-reduce in `call`."""
    sizes = []
    real = dist.all_reduce

    def counted(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        sizes.append(tensor.numel() * tensor.element_size())
        return real(tensor, *args, **kwargs)

    dist.all_reduce = counted
    try:
        call()
    finally:
        dist.all_reduce = real
    return sizes


def main() -> None:
    under_torchrun.begin()
    for case in (
        agrees_with_one_process,
        agrees_on_large_data,
        agrees_on_nothing_and_one,
        draws_among_ties_as_one_process,
        puts_nan_where_told,
        works_in_sub_groups,
        raises_alike_and_goes_on,
        reduces_as_much_whatever_n,
    ):
        try:
            case()
        except AssertionError as error:
            sys.exit(f"rank {dist.get_rank()}, {case.__name__}: {error}")
    dist.barrier()
    print(f"rank {dist.get_rank()}: all agree")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
