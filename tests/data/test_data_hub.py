"""Hub ids, with `datasets.load_dataset` replaced by local data sets."""

import sys

import pytest

from fastprune.data import Source, load
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
