"""Every public form: the right task, the right metric, the right rows; and the table of them in the documentation."""

from pathlib import Path

import pytest
from helpers.public_forms import FORMS, GLUE, N, write_rows

from fastprune.app.data import Source, load, load_rows
from fastprune.errors import UsageError

PAGE = Path(__file__).parents[3] / "docs" / "data.md"
EXPECTED = {
    "SlotGated, joint (ATIS, SNIPS)": ("joint", "exact_match", {"validation": N, "test": N}),
    "SlotGated, intents (HWU64)": ("classification", "accuracy", {"validation": N, "test": N}),
    "Tables (Banking77)": ("classification", "accuracy", {"test": N}),
    "Label and text in a line (TREC)": ("classification", "accuracy", {"test": N}),
    "MASSIVE": ("joint", "exact_match", {"validation": N, "test": N}),
    "SLURP": ("joint", "exact_match", {"validation": N, "test": N}),
    "CLINC150": ("classification", "accuracy", {"validation": N + 4, "test": N + 4}),
    "CoNLL columns (CoNLL-2003, WNUT17)": ("tokens", "span_f1", {"validation": N, "test": N}),
    "GoEmotions": ("multi-label", "micro_f1", {"validation": N, "test": N}),
    "TweetEval": ("classification", "accuracy", {"validation": N, "test": N}),
    **{f"GLUE {name}": ("classification", "accuracy", {"validation": N}) for name in GLUE},
    "GLUE cola": ("classification", "matthews", {"validation": N}),
    "GLUE mrpc": ("classification", "f1", {"validation": N}),
    "GLUE qqp": ("classification", "f1", {"validation": N}),
    "GLUE stsb": ("regression", "pearson", {"validation": N}),
    "GLUE mnli": ("classification", "accuracy", {"validation_matched": N, "validation_mismatched": N}),
}
PAIRS = {"GLUE mrpc", "GLUE qqp", "GLUE stsb", "GLUE mnli", "GLUE qnli", "GLUE rte", "GLUE wnli"}


@pytest.fixture(params=FORMS)
def form(request, tmp_path):
    """(name, data read, source)."""
    source = FORMS[request.param](tmp_path)
    return request.param, load(source), source


def test_the_task_the_metric_and_the_splits_are_right(form):
    name, data, _ = form
    kind, metric, held_out = EXPECTED[name]
    assert (data.kind, data.metrics[0]) == (kind, metric)
    assert {role: len(split) for role, split in data.held_out.items()} == held_out
    assert data.reported == (("test",) if "test" in held_out else tuple(held_out))
    assert len(data.train) == {"MASSIVE": 2 * N, "CLINC150": N + 4}.get(name, N)
    assert (data.train.pairs is not None) == (name in PAIRS)
    assert not data.unseen.get("label") and not data.unseen.get("tag")
    if name.startswith("GLUE"):
        assert set(data.unlabelled) == ({"test_matched", "test_mismatched"} if name == "GLUE mnli" else {"test"})
        assert all(split.labels is None and len(split) == N for split in data.unlabelled.values())
    if name in ("GLUE mrpc", "GLUE qqp"):
        assert data.positive == "1"


def test_words_and_tags_of_annotated_texts(tmp_path):
    (tmp_path / "MASSIVE").mkdir(), (tmp_path / "SLURP").mkdir()
    massive = load(FORMS["MASSIVE"](tmp_path / "MASSIVE")).train
    words = massive.texts[0].split(" ")
    assert massive.tags[0] == ["B-what", *["O"] * (len(words) - 1)]
    slurp = load(FORMS["SLURP"](tmp_path / "SLURP")).train
    assert slurp.tags[1][:3] == ["B-what", "I-what", "O"] and set(slurp.tags[0]) == {"O"}
    assert slurp.ids[:2] == ["0", "1"]


@pytest.mark.parametrize(
    ("line", "words", "tags"),
    [
        ("[a : b c] d", ["b", "c", "d"], ["B-a", "I-a", "O"]),
        ("x [a : b][c : d]", ["x", "b", "d"], ["O", "B-a", "B-c"]),
        ("plain words", ["plain", "words"], ["O", "O"]),
    ],
)
def test_annotations_of_massive(tmp_path, line, words, tags):
    from helpers.public_forms import write_json_lines

    row = {"annot_utt": line, "utt": "u", "intent": "i", "partition": "train"}
    write_json_lines(tmp_path / "m.jsonl", [row, {**row, "intent": "j"}, {**row, "partition": "test"}])
    data = load(str(tmp_path / "m.jsonl"))
    assert (data.train.texts[0].split(" "), data.train.tags[0]) == (words, tags)
    write_json_lines(tmp_path / "bad.jsonl", [row, {**row, "annot_utt": "[a : b"}])
    with pytest.raises(UsageError, match=r"bad.jsonl, line 2: a bracket of"):
        load(str(tmp_path / "bad.jsonl"))


def test_marks_of_other_schemes_become_bio(tmp_path):
    lines = "a S-x\nb O\nc B-y\nd E-y\n\ne U-z\nf B-w\ng L-w\n"
    for role in ("train", "test"):
        (tmp_path / f"{role}.conll").write_text(lines)
    data = load(str(tmp_path))
    assert data.train.tags == [["B-x", "O", "B-y", "I-y"], ["B-z", "B-w", "I-w"]]


def test_a_line_without_its_tag_is_named(tmp_path):
    good = "".join(f"w{i} O\n\n" for i in range(60))
    (tmp_path / "train.conll").write_text(good + "lonely\n")
    with pytest.raises(UsageError, match=r"train.conll, line 121: no BIO tag"):
        load(str(tmp_path))


def test_a_table_in_a_txt_file_is_a_table(tmp_path):
    for role in ("train", "test"):
        write_rows(
            tmp_path / f"{role}.txt",
            ("Quality", "#1 ID", "#1 String", "#2 String"),
            [(i % 2, i, "a b", "c") for i in range(9)],
        )
    data = load(str(tmp_path))
    assert data.train.pairs[:1] == ["c"] and data.label_names == ["0", "1"]


def test_sentences_are_not_taken_for_labelled_lines(tmp_path):
    lines = ["what is the time", "how do i cook rice", "what is rice", "how old is it"] * 5
    (tmp_path / "questions.txt").write_text("\n".join(lines) + "\n")
    rows, notes = load_rows(Source(data=str(tmp_path / "questions.txt")), "classification")
    assert rows.texts == lines and rows.labels is None and notes == ()
    for mark in ("DESC:def {}", "HUM\t{}", "__label__x {}", "1 {}"):
        other = mark.replace("DESC", "NUM").replace("HUM", "LOC").replace("__x", "__y").replace("1", "2")
        text = "".join(f"{(mark, other)[i % 2].format(line)}\n" for i, line in enumerate(lines))
        (tmp_path / "train.txt").write_text(text)
        rows, _ = load_rows(Source(data=str(tmp_path / "train.txt")), "classification", labels_needed=True)
        assert rows.texts == lines and len(set(rows.labels)) == 2, mark


def test_comments_between_sentences_of_a_conll_file(tmp_path):
    for role in ("train", "test"):
        (tmp_path / f"{role}.conll").write_text("# id 1\nParis B-LOC\nis O\n\n# id 2\n# O\nRome B-LOC\n")
    assert load(str(tmp_path)).train.texts == ["Paris is", "# Rome"]


def test_glue_reads_its_own_files_and_no_others(tmp_path):
    """MRPC's folder also holds Microsoft's files, of which GLUE's are a part."""
    source = FORMS["GLUE mrpc"](tmp_path)
    before = load(source)
    names = ("Quality", "#1 ID", "#2 ID", "#1 String", "#2 String")
    rows = [(i % 2, i, i, f"other {i}", "text") for i in range(9)]
    for name in ("msr_paraphrase_train.txt", "msr_paraphrase_test.txt"):
        write_rows(tmp_path / name, names, rows)
    (tmp_path / "dev_ids.tsv").write_text("1\t2\n")
    assert load(source) == before
    for name in ("train.tsv", "dev.tsv", "test.tsv"):
        (tmp_path / name).unlink()
    assert len(load(source).train) == 9


def test_the_documentation_lists_every_form():
    """The rows of its table are those of this test's own table."""
    text = PAGE.read_text(encoding="utf-8")
    for name, (kind, metric, _) in EXPECTED.items():
        task = f"pair, {kind}" if name in PAIRS else kind
        assert f"| {name} | {task} | {metric.replace('_', ' ')} |" in text, name


def test_a_word_of_slurp_that_is_no_text_is_refused(tmp_path):
    """`make soak` met a traceback over it."""
    source = FORMS["SLURP"](tmp_path)
    train = tmp_path / "train.jsonl"
    train.write_text(train.read_text().replace('"surface": "', '"surface": null, "other": "', 1))
    with pytest.raises(UsageError, match=r"tokens and entities are not SLURP's .*a surface is no text"):
        load(source)
