"""`fastprune score`: what it writes against a plain computation, for every kind of model folder."""

import csv
import json

import numpy as np
import pyarrow.parquet as parquet
import pytest
import torch
from helpers.made_up_data import CITIES, utterances
from torch.nn.functional import cross_entropy
from transformers import AutoTokenizer

import fastprune
from fastprune.app.cli import main
from fastprune.app.data import load
from fastprune.files.score_files import read_scores

METRICS = ["el2n", "loss", "margin", "confidence", "entropy", "correct", "grand"]


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def cli(capsys, *arguments):
    """(exit status, standard output, standard error) of a command in this process."""
    status = main([str(a) for a in arguments])
    said = capsys.readouterr()
    return status, said.out, said.err


def score(capsys, model, data, out, *more):
    return cli(
        capsys,
        "score",
        "--model",
        model,
        "--data",
        data,
        "--out",
        out,
        "--precision",
        "fp32",
        "--batch-size",
        16,
        *more,
    )


@pytest.fixture(scope="module")
def run_folder(joint_folder, tiny_model, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    assert 0 == main(
        ["finetune", "--data", str(joint_folder), "--model", str(tiny_model), "--out", str(out), "--precision", "fp32"]
        + ["--epochs", "2", "--lr", "3e-3", "--batch-size", "8"]
    )
    return out


def classifier(folder, tiny_model, kind, labels, **config):
    """A finetuned-looking model folder in Hugging Face form, with weights that matter."""
    import transformers

    torch.manual_seed(1)
    settings = transformers.BertConfig.from_pretrained(tiny_model, num_labels=len(labels) or 1, **config)
    if labels:
        settings.id2label = dict(enumerate(labels))
        settings.label2id = {label: i for i, label in enumerate(labels)}
    model = getattr(transformers, kind)(settings)
    torch.nn.init.normal_(model.classifier.weight)
    model.save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(tiny_model).save_pretrained(folder)
    return folder, model.eval()


def plain(metric, logits, label):
    """The definition of a metric of one row, in double."""
    logits = logits.double()
    p = logits.softmax(-1)
    others = torch.cat([logits[:label], logits[label + 1 :]])
    onehot = torch.zeros_like(p)
    onehot[label] = 1
    return {
        "el2n": (p - onehot).norm(),
        "loss": -p[label].log(),
        "margin": logits[label] - others.max(),
        "confidence": p[label],
        "entropy": -(p * p.log()).sum(),
        "correct": (logits[label] >= others.max()).double(),
    }[metric].item()


def joint_rows(run_folder, joint_folder):
    """Per example (logits of the intent, its class, logits of the words' first tokens, their tags, gradient norm)."""
    data = load(str(joint_folder))
    model = fastprune.JointModel.from_pretrained(run_folder / "model").eval()
    tokenizer = AutoTokenizer.from_pretrained(run_folder / "model")
    heads = [*model.classifier.parameters(), *model.tagger.parameters()]
    rows = []
    for text, intent, tags in zip(data.train.texts, data.train.labels, data.train.tags, strict=True):
        inputs = tokenizer([text.split(" ")], is_split_into_words=True, return_tensors="pt")
        words = inputs.word_ids(0)
        first = [words.index(word) for word in range(len(tags))]
        encoder = model.encoder(**{k: v for k, v in inputs.items() if k != "token_type_ids"})
        states = encoder.last_hidden_state[0].detach()
        z_intent = model.classifier(states.mean(0))
        z_slots = model.tagger(states)[first]
        y, ys = model.config.label2id[intent], [model.config.tag_names.index(tag) for tag in tags]
        loss = cross_entropy(z_intent[None], torch.tensor([y])) + cross_entropy(
            z_slots, torch.tensor(ys), reduction="sum"
        )
        gradients = torch.autograd.grad(loss, heads)
        norm = torch.stack([g.square().sum() for g in gradients]).sum().sqrt().item()
        rows.append((z_intent.detach(), y, z_slots.detach(), ys, norm))
    return rows


def test_a_joint_model_is_scored_as_documented(capsys, run_folder, joint_folder, tmp_path):
    status, out, _ = score(capsys, run_folder, joint_folder, tmp_path / "s.parquet", "--metrics", *METRICS)
    assert status == 0 and "80 examples scored by el2n, loss" in out
    table = parquet.read_table(tmp_path / "s.parquet").to_pydict()
    assert list(table) == ["index", "row", *METRICS, "score", "label"]
    assert table["index"] == list(range(80)) and table["score"] == table["el2n"]
    for i, (z, y, zs, ys, norm) in enumerate(joint_rows(run_folder, joint_folder)):

        def words(metric, zs=zs, ys=ys):
            return [plain(metric, row, tag) for row, tag in zip(zs, ys, strict=True)]

        expected = {
            "el2n": np.sqrt(plain("el2n", z, y) ** 2 + sum(s**2 for s in words("el2n"))),
            "loss": 0.5 * plain("loss", z, y) + 0.5 * sum(words("loss")),
            "correct": min(plain("correct", z, y), *words("correct")),
            "grand": norm,
        }
        for metric in ("margin", "confidence", "entropy"):
            expected[metric] = (plain(metric, z, y) + np.mean(words(metric))) / 2
        assert {m: table[m][i] for m in METRICS} == pytest.approx(expected, rel=2e-4, abs=2e-5), i
    assert table["label"] == load(str(joint_folder)).train.labels


def test_the_three_kinds_of_file_hold_the_same_numbers_and_static_reads_them(
    capsys, run_folder, joint_folder, tmp_path
):
    scores = []
    for kind in ("parquet", "csv", "jsonl"):
        path = tmp_path / f"s.{kind}"
        assert score(capsys, run_folder / "model", joint_folder, path, "--metrics", "loss", "el2n")[0] == 0
        scores.append((read_scores(path), read_scores(path, "loss"), read_scores(path, "el2n")))
    for first, loss, el2n in scores:
        np.testing.assert_array_equal(first, loss)
        np.testing.assert_array_equal(loss, scores[0][1])
        np.testing.assert_array_equal(el2n, scores[0][2])
    assert (scores[0][1] != scores[0][2]).any()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s.csv", "s.jsonl", "s.parquet"]


def test_a_sequence_classifier_numbers_the_labels_its_own_way(capsys, table_file, tiny_model, tmp_path):
    # The data would number them the other way round.
    names = ["PlayMusic", "BookFlight", "Other"]
    folder, model = classifier(tmp_path / "m", tiny_model, "BertForSequenceClassification", names)
    metrics = [m for m in METRICS if m != "grand"]
    assert score(capsys, folder, table_file, tmp_path / "s.parquet", "--metrics", *metrics)[0] == 0
    table = parquet.read_table(tmp_path / "s.parquet").to_pydict()
    rows = [json.loads(line) for line in table_file.read_text().splitlines()]
    assert table["row"] == list(range(60)), "every row of the file is scored"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for i, (text, label) in enumerate((row["text"], row["label"]) for row in rows):
        inputs = tokenizer(text, return_tensors="pt")
        logits = model(inputs["input_ids"], inputs["attention_mask"]).logits[0].detach()
        expected = {m: plain(m, logits, names.index(label)) for m in metrics}
        assert {m: table[m][i] for m in metrics} == pytest.approx(expected, rel=2e-4, abs=2e-5), i


def test_a_token_classifier_is_scored_over_the_words(capsys, joint_folder, tiny_model, tmp_path):
    names = ["B-genre", "O", "B-city"]
    folder, model = classifier(tmp_path / "m", tiny_model, "BertForTokenClassification", names)
    assert score(capsys, folder, joint_folder, tmp_path / "s.csv", "--metrics", "el2n", "confidence")[0] == 0
    found, confidence = read_scores(tmp_path / "s.csv"), read_scores(tmp_path / "s.csv", "confidence")
    data = load(str(joint_folder)).train
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for i, (text, tags) in enumerate(zip(data.texts, data.tags, strict=True)):
        inputs = tokenizer(text, return_tensors="pt")
        logits = model(inputs["input_ids"], inputs["attention_mask"]).logits[0, 1:-1].detach()
        pieces = [(z, names.index(tag)) for z, tag in zip(logits, tags, strict=True)]
        assert found[i] == pytest.approx(np.sqrt(sum(plain("el2n", z, y) ** 2 for z, y in pieces)), rel=2e-4)
        assert confidence[i] == pytest.approx(np.mean([plain("confidence", z, y) for z, y in pieces]), rel=2e-4)


def test_a_model_without_names_takes_labels_that_are_numbers(capsys, tiny_model, tmp_path):
    folder, _ = classifier(tmp_path / "m", tiny_model, "BertForSequenceClassification", ["LABEL_0", "LABEL_1"])
    rows = [{"text": words, "label": int("city" in tags)} for words, tags, _ in utterances(30, seed=5)]
    (tmp_path / "numbers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert score(capsys, folder, tmp_path / "numbers.jsonl", tmp_path / "s.csv")[0] == 0
    names = [{**row, "label": CITIES[row["label"]]} for row in rows]
    (tmp_path / "names.jsonl").write_text("".join(json.dumps(row) + "\n" for row in names))
    status, _, said = score(capsys, folder, tmp_path / "names.jsonl", tmp_path / "t.csv")
    assert status == 2 and "does not know 2 labels of the data (boston, denver); it knows LABEL_0, LABEL_1" in said
    assert not (tmp_path / "t.csv").exists()


def test_what_is_no_classifier_is_refused(capsys, joint_folder, table_file, tiny_model, tmp_path):
    two, _ = classifier(tmp_path / "two", tiny_model, "BertForSequenceClassification", ["BookFlight", "PlayMusic"])
    tokens, _ = classifier(tmp_path / "t", tiny_model, "BertForTokenClassification", ["O", "B-city", "B-genre"])
    older = tmp_path / "older"
    older.mkdir()
    (older / "config.json").write_text((tiny_model / "config.json").read_text())
    (older / "heads.safetensors").write_bytes(b"")
    numbers = tmp_path / "numbers.jsonl"
    numbers.write_text("".join(json.dumps({"text": "play jazz", "label": i / 7}) + "\n" for i in range(40)))
    cases = [
        (tiny_model, joint_folder, (), "BertModel"),
        (tokens, table_file, (), "--tags-column"),
        (tokens, joint_folder, ("--dynamics", tmp_path / "d"), "is for tokens"),
        (two, numbers, (), "does not know"),
        (older, joint_folder, (), "heads.safetensors is of version 0.1.0"),
        (tmp_path / "none", joint_folder, (), "neither a model folder nor a reachable hub id"),
        (tiny_model, joint_folder, ("--batch-size", 0), "--batch-size must be >= 1"),
    ]
    for model, data, more, named in cases:
        status, _, said = score(capsys, model, data, tmp_path / "s.csv", *more)
        assert status == 2 and named in said, (named, said)
    assert score(capsys, tiny_model, joint_folder, tmp_path / "s.txt")[2].count("a score file ends in") == 1
    assert "make it first" in score(capsys, tiny_model, joint_folder, tmp_path / "no" / "s.csv")[2]
    assert not (tmp_path / "s.csv").exists()


def test_scoring_adds_epochs_to_training_dynamics(capsys, run_folder, joint_folder, tmp_path):
    for _ in range(2):
        status, said, _ = score(
            capsys,
            run_folder,
            joint_folder,
            tmp_path / "s.csv",
            "--metrics",
            "confidence",
            "--dynamics",
            tmp_path / "d",
        )
        assert status == 0 and "scored by confidence" in said
    files = sorted((tmp_path / "d" / "training_dynamics").iterdir())
    assert [path.name for path in files] == ["dynamics_epoch_0.jsonl", "dynamics_epoch_1.jsonl"]
    lines = [json.loads(line) for line in files[1].read_text().splitlines()]
    assert [line["guid"] for line in lines] == list(range(80))
    for line, (z, y, *_) in zip(lines, joint_rows(run_folder, joint_folder), strict=True):
        assert set(line) == {"guid", "logits_epoch_1", "gold"} and line["gold"] == y
        assert line["logits_epoch_1"] == pytest.approx(z.tolist(), rel=1e-3, abs=1e-5)


def test_the_score_of_a_file_is_larger_where_more_is_left_to_learn(capsys, run_folder, joint_folder, tmp_path):
    """So that `select` and ``--method static:`` keep the hard ones, whichever metric it is."""
    assert score(capsys, run_folder, joint_folder, tmp_path / "s.csv", "--metrics", "confidence", "el2n")[0] == 0
    with (tmp_path / "s.csv").open() as file:
        table = list(csv.DictReader(file))
    assert all(float(row["score"]) == -float(row["confidence"]) for row in table)
    kept = tmp_path / "kept.csv"
    status, _, said = cli(capsys, "select", tmp_path / "s.csv", "--keep-fraction", 0.25, "--out", kept)
    assert status == 0, said
    with kept.open() as file:
        hard = {int(row["index"]) for row in csv.DictReader(file)}
    confident = [float(row["confidence"]) for row in table]
    assert max(confident[i] for i in hard) <= min(c for i, c in enumerate(confident) if i not in hard)
