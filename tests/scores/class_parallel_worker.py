"""Scores and loss of logits whose classes are spread over ranks; run by test_class_parallel.py under torchrun."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from helpers import under_torchrun
from helpers.one_process import same
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

import fastprune
from fastprune.scores import definition
from fastprune.scores.metrics import KERNEL_METRICS, TABLE, Metric

ROWS, TOKENS, CLASSES = 6, 5, 2500
EXACT = 4e-6
INF, NAN = float("inf"), float("nan")


def cuts(ranks: int, kind: str, classes: int = CLASSES) -> list[int]:
    """Where the parts of the ranks begin, and the end."""
    if kind == "even":
        return [classes * rank // ranks for rank in range(ranks)] + [classes]
    return [0, 1, 1030, classes - 7, classes] if ranks == 4 else [0, 1030, classes]


def part(logits: Tensor, kind: str = "even") -> Tensor:
    """This rank's classes, a tensor of its own."""
    ends = cuts(dist.get_world_size(), kind, logits.shape[-1])
    rank = dist.get_rank()
    return logits[..., ends[rank] : ends[rank + 1]].contiguous()


def random_rows(classes: int = CLASSES) -> tuple[Tensor, Tensor]:
    """Logits from doubtful to sure, with labels in every part."""
    generator = torch.Generator().manual_seed(1)
    logits = 2 * torch.randn(ROWS, TOKENS, classes, generator=generator)
    labels = torch.arange(ROWS * TOKENS).reshape(ROWS, TOKENS) * classes // (ROWS * TOKENS)
    lead = torch.linspace(-4, 40, ROWS * TOKENS).reshape(ROWS, TOKENS, 1)
    logits.scatter_(-1, labels.unsqueeze(-1), logits.amax(-1, keepdim=True) + lead)
    labels[0, 1] = labels[4, 2] = -100
    return logits, labels


def hard_rows() -> tuple[Tensor, Tensor]:
    """Masked classes, rows of one class, infinite and NaN logits, ignored rows."""
    generator = torch.Generator().manual_seed(2)
    logits, labels = torch.randn(12, CLASSES, generator=generator), torch.arange(12) * CLASSES // 12
    logits[0, ::2] = -INF
    logits[1, : CLASSES // 2] = -INF  # all of the first rank's, or of the first two
    logits[2] = -INF
    logits[3] = -INF
    logits[3, labels[3]] = 1.0
    logits[4, labels[4]] = -INF
    logits[5, 7] = NAN
    logits[6, labels[6]] = NAN
    logits[7, CLASSES - 1] = INF
    logits[8, labels[8]] = INF
    logits[9] = NAN
    labels[9] = -100
    logits[10] = 3.0
    logits[11] = -1e30
    return logits, labels


def everywhere(mine: Any) -> None:
    """Every rank has the same, bit for bit."""
    all_of_them: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(all_of_them, mine)
    assert all(same(other, all_of_them[0]) for other in all_of_them)


def close(got: Tensor, wanted: Tensor, what: str) -> None:
    torch.testing.assert_close(got, wanted, rtol=EXACT, atol=0, equal_nan=True, msg=lambda text: f"{what}: {text}")


@contextmanager
def counted() -> Any:
    """Counts the collectives that are called meanwhile."""
    calls: list[str] = []
    originals = {name: getattr(dist, name) for name in ("all_gather", "all_reduce")}

    def counting(name: str) -> Callable[..., Any]:
        return lambda *args, **kwargs: (calls.append(name), originals[name](*args, **kwargs))[1]

    try:
        for name in originals:
            setattr(dist, name, counting(name))
        yield calls
    finally:
        for name, original in originals.items():
            setattr(dist, name, original)


# --- scores ----------------------------------------------------------------------------------------------------------


def check_scores(group: dist.ProcessGroup) -> None:
    for name, (logits, labels) in (("random", random_rows()), ("hard", hard_rows())):
        for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
            whole = logits.to(dtype)
            wanted = definition.row_scores(whole, labels, KERNEL_METRICS, -100, 0)
            one = fastprune.score(whole, labels, KERNEL_METRICS)
            for kind in ("even", "uneven"):
                mine = part(whole, kind)
                before = mine.clone()
                got = fastprune.score(mine, labels, KERNEL_METRICS, group=group)
                for metric in KERNEL_METRICS:
                    close(got[metric], wanted[metric], f"{name} {dtype} {kind} {metric}")
                    close(got[metric], one[metric], f"{name} {dtype} {kind} {metric} beside one process")
                everywhere(got)
                assert same(mine, before)
    el2n = fastprune.el2n(part(random_rows()[0]), random_rows()[1], group=group)
    assert el2n[el2n > 0].min() < 1e-12


def check_options_of_scores(group: dist.ProcessGroup) -> None:
    logits, labels = random_rows()
    mine = part(logits, "uneven")
    for options in ({"shift": 1}, {"reduce": "norm"}, {"shift": 2, "reduce": "mean"}):
        wanted = fastprune.score(logits, labels, KERNEL_METRICS, **options)
        got = fastprune.score(mine, labels, KERNEL_METRICS, group=group, **options)
        for metric in KERNEL_METRICS:
            close(got[metric], wanted[metric], f"{options} {metric}")
    known, ignored = labels.clamp(min=0), int(labels[3, 3])
    wanted = fastprune.el2n(logits, known, ignore_index=ignored)
    assert wanted[3, 3] == 0
    close(fastprune.el2n(mine, known, ignore_index=ignored, group=group), wanted, "ignore_index")
    strided = mine.movedim(-1, 0).contiguous().movedim(0, -1)
    assert torch.equal(fastprune.el2n(strided, labels.int(), group=group), fastprune.el2n(mine, labels, group=group))
    assert fastprune.el2n(mine[:0], labels[:0], group=group).shape == (0, TOKENS)
    assert fastprune.el2n(mine[0, 0], labels[0, 0], group=group).shape == ()


# --- the loss --------------------------------------------------------------------------------------------------------


def check_loss(group: dist.ProcessGroup) -> None:
    logits, labels = random_rows()
    for shift in (0, 1):
        moved = definition.shifted_labels(labels, -100, shift).flatten()
        for reduction in ("mean", "sum", "none"):
            for smoothing in (0.0, 0.1, 1.0):
                exact = logits.double().requires_grad_()
                theirs = F.cross_entropy(
                    exact.flatten(0, 1), moved, reduction=reduction, label_smoothing=smoothing, ignore_index=-100
                )
                theirs.mean().backward()
                mine = part(logits, "uneven").requires_grad_()
                before = mine.detach().clone()
                options: dict[str, Any] = {"reduction": reduction, "label_smoothing": smoothing, "shift": shift}
                loss, el2n = fastprune.cross_entropy(mine, labels, return_scores="el2n", group=group, **options)
                with counted() as calls:
                    loss.mean().backward()
                assert calls == []
                close(loss.detach(), fastprune.cross_entropy(logits, labels, **options), f"{options}")
                torch.testing.assert_close(loss.detach().flatten(), theirs.detach().float().flatten())
                assert torch.equal(el2n, fastprune.el2n(mine, labels, shift=shift, group=group))
                assert not el2n.requires_grad and torch.equal(mine, before)
                # torch's own gradient of float32 has an absolute error of one unit in the last place of 1.
                scale = float(exact.grad.abs().max())
                torch.testing.assert_close(
                    mine.grad, part(exact.grad.float(), "uneven"), rtol=EXACT, atol=2**-24 * scale, msg=f"{options}"
                )
                everywhere((loss.detach(), el2n))


def check_loss_of_other_types(group: dist.ProcessGroup) -> None:
    logits, labels = random_rows()
    for dtype in (torch.bfloat16, torch.float16):
        whole, mine = logits.to(dtype).requires_grad_(), part(logits.to(dtype)).requires_grad_()
        one = fastprune.cross_entropy(whole, labels)
        loss = fastprune.cross_entropy(mine, labels, group=group)
        assert loss.dtype == dtype and torch.equal(loss, one)
        one.backward()
        loss.backward()
        torch.testing.assert_close(mine.grad, part(whole.grad))
    with torch.autocast("cpu"):
        assert fastprune.cross_entropy(mine, labels, group=group).dtype == torch.float32


def check_rows_that_do_not_count(group: dist.ProcessGroup) -> None:
    """Their gradient is 0 whatever their logits are, and that of an undefined row is NaN, as in one process."""
    logits, labels = hard_rows()
    for smoothing in (0.0, 0.1):
        whole, mine = logits.clone().requires_grad_(), part(logits).requires_grad_()
        one = fastprune.cross_entropy(whole, labels, reduction="none", label_smoothing=smoothing)
        loss = fastprune.cross_entropy(mine, labels, reduction="none", label_smoothing=smoothing, group=group)
        close(loss.detach(), one.detach(), "the loss")
        one.sum().backward()
        loss.sum().backward()
        torch.testing.assert_close(mine.grad, part(whole.grad), equal_nan=True)
        assert not mine.grad[9].any()
    none = torch.full_like(labels, -100)
    mine = part(random_rows()[0])[0, :1].expand(12, -1).clone().requires_grad_()
    loss = fastprune.cross_entropy(mine, none, group=group)
    loss.backward()
    assert loss.isnan() and not mine.grad.any()


def check_what_is_sent(group: dist.ProcessGroup) -> None:
    logits, labels = random_rows()
    mine = part(logits)
    with counted() as calls:
        fastprune.cross_entropy(mine, labels, return_scores=KERNEL_METRICS, group=group)
    assert calls == ["all_reduce", "all_gather"]


def check_second_derivative(group: dist.ProcessGroup) -> None:
    logits, labels = random_rows()
    mine = part(logits).requires_grad_()
    loss = fastprune.cross_entropy(mine, labels, group=group)
    (gradient,) = torch.autograd.grad(loss, mine, create_graph=True)
    with pytest.raises(RuntimeError, match="has no second derivative"):
        gradient.sum().backward()


# --- DTensors --------------------------------------------------------------------------------------------------------


def check_dtensor(mesh: DeviceMesh, placements: list[Any], classes: int) -> None:
    logits, labels = random_rows(classes)
    of_rows = [Replicate() if placement == Shard(2) else placement for placement in placements]
    z, y = distribute_tensor(logits, mesh, placements), distribute_tensor(labels, mesh, of_rows)
    wanted = fastprune.score(logits, labels, KERNEL_METRICS, shift=1)
    with counted() as calls:
        got = fastprune.score(z, y, KERNEL_METRICS, shift=1)
    assert calls == ["all_gather"]
    for metric, scores in got.items():
        assert isinstance(scores, DTensor) and list(scores.placements) == of_rows
        close(scores.full_tensor(), wanted[metric], f"{placements} {metric}")
    close(fastprune.el2n(z, y, reduce="norm").full_tensor(), fastprune.el2n(logits, labels, reduce="norm"), "norm")
    for reduction in ("none", "sum", "mean"):
        leaf, plain = z.detach().requires_grad_(), logits.clone().requires_grad_()
        loss = fastprune.cross_entropy(leaf, y, reduction=reduction, label_smoothing=0.1)
        theirs = F.cross_entropy(plain.flatten(0, 1), labels.flatten(), reduction=reduction, label_smoothing=0.1)
        torch.testing.assert_close(loss.full_tensor().flatten(), theirs.flatten())
        loss.sum().backward()
        theirs.sum().backward()
        if classes % 4 == 0:  # torch 2.6 gathers the gradient of a leaf whose parts are uneven
            assert list(leaf.grad.placements) == placements
        torch.testing.assert_close(leaf.grad.full_tensor(), plain.grad)


def check_dtensors(ranks: int) -> None:
    line = init_device_mesh("cpu", (ranks,))
    for classes in (2048, 5):  # the last rank of four holds none of five
        check_dtensor(line, [Shard(2)], classes)
    logits, labels = random_rows(7)
    z = distribute_tensor(logits, line, [Shard(2)])
    replicated = fastprune.el2n(z, distribute_tensor(labels, line, [Replicate()]))
    assert torch.equal(fastprune.el2n(z, labels).full_tensor(), replicated.full_tensor()), "plain labels"
    if ranks == 4:
        square = init_device_mesh("cpu", (2, 2))
        check_dtensor(square, [Shard(0), Shard(2)], 8)
        check_dtensor(square, [Shard(2), Shard(0)], 7)
        with pytest.raises(TypeError, match="labels a plain tensor; use"):
            fastprune.el2n(distribute_tensor(logits, square, [Shard(0), Shard(2)]), labels)
        with pytest.raises(ValueError, match="only one dimension of the mesh may shard the classes"):
            fastprune.el2n(distribute_tensor(logits, square, [Shard(2), Shard(2)]), labels)
    with pytest.raises(ValueError, match="knows where its classes are; leave group out"):
        fastprune.el2n(z, labels, group=dist.group.WORLD)
    with pytest.raises(ValueError, match=r"labels .* use labels.redistribute\(.*, \[Replicate\(\)\]\)"):
        fastprune.el2n(z, distribute_tensor(labels, line, [Shard(0)]))
    backwards = distribute_tensor(logits, DeviceMesh("cpu", torch.arange(ranks).flip(0)), [Shard(2)])
    with pytest.raises(ValueError, match="make a mesh of ascending ranks"):
        fastprune.el2n(backwards, labels)
    size = 7 if dist.get_rank() else 0
    odd = DTensor.from_local(torch.zeros(2, size), line, [Shard(1)], run_check=False, shape=(2, 7), stride=(7, 1))
    with pytest.raises(ValueError, match=rf"this rank holds {size} of 7 classes"):
        fastprune.el2n(odd, torch.zeros(2, dtype=torch.int64))


# --- what is refused, by all ranks -----------------------------------------------------------------------------------


def check_refusals(group: dist.ProcessGroup) -> None:
    logits, labels = random_rows()
    mine, rank = part(logits), dist.get_rank()
    last = rank == dist.get_world_size() - 1
    calls = (fastprune.el2n, fastprune.cross_entropy)
    for call in calls:
        beyond = torch.where(labels == 0, CLASSES, labels)
        with pytest.raises(IndexError, match=rf"is {CLASSES}, but logits have {CLASSES} classes.*ranks of group hold"):
            call(mine, beyond, group=group)
        rows = slice(1, None) if last else slice(None)
        with pytest.raises(
            ValueError, match=r"the number of rows must be the same .*, got 30 on rank 0 and 25 on rank"
        ):
            call(mine[rows], labels[rows], group=group)
        with pytest.raises(ValueError, match="labels must be the same on all ranks of group, and ranks 0 and 1 differ"):
            call(mine, labels - 500 * rank, group=group)
        with pytest.raises(ValueError, match="the shape, dtype, metrics and options must be the same on all ranks"):
            call(mine, labels, shift=int(last), group=group)
        with pytest.raises(ValueError, match=f"rank {dist.get_world_size() - 1}: labels must have shape"):
            call(mine, labels[:, 1:] if last else labels, group=group)
        with pytest.raises(ValueError, match="a probability for each class is not offered"):
            call(mine, torch.ones_like(mine), group=group)
        with pytest.raises(TypeError, match="group must be a torch.distributed.ProcessGroup, got int"):
            call(mine, labels, group=7)
    with pytest.raises(ValueError, match="multi_label=True is not offered"):
        fastprune.el2n(mine, mine > 0, multi_label=True, group=group)
    with pytest.raises(ValueError, match="weight is not offered where the classes are spread"):
        fastprune.cross_entropy(mine, labels, torch.ones(CLASSES), group=group)
    with pytest.raises(TypeError, match="the loss of float64 logits is not offered"):
        fastprune.cross_entropy(mine.double(), labels, group=group)
    TABLE["gini"] = Metric("gini", "large", compute=lambda given: given.logits.softmax(-1).square().sum(-1))
    with pytest.raises(ValueError, match="metric 'gini' is computed from whole rows"):
        fastprune.score(mine, labels, "gini", group=group)
    with pytest.raises(ValueError, match="metric 'gini' is computed from whole rows"):
        fastprune.cross_entropy(mine, labels, return_scores=("el2n", "gini"), group=group)
    del TABLE["gini"]


def check_part_of_the_ranks(ranks: int) -> None:
    """A group of some of the ranks, which do not begin at 0."""
    members = list(range(1, ranks))
    some = dist.new_group(members)
    logits, labels = random_rows()
    ends = [CLASSES * i // len(members) for i in range(len(members) + 1)]
    if dist.get_rank() in members:
        place = members.index(dist.get_rank())
        mine = logits[..., ends[place] : ends[place + 1]]
        close(fastprune.el2n(mine, labels, group=some), fastprune.el2n(logits, labels), "some")
    else:
        with pytest.raises(ValueError, match="this rank is not a member of group; call score on the members"):
            fastprune.el2n(logits, labels, group=some)


def check_compiled(group: dist.ProcessGroup) -> None:
    logits, labels = random_rows()
    mine = part(logits).requires_grad_()

    def doubled(z: Tensor) -> Tensor:
        return fastprune.cross_entropy(2 * z, labels, group=group) + 1

    (wanted,) = torch.autograd.grad(doubled(mine), mine)
    compiled = torch.compile(doubled, backend="eager")
    assert torch.equal(compiled(mine), doubled(mine))
    assert torch.equal(torch.autograd.grad(compiled(mine), mine)[0], wanted)


if __name__ == "__main__":
    under_torchrun.begin()
    everyone, count = dist.group.WORLD, dist.get_world_size()
    assert everyone is not None
    for check in (
        check_scores,
        check_options_of_scores,
        check_loss,
        check_loss_of_other_types,
        check_rows_that_do_not_count,
        check_what_is_sent,
        check_second_derivative,
        check_refusals,
    ):
        check(everyone)
    check_dtensors(count)
    check_part_of_the_ranks(count)
    if count == 2:
        check_compiled(everyone)
    dist.barrier()
    print("all agree", flush=True)
    # The work is done. Gloo's threads now and then abort a process that ends in the ordinary way.
    os._exit(0)
