"""A Trainer takes whole steps, as many as a plain loop, however many examples pruning keeps."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from tiny_trainer import hub_dataset, model
from transformers import TrainerCallback

import fastprune
from fastprune.integrations.trainer.order import rank_batches
from fastprune.integrations.trainer.step_plan import batches_of_chunk, unfit
from fastprune.pruning import Schedule
from fastprune.pruning.chunks import chunk_pieces


def arguments(batch, world=1, accumulation=1):
    """What the integration reads of TrainingArguments, and the size of a batch."""
    args = SimpleNamespace(
        world_size=world,
        process_index=0,
        gradient_accumulation_steps=accumulation,
        dataloader_drop_last=False,
        accelerator_config=SimpleNamespace(even_batches=True),
    )
    return args, batch


@pytest.mark.parametrize(
    ("n", "keep", "batch", "accumulation", "batches", "advice"),
    [
        (117, 0.5, 32, 1, [32] * 10, None),
        (103, 0.3, 32, 1, [32] * 4 + [31] * 3, "let each process read 31 or fewer in a batch"),
        # Epochs of 10 in steps of 16, and of 10 in batches of 16.
        (100, 0.1, 4, 4, [4] * (7 + 3) * 4, "set gradient_accumulation_steps to 2 or less"),
        (100, 0.1, 16, 2, [16] * 7 + [10] * 3, "let each process read 10 or fewer in a batch"),
    ],
)
def test_steps_of_a_run(make, caplog, n, keep, batch, accumulation, batches, advice):
    trainer = make(
        data=hub_dataset(n),
        net=model(vocab_size=n + 20),
        num_train_epochs=4,
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=accumulation,
    )
    fastprune.attach(trainer, keep_fraction=keep, method="el2n-free")
    with caplog.at_level(logging.WARNING, "fastprune"):
        trainer.train()
    assert [len(indices) for indices in trainer.batches] == batches
    assert all(len(set(indices)) == len(indices) for indices in trainer.batches)
    assert trainer.state.global_step == trainer.state.max_steps
    assert trainer.state.epoch == 4.0 and trainer.lr_scheduler.get_last_lr()[0] == 0.0
    warnings = [record.getMessage() for record in caplog.records if record.name.startswith("fastprune")]
    assert len(warnings) == (advice is not None) and all(advice in warning for warning in warnings)


def test_a_step_that_holds_several_epochs_ends_them_all(make):
    ends = []

    class Ends(TrainerCallback):
        def on_epoch_begin(self, args, state, control, **kwargs):
            ends.append("begin")

        def on_epoch_end(self, args, state, control, **kwargs):
            ends.append((state.global_step, state.epoch))

    settings = {"num_train_epochs": 4, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 8}
    trainer = make(callbacks=[Ends()], **settings)
    fastprune.attach(trainer, keep_fraction=0.2, cycle_epochs=3, method="el2n-free")
    trainer.train()
    assert ends == ["begin", (2, 1.0), "begin", (3, 4.0), "begin", (3, 4.0), "begin", (3, 4.0)]


def test_a_resumed_run_of_short_epochs_is_exact(make):
    settings = {"data": hub_dataset(40), "num_train_epochs": 4, "per_device_train_batch_size": 16}
    runs = []
    for checkpoint in (None, 2, 4, 5):
        trainer = make(folder=f"run{checkpoint}", save_strategy="steps", save_steps=1, **settings)
        fastprune.attach(trainer, keep_fraction=0.25, method="el2n-free")
        where = None if checkpoint is None else f"{runs[0].args.output_dir}/checkpoint-{checkpoint}"
        trainer.train(resume_from_checkpoint=where)
        runs.append(trainer)
        assert trainer.batches == runs[0].batches[checkpoint or 0 :]
    assert [len(batch) for batch in runs[0].batches] == [16] * 3 + [10] * 3


@settings(deadline=None, max_examples=50)
@given(
    st.integers(50, 3000),
    st.floats(0.01, 0.99),
    st.integers(2, 6),
    st.integers(1, 64),
    st.sampled_from([1, 2, 4]),
    st.integers(1, 4),
)
@example(21, 0.5, 4, 8, 2, 1)
def test_ranks_take_as_many_batches_of_a_chunk_in_every_epoch(n, keep, epochs, batch, world, accumulation):
    """The Trainer plans with the batches of the first chunk; each process gets whole batches of other examples."""
    args, _ = arguments(batch, world, accumulation)
    phases = Schedule(keep).phases(n, epochs)
    assume(len({p.size for p in phases}) > 1)
    pieces = chunk_pieces(phases, batch * world * accumulation, batch * world)
    (batches,) = {batches_of_chunk(len(piece), batch, args) for piece in pieces}
    assert -(-batches // accumulation) * accumulation == batches or batches == 1
    for length in {len(piece) for piece in pieces} if len(pieces) < 50 else ():
        dealt = []
        for args.process_index in range(world):
            trainer = SimpleNamespace(args=args, _train_batch_size=batch)
            dealt.append([found.tolist() for found in rank_batches(range(length), trainer)])
        assert {len(found) for found in dealt} == {batches}
        together = [i for turn in zip(*dealt, strict=True) for found in turn for i in found]
        assert together[:length] == list(range(length))
        assert length % (batch * world) == 0 or batches == 1, "else accelerate fills up a batch of a longer chunk"
        if length >= batch:
            assert all(len(set(found)) == len(found) for rank in dealt for found in rank)


@pytest.mark.parametrize(
    ("smallest", "n", "batch", "world", "accumulation", "advice"),
    [
        (10, 21, 8, 2, 1, "let each process read 5 or fewer in a batch"),
        (3, 30, 1, 4, 1, "train on 3 processes or fewer"),
        (1, 30, 1, 4, 1, "train on 1 process or fewer"),
        (20, 21, 8, 2, 2, "set gradient_accumulation_steps to 1 or less"),
        (16, 21, 8, 2, 1, None),
        (21, 21, 16, 2, 1, None),
    ],
)
def test_advice_names_what_fits(smallest, n, batch, world, accumulation, advice):
    found = unfit(smallest, n, *arguments(batch, world, accumulation))
    assert (found is None) == (advice is None)
    assert advice is None or (advice in found and f"pruning keeps {smallest} examples" in found)
