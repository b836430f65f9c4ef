"""Where the labels of a batch are when no task says so."""

from __future__ import annotations

import torch

from fastprune.integrations.lightning.scores import task_of_batch


def test_the_ends_of_an_answer_are_found_in_a_mapping():
    """Under the names that Transformers gives them; ``labels`` come first where there are any."""
    batch = {"start_positions": torch.tensor([1, 7]), "end_positions": torch.tensor([2, 7])}
    outputs = {"start_logits": torch.zeros(2, 4), "end_logits": torch.zeros(2, 4)}
    found = task_of_batch(batch).scores(outputs, batch, ["loss"])["loss"]
    torch.testing.assert_close(found, torch.tensor([4.0, 1.0]).log())
    labelled = {**batch, "labels": torch.tensor([0, 1])}
    assert task_of_batch(labelled).scores({"logits": torch.zeros(2, 3)}, labelled, ["loss"])["loss"].shape == (2,)
