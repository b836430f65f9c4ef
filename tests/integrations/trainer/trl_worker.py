"""What every rank runs under torchrun for test_trl_distributed.py: SFTTrainers with fastprune attached.

Arguments: a scratch folder, and the size of a batch of one rank.  Rank 0 writes what it found to found.pt there.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from helpers import tiny_trl as tiny
from helpers import trl_trainers
from trl import SFTConfig, SFTTrainer

import fastprune

SETUPS = {
    "free": {"method": "el2n-free"},
    "weighted": {"method": "infobatch"},
    "flattened": {"method": "infobatch", "padding_free": True, "max_length": None},
    "pass": {"method": "el2n"},
}


def trained(folder: Path, batch: int, method: str, **settings):
    """Weights, history and kept set after a run whose learning rate follows plain gradient descent."""
    settings = {"per_device_train_batch_size": batch, "num_train_epochs": 3, "optim": "sgd", **settings}
    if dist.is_torchelastic_launched():
        settings["ddp_backend"] = "gloo"
    trainer = trl_trainers.build(SFTTrainer, SFTConfig, folder, data=tiny.completions(), **settings)
    pruner = fastprune.attach(trainer, method=method, keep_fraction=0.5)
    trainer.train()
    kept, metric = pruner.kept_indices, pruner.history.reads[0]
    model = {name: value.detach().clone() for name, value in trainer.model.state_dict().items()}
    return {"kept": kept, "scores": pruner.history.value(metric), "steps": trainer.state.global_step, **model}


def all_setups(folder: Path, batch: int):
    return {name: trained(folder / name, batch, **settings) for name, settings in SETUPS.items()}


if __name__ == "__main__":
    torch.set_num_threads(1)
    found = all_setups(Path(sys.argv[1]), int(sys.argv[2]))
    everyone = [None] * dist.get_world_size()
    dist.all_gather_object(everyone, found)
    for name, mine in found.items():
        for other in everyone:
            assert all(torch.equal(torch.as_tensor(v), torch.as_tensor(other[name][k])) for k, v in mine.items()), name
    if dist.get_rank() == 0:
        torch.save(found, Path(sys.argv[1]) / "found.pt")
    print(f"rank {dist.get_rank()} is done")
