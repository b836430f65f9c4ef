"""Scores and loss of DTensors on two ranks; run by test_sharded.py under torchrun."""

from __future__ import annotations

import os

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from helpers import under_torchrun
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor

import fastprune

BATCH, TOKENS, CLASSES = 5, 3, 7  # 3 and 2 samples on the two ranks


def check(placement: Replicate | Shard) -> None:
    mesh = init_device_mesh("cpu", (2,))
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(BATCH, TOKENS, CLASSES, generator=generator)
    labels = torch.randint(CLASSES, (BATCH, TOKENS), generator=generator)
    labels[0, 1] = labels[4, 2] = -100
    weight = torch.rand(CLASSES, generator=generator)
    z, y = (distribute_tensor(x, mesh, [placement]) for x in (logits, labels))
    expected = fastprune.score(logits, labels)
    for metric, scores in fastprune.score(z, y).items():
        assert isinstance(scores, DTensor) and scores.placements == (placement,)
        assert torch.equal(scores.full_tensor(), expected[metric]), metric
    if placement != Shard(1):
        by_sample = fastprune.el2n(z, y, shift=1, reduce="norm").full_tensor()
        assert torch.equal(by_sample, fastprune.el2n(logits, labels, shift=1, reduce="norm"))
    for reduction in ("none", "sum", "mean"):
        for options in ({}, {"weight": weight, "label_smoothing": 0.1}):
            leaf, plain = z.detach().requires_grad_(), logits.clone().requires_grad_()
            loss, el2n = fastprune.cross_entropy(leaf, y, reduction=reduction, return_scores="el2n", **options)
            theirs = F.cross_entropy(plain.flatten(0, 1), labels.flatten(), reduction=reduction, **options)
            torch.testing.assert_close(loss.full_tensor().flatten(), theirs.flatten())
            assert torch.equal(el2n.full_tensor(), expected["el2n"])
            loss.sum().backward()
            theirs.sum().backward()
            torch.testing.assert_close(leaf.grad.full_tensor(), plain.grad)


def check_refusals() -> None:
    mesh = init_device_mesh("cpu", (2,))
    logits, labels = torch.randn(4, 6, 8), torch.zeros(4, 6, dtype=torch.int64)
    rows = distribute_tensor(logits, mesh, [Shard(0)])
    for call in (fastprune.el2n, fastprune.cross_entropy):
        with pytest.raises(TypeError, match="labels a plain tensor; use"):
            call(rows, labels)
        with pytest.raises(ValueError, match="and labels"):
            call(rows, distribute_tensor(labels, mesh, [Replicate()]))
        partial = DTensor.from_local(logits, mesh, [Partial()])
        with pytest.raises(ValueError, match="add them up"):
            call(partial, distribute_tensor(labels, mesh, [Replicate()]))
        with pytest.raises(ValueError, match="other tokens, which are sharded"):
            call(*(distribute_tensor(x, mesh, [Shard(1)]) for x in (logits, labels)), shift=1)
    with pytest.raises(TypeError, match="does not take"):
        fastprune.grand(rows, labels, torch.ones(4, 6, 2))
    with pytest.raises(TypeError, match="does not take"):
        fastprune.joint_el2n([(rows, labels)])


if __name__ == "__main__":
    under_torchrun.begin()
    for placement in (Replicate(), Shard(0), Shard(1)):
        check(placement)
    check_refusals()
    dist.barrier()
    print("all agree", flush=True)
    # The work is done. Gloo's threads now and then abort a process that ends in the ordinary way.
    os._exit(0)
