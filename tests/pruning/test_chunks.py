"""Chunks: whole steps, no more of them than in a plain loop, and no example twice in a batch."""

from __future__ import annotations

import doctest

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fastprune.pruning import LinearRamp, chunks, crossing
from fastprune.pruning.chunks import MORE_STEPS, TOP_UP_TOLERANCE, chunk_length, chunk_pieces, top_up
from fastprune.pruning.crossing import first_needed, without
from fastprune.pruning.sampler import PruningSampler
from fastprune.pruning.schedule import Phase, Schedule, budget

sizes = st.integers(50, 3000)
epochs = st.integers(1, 12)
schedules = st.builds(
    Schedule,
    keep_fraction=st.one_of(
        st.floats(0.01, 1.0), st.builds(LinearRamp, st.floats(0.01, 1.0), st.floats(0.01, 1.0)), st.just(0.5)
    ),
    warmup_epochs=st.integers(0, 3),
    cycle_epochs=st.integers(1, 4),
    final_share=st.sampled_from([0.0, 0.125, 0.5]),
)
batches = st.one_of(st.integers(1, 64), st.sampled_from([8, 16, 32]))
worlds = st.sampled_from([1, 2, 4, 8])
accumulations = st.integers(1, 8)


def plain_steps(phases: list[Phase], step: int) -> int:
    """Steps of a plain loop, whose last step of an epoch may be short."""
    return sum(p.epochs * -(-p.size // step) for p in phases)


@pytest.mark.parametrize("module", [chunks, crossing])
def test_examples_in_the_docstrings(module):
    assert doctest.testmod(module, extraglobs={"torch": torch}).failed == 0


@pytest.mark.parametrize(
    ("n", "keep", "run", "step", "lengths"),
    [
        (117, 0.5, 4, 32, [32] * 10),  # was 146 steps of 2
        (103, 0.3, 4, 32, [32] * 4 + [31] * 3),  # 31 < 32; was 196 steps of 1
        (21, 0.5, 4, 16, [16] * 2 + [10] * 3),  # two ranks, 8 each; was 26 steps of 2
        (100, 0.5, 3, 5, [50] * 4),
        (50, 1.0, 3, 8, [50] * 3),
        (4478, 0.5, 8, 32, [1120] * 18),
        (10_000, 0.3, 3, 100, [1000] * 16),
        (50, 0.5, 3, 64, [50] + [25] * 2),
        (13_084, 0.5, 10, 32, [1312] * 55),  # 2,255 steps, 1 more than in a plain loop: else one-step chunks
    ],
)
def test_the_chunks_of_some_runs(n, keep, run, step, lengths):
    assert [len(piece) for piece in chunk_pieces(Schedule(keep).phases(n, run), step)] == lengths


@settings(deadline=None)
@given(schedules, sizes, epochs, batches, worlds, accumulations)
@example(Schedule(0.5), 117, 4, 32, 1, 1)
@example(Schedule(0.3, cycle_epochs=2), 1000, 7, 4, 1, 8)
def test_whole_steps_and_no_more_than_in_a_plain_loop(schedule, n, run, size, world, accumulation):
    phases = schedule.phases(n, run)
    smallest = min(p.size for p in phases)
    world = min(world, smallest)
    batch = min(size, smallest // world) * world
    step = batch * accumulation
    pieces = chunk_pieces(phases, step, batch)
    (length,) = {len(piece) for piece in pieces}
    assert length == chunk_length(phases, step, batch)
    plain = plain_steps(phases, step)
    assert len(pieces) * -(-length // step) <= plain + int(MORE_STEPS * plain)
    if len({p.size for p in phases}) == 1:
        assert length == phases[0].size and top_up(phases, step, batch) == 0
        return
    assert length % step == 0
    excess = [-p.length % length for p in phases]
    assert 0 <= top_up(phases, step, batch) == sum(excess)
    assert sum(excess) <= TOP_UP_TOLERANCE * budget(phases) or max(excess) < step
    for phase in phases:
        mine = [piece.start for piece in pieces if piece.phase == phase]
        assert mine == list(range(0, phase.length, length))


@settings(deadline=None)
@given(st.floats(0.01, 0.9), st.integers(1, 3), st.integers(1, 4), sizes, epochs, st.integers(1, 500), accumulations)
@example(0.3, 1, 1, 103, 3, 1, 1)
def test_an_epoch_smaller_than_a_batch_is_one_short_step(keep, warmup, cycle, n, later, more, accumulation):
    phases = Schedule(keep, warmup, cycle).phases(n, warmup + later)
    batch = min(p.size for p in phases) + more
    pieces = chunk_pieces(phases, batch * accumulation, batch)
    for phase in phases:
        lengths = [len(piece) for piece in pieces if piece.phase == phase]
        short = phase.size < batch
        assert lengths == ([phase.size] * phase.epochs if short else [batch] * -(-phase.length // batch))
    if accumulation == 1:
        assert len(pieces) <= plain_steps(phases, batch)


def test_a_million_examples_are_planned_at_once():
    phases = Schedule(0.3, cycle_epochs=3).phases(1_000_000, 10)
    length = chunk_length(phases, 8)
    assert length % 8 == 0 and top_up(phases, 8) <= TOP_UP_TOLERANCE * budget(phases)


# --- where a batch crosses into the next permutation -----------------------------------------------


@st.composite
def crossings(draw):
    held = draw(st.integers(1, 20))
    count = draw(st.integers(1, 20))
    order = draw(st.permutations(range(draw(st.integers(held + count, held + count + 10)))))
    return torch.tensor(draw(st.permutations(order))[:held]), torch.tensor(order), count


@given(crossings())
def test_the_next_permutation_begins_with_other_examples(case):
    held, order, count = case
    found = without(held, order, count)
    assert sorted(found.tolist()) == sorted(order.tolist())
    assert not torch.isin(found[:count], held).any()
    assert torch.equal(found[len(held) + count :], order[len(held) + count :])
    if not torch.isin(order[:count], held).any():
        assert torch.equal(found, order)


@given(st.integers(0, 40), st.integers(1, 200), st.integers(1, 200))
def test_permutations_are_made_from_one_that_depends_on_no_other(number, size, distinct):
    distinct = min(distinct, size)
    first = first_needed(number, size, distinct)
    assert 0 <= first <= number and number - first < distinct
    assert first * size % distinct == 0 or (first == number - 1 and size >= 2 * distinct - 1)


def read(schedule, n, run, step, batch):
    """The sampler's pieces, with a kept set of its own for each phase."""
    sampler = PruningSampler(n, seed=3)
    sampler.progress.plan(chunk_pieces(schedule.phases(n, run), step, batch))
    for number, piece in enumerate(sampler.pieces):
        if piece.phase.index and piece.start == 0:
            generator = torch.Generator().manual_seed(piece.phase.index)
            sampler.keep(torch.randperm(n, generator=generator)[: piece.phase.size].sort().values)
            sampler.progress.chosen_for = piece.phase.index
        sampler.progress.move_to(number, None)
        yield piece, sampler.piece_indices()


@settings(deadline=None, max_examples=40)
@given(schedules, st.integers(50, 400), st.integers(1, 6), st.integers(1, 32), worlds, accumulations)
@example(Schedule(0.5, cycle_epochs=4), 60, 6, 7, 4, 1)  # epochs of 30 in batches of 28
@example(Schedule(0.5, cycle_epochs=4), 60, 6, 7, 2, 3)  # of 30 in batches of 14 and steps of 42
def test_no_example_comes_twice_in_a_batch_and_every_epoch_is_whole(schedule, n, run, size, world, accumulation):
    batch, streams = size * world, {}
    step = batch * accumulation
    for piece, indices in read(schedule, n, run, step, batch):
        assert len(indices) == len(piece)
        unit = step if piece.phase.size >= step else batch
        for block in indices.split(unit):
            assert len(block.unique()) == len(block)
        streams[piece.phase] = torch.cat([streams.get(piece.phase, indices[:0]), indices])
    for phase, stream in streams.items():
        passes = stream[: phase.length].view(phase.epochs, phase.size).sort(dim=1).values
        assert (passes == passes[0]).all() and len(passes[0].unique()) == phase.size


@pytest.mark.parametrize(("size", "step"), [(5, 32), (25, 32), (11, 23)])
def test_a_chunk_reads_the_same_whatever_was_read_before(size, step):
    """A resumed run makes the permutations of its chunk anew."""
    schedule, n = Schedule(0.4, cycle_epochs=5), 80
    whole = [(piece, indices) for piece, indices in read(schedule, n, 11, step, size)]
    for number, (piece, indices) in enumerate(whole):
        sampler = PruningSampler(n, seed=3)
        sampler.progress.plan([p for p, _ in whole])
        kept = torch.cat([i for p, i in whole if p.phase == piece.phase]).unique()
        sampler.keep(kept if piece.phase.index else None)
        sampler.progress.chosen_for = piece.phase.index
        sampler.progress.move_to(number, None)
        assert torch.equal(sampler.piece_indices(), indices)
