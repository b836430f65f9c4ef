"""The loop trains as a plain one does, counts what it computes, and resumes exactly."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from helpers.tiny_runs import tiny_run, training

from benchmarks.evidence import loop
from benchmarks.evidence.encoder import make_model
from benchmarks.evidence.model import forward, joint_loss, lr_factor
from benchmarks.evidence.spec import examples_of
from fastprune.app.finetune.encode import group_by_length

pytestmark = pytest.mark.usefixtures("own_random_state")


def weights(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()]).clone()


def plain_training(prepared: Any, encoder: Any, epochs: int, batch_size: int, lr: float) -> torch.nn.Module:
    """The same training written down without a pruner."""
    model = make_model(encoder[0], (0, 1), prepared, seed=0)
    train = prepared.splits["train"]
    n = len(train)
    arrange = group_by_length(train.lengths, batch_size)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, fused=True)
    total = epochs * -(-n // batch_size)
    step = 0
    for epoch in range(epochs):
        model.train()
        generator = torch.Generator().manual_seed(epoch)
        order = arrange(torch.randperm(n, generator=generator), generator)
        for index in order.split(batch_size):
            logits, batch = forward(model, train.batch(index), bf16=False)
            joint_loss(logits, batch).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.param_groups[0]["lr"] = lr * lr_factor(step, total)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            step += 1
    return model


@pytest.mark.parametrize("method", ["el2n", "el2n-free", "full"])
def test_keeping_everything_trains_as_without_a_pruner(method, prepared, encoder):
    run = tiny_run(method, keep=None if method == "full" else "1.0")
    under_test = training(run, prepared, encoder)
    under_test.finish()
    plain = plain_training(prepared, encoder, run.epochs, run.batch_size, run.lr)
    assert torch.equal(weights(under_test.model), weights(plain))


@pytest.mark.parametrize("method", ["el2n", "el2n-free", "rs2"])
def test_token_counts_are_those_of_the_attention_masks(method, prepared, encoder, monkeypatch):
    masks: dict[bool, list[torch.Tensor]] = {True: [], False: []}
    under_test = training(tiny_run(method, budget=0.6), prepared, encoder)

    def watched(module: Any, inputs: Any) -> None:
        masks[module.training].append(inputs[0]["attention_mask"])

    under_test.model.register_forward_pre_hook(watched)
    # Evaluation is not counted.
    monkeypatch.setattr(loop, "evaluate", lambda *arguments, **options: {"exact_match": 0.0})
    outcome = under_test.finish()
    for work, seen in ((outcome.counts.train, masks[True]), (outcome.counts.score, masks[False])):
        assert work.batches == len(seen) == sum(batches for batches, _ in work.widths.values())
        assert work.examples == sum(len(mask) for mask in seen) == sum(rows for _, rows in work.widths.values())
        assert work.tokens == sum(int(mask.sum()) for mask in seen)
        assert work.padded_tokens == sum(mask.numel() for mask in seen)
        assert work.padded_tokens == sum(width * rows for width, (_, rows) in work.widths.items())
    assert (outcome.counts.score.examples > 0) == (method == "el2n")


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("el2n", {"budget": 0.6, "smoothing": "ema"}),
        ("el2n-free", {"budget": 0.6}),
        ("full", {"budget": 0.6}),
        ("rs2", {"budget": 0.5, "warmup_epochs": 0, "schedule": "constant"}),
    ],
)
def test_a_run_that_is_taken_up_again_ends_with_the_same_weights(method, arguments, prepared, encoder):
    run = tiny_run(method, **arguments)
    states: list[dict[str, Any]] = []
    whole = training(run, prepared, encoder)
    outcome = whole.finish(save=lambda t: states.append(copy.deepcopy(t.state_dict())))
    assert states
    for state in states:
        torch.manual_seed(99)  # what another process would begin with
        rest = training(run, prepared, encoder)
        rest.load_state_dict(state)
        again = rest.finish()
        assert torch.equal(weights(rest.model), weights(whole.model))
        assert again.epochs == outcome.epochs
        assert again.counts.train == outcome.counts.train and again.counts.score == outcome.counts.score


@pytest.mark.parametrize(
    ("method", "arguments"),
    [("full", {}), ("full", {"budget": 0.5}), ("rs2", {"budget": 0.5, "warmup_epochs": 0}), ("el2n", {"budget": 0.6})],
)
def test_a_budget_is_a_share_of_what_full_reads(method, arguments, prepared, encoder):
    run = tiny_run(method, epochs=4, **arguments)
    outcome = training(run, prepared, encoder).finish()
    n = len(prepared.splits["train"])
    wanted = 4 * n * (run.budget or 1.0)
    assert abs(outcome.counts.train.examples - wanted) <= run.batch_size
    assert abs(examples_of(run, n) - wanted) <= 4


def test_a_short_run_at_a_constant_rate_is_a_longer_one_cut_off(prepared, encoder):
    short = training(tiny_run("full", schedule="constant", epochs=4, budget=0.5), prepared, encoder)
    short.finish()
    long = training(tiny_run("full", schedule="constant", epochs=4), prepared, encoder)
    at_half: list[torch.Tensor] = []
    long.finish(save=lambda t: at_half.append(weights(t.model)))
    assert torch.equal(weights(short.model), at_half[1])


def test_a_run_that_diverges_says_so(prepared, encoder):
    under_test = training(tiny_run("full", lr=1e38), prepared, encoder)
    with pytest.raises(FloatingPointError, match="mean loss of epoch"):
        under_test.finish()


def test_the_saver_waits_for_its_seconds(prepared, encoder):
    saved: list[dict[str, Any]] = []
    training(tiny_run("full"), prepared, encoder).finish(save=loop.Saver(saved.append, seconds=1e9))
    assert not saved
    training(tiny_run("full"), prepared, encoder).finish(save=loop.Saver(saved.append, seconds=0.0))
    assert len(saved) == 2  # not after the last epoch
