"""The same weights and batches give the same scores, losses and kept sets in every loop, bit for bit.

The model looks its logits up by example and never learns, so that records do not depend on how a loop batches.  Epochs
are whole numbers of batches: the Trainer fills up a short last one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import older_trainers, toy
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

import fastprune
from fastprune.pruning import DynamicPruner

pytest.importorskip("accelerate.utils")
transformers = pytest.importorskip("transformers")
lightning = pytest.importorskip("lightning.pytorch")
toy_lightning = pytest.importorskip("helpers.toy_lightning")
toy_trainer = pytest.importorskip("helpers.toy_trainer")

N, TOKENS, BATCH, EPOCHS, SEED = 48, 5, 8, 3, 6
TASK = fastprune.Task(
    {"intent": fastprune.Head("intent_logits", "intent"), "slots": fastprune.Head("slot_logits", "slots")}
)


class Examples(Dataset):
    """The toy problem with two heads: an example's own label, and those of the examples after it as its tags.

    One tag of each example is ignored.
    """

    def __init__(self) -> None:
        _, self.intents = toy.examples(N)
        self.slots = torch.stack([self.intents.roll(-token) for token in range(1, TOKENS + 1)], 1)
        self.slots[:, -1] = -100

    def __len__(self) -> int:
        return N

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"at": torch.tensor(index), "intent": self.intents[index], "slots": self.slots[index]}


class Table(nn.Module):
    """Logits of an intent and of its slots, by example."""

    def __init__(self) -> None:
        super().__init__()
        x, _ = toy.examples(N)
        logits = 2 * x[:, : toy.CLASSES]
        self.intents = nn.Parameter(logits)
        self.slots = nn.Parameter(torch.stack([logits.roll(-token, 0) for token in range(1, TOKENS + 1)], 1))

    def forward(self, at: Tensor, intent: Tensor | None = None, slots: Tensor | None = None) -> dict[str, Tensor]:
        outputs = {"intent_logits": self.intents[at], "slot_logits": self.slots[at]}
        if intent is not None:
            outputs["loss"] = TASK.losses(outputs, {"intent": intent, "slots": slots}).sums.mean()
        return outputs


def plain(method: str, folder: Path) -> tuple[DynamicPruner, list[Tensor]]:
    data, model, losses = Examples(), Table(), []
    pruner = DynamicPruner(N, keep_fraction=0.5, warmup_epochs=1, method=method, seed=SEED)
    loader = DataLoader(data, sampler=pruner.sampler, batch_size=BATCH)
    for _ in pruner.epochs(EPOCHS):
        for batch in loader:
            outputs = model(batch["at"])
            losses.append(pruner.mean_loss(TASK.losses(outputs, batch).sums, batch["at"]).detach())
            pruner.observe(batch["at"], TASK.scores(outputs, batch, pruner.method.reads))
        if pruner.wants_scores:
            whole = next(iter(DataLoader(data, batch_size=N)))
            found = TASK.scores(model(whole["at"]), whole, pruner.method.reads)
            pruner.rescore(lambda index, found=found: {name: values[index] for name, values in found.items()})
    return pruner, losses


def trainer(method: str, folder: Path) -> tuple[DynamicPruner, list[Tensor]]:
    losses: list[Tensor] = []

    class Recorder(transformers.Trainer):
        def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
            losses.append(super().training_step(*args, **kwargs))
            return losses[-1]

    own = {"num_train_epochs": EPOCHS, "per_device_train_batch_size": BATCH, "learning_rate": 0.0, "seed": SEED}
    columns = {"label_names": ["intent", "slots"], "remove_unused_columns": False}
    args = transformers.TrainingArguments(output_dir=str(folder), **{**toy_trainer.SETTINGS, **own, **columns})
    found = Recorder(model=Table(), args=args, train_dataset=Examples())
    pruner = fastprune.attach(found, keep_fraction=0.5, warmup_epochs=1, method=method, task=TASK, seed=SEED)
    found.train()
    return pruner, losses


def in_lightning(method: str, folder: Path) -> tuple[DynamicPruner, list[Tensor]]:
    losses: list[Tensor] = []

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.table = Table()

        def forward(self, at: Tensor) -> dict[str, Tensor]:
            return self.table(at)

        def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
            outputs = self(batch["at"])
            loss = fastprune.PruningCallback.mean_loss(self, TASK.losses(outputs, batch).sums)
            losses.append(loss.detach())
            return {"loss": loss, **outputs}

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.0)

    callback = fastprune.PruningCallback(keep_fraction=0.5, warmup_epochs=1, method=method, task=TASK, seed=SEED)
    loop = toy_lightning.trainer(folder, callback, max_epochs=EPOCHS)
    loop.fit(Module(), DataLoader(Examples(), batch_size=BATCH, shuffle=True))
    return callback.pruner, losses


RUNS = {"plain": plain, "trainer": trainer, "lightning": in_lightning}


@pytest.mark.parametrize("method", ["el2n", "el2n-free", "loss", "infobatch", "repb"])
@pytest.mark.filterwarnings("ignore")
def test_scores_losses_and_kept_sets_are_the_same_in_every_loop(method: str, tmp_path: Path) -> None:
    loops = dict(RUNS)
    if older_trainers.LOSS_NEEDS_LABELS and method in ("infobatch", "repb"):
        with pytest.raises(ValueError, match=older_trainers.REFUSAL):
            loops.pop("trainer")(method, tmp_path)
    runs = {name: run(method, tmp_path / name) for name, run in loops.items()}
    whole = next(iter(DataLoader(Examples(), batch_size=N)))
    metrics = runs["plain"][0].method.reads
    truth = TASK.scores(Table()(whole["at"]), whole, metrics)
    first, losses = runs["plain"]
    for name, (pruner, theirs) in runs.items():
        assert torch.equal(pruner.kept_indices, first.kept_indices), name
        for metric in metrics:
            assert torch.equal(pruner.history.value(metric), first.history.value(metric)), name
        assert len(theirs) == len(losses) and all(map(torch.equal, theirs, losses)), name
    if method in ("el2n", "el2n-free"):
        assert torch.equal(first.history.value("el2n"), truth["el2n"])
