"""Training dynamics in files: Cartography's form, and what is computed from it, against its plain rule."""

import json

import numpy as np
import pytest
import torch

from fastprune.app.dynamics import count_epochs, read_dynamics, write_epoch
from fastprune.errors import UsageError


def lines(folder, epoch, rows):
    path = folder / "training_dynamics" / f"dynamics_epoch_{epoch}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"guid": guid, f"logits_epoch_{epoch}": logits, "gold": gold} for guid, logits, gold in rows]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def plain(logits, gold):
    """The rule of the published code, for one example's logits over the epochs."""
    p = [np.exp(z)[gold] / np.exp(z).sum() for z in np.array(logits)]
    right = [int(np.argmax(z)) == gold for z in logits]
    forgotten = sum(was and not now for was, now in zip(right, right[1:], strict=False))
    margins = [z[gold] - max(np.delete(z, gold)) for z in logits]
    return {
        "confidence": np.mean(p),
        "variability": np.std(p),
        "correctness": sum(right),
        "forgetting": forgotten if any(right) else len(logits),
        "aum": np.mean(margins),
    }


def test_the_columns_follow_the_published_rule_whatever_the_guids_and_their_order(tmp_path):
    rng = np.random.default_rng(0)
    guids = [2115631346111, 17, "263237638210r", 4, 99]
    logits = rng.normal(size=(6, 5, 3)).round(4)
    gold = [2, 0, 1, 1, 0]
    logits[:, 3, :] = [0.5, 0.1, 0.2]  # never right
    for epoch in range(6):
        order = rng.permutation(5) if epoch else range(5)
        lines(tmp_path, epoch, [(guids[i], logits[epoch, i].tolist(), gold[i]) for i in order])
    found = read_dynamics(tmp_path)
    assert found["index"].tolist() == [0, 1, 2, 3, 4] and found["guid"].tolist() == [str(g) for g in guids]
    for i in range(5):
        expected = plain(logits[:, i], gold[i])
        assert {name: found[name][i] for name in expected} == pytest.approx(expected, rel=1e-5, abs=1e-6), i
    assert found["forgetting"][3] == 6 and found["correctness"][3] == 0


def test_examples_that_an_epoch_leaves_out_count_over_the_others(tmp_path):
    kept, pruned = [[2.0, 0.0], [3.0, 0.0], [0.0, 1.0]], [[1.0, 0.0]]
    lines(tmp_path, 0, [(1, pruned[0], 0), (0, kept[0], 0)])
    lines(tmp_path, 1, [(0, kept[1], 0)])
    lines(tmp_path, 2, [(0, kept[2], 0)])
    found = read_dynamics(tmp_path)
    assert found["index"].tolist() == found["guid"].tolist() == [0, 1], "guids that number the examples are indices"
    for i, logits in ((0, kept), (1, pruned)):
        expected = plain(logits, 0)
        assert {name: found[name][i] for name in expected} == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert found["forgetting"].tolist() == [1, 0]


def test_what_is_written_is_the_published_form_and_reads_back(tmp_path):
    logits = torch.tensor([[1.25, -0.5], [0.1, 3e-7]])
    write_epoch(tmp_path, 0, torch.tensor([1, 0]), logits, torch.tensor([1, 0]))
    text = (tmp_path / "training_dynamics" / "dynamics_epoch_0.jsonl").read_text().splitlines()
    assert text[0] == '{"guid": 1, "logits_epoch_0": [1.25, -0.5], "gold": 1}'
    assert torch.tensor(json.loads(text[1])["logits_epoch_0"]).tolist() == pytest.approx(logits[1].tolist(), abs=1e-9)
    assert count_epochs(tmp_path) == 1
    assert read_dynamics(tmp_path)["aum"].tolist() == pytest.approx([0.1 - 3e-7, -1.75])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (['{"guid": 1, "gold": 0}'], "line 1: no line of training dynamics"),
        (['{"guid": 1, "logits_epoch_0": [1, 2], "gold": 2}'], "line 1: 2 logits and the class 2 do not fit"),
        (['{"guid": 1, "logits_epoch_0": [1, 2], "gold": 0}', "{"], "line 2: not JSON"),
        (['{"guid": 1, "logits_epoch_0": [1, NaN], "gold": 0}'], "do not fit"),
        (['{"guid": 1, "logits_epoch_0": [1, 2], "gold": 0}'] * 2, "two lines have the same guid"),
        ([], "holds no example"),
    ],
)
def test_damaged_files_are_named(tmp_path, rows, message):
    (tmp_path / "training_dynamics").mkdir()
    (tmp_path / "training_dynamics" / "dynamics_epoch_0.jsonl").write_text("\n".join(rows) + "\n" * bool(rows))
    with pytest.raises(UsageError, match=message) as error:
        read_dynamics(tmp_path)
    assert "dynamics_epoch_0.jsonl" in str(error.value)


def test_a_folder_without_dynamics_is_named(tmp_path):
    with pytest.raises(UsageError, match="give the folder that holds training_dynamics/"):
        read_dynamics(tmp_path)
