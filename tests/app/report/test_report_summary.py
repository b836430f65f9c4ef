"""Summary rows: what is averaged, what is paired, and which epoch counts."""

from statistics import stdev

import pytest

from fastprune.app.report import make_summary
from fastprune.app.report.summary import Judged, final_rows, judged_by, summarise

METRICS = ("exact_match", "intent_accuracy")


def row(run, seed, total, exact, **more):
    return {
        "run": run,
        "seed": seed,
        "kept": 1.0 if run == "full" else 0.5,
        "train_seconds": total - 2.0,
        "score_seconds": 1.5,
        "select_seconds": 0.5,
        "seconds": total,
        "intent_accuracy": exact,
        "exact_match": exact,
        "examples_seen": 1000 * total,
        **more,
    }


FULL = [row("full", 0, 100.0, 0.90), row("full", 1, 200.0, 0.92)]
HALF = [row("el2n 0.5", 1, 100.0, 0.93, method="el2n"), row("el2n 0.5", 0, 80.0, 0.91, method="el2n")]


def test_means_and_deviations():
    full, half = summarise(FULL + HALF, METRICS)
    assert (full["run"], half["run"]) == ("full", "el2n 0.5")
    assert (full["method"], half["method"]) == ("full", "el2n")
    assert half["keep_fraction"] == 0.5 and half["seeds"] == [0, 1] and half["n_seeds"] == 2
    assert half["exact_match"] == pytest.approx(0.92)
    assert half["exact_match_std"] == pytest.approx(stdev([0.91, 0.93]))
    assert half["total_seconds"] == 90 and half["train_seconds"] == 88 and half["score_seconds"] == 1.5
    assert half["examples_seen"] == 90_000
    assert "slot_f1" not in half and "cpu_seconds" not in half


def test_time_saved_is_paired_by_seed():
    full, half = summarise(FULL + HALF, METRICS)
    assert full["time_saved"] is None
    # Seed 0 saves 20 %, seed 1 saves 50 %; the ratio of the means would be 40 %.
    assert half["time_saved"] == pytest.approx(0.35)


def test_time_saved_uses_shared_seeds_only():
    assert summarise([FULL[0], *HALF], METRICS)[1]["time_saved"] == pytest.approx(0.20)
    assert summarise(HALF, METRICS)[0]["time_saved"] is None
    assert summarise([row("full", 7, 10.0, 1.0), *HALF], METRICS)[1]["time_saved"] is None


def test_a_slower_run_saves_less_than_nothing():
    slow = row("slow", 0, 150.0, 0.9)
    assert summarise([FULL[0], slow], METRICS)[1]["time_saved"] == pytest.approx(-0.5)


def test_one_seed_has_no_deviation():
    (result,) = summarise(FULL[:1], METRICS)
    assert result["exact_match_std"] is None and result["total_seconds_std"] is None


def test_driver_totals_win_over_the_default():
    (result,) = summarise([row("full", 0, 100.0, 0.9, total_seconds=120.0, cpu_seconds=210.0)], METRICS)
    assert result["total_seconds"] == 120 and result["cpu_seconds"] == 210


def test_quality_is_paired_by_seed():
    full, half = summarise(FULL + HALF, METRICS)
    # Both seeds gain 1 point, while the two runs deviate over the seeds.
    assert half["gain"] == pytest.approx(0.01) and half["gain_std"] == pytest.approx(0.0)
    assert half["shared_seeds"] == 2 and half["deciding"] == "exact_match"
    assert full["gain"] is None and full["shared_seeds"] == 0
    one = summarise([FULL[0], *HALF], METRICS)[1]
    assert one["gain"] == pytest.approx(0.01) and one["gain_std"] is None and one["shared_seeds"] == 1


def test_any_metric_can_decide():
    rows = [row("full", 0, 10.0, 0.9, matthews=-0.25), row("el2n 0.5", 0, 10.0, 0.9, matthews=0.5)]
    full, half = summarise(rows, ("matthews",))
    assert full["matthews"] == -0.25 and half["gain"] == 0.75 and "exact_match" not in full


def evaluation(epoch, split, value, run="full", seed=0, **more):
    return {
        "run": run, "seed": seed, "epoch": epoch, "split": split, "seconds": 10.0 * epoch, "accuracy": value, **more
    }  # fmt: skip


def test_the_last_epoch_counts():
    rows = [
        evaluation(1, "test", 0.1),
        evaluation(3, "validation", 0.4),
        evaluation(2, "test", 0.3),
        evaluation(1, "test", 0.2, seed=1),
    ]
    judged = Judged(("accuracy",), ("test",))
    assert [(r["seed"], r["accuracy"]) for r in final_rows(rows, judged, "test")] == [(0, 0.3), (1, 0.2)]
    assert [r["accuracy"] for r in final_rows(rows, judged, "validation")] == [0.4]


def test_the_best_epoch_is_chosen_by_its_split_and_its_time_is_the_whole_run_s():
    values = {1: (0.5, 0.7), 2: (0.9, 0.6), 3: (0.9, 0.8), 4: (0.1, 0.9)}
    rows = [
        evaluation(epoch, split, value)
        for epoch, both in values.items()
        for split, value in zip(("validation", "test"), both, strict=True)
    ]
    (chosen,) = final_rows(rows, Judged(("accuracy",), ("test",), "validation"), "test")
    assert (chosen["accuracy"], chosen["seconds"]) == (0.6, 40.0), "of equals the first, as Trainer does"


def test_every_reported_split_is_summarised():
    splits = ["validation_matched", "validation_mismatched"]
    rows = [
        evaluation(epoch, split, value, run=run)
        for run, values in {"full": (0.8, 0.7), "el2n 0.5": (0.81, 0.6)}.items()
        for epoch in (1, 2)
        for split, value in zip(splits, values, strict=True)
    ]
    config = {"data": "mnli", "model": "tiny", "metrics": ["accuracy"], "reported": splits, "best": None}
    held = {"run": "el2n 0.5", "seed": 0, "epoch": 2}
    found = make_summary(rows, config, held)
    assert (found["deciding"], found["split"], found["chosen_on"]) == ("accuracy", "validation_matched", None)
    assert [r["accuracy"] for r in found["rows"]] == [0.8, 0.81] and found["model_run"] == held
    assert [r["accuracy"] for r in found["others"]["validation_mismatched"]] == [0.7, 0.6]
    assert "total_seconds" not in found["others"]["validation_mismatched"][0]


def test_folders_that_do_not_say_their_metrics_are_judged_by_exact_match():
    rows = [evaluation(1, "test", None, slot_f1=0.5, intent_accuracy=0.7, exact_match=0.4)]
    assert judged_by({}, rows) == Judged(("exact_match", "intent_accuracy", "slot_f1"), ("test",), None)
    assert judged_by({}, [evaluation(1, "dev", 0.5)]) == Judged(("accuracy",), ("dev",), None)


def test_a_split_without_evaluations_has_chosen_nothing():
    rows = [evaluation(1, "test", 0.5), evaluation(1, "dev", 0.5)]
    assert [judged_by({"best": split}, rows).chosen_on for split in ("dev", "validation", None)] == ["dev", None, None]


def test_of_a_loss_the_lowest_epoch_counts_and_a_lower_one_is_a_gain():
    rows = [
        row(run, 0, seconds, 0.9, epoch=epoch, split=split, loss=loss, tokens_seen=1000 * epoch)
        for run, losses in (("full", (2.0, 1.0, 1.5)), ("el2n 0.5", (2.0, 1.2, 0.8)))
        for epoch, (loss, seconds) in enumerate(zip(losses, (10.0, 20.0, 30.0), strict=True), start=1)
        for split in ("validation", "test")
    ]
    summary = make_summary(rows, {"metrics": ["loss"], "reported": ["test"], "best": "validation"})
    full, half = summary["rows"]
    assert (full["loss"], half["loss"]) == (1.0, 0.8)
    assert half["gain"] == pytest.approx(0.2)
    assert half["tokens_per_second"] == pytest.approx(3000 / 28)
