"""What training promises of a run: equal beginnings, honest seconds, rows that say what happened."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.made_up_data import utterances

from fastprune.app.data import Split, TextData, build
from fastprune.app.finetune.encoder_parts import EncoderParts
from fastprune.app.finetune.progress import LiveProgress
from fastprune.app.finetune.record import Judging
from fastprune.app.finetune.session import finetune, make_job
from fastprune.app.finetune.spec import RunSpec, Training, plan_runs
from fastprune.app.finetune.train import Job, RunTrainer, make_trainer, train, warm_up
from fastprune.app.finetune.trust import NONE
from fastprune.errors import UsageError

TRAINING = Training(3, 1, 1, 8, 3e-3, False, "latest", 0.0, 64)
FULL = RunSpec("full", "full", 1.0, 0)
PRUNED = RunSpec("el2n 0.5", "el2n", 0.5, 0)


def data() -> TextData:
    def split(n: int, seed: int) -> Split:
        return Split(*map(list, zip(*[(text, intent) for text, _, intent in utterances(n, seed)], strict=True)))

    return build("toy", split(60, 1), {"test": split(20, 2)})


@pytest.fixture
def job(tiny_model: Path):
    def make(training: Training = TRAINING, **own: object) -> Job:
        found = data()
        parts = EncoderParts(found, str(tiny_model), training, NONE)
        return make_job(found, training, own, Judging(found.metrics), parts, numbered=False)

    return make


def trainer(job: Job, spec: RunSpec, folder: Path) -> RunTrainer:
    return make_trainer(job, spec, folder, LiveProgress(1, silent=True), lambda result: None)


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_all_runs_of_a_seed_begin_alike_and_a_first_step_is_not_timed(job, tmp_path: Path) -> None:
    made = job()
    first = trainer(made, FULL, tmp_path / "a")
    beginning = weights(first.model)
    random = torch.get_rng_state()
    warm_up(first)
    assert same(weights(first.model), beginning) and torch.equal(torch.get_rng_state(), random)
    assert first.recorder.clock.total == 0
    assert all(parameter.grad is None for parameter in first.model.parameters())
    train(first)
    assert not same(weights(first.model), beginning)
    for number, spec in enumerate((PRUNED, replace(FULL, name="again"))):
        assert same(weights(trainer(made, spec, tmp_path / str(number)).model), beginning)
    other = weights(trainer(made, replace(FULL, seed=1), tmp_path / "seed").model)
    drawn = [name for name in other if not torch.equal(other[name], beginning[name])]
    assert sorted(drawn) == ["classifier.bias", "classifier.weight"], "heads come from the seed, the rest from the file"


def test_rows_say_what_happened(job, tmp_path: Path) -> None:
    run = trainer(job(), PRUNED, tmp_path)
    result = train(run)
    rows = result.rows
    assert [row["epoch"] for row in rows] == [1, 2, 3] and {row["split"] for row in rows} == {"test"}
    assert [row["phase"] for row in rows] == ["warmup", "pruned", "pruned"]
    assert [row["kept"] for row in rows] == [1.0, 0.5, 0.5] and [row["cycle"] for row in rows] == [0, 1, 2]
    assert [row["steps"] for row in rows] == [8, 12, 16]
    assert [row["examples_seen"] for row in rows] == [64, 96, 128], "every step is a whole one"
    assert rows[0]["lr"] > rows[1]["lr"] > rows[2]["lr"] == 0.0
    assert 0 <= rows[2]["churn"] <= 1 and rows[1]["threshold"] > 0 and rows[0]["threshold"] != rows[1]["threshold"]
    seconds = [tuple(row[f"{part}_seconds"] for part in ("train", "score", "select")) for row in rows]
    assert all(
        b >= a for one, other in zip(seconds, seconds[1:], strict=False) for a, b in zip(one, other, strict=True)
    )
    assert seconds[0][1] == 0 and seconds[2][1] > seconds[1][1] > 0, "a scoring pass before each cycle"
    assert all(row["seconds"] == pytest.approx(sum(part)) for row, part in zip(rows, seconds, strict=True))
    assert [cycle["epoch"] for cycle in result.cycles] == [1, 2]
    for cycle in result.cycles:
        assert cycle["kept"].sum() == 30
        assert cycle["score"][cycle["kept"]].min() >= cycle["score"][~cycle["kept"]].max()


def test_evaluation_and_checkpoints_are_not_timed(job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[str] = []

    def slow(name: str):
        original = getattr(RunTrainer.__base__, name)

        def wait(*args: object, **kwargs: object) -> object:
            time.sleep(0.3)
            slept.append(name)
            return original(*args, **kwargs)

        return wait

    for name in ("evaluation_loop", "_save_checkpoint"):
        monkeypatch.setattr(RunTrainer.__base__, name, slow(name))
    run = trainer(job(eval_strategy="steps", eval_steps=5), FULL, tmp_path)
    began = time.perf_counter()
    rows = train(run).rows
    elapsed = time.perf_counter() - began
    assert slept.count("evaluation_loop") >= 3 + 4, "those that the user asked for, too"
    assert slept.count("_save_checkpoint") == 3
    assert rows[-1]["seconds"] < elapsed - 0.3 * len(slept)
    assert len(rows) == 3, "still one row for each epoch"


@pytest.mark.parametrize(("batch", "steps"), [(8, 13), (7, 15)])
def test_short_full_is_as_long_as_its_budget_in_examples(job, tmp_path: Path, batch: int, steps: int) -> None:
    """60 examples of the warm-up and one cycle of 30 make 90, and a bit: two epochs, the second cut."""
    made = job(replace(TRAINING, batch_size=batch))
    rows = train(trainer(made, RunSpec("short full", "full", 0.5, 0, max_examples=96), tmp_path)).rows
    assert [row["epoch"] for row in rows] == [1, 2] and rows[-1]["steps"] == steps
    assert rows[-1]["examples_seen"] == pytest.approx(96, abs=batch) and rows[-1]["lr"] == 0.0


def test_a_run_killed_after_its_last_checkpoint_makes_no_step_more(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends inside of an epoch, where a Trainer would look at ``max_steps`` only after one more step."""
    short = replace(FULL, name="short", max_examples=100)

    def run(out: Path, resume: bool = False) -> list[dict]:
        finetune(data(), str(tiny_model), [short], TRAINING, out, resume=resume)
        return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]

    expected = run(tmp_path / "unbroken")
    with monkeypatch.context() as patch:
        patch.setattr("fastprune.app.finetune.session.write_finished", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(tmp_path / "killed")
    found = run(tmp_path / "killed", resume=True)
    kept = ("epoch", "examples_seen", "accuracy", "split")
    assert [[row[k] for k in kept] for row in found] == [[row[k] for k in kept] for row in expected]


def test_a_diverged_run_stops_with_a_sentence(job, tmp_path: Path) -> None:
    made = job(replace(TRAINING, lr=1e30))
    with pytest.raises(UsageError, match=r"run 'full', seed 0, diverged in epoch \d: its mean loss is .*; lower --lr"):
        train(trainer(made, FULL, tmp_path))


def test_gradients_are_accumulated_to_the_same_epochs(job, tmp_path: Path) -> None:
    rows = train(trainer(job(gradient_accumulation_steps=2), FULL, tmp_path)).rows
    assert [row["steps"] for row in rows] == [4, 8, 12] and [row["examples_seen"] for row in rows] == [60, 120, 180]
    whole = train(trainer(job(replace(TRAINING, batch_size=16)), FULL, tmp_path / "b")).rows
    assert rows[0]["train_loss"] == pytest.approx(whole[0]["train_loss"], rel=0.2)


def test_batches_hold_texts_of_like_length(job, tmp_path: Path) -> None:
    """But for a strategy that the user asks for."""
    assert trainer(job(), PRUNED, tmp_path).recorder.pruner.sampler.arrange is not None
    assert plan_runs(["el2n"], [0.5], [0], rows=range(60), training=TRAINING, compare=False)[0] == FULL
    own = job(train_sampling_strategy="random") if "train_sampling_strategy" in fields() else job(group_by_length=False)
    assert trainer(own, PRUNED, tmp_path / "b").recorder.pruner.sampler.arrange is None


def fields() -> set[str]:
    from transformers import TrainingArguments

    return set(TrainingArguments.__dataclass_fields__)
