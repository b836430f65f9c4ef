"""Every method in ``finetune``: its scores, its weights, its schedule."""

import json

import numpy as np
import pyarrow.parquet as parquet
import pytest
import torch
from torch.nn.functional import cross_entropy

import fastprune
from fastprune.app.cli import main
from fastprune.app.finetune.model import score_fn_of, task_of
from fastprune.app.finetune.requirements import check_given, with_substitutes
from fastprune.app.finetune.spec import RunSpec, Training, plan_of, plan_runs, resolve_method
from fastprune.errors import UsageError
from fastprune.pruning import EMA, DynamicPruner, Latest, Moments, method_names

IGNORE = -100


def batch(seed=0, size=5):
    """(logits, labels) of texts of 2 to 6 words, some sub-tokens without a tag."""
    rng = torch.Generator().manual_seed(seed)
    logits = {
        "logits": torch.randn(size, 3, generator=rng, requires_grad=True),
        "tag_logits": torch.randn(size, 7, 4, generator=rng, requires_grad=True),
    }
    tags = torch.randint(4, (size, 7), generator=rng)
    tags[:, 0] = IGNORE
    for row in range(size):
        tags[row, 2 + row % 5 :] = IGNORE
    return logits, {"labels": torch.randint(3, (size,), generator=rng), "tag_labels": tags}


def gradients(loss, logits):
    return torch.autograd.grad(loss, list(logits.values()), retain_graph=True)


def weighted(logits, labels, weights):
    return (weights * task_of("joint", weighted=True).losses(logits, labels).sums).mean()


def test_a_weight_counts_an_example_in_both_heads():
    logits, labels = batch()
    weights = torch.tensor([1.0, 2.0, 0.0, 1.0, 1.0])
    words = (labels["tag_labels"] != IGNORE).sum()
    expected = torch.zeros(())
    for i, weight in enumerate(weights):
        intent = cross_entropy(logits["logits"][i], labels["labels"][i])
        tags = cross_entropy(logits["tag_logits"][i], labels["tag_labels"][i], ignore_index=IGNORE, reduction="sum")
        expected = expected + weight * (intent / 5 + tags / words)
    found = weighted(logits, labels, weights)
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)
    for one, other in zip(gradients(found, logits), gradients(expected, logits), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-8)


def test_equal_weights_are_the_loss_of_the_model(tiny_model):
    from fastprune.app.data import Split, build
    from fastprune.app.finetune.encoder import load_encoder
    from fastprune.app.finetune.model import build_model

    split = Split(["book a flight", "play jazz"], ["a", "b"], [["O", "O", "B-x"], ["O", "O"]])
    model = build_model(load_encoder(str(tiny_model))[0], build("toy", split, {"test": split})).eval()
    inputs = {"input_ids": torch.tensor([[2, 5, 6, 7, 3], [2, 8, 9, 3, 0]])}
    inputs["attention_mask"] = (inputs["input_ids"] > 0).long()
    labels = {
        "labels": torch.tensor([0, 1]),
        "tag_labels": torch.tensor([[-100, 0, 0, 1, -100], [-100, 0, 0, -100, -100]]),
    }
    outputs = model(**inputs, **labels)
    assert weighted(outputs, labels, torch.ones(2)).item() == pytest.approx(outputs.loss.item(), rel=1e-6)


def test_the_papers_scores_are_as_they_were():
    logits, labels = batch()
    scores = task_of("joint").scores(logits, labels, ("el2n", "loss"))
    heads = [(logits["logits"].detach(), labels["labels"]), (logits["tag_logits"].detach(), labels["tag_labels"])]
    assert torch.equal(scores["el2n"], fastprune.joint_el2n(heads))
    tags = cross_entropy(logits["tag_logits"].mT, labels["tag_labels"], ignore_index=IGNORE, reduction="none").sum(1)
    loss = 0.5 * cross_entropy(logits["logits"], labels["labels"], reduction="none") + 0.5 * tags
    torch.testing.assert_close(scores["loss"], loss.detach(), rtol=1e-5, atol=1e-7)
    assert not any(score.requires_grad for score in scores.values())
    kept = score_fn_of("joint", resolve_method("tdds", TRAINING))(logits, labels)
    torch.testing.assert_close(kept["probabilities"], logits["logits"].softmax(-1).detach())


TRAINING = Training(6, 1, 1, 8, 3e-3, False, "ema", 0.0, 64)


def planned(methods, keeps, n=100, compare=False, **changes):
    from dataclasses import replace

    return plan_runs(methods, keeps, [0], rows=range(n), training=replace(TRAINING, **changes), compare=compare)


def test_ramps_and_budgets_show_the_mean_share_they_keep():
    specs = planned(["el2n"], ["0.5", "linear:1.0:0.2", "cosine:1.0:0.2", "budget:0.5"])
    shares = {spec.name: spec.keep_fraction for spec in specs}
    cosine = np.mean([0.2 + 0.8 * (1 + np.cos(np.pi * i / 4)) / 2 for i in range(5)])
    assert shares == pytest.approx(
        {
            "full": 1.0,
            "el2n 0.5": 0.5,
            "el2n linear:1.0:0.2": 0.6,
            "el2n cosine:1.0:0.2": cosine,
            "el2n budget:0.5": (0.5 * 6 - 1) / 5,
        }
    )
    sizes = [phase.size for phase in plan_of(specs[2], range(100), TRAINING).phases]
    assert sizes == [100, 100, 80, 60, 40, 20]


@pytest.mark.parametrize("method", ["el2n", "infobatch", "rs2", "full"])
@pytest.mark.parametrize("keep", ["0.5", "linear:1.0:0.2", "budget:0.6"])
def test_a_run_is_planned_as_its_pruner_reads_it(method, keep, monkeypatch):
    spec = RunSpec("r", method, 0.5, 0, keep=keep)
    pruner = DynamicPruner(100, method=method, keep_fraction=spec.fraction, warmup_epochs=1, cycle_epochs=1)
    expected = pruner.total_examples(6)
    monkeypatch.setattr(DynamicPruner, "__init__", lambda *_, **__: pytest.fail("a pruner is built to learn a number"))
    assert plan_of(spec, range(100), TRAINING).examples == expected
    planned([method], [keep], compare=True)


def test_final_epochs_are_the_methods_own_unless_given():
    infobatch, el2n = planned(["infobatch", "el2n"], [0.5], epochs=8)[1:]

    def on_all(spec, **changes):
        from dataclasses import replace

        training = replace(TRAINING, epochs=8, **changes)
        return [phase.epochs for phase in plan_of(spec, range(100), training).phases if phase.final]

    assert on_all(infobatch) == [1] and on_all(el2n) == []
    assert on_all(infobatch, final_share=0.0) == [] and on_all(el2n, final_share=0.25) == [2]
    (short,) = (s for s in planned(["el2n"], [0.5], compare=True, epochs=8, final_share=0.25) if s.max_examples)
    assert short.max_examples == 100 + 5 * 50 + 2 * 100


def test_an_option_that_one_of_several_methods_reads_is_taken():
    check_given(["auto", "el2n-free"], smoothing="ema", offset=0.1)
    check_given(["auto"], smoothing=None, offset=0.0)
    check_given(["ccs"], smoothing=None, offset=0.1)
    with pytest.raises(UsageError, match="--smoothing ema is not read by --method ccs"):
        check_given(["ccs"], smoothing="ema", offset=0.1)
    with pytest.raises(UsageError, match="--offset 0.3 is not read"):
        check_given(["el2n(offset=0.1)"], smoothing=None, offset=0.3)


def test_a_tight_budget_compares_without_a_warmup():
    training = Training(3, None, 1, 8, 1e-3, False, "latest", 0.0, 32)
    runs = plan_runs(["auto"], ["budget:0.3"], [0], rows=range(100), training=training, compare=True)
    read = {run.name: plan_of(run, range(100), training).examples for run in runs if run.max_examples is None}
    assert read["auto budget:0.3"] == read["random budget:0.3"] == pytest.approx(90, abs=2)


def test_smoothing_and_offset_change_only_what_they_mean_something_for():
    from dataclasses import replace

    moved = replace(TRAINING, offset=0.2)
    assert (
        resolve_method("el2n", TRAINING).smoothing == EMA(deviation=1.0)
        and resolve_method("el2n", TRAINING).offset == 0
    )
    assert resolve_method("aum", TRAINING) == fastprune.pruning.get_method("aum"), "its mean and its own offset"
    assert resolve_method("aum", moved).smoothing == Moments("mean") and resolve_method("aum", moved).offset == 0.2
    assert resolve_method("ccs", moved).offset == 0.2
    assert resolve_method("infobatch", moved) == fastprune.pruning.get_method("infobatch")
    assert resolve_method("loss", replace(moved, smoothing="latest")).smoothing == Latest()


def test_score_files_are_named_by_their_file_and_must_fit(tmp_path):
    for name, n in (("a/s.csv", 100), ("b/s.csv", 100), ("t.csv", 100), ("few.csv", 99)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("index,score\n" + "".join(f"{i},{i}\n" for i in range(n)))
    names = [s.name for s in planned([f"static:{tmp_path}/a/s.csv", f"static:{tmp_path}/t.csv"], [0.5])]
    assert names == ["full", "static:s.csv 0.5", "static:t.csv 0.5"]
    both = [f"static:{tmp_path}/{folder}/s.csv" for folder in "ab"]
    assert [s.name for s in planned(both, [0.5])][1:] == [f"{method} 0.5" for method in both]
    with pytest.raises(UsageError, match="scores of 99 examples, but 100 are trained on"):
        planned([f"static:{tmp_path}/few.csv"], [0.5])


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        ("linear:0.5", "linear:A:B"),
        ("1.5", "keep_fraction"),
        ("budget:0.1", "raise it above 0.167"),
        ("half", "budget:X"),
        ("budget:0.6:words", "budget:X:tokens"),
    ],
)
def test_bad_keep_fractions_are_refused_before_training(keep, message):
    with pytest.raises(UsageError, match=message):
        planned(["el2n"], [keep])


ON_TABLES = ("full", "el2n", "el2n-free", "loss", "grand", "static", "aum", "cartography", "infobatch", "ucb", "tdds")
"""One method of each family, for data that are not joint: the registry's own tests train all of them on such."""


@pytest.fixture(scope="module", params=["joint", "table"])
def everything(request, joint_folder, table_file, tiny_model, tmp_path_factory):
    """Every registered method in one comparison on joint data, and one of each family on plain data."""
    base = tmp_path_factory.mktemp("methods")
    data, n = (joint_folder, 80) if request.param == "joint" else (table_file, 48)
    file = base / "mine.csv"
    file.write_text("index,score\n" + "".join(f"{i},{(i * 7) % n}\n" for i in range(n)))
    trained = method_names() if request.param == "joint" else ON_TABLES
    methods = [f"static:{file}" if name == "static" else name for name in trained]
    arguments = ["--data", data, "--model", tiny_model, "--out", base / "run", "--epochs", 4]
    arguments += ["--warmup-epochs", 1, "--cycle-epochs", 1]
    arguments += ["--lr", "3e-3", "--batch-size", 8, "--precision", "fp32", "--keep-fraction", "linear:0.6:0.4"]
    arguments += ["--final-share", 0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        assert main([str(a) for a in ["finetune", *arguments, "--method", *methods]]) == 0
    return base / "run", n, trained


def test_every_method_trains_and_keeps_what_it_was_told(everything):
    run, n, trained = everything
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    names = {name: f"{'static:mine.csv' if name == 'static' else name} linear:0.6:0.4" for name in trained}
    assert {row["run"] for row in rows} == {"full", *names.values()} - {names["full"]}
    for name, run_name in names.items():
        if name == "full":
            continue
        epochs = [row for row in rows if row["run"] == run_name]
        assert epochs[0]["keep_fraction"] == pytest.approx(0.5, abs=0.01)
        assert [row["kept"] for row in epochs] == pytest.approx([1.0, 0.6, 0.5, 0.4], abs=0.01), name
        assert np.isfinite([row["train_loss"] for row in epochs]).all()
        assert (epochs[-1]["score_seconds"] > 0) == (name in ("el2n", "el2n-static", "loss", "grand")), name
    by_run = {row["run"]: row.get("intent_accuracy", row.get("accuracy")) for row in rows}
    assert sum(value > 0.9 for value in by_run.values()) > 0.7 * len(trained), "two intents of fixed words are learned"


def test_data_maps_are_recorded_where_a_method_looks_at_confidence(everything):
    run, n, _ = everything
    table = parquet.read_table(run / "data_map.parquet").to_pydict()
    assert set(table["run"]) == {"cartography linear:0.6:0.4"} and table["index"] == list(range(n))
    scores = parquet.read_table(run / "scores.parquet").to_pandas()
    assert all(0 <= value <= 1 for value in table["confidence"])
    # After its last selection the examples that were not kept have not been looked at again.
    last = scores[scores["run"].str.startswith("cartography") & (scores["epoch"] == 3) & ~scores["kept"]]
    assert np.array(table["variability"])[last["index"]] == pytest.approx(last["score"].to_numpy())


def test_the_last_epochs_scores_are_written(everything):
    """After 4 epochs a method that learns from the training steps has 4 rows of an example, one with a pass 3."""
    run, n, _ = everything
    scores = parquet.read_table(run / "scores.parquet").to_pandas()
    for name in ("el2n-free", "aum", "cartography", "ucb", "infobatch", "el2n", "loss"):
        mine = scores[scores["run"] == f"{name} linear:0.6:0.4"]
        epochs = [1, 2, 3] if name in ("el2n", "loss") else [1, 2, 3, 4]
        assert sorted(set(mine["epoch"])) == epochs and (mine.groupby("index").size() == len(epochs)).all()
        assert not mine[mine["epoch"] == 4]["kept"].any()
    free = scores[scores["run"] == "el2n-free linear:0.6:0.4"].pivot(index="index", columns="epoch", values="score")
    kept = scores[(scores["run"] == "el2n-free linear:0.6:0.4") & (scores["epoch"] == 3)].set_index("index")["kept"]
    assert (free[4] != free[3])[kept].mean() > 0.9 and (free[4] == free[3])[~kept].all(), "those trained on moved"


def test_too_many_classes_for_probabilities_are_refused():
    from fastprune.app.data import Split, build
    from fastprune.app.finetune.requirements import check_methods

    names = [f"c{i}" for i in range(1025)]
    data = build("many", Split(names, names), {"test": Split(["x"], ["c0"])})
    with pytest.raises(UsageError, match="takes 1024 classes"):
        check_methods(planned(["tdds"], [0.5]), TRAINING, data)
    check_methods(planned(["dyn-unc"], [0.5]), TRAINING, data)


@pytest.mark.parametrize(
    ("labels", "method", "lacking"),
    [
        ([1.0, 2.0], "cartography", "confidence, which regression"),
        ([1.0, 2.0], "tdds", "probabilities"),
        ([("a",), ("b",)], "grand", "grand, which multi-label"),
        (None, "tdds", "probabilities, which tokens"),
    ],
)
def test_what_a_task_does_not_have_is_refused_before_the_run(labels, method, lacking, tmp_path):
    from fastprune.app.data import Split, build
    from fastprune.app.finetune.requirements import check_methods

    split = Split(["x", "y"], labels, [["O"], ["B-x"]] if labels is None else None)
    data = build("toy", split, {"test": split})
    with pytest.raises(UsageError, match=f"--method {method} reads .*{lacking}"):
        check_methods(planned([method], [0.5], n=2), TRAINING, data)
    with pytest.raises(UsageError, match="--dynamics holds the class of each text"):
        check_methods(planned(["el2n"], [0.5], n=2), TRAINING, data, tmp_path)
    check_methods(planned(["el2n-free", "infobatch", "random"], [0.5], n=2), TRAINING, data)


@pytest.mark.parametrize("kind", ["regression", "causal-lm"])
def test_a_method_that_nobody_measured_there_is_planned_as_what_runs(kind, capsys):
    assert with_substitutes(["auto", "el2n-free", "rs2"], kind) == ["rs2", "el2n-free"]
    assert f"--method auto is rs2 here, because no evidence says which examples matter for {kind}" in (
        capsys.readouterr().err
    )


def test_a_method_that_was_measured_stays(capsys):
    assert with_substitutes(["auto", "auto(pool=0.3)"], "joint") == ["auto", "auto(pool=0.3)"]
    assert capsys.readouterr().err == ""


def test_an_unknown_method_is_named_before_its_substitute_is_looked_for():
    with pytest.raises(UsageError, match="method 'autos' is unknown"):
        with_substitutes(["autos"], "causal-lm")
