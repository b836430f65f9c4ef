"""What every rank runs under torchrun for test_trainer_distributed.py: Trainers with fastprune attached.

A mismatch ends it with a traceback and status 1.  Argument: a scratch folder.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from helpers import toy_trainer as toy
from helpers import under_torchrun
from helpers.combinations import some
from helpers.older_trainers import NO_RESUME_ON_CPUS
from helpers.two_passes import Adversarial
from transformers import TrainingArguments
from transformers.utils import logging

import fastprune

SECONDS = 400
BATCH = 4
# With a scoring pass, with weights, with scores that are vectors, and with none.  More of them in `make soak`.  Every
# method goes through a plain distributed loop, and through a Trainer in one process.
METHODS = some(
    ("el2n", "el2n-free", "infobatch", "forgetting", "repb", "tdds", "rs2", "static"),
    ("el2n", "infobatch", "tdds", "static"),
)


def trainer_in(folder: Path, cls: type[toy.Recorder] = toy.Recorder, **settings: Any) -> Any:
    settings = {**toy.SETTINGS, "per_device_train_batch_size": BATCH, "ddp_backend": "gloo", **settings}
    args = TrainingArguments(output_dir=str(folder), **settings)
    torch.manual_seed(args.seed)
    return cls(model=toy.model(), args=args, train_dataset=toy.hub_dataset())


def gathered(value: Any) -> list[Any]:
    """The value of every rank."""
    found: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(found, value)
    return found


def check_agreement(trainer: toy.Recorder, pruner: Any) -> None:
    """All ranks hold the same model, the same history and the same kept set."""
    state = pruner.state_dict()
    mine = [*toy.weights(trainer).values(), pruner.kept_indices, *state["history"]["state"].get("el2n", {}).values()]
    mine += [state["history"]["visits"]]
    for theirs in gathered(mine):
        assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))


def read_by_all(trainer: toy.Recorder) -> list[int]:
    """The examples of every step, rank by rank."""
    return [i for step in zip(*gathered(trainer.batches), strict=True) for batch in step for i in batch]


def check_plan(trainer: toy.Recorder, pruner: Any, epochs: int) -> None:
    """What the ranks read together is the stream of pieces; a chunk is evened out by repeats of its beginning."""
    step = trainer.args.per_device_train_batch_size * dist.get_world_size()
    read, at = read_by_all(trainer), 0
    for number, piece in enumerate(pruner.sampler.pieces):
        padded = -(-len(piece) // step) * step
        chunk, at = read[at : at + padded], at + padded
        repeats = len(chunk) - len(piece)
        unit = piece.distinct if piece.distinct > 1 else len(piece)
        for start in range(0, len(piece), unit):
            block = chunk[: len(piece)][start : start + unit]
            assert len(set(block)) == len(block), (number, block)
        assert repeats < step
    assert at == len(read)
    if pruner.method.observes:
        # Repeats are trained on, but their scores are not counted again.
        assert int(pruner.history.visits.sum()) == sum(map(len, pruner.sampler.pieces))


def methods(folder: Path) -> None:
    # Rank 0 alone writes the file that one of them reads.
    texts = gathered([toy.method_text(name, folder) for name in METHODS] if dist.get_rank() == 0 else None)[0]
    for name, method in zip(METHODS, texts, strict=True):
        settings = {"save_strategy": "steps", "save_steps": 14, "num_train_epochs": 7}
        settings["per_device_train_batch_size"] = 3  # chunks of three steps
        whole = trainer_in(folder / name, **settings)
        pruner = fastprune.attach(whole, method=method, keep_fraction=0.5, cycle_epochs=2)
        whole.train()
        check_agreement(whole, pruner)
        check_plan(whole, pruner, 7)
        if dist.get_rank() == 0:
            print(f"method {name} agrees", flush=True)
        if NO_RESUME_ON_CPUS:
            continue
        # Two steps into the second chunk of the first cycle.
        again = trainer_in(folder / "again", **{**settings, "save_strategy": "no"})
        other = fastprune.attach(again, method=method, keep_fraction=0.5, cycle_epochs=2)
        torch.manual_seed(99 + dist.get_rank())
        again.train(resume_from_checkpoint=str(folder / name / "checkpoint-14"))
        assert again.batches == whole.batches[14:], name
        toy.assert_same_weights(again, whole)
        assert torch.equal(other.kept_indices, pruner.kept_indices)
        for metric in pruner.history.reads:
            assert torch.equal(other.history.value(metric), pruner.history.value(metric))


SETUPS = [
    ("el2n", {}),
    ("infobatch", {"gradient_accumulation_steps": 2}),
    ("el2n-free", {"dataloader_drop_last": True}),
    ("el2n-free", {"dataloader_num_workers": 1, "dataloader_persistent_workers": True}),
]


def setups_of(ranks: int) -> list[tuple[str, dict[str, Any]]]:
    return SETUPS[: 4 if ranks == 2 else 2]


def setups(folder: Path) -> None:
    for method, settings in setups_of(dist.get_world_size()):
        plain, pruned = (trainer_in(folder / "noop", num_train_epochs=2, **settings) for _ in range(2))
        fastprune.attach(pruned, method=method, keep_fraction=1.0)
        for trainer in (plain, pruned):
            torch.manual_seed(trainer.args.seed)
            trainer.train()
        assert pruned.batches == plain.batches
        if "dataloader_num_workers" not in settings:  # their start draws from the global generator
            toy.assert_same_weights(pruned, plain)

        trainer = trainer_in(folder / "pruned", **settings)
        pruner = fastprune.attach(trainer, method=method, keep_fraction=0.4)
        trainer.train()
        check_agreement(trainer, pruner)
        assert trainer.lr_scheduler.get_last_lr()[0] == 0.0
        assert trainer.state.global_step == trainer.state.max_steps
        if "dataloader_drop_last" not in settings:
            check_plan(trainer, pruner, 6)
        if dist.get_rank() == 0:
            print(f"setup {method} {settings} holds", flush=True)


def scores_of_one_process(folder: Path) -> None:
    """The scoring pass, shared by all ranks, gives the scores of a single process."""
    trainer = trainer_in(folder / "pass", num_train_epochs=2, learning_rate=0.0)
    pruner = fastprune.attach(trainer, method="el2n", keep_fraction=0.4)
    trainer.train()
    batch = {name: torch.tensor(column) for name, column in toy.hub_dataset()[:].items()}
    net = trainer.model.eval()
    with torch.no_grad():
        expected = fastprune.el2n(net(**batch).logits, batch["labels"])
    torch.testing.assert_close(pruner.history.value("el2n"), expected, rtol=1e-5, atol=1e-7)
    assert pruner.history.visits.tolist() == [1] * toy.N


def own_losses_weigh_as_the_trainers(folder: Path) -> None:
    """A loss function of the user's is weighted on the scale of the model's own loss, on several ranks, too."""

    def losses(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(outputs["logits"], labels, reduction="none")

    found = []
    for how in (None, losses):
        trainer = trainer_in(folder / "own", dataloader_drop_last=True, max_grad_norm=0.0, optim="sgd")
        trainer.compute_loss_func = how
        fastprune.attach(trainer, method="infobatch", keep_fraction=0.5)
        trainer.train()
        found.append(toy.weights(trainer))
    for name, value in found[0].items():
        torch.testing.assert_close(value, found[1][name], rtol=1e-4, atol=1e-6)


def first_passes_count(folder: Path) -> None:
    """Adversarial training: the same observations as in one process, those of the first passes."""
    settings = {"per_device_train_batch_size": 5, "gradient_accumulation_steps": 2}
    trainer = trainer_in(folder / "adversarial", cls=Adversarial, **settings)
    pruner = fastprune.attach(trainer, method="el2n-free", keep_fraction=0.4)
    trainer.train()
    check_agreement(trainer, pruner)
    expected: dict[int, float] = {}
    for step in zip(*gathered([p[:2] for p in trainer.passes if not p[2]]), strict=True):
        for ids, scores in step:
            expected.update(zip(ids, scores.tolist(), strict=True))
    assert pruner.history.value("el2n").tolist() == [expected[i] for i in range(toy.N)]
    times = torch.bincount(torch.tensor(read_by_all(trainer)), minlength=toy.N)
    assert pruner.history.visits.tolist() == times.tolist()


def a_failing_trial_ends_all(folder: Path) -> None:
    """One batch is scored on every rank before the first step; where one rank fails, none goes on."""

    def on_one_rank(outputs: Any, inputs: Any) -> torch.Tensor:
        if dist.get_rank() == 1:
            raise KeyError("nothing")
        return inputs["labels"].float()

    trainer = trainer_in(folder / "failing")
    fastprune.attach(trainer, method="el2n", keep_fraction=0.4, score_fn=on_one_rank)
    try:
        trainer.train()
    except (KeyError, RuntimeError) as error:
        assert ("nothing", r"the trial of one batch failed on rank [1]")[dist.get_rank() == 0] in str(error)
    assert trainer.batches == [] and trainer.state.global_step == 0


def main() -> None:
    under_torchrun.settle(SECONDS)
    logging.set_verbosity_error()
    folder = Path(sys.argv[1])
    TrainingArguments(output_dir=str(folder), use_cpu=True, ddp_backend="gloo")  # joins the group
    setups(folder)
    scores_of_one_process(folder)
    own_losses_weigh_as_the_trainers(folder)
    if dist.get_world_size() == 2:
        methods(folder)
        first_passes_count(folder)
        a_failing_trial_ends_all(folder)
    dist.barrier()
    print(f"rank {os.environ['RANK']} is done", flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
