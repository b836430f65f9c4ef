"""Every task through training, and its model out of it: auto classes, pipelines, predictions and scores."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.made_up_data import utterances
from safetensors.torch import load_file

import fastprune
from fastprune.app import quality as metrics
from fastprune.app.data import Split, TextData, build
from fastprune.app.finetune.encoder import load_encoder
from fastprune.app.finetune.finetuned import load_finetuned
from fastprune.app.finetune.predict import predict_texts
from fastprune.app.finetune.scoring import score_texts
from fastprune.app.finetune.session import finetune
from fastprune.app.finetune.spec import Training, plan_runs
from fastprune.app.finetune.tables import write_table
from fastprune.errors import UsageError

KINDS = ("classification", "pair", "multi-label", "regression", "tokens", "joint")
TRAINING = Training(3, 1, 1, 8, 3e-3, False, "latest", 0.0, 64)


def split_of(kind: str, n: int, seed: int) -> Split:
    rows = utterances(n, seed)
    texts, tags = [text for text, _, _ in rows], [tags.split(" ") for _, tags, _ in rows]
    classes = [intent for _, _, intent in rows]
    length = ["long" if len(row) > 5 else "short" for row in tags]
    return {
        "classification": Split(texts, classes),
        "pair": Split(texts, classes, pairs=[text.split(" ")[0] for text in texts]),
        "multi-label": Split(texts, [tuple(sorted(both)) for both in zip(classes, length, strict=True)]),
        "regression": Split(texts, [float(label == "PlayMusic") for label in classes]),
        "tokens": Split(texts, None, tags),
        "joint": Split(texts, classes, tags),
    }[kind]


def data_of(kind: str) -> TextData:
    blind = replace(split_of(kind, 7, 9), labels=None, tags=None, rows=[9, 8, 7, 6, 5, 4, 3], ids=list("abcdefg"))
    held_out = {"validation": split_of(kind, 20, 3), "test": split_of(kind, 30, 2)}
    return build("toy", split_of(kind, 60, 1), held_out, unlabelled={"blind": blind})


@pytest.fixture(scope="module", params=KINDS)
def trained(request, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, TextData, Path]:
    """Full and el2n-free, with the best epoch by validation."""
    out = tmp_path_factory.mktemp(request.param) / "run"
    data = data_of(request.param)
    specs = plan_runs(["el2n-free"], [0.5], [0], rows=range(60), training=TRAINING, compare=False)
    finetune(data, str(tiny_model), specs, TRAINING, out, best=True)
    return request.param, data, out


def rows_of(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_rows_of_every_epoch_and_split(trained: tuple[str, TextData, Path]) -> None:
    _, data, out = trained
    rows = rows_of(out)
    assert [(r["run"], r["epoch"], r["split"]) for r in rows] == [
        (run, epoch, split)
        for run in ("full", "el2n-free 0.5")
        for epoch in (1, 2, 3)
        for split in ("test", "validation")
    ]
    for row in rows:
        assert set(data.metrics) <= row.keys() and all(np.isfinite(row[name]) for name in data.metrics)
    config = json.loads((out / "config.json").read_text())
    assert config["metrics"] == list(data.metrics) and config["task"] == data.kind
    assert config["reported"] == ["test"] and config["best"] == "validation"
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["deciding"], summary["split"], summary["chosen_on"]) == (data.metrics[0], "test", "validation")


def test_the_model_is_that_of_the_best_epoch(trained: tuple[str, TextData, Path]) -> None:
    kind, data, out = trained
    held = json.loads((out / "summary.json").read_text())["model_run"]
    rows = [r for r in rows_of(out) if r["run"] == "el2n-free 0.5" and r["split"] == "validation"]
    values = [row[data.metrics[0]] for row in rows]
    assert held == {"run": "el2n-free 0.5", "seed": 0, "epoch": 1 + int(np.argmax(values))}
    model = load_finetuned(str(out))
    test = data.test
    found = predict_texts(model, test, batch_size=16, max_length=64, bf16=False)
    expected = next(r for r in rows_of(out) if r["epoch"] == held["epoch"] and r["run"] == held["run"])
    if kind in ("classification", "pair"):
        accuracy = np.mean(found["prediction"] == np.array(test.labels, dtype=object))
        assert accuracy == pytest.approx(expected["accuracy"])
    if kind == "tokens":
        tags = [row.split(" ") for row in found["prediction"]]
        assert metrics.span_f1(tags, test.tags) == pytest.approx(expected["span_f1"])


def test_what_is_easy_is_learned(trained: tuple[str, TextData, Path]) -> None:
    _, data, out = trained
    best = max(row[data.metrics[0]] for row in rows_of(out) if row["split"] == "test")
    assert best > 0.7


def test_classes_and_predictions_are_written(trained: tuple[str, TextData, Path]) -> None:
    kind, data, out = trained
    if kind == "regression":
        assert not (out / "classes.json").exists()
    else:
        classes = json.loads((out / "classes.json").read_text())
        names = {"tokens": {"city", "genre"}}.get(kind, set(data.label_names or ()))
        assert set(classes) == names
        assert all(set(row) == {"precision", "recall", "f1", "support"} for row in classes.values())
    lines = [line.split("\t") for line in (out / "predictions.tsv").read_text().splitlines()]
    columns = ["row", "id", "prediction"]
    columns += ["probability"] if kind in ("classification", "pair", "joint") else []
    assert lines[0] == columns + (["tags"] if kind == "joint" else [])
    assert [line[:2] for line in lines[1:]] == [[str(9 - i), "abcdefg"[i]] for i in range(7)]
    texts = data.unlabelled["blind"].texts
    if kind == "multi-label":
        assert {part for line in lines[1:] for part in line[2].split(",")} <= set(data.label_names or ())
    if kind == "joint":
        assert [len(line[4].split(" ")) for line in lines[1:]] == [len(text.split(" ")) for text in texts]


def test_a_file_of_predictions_is_what_training_wrote(trained: tuple[str, TextData, Path], tmp_path: Path) -> None:
    _, data, out = trained
    columns = predict_texts(load_finetuned(str(out)), data.unlabelled["blind"], batch_size=2, max_length=64, bf16=False)
    write_table(tmp_path / "p.tsv", columns)
    before = [line.split("\t") for line in (out / "predictions.tsv").read_text().splitlines()]
    after = [line.split("\t") for line in (tmp_path / "p.tsv").read_text().splitlines()]
    for one, other in zip(before, after, strict=True):
        for a, b in zip(one, other, strict=True):
            assert a == b or float(a) == pytest.approx(float(b), rel=1e-4)
    for kind in ("csv", "jsonl", "parquet"):
        write_table(tmp_path / f"p.{kind}", columns)
        assert (tmp_path / f"p.{kind}").stat().st_size


def test_it_is_scored(trained: tuple[str, TextData, Path]) -> None:
    kind, data, out = trained
    model = load_finetuned(str(out))
    table = score_texts(
        model, data.train, ["el2n", "loss"], batch_size=16, max_length=64, bf16=False, progress=lambda done: None
    )
    assert list(table) == ["index", "row", "el2n", "loss", "score", "label"] and (table["score"] == table["el2n"]).all()
    assert np.isfinite(table["loss"]).all() and len(table["el2n"]) == 60
    gold = data.train.labels[0] if data.train.labels is not None else " ".join(data.train.tags[0])
    assert table["label"][0] == (",".join(gold) if kind == "multi-label" else gold)


def test_it_is_finetuned_further(trained: tuple[str, TextData, Path]) -> None:
    kind, _, out = trained
    saved = load_file(out / "model" / "model.safetensors")
    encoder, _, _ = load_encoder(str(out / "model"))
    prefix = "bert" if kind == "tokens" else "encoder"
    name = "embeddings.word_embeddings.weight"
    assert torch.equal(encoder.state_dict()[name], saved[f"{prefix}.{name}"])


def test_auto_classes_and_pipelines_load_it(trained: tuple[str, TextData, Path]) -> None:
    import transformers

    kind, data, out = trained
    folder = str(out / "model")
    text = data.test.texts[0]
    expected = predict_texts(load_finetuned(folder), Split([text], None), batch_size=1, max_length=64, bf16=False)
    if kind == "joint":
        model = fastprune.JointModel.from_pretrained(folder)
        assert model.config.id2label == dict(enumerate(data.label_names)) and model.config.tag_names == data.tag_names
        return
    auto = transformers.AutoModelForTokenClassification if kind == "tokens" else None
    model = (auto or transformers.AutoModelForSequenceClassification).from_pretrained(folder)
    if kind == "regression":
        assert model.config.problem_type == "regression" and model.config.num_labels == 1
        return
    names = data.tag_names if kind == "tokens" else data.label_names
    assert model.config.id2label == dict(enumerate(names)), "its classes have their names"
    if kind == "pair":
        return
    task = "token-classification" if kind == "tokens" else "text-classification"
    answer = transformers.pipeline(task, folder)(text, **({"top_k": None} if kind == "multi-label" else {}))
    if kind == "classification":
        assert answer[0]["label"] == expected["prediction"][0]
        assert answer[0]["score"] == pytest.approx(expected["probability"][0], rel=1e-4)
    if kind == "multi-label":
        assert sorted(row["label"] for row in answer if row["score"] > 0.5) == expected["prediction"][0].split(",")
    if kind == "tokens":
        assert [row["entity"] for row in answer] == [tag for tag in expected["prediction"][0].split(" ") if tag != "O"]


def test_a_pipeline_needs_no_fastprune_where_its_file_is_trusted(tiny_model: Path, tmp_path: Path) -> None:
    from fastprune.app.finetune.model import build_model

    data = data_of("classification")
    encoder, tokenizer, _ = load_encoder(str(tiny_model))
    build_model(encoder, data).save_pretrained(tmp_path / "m")
    tokenizer.save_pretrained(tmp_path / "m")
    program = (
        "import sys, transformers; answer = transformers.pipeline('text-classification', sys.argv[1], "
        "trust_remote_code=True)('play jazz'); assert 'fastprune' not in sys.modules; print(answer[0]['label'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "m")],
        capture_output=True,
        text=True,
        env={"PATH": "", "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf"), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in ("BookFlight", "PlayMusic")


def test_a_model_takes_no_data_of_another_task(trained: tuple[str, TextData, Path]) -> None:
    kind, _, out = trained
    model = load_finetuned(str(out))
    other = split_of("regression" if kind != "regression" else "classification", 5, 1)
    with pytest.raises(
        UsageError, match=f"--model .* (is for {model.kind}, and the data are for|predicts a tag for each)"
    ):
        model.fit(other)


def test_more_than_one_unlabelled_split(tiny_model: Path, tmp_path: Path) -> None:
    data = data_of("classification")
    blind = data.unlabelled["blind"]
    data = replace(data, unlabelled={"test_matched": blind, "test_mismatched": blind})
    training = replace(TRAINING, epochs=1)
    specs = plan_runs(["full"], [0.5], [0], rows=range(60), training=training, compare=False)
    finetune(data, str(tiny_model), specs, training, tmp_path / "run")
    written = sorted(path.name for path in (tmp_path / "run").glob("predictions*"))
    assert written == ["predictions_test_matched.tsv", "predictions_test_mismatched.tsv"]
    assert json.loads((tmp_path / "run" / "config.json").read_text())["best"] is None
