"""Hub ids, with `datasets.load_dataset` replaced by local data sets."""

import sys

import pytest

from fastprune.app.data import Source, load
from fastprune.errors import UsageError

datasets = pytest.importorskip("datasets")


@pytest.fixture
def hub(monkeypatch):
    """Give `hub(splits)` to answer every lookup with them; the calls are collected in `hub.calls`."""

    def answer_with(splits):
        def load_dataset(*arguments):
            calls.append(arguments)
            if isinstance(splits, Exception):
                raise splits
            return splits

        monkeypatch.setattr(datasets, "load_dataset", load_dataset)

    calls = answer_with.calls = []
    return answer_with


def table(texts, labels, names=("neg", "pos")):
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=list(names))})
    return datasets.Dataset.from_dict({"text": texts, "label": labels}, features=features)


def test_class_numbers_become_names(hub):
    hub(datasets.DatasetDict(train=table(["a", "b"], [1, 0]), test=table(["c"], [1])))
    data = load("owner/reviews:plain")
    assert hub.calls == [("owner/reviews", "plain")]
    assert data.name == "owner/reviews:plain"
    assert data.train.labels == ["pos", "neg"] and data.test.labels == ["pos"]


def test_withheld_test_labels_fall_back_to_validation(hub):
    hub({"train": table(["a", "b"], [1, 0]), "validation": table(["v"], [0]), "test": table(["t"], [-1])})
    data = load("sst2")
    assert hub.calls == [("sst2", None)]
    assert data.reported == ("validation",) and data.test.texts == ["v"]
    assert data.unlabelled["test"].texts == ["t"] and data.unlabelled["test"].labels is None


def test_no_test_split_holds_out_a_tenth(hub):
    hub({"train": table([f"t{i}" for i in range(100)], [i % 2 for i in range(100)])})
    data = load("sst2")
    assert any("held out for one" in note for note in data.notes)
    assert 9 <= len(data.test) <= 10


def test_tokens_tags_and_pairs(hub):
    features = datasets.Features(
        {
            "tokens": datasets.Sequence(datasets.Value("string")),
            "tags": datasets.Sequence(datasets.ClassLabel(names=["O", "B-x", "I-x"])),
            "second": datasets.Value("string"),
            "intent": datasets.Value("string"),
        }
    )
    rows = {
        "tokens": [["go", "new york"], ["stay"]],
        "tags": [[0, 1], [0]],
        "second": ["p", "q"],
        "intent": ["trip", "no"],
    }
    split = datasets.Dataset.from_dict(rows, features=features)
    hub({"train": split, "test": split})
    data = load(Source(data="trips", pair_column="second"))
    assert data.train.texts == ["go new\u00a0york", "stay"]
    assert data.train.tags == [["O", "B-x"], ["O"]]
    assert data.train.pairs == ["p", "q"] and data.kind == "joint"


def test_failed_lookup_is_one_sentence(hub):
    hub(ConnectionError("Couldn't reach it\nlong story"))
    with pytest.raises(UsageError) as error:
        load("no/such")
    assert "neither such a path nor a hub data set" in str(error.value)
    assert "'no/such'" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("path", ["./nope", "/x/y/z", "a b", "a/b/c", "~nobody/x"])
def test_paths_never_reach_the_hub(hub, path):
    hub({})
    with pytest.raises(UsageError, match="neither such a path"):
        load(path)
    assert hub.calls == []


def test_no_train_split_and_unknown_column(hub):
    hub({"test": table(["a"], [0])})
    with pytest.raises(UsageError, match="no training split, only test"):
        load("sst2")
    hub({"train": table(["a"], [0])})
    with pytest.raises(UsageError, match="no column --text-column 'body': choose one of 'text', 'label'"):
        load(Source(data="sst2", text_column="body"))


def test_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UsageError, match=r"pip install 'fastprune\[demo\]'"):
        load("sst2")


def of(rows, **features):
    kinds = {"text": datasets.Value("string"), "float": datasets.Value("float32"), "int": datasets.Value("int64")}
    return datasets.Dataset.from_dict(
        rows, features=datasets.Features({k: kinds[v] if isinstance(v, str) else v for k, v in features.items()})
    )


def names(*classes):
    return datasets.ClassLabel(names=list(classes))


PAIR = {"sentence1": [f"a{i}" for i in range(8)], "sentence2": [f"b{i}" for i in range(8)]}
TEXT = {"sentence1": "text", "sentence2": "text"}
TWO, WITHHELD = [i % 2 for i in range(8)], [-1] * 8
PARAPHRASES = {"features": {**TEXT, "label": names("not_equivalent", "equivalent"), "idx": "int"}}
HUB_FORMS = {
    "glue mrpc": (
        {"train": TWO, "validation": TWO, "test": TWO},
        {**PAIR, "idx": range(8)},
        PARAPHRASES["features"],
        "glue/mrpc",
        ("classification", "f1", ("test",)),
    ),
    "glue stsb": (
        {"train": [i / 3 for i in range(8)], "validation": [1.5] * 8, "test": [-1.0] * 8},
        PAIR,
        {**TEXT, "label": "float"},
        "glue/stsb",
        ("regression", "pearson", ("validation",)),
    ),
    "glue mnli": (
        {"train": [0, 1, 2] * 2 + [0, 1], "validation_matched": TWO, "validation_mismatched": TWO,
         "test_matched": WITHHELD, "test_mismatched": WITHHELD},
        {"premise": PAIR["sentence1"], "hypothesis": PAIR["sentence2"]},
        {"premise": "text", "hypothesis": "text", "label": names("entailment", "neutral", "contradiction")},
        "glue/mnli",
        ("classification", "accuracy", ("validation_matched", "validation_mismatched")),
    ),
    "go_emotions": (
        {"train": [[0], [1, 2], [2], [0, 1]] * 2, "validation": [[0]] * 8, "test": [[1]] * 8},
        {"text": PAIR["sentence1"], "id": PAIR["sentence2"]},
        {"text": "text", "label": datasets.Sequence(names("joy", "anger", "fear")), "id": "text"},
        None,
        ("multi-label", "micro_f1", ("test",)),
    ),
    "conll2003": (
        {"train": [[0, 1]] * 8, "test": [[1, 0]] * 8},
        {"tokens": [["Ann", "sings"]] * 8},
        {"tokens": datasets.Sequence(datasets.Value("string")), "ner_tags": datasets.Sequence(names("O", "B-PER"))},
        None,
        ("tokens", "span_f1", ("test",)),
    ),
    "banking77": (
        {"train": [i % 40 for i in range(80)], "test": TWO},
        {"text": [f"t{i}" for i in range(80)]},
        {"text": "text", "label": names(*(f"c{i:02}" for i in range(40)))},
        None,
        ("classification", "accuracy", ("test",)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HUB_FORMS)
def test_hub_forms_have_the_right_task_and_metric(hub, name):
    labels, columns, features, task, (kind, metric, reported) = HUB_FORMS[name]
    column = next(key for key in features if key not in columns)
    hub(
        datasets.DatasetDict(
            {
                role: of({**{k: list(v)[: len(of_role)] for k, v in columns.items()}, column: of_role}, **features)
                for role, of_role in labels.items()
            }
        )
    )
    data = load(Source(data="owner/name", task=task))
    assert (data.kind, data.metrics[0], data.reported) == (kind, metric, reported)
    assert set(data.unlabelled) == {
        role for role, of_role in labels.items() if set(map(str, of_role)) <= {"-1", "-1.0"}
    }
    if name == "glue mrpc":
        assert data.positive == "equivalent" and data.train.pairs is not None


def test_a_glue_task_alone_is_that_of_the_hub(hub):
    hub({"train": table([f"t{i}" for i in range(8)], TWO), "validation": table(["v"], [0])})
    load(Source(task="glue/sst2"))
    assert hub.calls == [("nyu-mll/glue", "sst2")]
