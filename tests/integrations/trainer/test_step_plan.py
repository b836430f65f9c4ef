"""The number of batches of a chunk is planned once, and every rank is dealt as many."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

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
        (10, 21, 8, 2, 1, "Let each process read 5 or fewer examples in a batch"),
        (3, 30, 1, 4, 1, "Train on 3 processes or fewer"),
        (1, 30, 1, 4, 1, "Train on 1 process or fewer"),
        (20, 21, 8, 2, 2, "Set gradient_accumulation_steps to 1 or less"),
        (16, 21, 8, 2, 1, None),
        (21, 21, 16, 2, 1, None),
    ],
)
def test_advice_names_what_fits(smallest, n, batch, world, accumulation, advice):
    found = unfit(smallest, n, *arguments(batch, world, accumulation))
    assert (found is None) == (advice is None)
    assert advice is None or (advice in found and f"pruning keeps {smallest} examples" in found)
