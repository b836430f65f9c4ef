"""What two ranks run for test_fsdp.py: `fully_shard` and tensor parallel, and a run that one process began.

Rank 0 leaves a file with the outcome of each case on every rank; the tests know what it should be.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from helpers import under_torchrun
from language_loop import BATCH, Language, Loop, loss_of_states, texts
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
from torch.utils.data import DataLoader

import fastprune
from fastprune.scores.task import Head, Task

STOP = 1
"""The epoch at whose end the runs are saved."""


class Sharded(Loop):
    """The whole model is one unit. In its forward pass the head's weight is whole."""

    def prepare(self) -> None:
        super().prepare()
        fully_shard(self.net, mesh=init_device_mesh("cpu", (self.ranks,)))


class HeadOutside(Loop):
    """The body is a unit, and so is the head. The loop gives the head's weight as the DTensor that it is."""

    def prepare(self) -> None:
        super().prepare()
        mesh = init_device_mesh("cpu", (self.ranks,))
        fully_shard(self.net.body, mesh=mesh)
        fully_shard(self.net.head, mesh=mesh)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        assert isinstance(self.net.head.weight, DTensor)
        return loss_of_states(self.net.body(tokens), self.net.head.weight, tokens)


class TensorParallel(Loop):
    """The classes of the head are spread over the ranks, which all read the same examples."""

    def prepare(self) -> None:
        self.mesh = init_device_mesh("cpu", (self.ranks,))
        data = fastprune.with_index(texts())
        self.loader = DataLoader(data, sampler=self.pruner.sampler, batch_size=BATCH)
        self.net.head.weight = torch.nn.Parameter(distribute_tensor(self.net.head.weight, self.mesh, [Shard(0)]))

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        states = DTensor.from_local(self.net.body(tokens), self.mesh, [Replicate()])
        logits: Any = F.linear(states, self.net.head.weight)
        assert logits.placements == (Shard(2),)
        loss, el2n = fastprune.cross_entropy(logits, tokens, shift=1, return_scores="el2n")
        return loss.full_tensor(), el2n.full_tensor()


class Accelerated(HeadOutside):
    """The same with Accelerate's loader. It ignores FSDP on the CPU, so the net is sharded by hand."""

    def prepare(self) -> None:
        from accelerate import Accelerator

        super().prepare()
        data = fastprune.with_index(texts())
        loader = DataLoader(data, sampler=self.pruner.sampler, batch_size=self.loader.batch_size)
        self.loader = fastprune.prepare_accelerate(Accelerator(cpu=True), self.pruner, loader)


LOOPS: tuple[type[Loop], ...] = (TensorParallel,)
if hasattr(torch.cpu.Stream, "record_event"):  # without it, as in torch 2.6, fully_shard needs a GPU
    LOOPS = (Sharded, HeadOutside, Accelerated, TensorParallel)


def trains(kind: type[Loop]) -> dict[str, Any]:
    loop = kind()
    saved = loop.run(save_after=STOP)
    return {"saved": saved, **loop.outcome()}


def goes_on(folder: Path) -> dict[str, Any]:
    """Two ranks, where one process stopped."""
    loop = LOOPS[0](torch.load(folder / "one.pt", weights_only=True))
    loop.run()
    return loop.outcome()


def gives_gradients(folder: Path) -> dict[str, Any]:
    """Of a DTensor head and its bias, on rows of each rank's own."""
    net = Language()
    head = torch.nn.Linear(net.head.in_features, net.head.out_features)
    fully_shard(head, mesh=init_device_mesh("cpu", (2,)))
    tokens = texts()[dist.get_rank() :: 2]
    states = net.body(tokens).detach().requires_grad_()
    found: dict[str, Any] = {"weight": head.weight.full_tensor().detach(), "bias": head.bias.full_tensor().detach()}
    for reduction in ("mean", "none"):
        loss = fastprune.linear_cross_entropy(
            states, head.weight, tokens, bias=head.bias, shift=1, reduction=reduction, label_smoothing=0.1
        )
        loss.mean().backward()
        assert isinstance(head.weight.grad, DTensor) and head.weight.grad.placements == head.weight.placements
        assert isinstance(head.bias.grad, DTensor) and head.bias.grad.placements == head.bias.placements
        found[reduction] = [head.weight.grad.full_tensor(), head.bias.grad.full_tensor(), states.grad]
        head.zero_grad()
        states.grad = None
    short = [part.to(torch.bfloat16) for part in (states, head.weight, head.bias)]
    loss = fastprune.linear_cross_entropy(*short[:2], tokens, bias=short[2], shift=1, label_smoothing=0.1)
    loss.backward()
    assert head.weight.grad.dtype == torch.float32 and head.weight.grad.placements == head.weight.placements
    found["mixed"] = [head.weight.grad.full_tensor(), head.bias.grad.full_tensor(), states.grad]
    found["scores"] = fastprune.linear_score(states, head.weight, tokens, bias=head.bias, shift=1)
    return {"states": states.detach(), "tokens": tokens, **found}


def scores_outputs(folder: Path) -> dict[str, Any]:
    """What adapters of frameworks call, on the logits of a tensor-parallel head."""
    net, tokens = Language(), texts()
    logits, mesh = net.head(net.body(tokens)).detach(), init_device_mesh("cpu", (2,))
    spread = distribute_tensor(logits, mesh, [Shard(-1)])
    labels = distribute_tensor(tokens, mesh, [Replicate()])
    task = Task(Head("logits", "labels", kind="causal_lm"))
    scores = task.scores({"logits": spread}, {"labels": labels}, ("el2n", "loss"))
    return {"scores": {name: values.full_tensor() for name, values in scores.items()}, "logits": logits}


def scores_in_a_trainer(folder: Path) -> dict[str, Any]:
    """A Trainer's scoring pass over each rank's examples, by a language model whose parameters are DTensors.

    Accelerate would shard the model before the first step, but ignores FSDP on the CPU. So it is sharded by hand.
    """
    import datasets
    from helpers import tiny_trl
    from transformers import Trainer, TrainingArguments

    classes, rows, width = 4096, 12, 20
    tokens = [[4 + (i * 7 + j * (1 + i % 4)) % 60 for j in range(width)] for i in range(rows)]
    data = datasets.Dataset.from_dict({"input_ids": tokens, "labels": tokens})
    mine = torch.arange(dist.get_rank(), rows, 2)
    known = {name: value for name, value in tiny_trl.SETTINGS.items() if name != "max_length"}
    found: dict[str, Any] = {"index": mine}
    for name in ("whole", "head_in_root", "head_alone"):
        net = tiny_trl.model(vocab_size=classes)
        mesh = init_device_mesh("cpu", (2,))
        if name == "head_alone":
            fully_shard(net.lm_head, mesh=mesh)
        if name != "whole":
            fully_shard(net, mesh=mesh)
            assert isinstance(net.lm_head.weight, DTensor)
        trainer = Trainer(net, TrainingArguments(str(folder / "trainer"), **known), train_dataset=data)
        fastprune.attach(trainer, method="el2n", keep_fraction=0.5, score_batch_size=rows)
        with tiny_trl.Largest() as largest:
            found[name] = dict(trainer._fastprune.scores.scoring_pass(mine))["el2n"]  # type: ignore[attr-defined]
        # Gathered parameters are the largest: two tables of 16 numbers a class.
        assert largest.elements < len(mine) * width * classes / 2, "no logits are made"
    return found


def cases_of_this_torch() -> tuple[Callable[[Path], dict[str, Any]], ...]:
    """Those that need no GPU."""
    always = (goes_on, gives_gradients, scores_outputs)
    return (*always, scores_in_a_trainer) if len(LOOPS) > 1 else always


def main(folder: Path) -> None:
    under_torchrun.begin()
    cases: dict[str, Any] = {
        **{kind.__name__: (trains, kind) for kind in LOOPS},
        **{case.__name__: (case, folder) for case in cases_of_this_torch()},
    }
    for name, (case, argument) in cases.items():
        everyone: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(everyone, case(argument))
        if dist.get_rank() == 0:
            torch.save(everyone, folder / f"{name}.result")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
