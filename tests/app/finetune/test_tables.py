"""Predictions as files: what our own reader reads back."""

import numpy as np
import pytest

from fastprune.app.data.builders import read_table
from fastprune.app.finetune.tables import write_table

LABELS = ['say "hi"', "two\twords", "two\nlines", "plain"]


@pytest.mark.parametrize("name", ["a.tsv", "a.csv", "a.jsonl", "a.parquet"])
def test_predictions_read_as_they_were_written(tmp_path, name):
    columns = {
        "row": np.arange(4),
        "prediction": np.array(LABELS, dtype=object),
        "probability": np.full(4, 0.1, np.float32),
    }
    write_table(tmp_path / name, columns)
    table = read_table(tmp_path / name)
    # A tab-separated file has no quotes: what would end a cell is a blank in it.
    wanted = [" ".join(label.split()) for label in LABELS] if name == "a.tsv" else LABELS
    assert table.columns["prediction"] == wanted and table.columns["row"] == ["0", "1", "2", "3"]
    assert [float(cell) for cell in table.columns["probability"]] == pytest.approx([0.1] * 4)
