"""The sums of rows whose logits come in tiles: C++, the specification, and the merge, against the row scores."""

from __future__ import annotations

import os

import pytest
import row_score_cases as cases
import tile_cases
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fastprune.scores import cpu, tile_sums
from fastprune.scores.definition import METRICS
from fastprune.scores.tile_sums import Wanted

EXAMPLES = int(os.environ.get("FASTPRUNE_FUZZ", "40"))
LOSS_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@pytest.mark.parametrize("classes", [c for c in cases.CLASSES if c < 100_000])
@pytest.mark.parametrize("dtype", cases.DTYPES)
def test_scores_of_tiles(classes: int, dtype: torch.dtype) -> None:
    cases.check_accuracy(tile_cases.by_tiles(tile_sums.add_tile, tile_sums.close_sums), classes, dtype)


@pytest.mark.parametrize("classes", [1, 7, 1000])
def test_merged_parts_of_the_specification(classes: int) -> None:
    cases.check_accuracy(tile_cases.by_parts, classes, torch.float32)


@pytest.mark.parametrize("dtype", LOSS_DTYPES)
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_losses_and_gradients(dtype: torch.dtype, smoothing: float) -> None:
    for classes in (2, 33, 3000):
        tile_cases.check_losses_and_gradients(tile_sums, classes, dtype, smoothing)


@pytest.mark.parametrize("dtype", cases.DTYPES)
def test_whole_blocks_give_the_bits_of_one_read(dtype: torch.dtype) -> None:
    logits, labels = cases.rows(5000, dtype)
    wanted = Wanted(METRICS)
    expected = cpu.row_scores(logits, labels, METRICS, -100, 0)
    closed = tile_cases.closed_of(logits, labels, [1024, 2048, 1928], wanted, tile_sums.add_tile, tile_sums.close_sums)
    for name in METRICS:
        assert torch.equal(closed.scores[name], expected[name]), name


def test_bits_do_not_depend_on_threads_or_on_the_other_rows() -> None:
    logits, labels = cases.rows(3000, torch.bfloat16)
    logits, labels = logits.repeat(40, 1), labels.repeat(40)
    run = tile_cases.by_tiles(tile_sums.add_tile, tile_sums.close_sums)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(run(logits, labels, METRICS, -100, 0))
    finally:
        torch.set_num_threads(before)
    alone = run(logits[:1], labels[:1], METRICS, -100, 0)
    for name in METRICS:
        assert all(torch.equal(result[name], results[0][name]) for result in results)
        assert torch.equal(results[0][name][:1], alone[name])


@settings(max_examples=EXAMPLES, deadline=None)
@given(data=st.data())
def test_random_tiles(data: st.DataObject) -> None:
    """Any cut into tiles, with masked classes and NaN, ends where the definition does."""
    draw = data.draw
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    sizes = draw(st.lists(st.one_of(st.integers(1, 40), st.integers(1000, 1100)), min_size=1, max_size=5))
    rows, classes = draw(st.integers(1, 40)), sum(sizes)
    dtype = draw(st.sampled_from(cases.DTYPES))
    logits = (torch.randn(rows, classes, generator=generator) * draw(st.sampled_from([0.0, 1.0, 5.0, 40.0]))).to(dtype)
    for value in draw(st.lists(st.sampled_from([float("nan"), float("inf"), *[-float("inf")] * 4]), max_size=3)):
        logits.view(-1)[torch.randint(logits.numel(), (1 + logits.numel() // 20,), generator=generator)] = value
    labels = torch.randint(classes, (rows,), generator=generator)
    tile_cases.check_against_definition(logits, labels, sizes, tile_sums.add_tile, tile_sums.close_sums)
