"""Scores folded from tiles of classes are those of whole rows."""

from __future__ import annotations

import pytest
import torch

from fastprune.integrations.trainer.tile_fold import Tile, TileScores
from fastprune.scores.definition import row_scores
from fastprune.scores.metrics import KERNEL_METRICS


def folded(logits, targets, width, metrics=KERNEL_METRICS, rows=None, **transform):
    scores = TileScores(metrics, logits.shape[1])
    rows = rows or len(logits)
    for i in range(0, len(logits), rows):
        for start in range(0, logits.shape[1], width):
            part = logits[i : i + rows, start : start + width]
            scores.add(Tile(part, targets[i : i + rows], start, **transform))
    return scores.rows()


def assert_same(found, logits, targets):
    wanted = row_scores(logits, targets, KERNEL_METRICS, -100, 0)
    for name in KERNEL_METRICS:
        # 4e-6 is the contract of el2n and loss.
        bound = 4e-6 if name in ("el2n", "loss") else 2e-5
        torch.testing.assert_close(found[name], wanted[name], rtol=bound, atol=1e-30, equal_nan=True, msg=name)


@pytest.mark.parametrize("width", [1, 7, 64, 100, 1000])
@pytest.mark.parametrize("scale", [0.0, 0.1, 3.0, 20.0])
def test_tiles_give_the_scores_of_whole_rows(width, scale):
    generator = torch.Generator().manual_seed(1)
    logits = scale * torch.randn(40, 100, generator=generator)
    targets = torch.randint(0, 100, (40,), generator=generator)
    assert_same(folded(logits, targets, width, rows=16), logits, targets)


@pytest.mark.parametrize("lead", [5.0, 12.0, 17.0, 25.0])
def test_saturated_rows_keep_their_digits(lead):
    """Where the label leads, el2n goes down to 1e-11, and where another class leads, the loss is its lead."""
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(32, 90, generator=generator)
    targets = torch.randint(0, 90, (32,), generator=generator)
    leading = targets.clone()
    leading[16:] = (targets[16:] + 37) % 90
    logits[torch.arange(32), leading] += lead
    found = folded(logits, targets, 32)
    assert_same(found, logits, targets)
    assert found["el2n"][:16].max() < 90 * 2.72**4 * 2.72**-lead


def test_classes_that_are_left_out_and_rows_without_numbers():
    logits = torch.randn(6, 10, generator=torch.Generator().manual_seed(3))
    targets = torch.tensor([1, 9, 4, 4, 0, 5])
    logits[0, :5] = -torch.inf  # the label, too
    logits[1, :9] = -torch.inf  # all but the label
    logits[2, 7] = torch.nan
    logits[3, 2] = torch.inf
    logits[4] = -torch.inf
    assert_same(folded(logits, targets, 4), logits, targets)


@pytest.mark.parametrize("softcap", [None, 4.0])
def test_the_transform_of_the_head_is_applied(softcap):
    generator = torch.Generator().manual_seed(4)
    product, targets = 5 * torch.randn(8, 60, generator=generator), torch.arange(8)
    z = 0.5 * product.double()
    z = (z if softcap is None else softcap * torch.tanh(z / softcap)) * 2.0
    for width in (25, 60):
        found = folded(product, targets, width, logit_scale=0.5, softcap=softcap, inverse_temperature=2.0)
        wanted = row_scores(z, targets, KERNEL_METRICS, -100, 0)
        for name in KERNEL_METRICS:
            torch.testing.assert_close(found[name], wanted[name], rtol=2e-5, atol=1e-6)


def test_tiles_of_bf16_are_read_as_they_are():
    logits = torch.randn(9, 70, generator=torch.Generator().manual_seed(5)).bfloat16()
    targets = torch.arange(9) * 7
    assert_same(folded(logits, targets, 33), logits.float(), targets)


def test_a_metric_of_whole_logits_is_refused():
    with pytest.raises(ValueError, match="grand cannot be computed from tiles of logits; choose from el2n"):
        TileScores(["grand"], 10)
