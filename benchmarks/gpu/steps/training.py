"""Step 5: what fastprune adds to a training step of a model of MiniLM-L6's shape, in bfloat16.

The weights are random, which changes no time. Steps with fastprune (scores from the loss, history, sampler) and
without it alternate on one model, and which comes first alternates too. A step is timed by the host from before its
batch is drawn until the device has finished.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch.utils.data import BatchSampler, RandomSampler
from transformers import BertConfig, BertForSequenceClassification

import fastprune
from gpu.cases import TOY_TRAINING, TRAINING
from gpu.step import Context

EXAMPLES = 8_192
WARMUP = 10  # pairs
CHECKED = 30  # steps in which fastprune's own calls must not wait for the device


def model_of(shape: dict[str, int], device: str) -> torch.nn.Module:
    """A classifier of MiniLM's shape, in bfloat16."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=shape["vocabulary"],
        hidden_size=shape["hidden"],
        num_hidden_layers=shape["layers"],
        num_attention_heads=shape["hidden"] // 32,
        intermediate_size=4 * shape["hidden"],
        num_labels=shape["classes"],
    )
    return BertForSequenceClassification(config).to(device=device, dtype=torch.bfloat16).train()


def without_end(sampler: BatchSampler) -> Iterator[list[int]]:
    while True:
        yield from sampler


def pruned_batches(pruner: fastprune.DynamicPruner, batch: int) -> Iterator[list[int]]:
    """The batches of a run of many epochs, the first on everything, then on half, chosen anew each epoch."""
    for _ in pruner.epochs(10_000):
        yield from BatchSampler(pruner.sampler, batch, drop_last=True)


@contextmanager
def without_waiting(device: str, armed: bool) -> Iterator[None]:
    """If armed, a call that waits for the device is an error."""
    if not armed or device != "cuda":
        yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


class Steps:
    """Both kinds of training step over one model and optimizer."""

    def __init__(self, shape: dict[str, int], device: str) -> None:
        self.device = device
        self.model = model_of(shape, device)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-5, fused=device == "cuda")
        examples = min(EXAMPLES, 16 * shape["batch"]) if device == "cpu" else EXAMPLES
        generator = torch.Generator().manual_seed(1)
        size = (examples, shape["tokens"])
        self.tokens = torch.randint(shape["vocabulary"], size, generator=generator).to(device)
        self.labels = torch.randint(shape["classes"], (examples,), generator=generator).to(device)
        self.pruner = fastprune.DynamicPruner(examples, keep_fraction=0.5, method="auto", warmup_epochs=1)
        self.pruned = pruned_batches(self.pruner, shape["batch"])
        self.plain = without_end(BatchSampler(RandomSampler(range(examples)), shape["batch"], drop_last=True))
        self.armed = False
        self.own: list[float] = []

    def _logits(self, there: torch.Tensor) -> torch.Tensor:
        return self.model(input_ids=self.tokens[there]).logits

    def _learn(self, loss: torch.Tensor) -> None:
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def without(self) -> None:
        """A step as it is without fastprune."""
        there = torch.tensor(next(self.plain)).to(self.device, non_blocking=True)
        self._learn(F.cross_entropy(self._logits(there), self.labels[there]))

    def with_fastprune(self) -> None:
        """The same with scores, history and sampler; `own` gets the host's microseconds in fastprune's calls."""
        index = torch.tensor(next(self.pruned))
        there = index.to(self.device, non_blocking=True)
        logits, labels = self._logits(there), self.labels[there]
        start = time.perf_counter()
        with without_waiting(self.device, self.armed):
            loss, scores = fastprune.cross_entropy(logits, labels, return_scores="el2n")
            self.pruner.observe(index, scores)
        self.own.append((time.perf_counter() - start) * 1e6)
        self._learn(loss)

    def timed(self, step: Callable[[], None]) -> float:
        """Milliseconds until the device has finished the step."""
        self.wait()
        start = time.perf_counter()
        step()
        self.wait()
        return (time.perf_counter() - start) * 1e3

    def wait(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()


def run(context: Context) -> None:
    shape = TOY_TRAINING if context.rehearsal else TRAINING
    steps = Steps(shape, context.device)
    for _ in range(2 if context.rehearsal else WARMUP):
        steps.without()
        steps.with_fastprune()
    steps.armed, waits = True, ""
    try:
        for _ in range(2 if context.rehearsal else CHECKED):
            steps.with_fastprune()
    except RuntimeError as error:
        waits = str(error)[:300]
    steps.armed = False
    context.record("waiting", none=not waits, why=waits)

    steps.own.clear()
    with_it: list[float] = []
    without_it: list[float] = []
    for pair in itertools.count():
        if pair == shape["pairs"] or context.left < 3:
            break
        order = [(steps.without, without_it), (steps.with_fastprune, with_it)]
        for step, times in order if pair % 2 == 0 else reversed(order):
            times.append(steps.timed(step))
    differences = [a - b for a, b in zip(with_it, without_it, strict=True)]
    context.record(
        "training",
        shape=shape,
        pairs=len(differences),
        without_ms=statistics.median(without_it),
        with_ms=statistics.median(with_it),
        added_us=statistics.median(differences) * 1e3,
        own_us=statistics.median(steps.own),
        raw={"with_ms": [round(t, 4) for t in with_it], "without_ms": [round(t, 4) for t in without_it]},
    )
