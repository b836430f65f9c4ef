"""What two ranks run for test_trainer_fsdp.py: trainers whose model Accelerate shards by FSDP2, and the same by DDP.

Rank 0 leaves a file with the outcome of each case on every rank; the tests know what it should be.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import datasets
import torch
import torch.distributed as dist
from helpers import fsdp_on_cpu, tiny_trl, under_torchrun
from torch.distributed.tensor import DTensor
from torch.utils.data import DataLoader, Dataset
from transformers import Trainer, TrainerCallback, TrainingArguments

import fastprune

ROWS, WIDTH, EPOCHS, BATCH = 32, 12, 4, 4
METHODS = ("el2n-free", "el2n")
TUNES = ("el2n-free", "el2n", "infobatch") if importlib.util.find_spec("trl") else ()
OPTIONS: dict[str, Any] = dict(keep_fraction=0.5, cycle_epochs=1, seed=3)
FSDP = {
    "fsdp": "full_shard",
    "fsdp_config": {
        "fsdp_version": 2,
        "auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
        "cpu_ram_efficient_loading": False,
        "state_dict_type": "FULL_STATE_DICT",
    },
}
SETTINGS = {name: value for name, value in tiny_trl.SETTINGS.items() if name != "max_length"} | {
    "num_train_epochs": EPOCHS,
    "per_device_train_batch_size": BATCH,
    "save_strategy": "epoch",
    "logging_strategy": "no",
    "use_cpu": True,
}


def tokens() -> list[list[int]]:
    """Texts that differ in how hard they are."""
    return [[4 + (i * 7 + j * (1 + i % 4)) % 60 for j in range(WIDTH)] for i in range(ROWS)]


class Kept(TrainerCallback):
    """The kept set of each epoch."""

    def __init__(self, pruner: fastprune.DynamicPruner) -> None:
        self.pruner = pruner
        self.kept: dict[int, list[int]] = {}

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        epoch = int((state.epoch or 0.0) - 1e-6)
        self.kept[epoch] = self.pruner.kept_indices.tolist()


def trains(folder: Path, method: str, sharded: bool, resume: str | None = None) -> dict[str, Any]:
    """A language model by the Trainer, from the beginning or from a checkpoint."""
    rows = tokens()
    data = datasets.Dataset.from_dict({"input_ids": rows, "labels": rows})
    arguments = TrainingArguments(str(folder), **SETTINGS, **(FSDP if sharded else {}))
    trainer = Trainer(tiny_trl.model(), arguments, train_dataset=data)
    assert trainer.is_fsdp_enabled is sharded, (method, sharded, resume, trainer.accelerator.distributed_type)
    pruner = fastprune.attach(trainer, method=method, **OPTIONS)
    follow = Kept(pruner)
    trainer.add_callback(follow)
    trainer.train(resume_from_checkpoint=resume)
    state = pruner.history.state_dict()["state"]
    return {"kept": follow.kept, "head": whole_head(trainer.model, sharded), "history": state}


def whole_head(net: Any, sharded: bool) -> torch.Tensor:
    """The weights of the head, gathered if they are sharded."""
    head = net.lm_head.weight
    assert isinstance(head, DTensor) is sharded
    return (head.full_tensor() if isinstance(head, DTensor) else head).detach().clone()


def goes_on(folder: Path, method: str) -> dict[str, Any]:
    """The rest of the sharded run, in the place of a fresh process."""
    first = sorted((folder / f"{method}-fsdp").glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))[1]
    return trains(folder / f"{method}-again", method, True, str(first))


def tunes(folder: Path, method: str, sharded: bool) -> dict[str, Any]:
    """TRL's SFTTrainer, whose loss fastprune folds from the hidden states and the head."""
    from helpers import trl_trainers
    from trl import SFTConfig, SFTTrainer

    told = {"num_train_epochs": EPOCHS, "per_device_train_batch_size": BATCH, "optim": "sgd", "ddp_backend": "gloo"}
    told |= FSDP if sharded else {}
    trainer = trl_trainers.build(SFTTrainer, SFTConfig, folder, data=tiny_trl.completions(), **told)
    assert trainer.is_fsdp_enabled is sharded
    pruner = fastprune.attach(trainer, method=method, **OPTIONS)
    follow = Kept(pruner)
    trainer.add_callback(follow)
    trainer.train()
    return {"kept": follow.kept, "head": whole_head(trainer.model, sharded)}


class Numbered(Dataset[torch.Tensor]):
    """The same texts for a plain loop."""

    def __init__(self) -> None:
        self.rows = torch.tensor(tokens())

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.rows[index]


def loops(sharded: bool) -> dict[str, Any]:
    """A plain loop with Accelerate, and its FSDP plugin."""
    from accelerate import Accelerator, FullyShardedDataParallelPlugin

    fsdp_on_cpu.forget()
    plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2, auto_wrap_policy="transformer_based_wrap", cpu_ram_efficient_loading=False
    )
    accelerator = Accelerator(cpu=True, fsdp_plugin=plugin if sharded else None)
    net = tiny_trl.model()
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
    net, optimizer = accelerator.prepare(net, optimizer)
    pruner = fastprune.DynamicPruner(ROWS, method="el2n-free", warmup_epochs=1, **OPTIONS)
    loader = DataLoader(fastprune.with_index(Numbered()), sampler=pruner.sampler, batch_size=BATCH)
    loader = fastprune.prepare_accelerate(accelerator, pruner, loader)
    kept = {}
    for epoch in pruner.epochs(EPOCHS):
        kept[epoch] = pruner.kept_indices.tolist()
        for rows, index in loader:
            logits = net(input_ids=rows).logits
            loss, el2n = fastprune.cross_entropy(logits, rows, shift=1, return_scores="el2n")
            pruner.observe(index, el2n.norm(dim=-1))
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
    return {"kept": kept, "head": whole_head(net if sharded else accelerator.unwrap_model(net), sharded)}


def main(folder: Path) -> None:
    under_torchrun.settle()
    cases: dict[str, Any] = {}
    with fsdp_on_cpu.allowed():
        for method in METHODS:
            for sharded in (False, True):
                fsdp_on_cpu.forget()
                name = f"{method}-{'fsdp' if sharded else 'ddp'}"
                cases[name] = trains(folder / name, method, sharded)
            fsdp_on_cpu.forget()
            cases[f"{method}-again"] = goes_on(folder, method)
        for method in TUNES:
            for sharded in (False, True):
                fsdp_on_cpu.forget()
                name = f"sft {method}-{'fsdp' if sharded else 'ddp'}"
                cases[name] = tunes(folder / name, method, sharded)
        for sharded in (False, True):
            cases[f"loop-{'fsdp' if sharded else 'ddp'}"] = loops(sharded)
    for name, found in cases.items():
        everyone: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(everyone, found)
        if dist.get_rank() == 0:
            torch.save(everyone, folder / f"{name}.result")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
