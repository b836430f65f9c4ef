"""Pruning in plain DistributedDataParallel loops: 1, 2 and 4 Gloo processes under torchrun.

Each number of processes is started once, and runs all of its cases. A test looks at the result of one case.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pruning_worker
import pytest
import torch
import torch.distributed as dist
from helpers import toy, under_torchrun
from helpers.one_process import replay, same
from pruning_worker import EPOCHS, OPTIONS, STOPS, Loop, observed, steps_before
from torch.utils.data import DataLoader

import fastprune
from fastprune.pruning import method_names

pytestmark = pytest.mark.skipif(
    not (dist.is_available() and dist.is_gloo_available()), reason="torch without the Gloo backend"
)

CUTS = "auto(learned_at=0.01, pool=0.4)"
"""``auto`` with a guard that these few steps open, so that it draws from a part of the examples."""

METHODS = {
    1: ["el2n", "infobatch"],
    2: [*method_names(), CUTS],
    4: ["el2n", "infobatch", "tdds"],
}
WORLDS = sorted(METHODS)
Outcome = dict[str, Any]


class Outcomes:
    """The results of the ranks of each world size, one for each rank."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started: dict[int, Path] = {}

    def __call__(self, ranks: int, case: str) -> list[Outcome]:
        if ranks not in self.started:
            folder = self.started[ranks] = self.folder / str(ranks)
            folder.mkdir()
            methods = [toy.method_text(m, folder) for m in METHODS[ranks]]
            under_torchrun.run(Path(pruning_worker.__file__), ranks, str(folder), *methods)
        return torch.load(self.started[ranks] / f"{case}.result", weights_only=False)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    return Outcomes(tmp_path_factory.mktemp("ranks"))


RUNS = [(ranks, method) for ranks in WORLDS for method in METHODS[ranks]]


@pytest.mark.parametrize(("ranks", "method"), RUNS)
def test_all_ranks_end_alike(outcomes: Outcomes, ranks: int, method: str) -> None:
    runs = [rank["whole"] for rank in outcomes(ranks, method)]
    for other in runs[1:]:
        assert torch.equal(runs[0]["weights"], other["weights"])
        assert same(runs[0]["history"], other["history"])
        assert runs[0]["kept"] == other["kept"]
        for timed in ("select_seconds", "score_seconds"):
            other["state"]["cycle"][timed] = runs[0]["state"]["cycle"][timed]
        assert same(runs[0]["state"], other["state"]), "any rank may save"


@pytest.mark.parametrize(("ranks", "method"), RUNS)
def test_the_ranks_together_read_the_kept_set(outcomes: Outcomes, ranks: int, method: str) -> None:
    runs = [rank["whole"] for rank in outcomes(ranks, method)]
    pruner = fastprune.DynamicPruner(toy.N, method=pruner_method(method, outcomes, ranks), **OPTIONS)
    sizes = [phase.size for phase in pruner.driver.phases(EPOCHS) for _ in range(phase.epochs)]
    for epoch, size in enumerate(sizes):
        kept = runs[0]["kept"][epoch]
        shares = [[i for index, _ in run["steps"][epoch] for i in index.tolist()] for run in runs]
        assert len(kept) == size
        assert {len(share) for share in shares} == {-(-size // ranks)}, "all ranks read equally many"
        read = Counter(i for share in shares for i in share)
        assert sorted(read) == kept
        assert sorted(read.values()) == [1] * (size - -size % ranks) + [2] * (-size % ranks), "and nothing else twice"


@pytest.mark.parametrize(("ranks", "method"), RUNS)
def test_the_history_is_that_of_one_process_given_the_same_steps(outcomes: Outcomes, ranks: int, method: str) -> None:
    runs = [rank["whole"] for rank in outcomes(ranks, method)]
    pruner = fastprune.DynamicPruner(toy.N, method=pruner_method(method, outcomes, ranks), **OPTIONS)
    assert replay(pruner, runs, EPOCHS) == runs[0]["kept"]
    assert same(pruner.history.state_dict(), runs[0]["history"])
    if pruner.method.observes:
        visits = Counter(i for kept in runs[0]["kept"].values() for i in kept)
        assert pruner.history.visits.tolist() == [visits[i] for i in range(toy.N)], "once an epoch, however padded"


def test_all_ranks_open_the_guard_of_auto(outcomes: Outcomes) -> None:
    for rank in outcomes(2, CUTS):
        pruner = fastprune.DynamicPruner(toy.N, method=CUTS, **OPTIONS)
        pruner.load_state_dict(rank["whole"]["state"])
        assert pruner.method.facts(pruner.history)["pool"] == 0.4


@pytest.mark.parametrize("place", STOPS)
@pytest.mark.parametrize(("ranks", "method"), [run for run in RUNS if run[0] > 1])
def test_a_resumed_run_ends_bitwise_the_same(outcomes: Outcomes, ranks: int, method: str, place: str) -> None:
    for rank in outcomes(ranks, method):
        whole, resumed = rank["whole"], rank["resumed"][place]
        rest = [step for steps in whole["steps"].values() for step in steps][steps_before(place, ranks) :]
        assert same([step for steps in resumed["steps"].values() for step in steps], rest)
        assert torch.equal(resumed["weights"], whole["weights"])
        assert same(resumed["history"], whole["history"])


@pytest.mark.parametrize("method", METHODS[1])
def test_one_process_under_torchrun_is_a_plain_loop(outcomes: Outcomes, method: str) -> None:
    [rank] = outcomes(1, method)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    plain = Loop(method).run(EPOCHS)
    torch.set_num_threads(threads)
    assert torch.equal(plain.outcome()["weights"], rank["whole"]["weights"])
    assert same(plain.outcome()["history"], rank["whole"]["history"])


def test_one_process_goes_on_where_two_stopped(outcomes: Outcomes) -> None:
    runs = [rank["whole"] for rank in outcomes(2, "ucb")]
    pruner = fastprune.DynamicPruner(toy.N, method="ucb", **OPTIONS)
    pruner.load_state_dict(torch.load(outcomes.started[2] / "inside a cycle, ucb.pt")["pruner"])
    assert next(pruner.epochs(EPOCHS)) == 3
    read = [i for run in runs for i in run["steps"][3][0][0].tolist()]
    assert sorted(read + list(pruner.sampler)) == runs[0]["kept"][3]


@pytest.mark.parametrize("ranks", WORLDS)
def test_fewer_examples_than_ranks(outcomes: Outcomes, ranks: int) -> None:
    everyone = outcomes(ranks, "reads_few")
    for n in (1, 2, 3, 5, 7):
        runs = [rank[str(n)] for rank in everyone]
        assert all(run["kept"] == runs[0]["kept"] and same(run["history"], runs[0]["history"]) for run in runs)
        for epoch, kept in enumerate(runs[0]["kept"]):
            shares = [run["read"][epoch] for run in runs]
            assert {len(share) for share in shares} == {-(-len(kept) // ranks)}
            assert set().union(*shares) == set(kept)
        # The scores are the indices and a half, so the largest indices are kept.
        assert runs[0]["kept"][1:] == [list(range(n))[-len(runs[0]["kept"][1]) :]] * 2
        visits = [sum(i in kept for kept in runs[0]["kept"]) for i in range(n)]
        assert runs[0]["history"]["visits"].tolist() == visits


@pytest.mark.parametrize("ranks", WORLDS)
def test_ranks_may_observe_nothing(outcomes: Outcomes, ranks: int) -> None:
    everyone = outcomes(ranks, "observes_on_some")
    assert all(same(rank, everyone[0]) for rank in everyone)
    pruner = fastprune.DynamicPruner(12, keep_fraction=0.5, method="el2n-free")
    visits, latest = [0] * 12, [-1.0] * 12
    for epoch in pruner.epochs(3):
        for index in list(pruner.sampler.shard((0, ranks - 1, 0)[epoch], ranks)):
            pruner.observe(torch.tensor([index]), torch.tensor([index + epoch / 8]))
            visits[index] += 1
            latest[index] = index + epoch / 8
    assert everyone[0]["kept"] == pruner.kept_indices.tolist()
    history = everyone[0]["history"]
    assert history["visits"].tolist() == visits
    scored = history["visits"] > 0
    assert history["state"]["el2n"]["latest"][scored].tolist() == [s for s in latest if s >= 0]


@pytest.mark.parametrize("ranks", WORLDS)
def test_ranks_that_read_the_same_examples_count_them_once(outcomes: Outcomes, ranks: int) -> None:
    pruner = fastprune.DynamicPruner(21, keep_fraction=0.4, method="el2n-free")
    one = observed(pruner, DataLoader(range(21), sampler=pruner.sampler, batch_size=3))
    assert len({tuple(kept) for kept in one["kept"]}) == 4
    assert all(same(rank, one) for rank in outcomes(ranks, "reads_in_pairs"))


@pytest.mark.parametrize("ranks", WORLDS)
def test_indices_stay_whole_and_scores_with_them(outcomes: Outcomes, ranks: int) -> None:
    everyone = outcomes(ranks, "gathers_large_indices")
    telling = [rank for rank in everyone if rank["own"]]
    for rank in everyone:
        assert rank["nothing"] == []
        for step, (index, scores) in enumerate(rank["by_step"]):
            assert index.dtype == torch.int64
            assert index.tolist() == [i for other in telling for i in other["own"][step][0].tolist()]
            for metric in ("loss", "probabilities"):
                values = torch.cat([other["own"][step][1][metric].float() for other in telling])
                assert torch.equal(scores[metric], values)
        assert len(rank["by_step"]) == 2
        index, scores = rank["everything"]
        rows = sorted(
            (i, loss, p)
            for other in everyone
            for i, loss, p in zip(
                other["scores"][0].tolist(),
                other["scores"][1]["loss"].tolist(),
                other["scores"][1]["probabilities"].tolist(),
                strict=True,
            )
        )
        assert index.tolist() == [i for i, _, _ in rows]
        assert scores["loss"].tolist() == [loss for _, loss, _ in rows]
        assert scores["probabilities"].tolist() == [p for _, _, p in rows]


@pytest.mark.parametrize("ranks", WORLDS)
def test_a_state_that_lacks_the_other_ranks_scores_is_refused(outcomes: Outcomes, ranks: int) -> None:
    for rank in outcomes(ranks, "refuses_half_a_state"):
        if ranks > 1:
            assert rank["message"].startswith("RuntimeError: 1 steps' scores have not been exchanged")
            assert "pruner.exchange() on every rank" in rank["message"]
        else:
            assert rank["message"] == ""
        assert rank["visits"].tolist() == [1] * ranks + [0] * (8 - ranks)


@pytest.mark.parametrize("ranks", WORLDS)
def test_a_scoring_pass_that_fails_on_one_rank_fails_on_all(outcomes: Outcomes, ranks: int) -> None:
    everyone = outcomes(ranks, "fails_together")
    last = ranks - 1
    for rank in everyone[:-1]:
        elsewhere = f"FailedElsewhereError: the scoring pass failed on rank [{last}]; rank {last}: "
        raised, shaped = rank["messages"]
        assert raised == f"{elsewhere}ZeroDivisionError: no batch"
        assert shaped.startswith(f"{elsewhere}scores['el2n'] has shape (2, 3)")
    assert everyone[-1]["messages"][0] == "ZeroDivisionError: no batch"
    assert everyone[-1]["messages"][1].startswith("ValueError: scores['el2n'] has shape (2, 3)")
    for rank in everyone:
        assert rank["due"], "the pass is still to be done"
        assert rank["scores"].tolist() == list(range(8)), "and can be"


def pruner_method(method: str, outcomes: Outcomes, ranks: int) -> str:
    outcomes(ranks, "reads_few")
    return toy.method_text(method, outcomes.started[ranks])
