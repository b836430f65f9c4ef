"""`fully_shard` and tensor parallel on two Gloo processes, and runs that go on with another number of processes.

Ranks and one process take the same steps, but for rounding. So their scores are close and not equal. The kept sets are
equal all the same, because no example is so near the threshold. `test_no_example_is_near_the_threshold` holds that.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fsdp_worker
import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from fsdp_worker import STOP
from helpers import under_torchrun
from language_loop import EPOCHS, WORDS, Loop, N

import fastprune

pytest.importorskip("accelerate")
pytestmark = pytest.mark.skipif(
    not (dist.is_available() and dist.is_gloo_available()), reason="torch without the Gloo backend"
)

LOOPS = tuple(kind.__name__ for kind in fsdp_worker.LOOPS)
HALF = N // 2
CLOSE = dict(rtol=1e-4, atol=1e-5)
Outcome = dict[str, Any]


class Runs:
    """The run of one process, and what two ranks left behind."""

    def __init__(self, folder: Path) -> None:
        loop = Loop()
        state = loop.run(save_after=STOP)
        torch.save(state, folder / "one.pt")
        self.one = loop.outcome()
        under_torchrun.run(Path(fsdp_worker.__file__), 2, str(folder))
        self.folder = folder

    def __call__(self, case: str) -> list[Outcome]:
        return torch.load(self.folder / f"{case}.result", weights_only=False)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tmp_path_factory.mktemp("fsdp"))


def test_no_example_is_near_the_threshold(runs: Runs) -> None:
    for epoch in range(1, EPOCHS):
        scores = runs.one["latest"][epoch].sort(descending=True).values
        difference = max(float((rank["latest"][epoch] - runs.one["latest"][epoch]).abs().max())
                         for name in LOOPS for rank in runs(name))  # fmt: skip
        assert float(scores[HALF - 1] - scores[HALF]) > 10 * difference, epoch


@pytest.mark.parametrize("name", LOOPS)
def test_two_ranks_keep_what_one_process_keeps(runs: Runs, name: str) -> None:
    kept = runs.one["kept"]
    assert len({tuple(kept[epoch]) for epoch in range(1, EPOCHS)}) > 1, "the kept set changes"
    for rank in runs(name):
        assert rank["kept"] == kept
        for epoch in range(EPOCHS):
            torch.testing.assert_close(rank["latest"][epoch], runs.one["latest"][epoch], **CLOSE)
        torch.testing.assert_close(rank["weights"], runs.one["weights"], **CLOSE)
    reads_the_kept_sets([rank["read"] for rank in shares(runs(name), name)], kept)


def shares(ranks: list[Outcome], name: str) -> list[Outcome]:
    """The ranks that read different examples. Those of a tensor-parallel model read the same."""
    if name == "TensorParallel":
        assert ranks[0]["read"] == ranks[1]["read"]
        return ranks[:1]
    return ranks


def reads_the_kept_sets(read: list[dict[int, list[int]]], kept: dict[int, list[int]]) -> None:
    """Every example once, on one of the ranks."""
    for epoch in read[0]:
        assert sorted(i for rank in read for i in rank[epoch]) == kept[epoch]


def test_two_ranks_go_on_where_one_process_stopped(runs: Runs) -> None:
    ranks = runs("goes_on")
    for rank in ranks:
        assert rank["kept"] == {epoch: runs.one["kept"][epoch] for epoch in range(STOP + 1, EPOCHS)}
        torch.testing.assert_close(rank["weights"], runs.one["weights"], **CLOSE)
        assert torch.equal(rank["latest"][STOP + 1], runs.one["latest"][STOP + 1]), "no score is lost"
    reads_the_kept_sets([rank["read"] for rank in shares(ranks, LOOPS[0])], runs.one["kept"])


@pytest.mark.parametrize("name", LOOPS)
def test_one_process_goes_on_where_two_ranks_stopped(runs: Runs, name: str) -> None:
    ranks = runs(name)
    loop = Loop(ranks[1]["saved"])
    loop.run()
    one = loop.outcome()
    assert one["kept"] == {epoch: ranks[0]["kept"][epoch] for epoch in range(STOP + 1, EPOCHS)}
    assert torch.equal(one["latest"][STOP + 1], ranks[0]["latest"][STOP + 1]), "no score is lost"
    torch.testing.assert_close(one["weights"], ranks[0]["weights"], **CLOSE)
    reads_the_kept_sets([one["read"]], one["kept"])


def test_the_gradient_of_a_dtensor_head_is_the_mean_of_the_ranks(runs: Runs) -> None:
    ranks = runs("gives_gradients")
    for reduction in ("mean", "none"):
        means = [torch.zeros(()), torch.zeros(())]
        for rank in ranks:
            weight, bias = rank["weight"].requires_grad_(), rank["bias"].requires_grad_()
            states, tokens = rank["states"].requires_grad_(), rank["tokens"]
            logits = F.linear(states, weight, bias)[:, :-1].reshape(-1, WORDS)
            loss = F.cross_entropy(logits, tokens[:, 1:].reshape(-1), reduction=reduction, label_smoothing=0.1)
            rows = loss.numel() if reduction == "mean" else tokens.numel()  # the last token's loss is 0
            found = torch.autograd.grad(loss.sum() / rows, (weight, bias, states))
            means = [mean + gradient / 2 for mean, gradient in zip(means, found[:2], strict=True)]
            torch.testing.assert_close(rank[reduction][2], found[2])
        for rank in ranks:
            torch.testing.assert_close(rank[reduction][:2], means)


def test_a_dtensor_head_in_mixed_precision(runs: Runs) -> None:
    for rank in runs("gives_gradients"):
        torch.testing.assert_close(rank["mixed"], rank["mean"], rtol=0.05, atol=2e-3)


def test_scores_of_a_dtensor_head_are_those_of_a_plain_one(runs: Runs) -> None:
    for rank in runs("gives_gradients"):
        logits = F.linear(rank["states"], rank["weight"], rank["bias"])
        for metric, scores in fastprune.score(logits, rank["tokens"], shift=1).items():
            torch.testing.assert_close(rank["scores"][metric], scores)


def test_a_task_scores_logits_that_are_sharded_over_classes(runs: Runs) -> None:
    tokens = fsdp_worker.texts()
    for rank in runs("scores_outputs"):
        wanted = fastprune.Task(fastprune.Head(kind="causal_lm")).scores(
            {"logits": rank["logits"]}, {"labels": tokens}, ("el2n", "loss")
        )
        torch.testing.assert_close(rank["scores"], wanted)


@pytest.mark.skipif(len(LOOPS) == 1, reason="fully_shard of this torch needs a GPU")
def test_a_scoring_pass_of_a_trainer_over_a_sharded_language_model(runs: Runs) -> None:
    for rank in runs("scores_in_a_trainer"):
        assert len(rank["whole"].unique()) == len(rank["index"])
        for name in ("head_in_root", "head_alone"):
            torch.testing.assert_close(rank[name], rank["whole"], **CLOSE)
