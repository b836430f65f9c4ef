"""Two Gloo processes under torchrun: what one process alone would do, dealt out."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from helpers import toy_lightning as toy
from helpers import under_torchrun
from lightning_worker import SECONDS

import fastprune

pytestmark = pytest.mark.skipif(
    not (dist.is_available() and dist.is_gloo_available()), reason="torch without the Gloo backend"
)
WORKER = Path(__file__).with_name("lightning_worker.py")
WORKERS = {"loading": {"num_workers": 2}}
RUNS = {
    "pass": {"method": "el2n"},
    "free": {"method": "el2n-free", "accumulate_grad_batches": 2, **WORKERS},
    "own dealing": {"method": "el2n-free", "use_distributed_sampler": False, "loading": {"drop_last": True}},
    "short pass": {"method": "el2n", "max_epochs": 2},
    "short free": {"method": "el2n-free", "max_epochs": 2},
}
# Inside the warm-up, inside a cycle, and after the last batch of a cycle.
RESUMED = {name: (run, step) for run, steps in (("pass", (3, 9, 11)), ("free", (2, 5, 6))) for step in steps
           for name in [f"{run} from {step}"]}  # fmt: skip


@pytest.fixture(scope="module")
def saw(tmp_path_factory):
    """What both ranks saw, by run; all runs in one start of the processes, which takes longest."""
    folder = tmp_path_factory.mktemp("ddp")
    jobs = [{"name": name, **settings} for name, settings in RUNS.items()]
    jobs += [
        {"name": name, "checkpoint": f"{run}-step={step}.ckpt", **RUNS[run]} for name, (run, step) in RESUMED.items()
    ]
    (folder / "jobs").write_text("\n".join(map(json.dumps, jobs)))
    under_torchrun.run(WORKER, 2, str(folder), seconds=SECONDS)
    return {
        job["name"]: [torch.load(folder / f"{job['name']}-{rank}.pt", weights_only=True) for rank in range(2)]
        for job in jobs
    }


def flat(batches):
    return [example for batch in batches for example in batch]


# 25 examples a rank in batches of 4, then 13.
@pytest.mark.parametrize(
    "name, steps", [("pass", 7 + 3 * 4), ("free", 4 + 3 * 2), ("own dealing", 6 + 3 * 3)], ids=list(RUNS)[:3]
)
def test_two_processes_share_an_epoch_and_agree(saw, name, steps):
    ranks = saw[name]
    dropped = RUNS[name].get("loading", {}).get("drop_last", False)
    kept = ranks[0]["kept"]
    assert ranks[1]["kept"] == kept
    assert len({tuple(kept[e]) for e in (1, 2, 3)}) > 1
    for epoch in range(4):
        shares = [flat(rank["batches"][epoch]) for rank in ranks]
        assert len(shares[0]) == len(shares[1])
        seen = Counter(shares[0] + shares[1])
        assert set(seen) <= set(kept[epoch])
        if not dropped:
            assert set(seen) == set(kept[epoch])
            # At most one repeat makes the shares even.
            assert seen.total() - len(seen) == len(kept[epoch]) % 2
    order = list(toy.Shuffled())
    for number, rank in enumerate(ranks):
        assert flat(rank["batches"][0]) == order[number::2][: len(flat(rank["batches"][0]))]
        assert rank["steps"] == steps == rank["estimated"][0]
        assert rank["rate"] == pytest.approx(0.0, abs=1e-12)
        assert [epoch for epoch, _ in rank["validated"]] == [0, 1, 2, 3]
    assert torch.equal(ranks[0]["weights"], ranks[1]["weights"])
    assert torch.equal(ranks[0]["scores"], ranks[1]["scores"])
    assert torch.equal(ranks[0]["visits"], ranks[1]["visits"])


def test_scores_of_all_processes_are_everyones(saw):
    """Every example's score is the one that the rank which trained on it last computed."""
    ranks = saw["short free"]
    last = {**ranks[0]["own"], **ranks[1]["own"]}
    trained = set(flat(ranks[0]["batches"][1]) + flat(ranks[1]["batches"][1]))
    for rank in ranks:
        last.update({i: s for i, s in rank["own"].items() if i in flat(rank["batches"][1])})
    # The repeat that makes the shares even counts once, as the first rank's.
    repeated = set(flat(ranks[0]["batches"][1])) & set(flat(ranks[1]["batches"][1]))
    scores = ranks[0]["scores"].tolist()
    assert len(repeated) == 1
    once = [i for i in range(toy.N) if i not in repeated]
    assert [scores[i] for i in once] == [last[i] for i in once]
    assert ranks[0]["visits"].tolist() == [1 + (i in trained) for i in range(toy.N)]


def test_the_scoring_pass_of_all_processes_is_that_of_one(saw):
    """The scores of the model as it was at the end of the epoch, by hand."""
    found = saw["short pass"][0]
    net = toy.Net()
    torch.nn.utils.vector_to_parameters(found["at_end"][0], net.parameters())
    x, y = toy.examples()
    with torch.no_grad():
        error = net(x).double().softmax(-1) - torch.nn.functional.one_hot(y, 3)
    torch.testing.assert_close(found["scores"].double(), error.norm(dim=-1), rtol=1e-5, atol=0)
    assert found["kept"][1] == fastprune.select_topk(error.norm(dim=-1), toy.N // 2).tolist()


@pytest.mark.parametrize("name", RESUMED)
def test_resuming_inside_an_epoch_and_at_its_end(saw, name):
    for one, other in zip(saw[RESUMED[name][0]], saw[name], strict=True):
        assert other["steps"] == one["steps"]
        assert torch.equal(other["weights"], one["weights"])
        assert torch.equal(other["scores"], one["scores"])
        assert torch.equal(other["visits"], one["visits"])
        for epoch, batches in other["batches"].items():
            assert other["kept"][epoch] == one["kept"][epoch]
            assert batches == one["batches"][epoch][-len(batches) :]
