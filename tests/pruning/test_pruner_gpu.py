"""The pruner on CUDA: no step waits for the device, and what is kept is what the CPU keeps.

Imports only what a bare GPU machine has.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor

import fastprune
from fastprune.pruning import DynamicPruner, get_method, method_names
from fastprune.scores.metrics import KERNEL_METRICS

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
DEVICE = "cuda"
N, CLASSES, EPOCHS = 500, 7, 4
METRICS = KERNEL_METRICS
OBSERVING = [name for name in method_names() if name != "static" and get_method(name).observes]


@contextmanager
def waiting_is_an_error() -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def problem(epoch: int, device: str) -> tuple[Tensor, Tensor]:
    """Logits of a model that has learned a little more by every epoch, and labels."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(CLASSES, (N,), generator=generator)
    logits = torch.randn(N, CLASSES, generator=generator)
    learned = torch.rand(N, generator=torch.Generator().manual_seed(epoch)) * epoch
    logits[torch.arange(N), labels] += learned
    return logits.to(device), labels.to(device)


@pytest.mark.parametrize("index_on", ["cpu", DEVICE])
@pytest.mark.parametrize("method", OBSERVING)
def test_no_step_waits_for_the_device(method: str, index_on: str) -> None:
    pruner = DynamicPruner(N, keep_fraction=0.5, method=method)
    for epoch in pruner.epochs(EPOCHS):
        logits, labels = problem(epoch, DEVICE)
        for index in torch.tensor(list(pruner.sampler)).split(64):
            there, at = index.to(DEVICE), index.to(index_on)
            rows, answers = logits[there].requires_grad_(), labels[there]
            with waiting_is_an_error():
                losses, scores = fastprune.cross_entropy(rows, answers, reduction="none", return_scores=METRICS)
                pruner.observe(at, {**scores, "probabilities": rows.detach().softmax(-1)})
                pruner.mean_loss(losses, at).backward()
    history = pruner.history
    tensors = [history.visits, history.scored_epoch, *(t for m in history.reads for t in history.state(m).values())]
    assert {tensor.device.type for tensor in tensors} == {DEVICE}


@pytest.mark.parametrize("method", OBSERVING)
def test_the_same_scores_keep_the_same_examples_as_on_the_cpu(method: str) -> None:
    pruners = [DynamicPruner(N, keep_fraction=0.5, method=method) for _ in range(2)]
    for _ in zip(*(pruner.epochs(EPOCHS) for pruner in pruners), strict=True):
        here, there = pruners
        assert torch.equal(here.kept_indices, there.kept_indices)
        logits, labels = problem(here.sampler.piece_number, "cpu")
        for index in torch.tensor(list(here.sampler)).split(64):
            rows = logits[index]
            scores = fastprune.score(rows, labels[index], METRICS) | {"probabilities": rows.softmax(-1)}
            for pruner, device in ((here, "cpu"), (there, DEVICE)):
                weights = pruner.weights(index.to(device))
                assert weights is None or weights.device.type == device
                pruner.observe(index, {metric: values.to(device) for metric, values in scores.items()})
        torch.testing.assert_close(here.weights(torch.arange(N)), there.weights(torch.arange(N)))
        for metric in here.history.reads:
            torch.testing.assert_close(here.history.value(metric), there.history.value(metric).cpu())
