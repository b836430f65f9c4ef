"""The table of metrics: a row is enough for a new metric, and everything that lists metrics reads the rows."""

import pytest
import torch

import fastprune
from fastprune.scores import Head, Task, cross_entropy, definition, metrics, score
from fastprune.scores.metrics import TABLE, Metric

B, T, C = 5, 4, 3


def gini(given):
    return 1 - given.logits.float().softmax(-1).square().sum(-1)


ROWS = (
    Metric("gini", "large", compute=gini),
    Metric("doubt", "large", needs=("confidence",), compute=lambda given: 1 - given.scores["confidence"]),
    Metric("twice", "small", needs=("doubt", "margin"), compute=lambda g: 2 * g.scores["doubt"] + g.scores["margin"]),
)
NEW = [row.name for row in ROWS]


@pytest.fixture(autouse=True)
def own_rows(monkeypatch):
    for row in ROWS:
        monkeypatch.setitem(TABLE, row.name, row)


@pytest.fixture
def tokens():
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(C, (B, T), generator=generator)
    labels[1, 2], labels[3] = -100, -100
    return torch.randn(B, T, C, generator=generator), labels


def expected(logits, labels):
    """The new rows by hand; 0 where there is no label."""
    p = logits.softmax(-1)
    own = p.gather(-1, labels.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    margin = score(logits, labels, "margin")
    values = {"gini": 1 - p.square().sum(-1), "doubt": 1 - own, "twice": 2 * (1 - own) + margin}
    return {name: torch.where(labels == -100, 0.0, value) for name, value in values.items()}


def assert_close(found, wanted):
    assert found.dtype == torch.float32 and not found.requires_grad
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("beside", [(), ("el2n",), ("margin", "el2n")])
def test_score_and_loss_give_a_metric_of_the_table(tokens, beside):
    logits, labels = tokens
    wanted = expected(logits, labels)
    names = (*beside, *NEW)
    leaf = logits.clone().requires_grad_()
    for found in (score(logits, labels, names), cross_entropy(leaf, labels, return_scores=names)[1]):
        assert list(found) == list(names)
        for name in NEW:
            assert_close(found[name], wanted[name])
        for name in beside:
            assert torch.equal(found[name], score(logits, labels, name))
    assert_close(score(logits, labels, "doubt"), wanted["doubt"])
    assert_close(cross_entropy(logits, labels, return_scores="gini")[1], wanted["gini"])


def test_it_is_shifted_reduced_and_checked_as_the_kernels_metrics_are(tokens):
    logits, labels = tokens
    shifted = score(logits, labels, "gini", shift=1)
    torch.testing.assert_close(shifted[:, :-1], expected(logits[:, :-1], labels[:, 1:])["gini"])
    assert (shifted[:, -1] == 0).all()
    wanted = expected(logits, labels)["gini"].sum(1) / (labels != -100).sum(1).clamp(min=1)
    assert_close(score(logits, labels, "gini", reduce="mean"), wanted)
    for metric in ("gini", "doubt"):
        with pytest.raises(IndexError, match="labels"):
            score(logits, labels.masked_fill(labels == 0, C), metric)


def test_a_task_gives_it_too(tokens):
    logits, labels = tokens
    found = Task().scores({"logits": logits}, {"labels": labels}, NEW)
    for name, rows in expected(logits, labels).items():
        assert_close(found[name], rows.sum(1) / (labels != -100).sum(1).clamp(min=1))


def test_it_is_defined_for_several_labels_where_its_row_says_so(monkeypatch, tokens):
    logits = tokens[0][:, 0]
    targets = (logits > 0).float()
    with pytest.raises(ValueError, match="'gini' needs class indices; with a target per class: el2n, loss"):
        score(logits, targets, "gini", multi_label=True)
    half = Metric("half", "large", needs=("loss",), heads=metrics.EVERY_KIND, compute=lambda g: g.scores["loss"] / 2)
    monkeypatch.setitem(TABLE, "half", half)
    torch.testing.assert_close(
        score(logits, targets, "half", multi_label=True), score(logits, targets, "loss", multi_label=True) / 2
    )
    numbers = Task(Head(kind="regression")).scores({"logits": logits}, {"labels": targets}, ["half", "loss"])
    torch.testing.assert_close(numbers["half"], numbers["loss"] / 2)
    with pytest.raises(ValueError, match="'gini' is not defined for regression; use one that reads el2n or loss or"):
        Task(Head(kind="regression")).scores({"logits": logits}, {"labels": targets}, ["gini"])


def test_a_metric_may_read_the_last_layers_input(monkeypatch):
    norm = Metric("norm", "large", needs=("states", "confidence"), compute=lambda g: g.states[0].norm(dim=-1))
    monkeypatch.setitem(TABLE, "norm", norm)
    states = torch.randn(B, 7)
    outputs, batch = {"logits": torch.randn(B, C)}, {"labels": torch.arange(B) % C}
    found = Task().scores(outputs, batch, ["norm"], {"": (states, True)})["norm"]
    torch.testing.assert_close(found, states.norm(dim=1))
    with pytest.raises(ValueError, match="norm needs the input of a linear last layer"):
        Task().scores(outputs, batch, ["norm"])
    with pytest.raises(ValueError, match="unknown metric 'norm'"):
        score(outputs["logits"], batch["labels"], "norm")
    assert metrics.needs_states(["el2n", "norm"]) and not metrics.needs_states(["el2n"])


def test_the_command_line_offers_it_and_an_operator_does_not(capsys):
    from fastprune.app.cli import parser

    options = ["score", "--model", "m", "--data", "d", "--out", "o.csv", "--metrics"]
    assert parser().parse_args([*options, "gini", "correct"]).metrics == ["gini", "correct"]
    with pytest.raises(SystemExit):
        parser().parse_args([*options, "aum"])
    with pytest.raises(ValueError, match="unknown metric 'gini'; choose from el2n, loss"):
        torch.ops.fastprune.row_scores(torch.randn(B, C), torch.zeros(B, dtype=torch.int64), ["gini"], -100, 0)


def test_every_kernel_metric_has_a_definition():
    logits, labels = torch.randn(B, C), torch.arange(B) % C
    found = definition.row_scores(logits, labels, metrics.KERNEL_METRICS, -100, 0)
    assert list(found) == list(metrics.KERNEL_METRICS) == [row.name for row in TABLE.values() if row.kernel]
    with pytest.raises(NotImplementedError, match="'gini' has no definition"):
        definition.row_scores(logits, labels, ("gini",), -100, 0)


def test_rows_name_what_exists():
    for row in metrics.ROWS:
        assert set(row.needs) <= {"states", *TABLE} and row.heads <= metrics.EVERY_KIND, row.name
        assert row.per == "run" or row.kernel == (row.compute is None), row.name
        assert (row.hard is None) == row.vector, row.name
    assert {"confidence", "margin", "correct", "correctness", "aum"} <= set(metrics.hard_where_small())
    assert fastprune.score.__doc__ is not None
    assert all(f'"{name}"' in fastprune.score.__doc__ for name in metrics.KERNEL_METRICS)
