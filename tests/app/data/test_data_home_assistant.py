"""The packaged default data: size, balance, tags, honesty of the split, determinism."""

import subprocess
import sys
from collections import Counter

import pytest

from fastprune.app.data import Source, load
from fastprune.app.data.home_assistant import balanced_counts, generate, number_words, tag_words
from fastprune.errors import UsageError

pytest.importorskip("hassil")
pytest.importorskip("home_assistant_intents")


@pytest.fixture(scope="module")
def data():
    return load(None)


def test_size_and_balance(data):
    assert data.kind == "joint" and data.validation is None
    assert 5_500 <= len(data.train) <= 6_000 and 1_300 <= len(data.test) <= 1_500
    train, test = Counter(data.train.labels), Counter(data.test.labels)
    assert len(train) >= 15 and len(data.tag_names) >= 30
    assert max(train.values()) <= 0.05 * len(data.train)
    assert sum(n >= 100 for n in train.values()) >= 30
    assert sum(n >= 20 for n in test.values()) >= 30
    assert data.unseen == {"label": {}, "tag": {}}


def test_train_and_test_share_no_utterance(data):
    texts = [" ".join(text.lower().split()) for text in data.train.texts + data.test.texts]
    assert len(set(texts)) == len(texts)


def test_tags_are_valid_bio(data):
    for split in (data.train, data.test):
        for text, tags in zip(split.texts, split.tags, strict=True):
            assert len(text.split(" ")) == len(tags)
            for before, tag in zip(["O", *tags], tags, strict=False):
                if tag.startswith("I-"):
                    assert before[2:] == tag[2:] and before != "O", (text, tags)


def test_texts_are_clean(data):
    for text in data.train.texts + data.test.texts:
        assert text == " ".join(text.lower().split())
        assert not set(text) & set("{}<>[]()|;"), text


def test_test_split_holds_values_train_never_saw(data):
    def values(split, slot):
        found = set()
        for text, tags in zip(split.texts, split.tags, strict=True):
            words = [w for w, t in zip(text.split(" "), tags, strict=True) if t[2:] == slot]
            found.add(" ".join(words))
        return found

    assert len(values(data.test, "area") - values(data.train, "area")) >= 5
    assert len(values(data.test, "search_query") - values(data.train, "search_query")) >= 3


def test_same_again_here_and_in_a_fresh_interpreter(data, capfd):
    again = load(None)
    assert again == data
    assert capfd.readouterr() == ("", "")
    # Another hash seed: no result may hang on the order of a set.
    code = (
        "from fastprune.app.data import Source, load; d = load(None); import hashlib; "
        "print(d.fingerprint, hashlib.sha256(repr(d.test).encode()).hexdigest())"
    )
    out = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONHASHSEED": "7", "PYTHONPATH": ":".join(p for p in sys.path if p)},
        capture_output=True,
        text=True,
        check=True,
    )
    import hashlib

    assert out.stdout.split() == [data.fingerprint, hashlib.sha256(repr(data.test).encode()).hexdigest()]
    assert out.stderr == ""


def grammar(sentences, order=1, **more):
    from hassil.intents import Intents

    items = list(sentences.items())[::order]
    return Intents.from_dict(
        {
            "language": "en",
            "intents": {name: {"data": [{"sentences": [text]} for text in texts[::order]]} for name, texts in items},
            "lists": {
                "pct": {"range": {"from": 0, "to": 100}},
                "col": {"values": ["[light ]blue", "(red|ruby)"]},
            },
            "expansion_rules": {"set": "(set|make)"},
            **more,
        }
    )


TOY = {
    "Light": ["<set> [the] {area} light to {pct:brightness}[%| percent]", "({name};{col:color}) now"],
    "Say": ["tell everyone {message}"],
}


def test_toy_grammar_tags_follow_the_template():
    train, test = generate(grammar(TOY), 200, 50)
    assert len(train) == 200 and 20 <= len(test) <= 50
    tags_of = dict(zip(train.texts + test.texts, train.tags + test.tags, strict=True))
    for text, tags in tags_of.items():
        words = text.split(" ")
        if words[:2] == ["tell", "everyone"]:
            rest = tags[2:-1] if tags[-1] == "O" else tags[2:]  # a "please" may close it
            assert rest and rest == ["B-message"] + ["I-message"] * (len(rest) - 1)
        if "to" in words and "light" in words:
            after = words.index("to") + 1
            assert tags[after] == "B-brightness"
            assert tags[words.index("to") - 2][2:] == "area"
    assert any("%" in text for text in tags_of)
    assert any(text.startswith(("red ", "ruby ", "blue ")) for text in tags_of)
    assert any(" blue now" in text for text in tags_of)


def test_order_of_the_package_does_not_matter():
    assert generate(grammar(TOY), 100, 25) == generate(grammar(TOY, order=-1), 100, 25)


def test_unknown_list_is_named():
    with pytest.raises(UsageError, match="{planet}"):
        generate(grammar({"Go": ["fly to {planet}"]}), 10, 5)


def test_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "home_assistant_intents", None)
    with pytest.raises(UsageError, match=r"home_assistant_intents.*pip install 'fastprune\[demo\]'"):
        load(None)


def test_no_columns_and_no_seed():
    with pytest.raises(UsageError, match="--label-column x was given, but the packaged"):
        load(Source(label_column="x"))


def test_words_take_the_tag_of_the_slot_that_reaches_into_them():
    pieces = [
        ("Set  ", None),
        ("Desk Lamp", "name"),
        ("reading light", "name"),
        (" to ", None),
        ("20", "b"),
        ("%", None),
    ]
    # Glued values: "lampreading" belongs to the value it starts with.
    assert tag_words(pieces) == (
        "set desk lampreading light to 20%",
        ("O", "B-name", "I-name", "B-name", "O", "B-b"),
    )
    assert tag_words([("a", "x"), (" ", None), ("b c", "x")]) == ("a b c", ("B-x", "B-x", "I-x"))


def test_quotas_fill_up_evenly():
    assert balanced_counts({"a": 2, "b": 50, "c": 50}, 30) == {"a": 2, "b": 14, "c": 14}
    assert balanced_counts({"a": 2, "b": 3}, 30) == {"a": 2, "b": 3}
    assert sum(balanced_counts({"a": 7, "b": 9, "c": 11}, 20).values()) == 20


@pytest.mark.parametrize(("n", "words"), [(0, "zero"), (13, "thirteen"), (40, "forty"), (99, "ninety nine")])
def test_number_words(n, words):
    assert number_words(n) == words
