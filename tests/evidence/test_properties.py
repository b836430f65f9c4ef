"""Properties come from the training texts alone, and stand beside what was gained."""

from __future__ import annotations

import pytest
import torch
from helpers.made_up_lines import line_of
from helpers.tiny_runs import tiny_run

from benchmarks.evidence.gains import gains, learned_early
from benchmarks.evidence.properties import near_share, properties, read_properties, write_properties
from benchmarks.evidence.results import append
from benchmarks.evidence.table import write_table


def test_properties_of_a_prepared_data_set(prepared):
    found = properties(prepared)
    train = prepared.splits["train"]
    assert found["examples"] == len(train) and found["classes"] == len(set(train.gold_intents))
    assert 1 / found["classes"] <= found["largest_class"] < 1.0
    assert found["tokens"] == pytest.approx(float(train.lengths.double().mean()))
    assert 0.0 <= found["near"] <= 1.0 and found["spread"] > 0.0


def test_a_text_is_near_its_copy_and_not_near_itself():
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(1, 4000, (30, 12), generator=generator)
    lengths = torch.full((30,), 12)
    assert near_share(ids, lengths) == 0.0
    ids[7] = ids[3].flip(0)  # the same words in another order
    assert near_share(ids, lengths) == pytest.approx(2 / 30)


def test_padding_is_no_word():
    ids = torch.tensor([[5, 6, 0, 0, 0, 0], [7, 8, 0, 0, 0, 0], [9, 10, 11, 12, 13, 14]])
    assert near_share(ids, torch.tensor([2, 2, 6])) == 0.0
    assert near_share(ids, torch.tensor([6, 6, 6]), near=0.5) == pytest.approx(2 / 3)


DATA = ("atis", "snips", "commands")


def judged(data, lead):
    """Runs on a data set on which el2n-free is ``lead`` above short full."""
    full = line_of(tiny_run("full", data=data), figure=0.8)
    full["epochs"] = [{"epoch": 1, "exact_match": 0.4}, {"epoch": 2, "exact_match": 0.8}]
    rest = [("full", 0.7), ("rs2", 0.7), ("el2n-free", 0.7 + lead)]
    return [full, *(line_of(tiny_run(method, data=data, budget=0.5), figure=figure) for method, figure in rest)]


LINES = [line for i, data in enumerate(DATA) for line in judged(data, 0.01 * i)]
FOUND = {data: {"examples": 100 * (3 - i), "classes": 5 + i} for i, data in enumerate(DATA)}


def test_what_was_learned_early_is_a_share_of_the_end():
    assert learned_early(LINES) == {data: pytest.approx(0.5) for data in DATA}


def test_gains_stand_beside_properties(monkeypatch):
    assert gains(LINES, FOUND) == "", "three data sets say nothing"
    monkeypatch.setattr("benchmarks.evidence.gains.FEWEST", 3)
    text = gains(LINES, FOUND)
    assert "| atis | 300 | 5 | 50 | +0.0 | +0.0 |" in text
    assert "| commands | 100 | 7 | 50 | +2.0 | +2.0 |" in text
    assert "| *rank correlation with the lead over rs2* | -1.00 | +1.00 |  |  |  |" in text


def test_without_properties_the_page_has_no_such_table(tmp_path, monkeypatch):
    monkeypatch.setattr("benchmarks.evidence.gains.FEWEST", 3)
    assert gains(LINES, {}) == "" and read_properties(tmp_path) == {}
    for line in LINES:
        append(tmp_path / "some-cpu.jsonl", line)
    page = write_table(tmp_path)[0]
    assert "near a neighbour" not in page.read_text()
    write_properties(FOUND, tmp_path)
    assert read_properties(tmp_path) == FOUND
    write_table(tmp_path)
    assert "| snips | 200 | 6 | 50 | +1.0 | +1.0 |" in page.read_text()
