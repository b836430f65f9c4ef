"""`Task`: scores and losses of every kind of head against hand-written torch, and what it says of bad input."""

import dataclasses
from collections import namedtuple
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

import fastprune
from fastprune.scores import Head, JointLoss, Task

B, T, C = 6, 5, 4
METRICS = ("el2n", "loss", "confidence", "margin", "entropy", "correct")
CLOSE = dict(rtol=1e-5, atol=1e-6)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def row_scores(logits, labels):
    """Every metric of (R, C) logits and (R,) labels by its formula, in double."""
    z = logits.double()
    p = z.softmax(-1)
    own = p.gather(1, labels[:, None])[:, 0]
    others = z.scatter(1, labels[:, None], -torch.inf).amax(1)
    margin = z.gather(1, labels[:, None])[:, 0] - others
    return {
        "el2n": (p - F.one_hot(labels, z.shape[1])).norm(dim=1),
        "loss": -own.log(),
        "confidence": own,
        "margin": margin,
        "entropy": -(p * p.log()).sum(1),
        "correct": (margin >= 0).double(),
    }


def token_scores(logits, labels, metric, reduce):
    """One number an example from its tokens that have a label."""
    found = []
    for z, y in zip(logits, labels, strict=True):
        valid = y != -100
        values = row_scores(z[valid], y[valid])[metric]
        if metric == "correct":
            found.append(values.min() if len(values) else torch.tensor(1.0))
        elif reduce == "norm":
            found.append(values.norm())
        elif reduce == "max":
            found.append(values.max() if len(values) else torch.tensor(0.0))
        else:
            found.append(values.sum() / (max(len(values), 1) if reduce == "mean" else 1))
    return torch.stack([f.double() for f in found])


def tokens(seed=0):
    logits = torch.randn(B, T, C, generator=rng(seed)) * 2
    labels = torch.randint(C, (B, T), generator=rng(seed + 1))
    labels[torch.rand(B, T, generator=rng(seed + 2)) < 0.4] = -100
    labels[2] = -100  # an example without any
    return logits, labels


def rows(seed=0, batch=B):
    return torch.randn(batch, C, generator=rng(seed)) * 2, torch.randint(C, (batch,), generator=rng(seed + 1))


def assert_close(found, expected):
    assert found.dtype == torch.float32 and not found.requires_grad
    torch.testing.assert_close(found.double(), expected.double(), **CLOSE)


# --- scores ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [None, "single_label"])
def test_single_label(kind):
    logits, labels = rows()
    found = Task(Head(kind=kind)).scores({"logits": logits.requires_grad_()}, {"labels": labels}, METRICS)
    expected = row_scores(logits.detach(), labels)
    assert list(found) == list(METRICS)
    for metric in METRICS:
        assert_close(found[metric], expected[metric])


def test_ignored_rows_score_zero_and_are_not_wrong():
    logits, labels = rows()
    labels[1] = -100
    found = Task().scores({"logits": logits}, {"labels": labels}, METRICS)
    assert {metric: float(values[1]) for metric, values in found.items()} == {
        **dict.fromkeys(METRICS, 0.0),
        "correct": 1.0,
    }


def test_probabilities_are_the_softmax_in_fp32():
    logits, labels = rows()
    found = Task().scores({"logits": logits.bfloat16()}, {"labels": labels}, ["probabilities"])["probabilities"]
    assert_close(found, logits.bfloat16().double().softmax(-1))


@pytest.mark.parametrize("kind", [None, "tokens"])
@pytest.mark.parametrize("metric", METRICS)
def test_tokens_are_joined_by_the_norm_of_el2n_and_the_mean_of_the_others(kind, metric):
    logits, labels = tokens()
    found = Task(Head(kind=kind)).scores({"logits": logits}, {"labels": labels}, [metric])[metric]
    assert_close(found, token_scores(logits, labels, metric, "norm" if metric == "el2n" else "mean"))


@pytest.mark.parametrize("metric", METRICS)
def test_causal_language_models_answer_the_next_label(metric):
    logits, labels = tokens()
    found = Task(Head(kind="causal_lm")).scores({"logits": logits}, {"labels": labels}, [metric])[metric]
    reduce = "norm" if metric == "el2n" else "mean"
    assert_close(found, token_scores(logits[:, :-1], labels[:, 1:], metric, reduce))


@pytest.mark.parametrize(
    "reduce, rule",
    [("sum", torch.sum), ("max", torch.amax), ("mean", torch.mean), ("norm", torch.linalg.vector_norm)],
)
def test_a_head_may_join_its_tokens_otherwise(reduce, rule):
    logits, labels = tokens()
    labels[labels == -100] = 0
    found = Task(Head(reduce=reduce)).scores({"logits": logits}, {"labels": labels}, ["loss"])["loss"]
    expected = torch.stack([rule(row_scores(z, y)["loss"]) for z, y in zip(logits, labels, strict=True)])
    assert_close(found, expected)


@pytest.mark.parametrize("kind", [None, "multi_label"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.int64])
def test_multi_label(kind, dtype):
    logits = torch.randn(B, C, generator=rng()) * 2
    labels = torch.randint(2, (B, C), generator=rng(1)).to(dtype)
    found = Task(Head(kind=kind)).scores({"logits": logits}, {"labels": labels}, ["el2n", "loss"])
    p, y = logits.double().sigmoid(), labels.double()
    assert_close(found["el2n"], (p - y).norm(dim=1))
    assert_close(found["loss"], -(y * p.log() + (1 - y) * (1 - p).log()).sum(1))


@pytest.mark.parametrize("shape", [(B,), (B, 1)])
@pytest.mark.parametrize("logit_shape", [(B, 1), (B,)])
def test_regression_is_told_by_float_labels_of_one_output(shape, logit_shape):
    logits, labels = torch.randn(logit_shape, generator=rng()), torch.randn(shape, generator=rng(1))
    found = Task().scores({"logits": logits}, {"labels": labels}, ["el2n", "loss"])
    distance = (logits.reshape(B) - labels.reshape(B)).double().abs()
    assert_close(found["el2n"], distance)
    assert_close(found["loss"], distance**2)
    losses = Task().losses({"logits": logits}, {"labels": labels})
    assert_close(losses.sums, distance**2)
    assert losses.counts.tolist() == [1] * B


def test_regression_of_several_outputs_must_be_said():
    logits, labels = torch.randn(B, C, generator=rng()), torch.randn(B, C, generator=rng(1))
    task = Task(Head(kind="regression"))
    found = task.scores({"logits": logits}, {"labels": labels}, ["el2n", "loss"])
    difference = (logits - labels).double()
    assert_close(found["el2n"], difference.norm(dim=1))
    assert_close(found["loss"], difference.square().mean(1))
    losses = task.losses({"logits": logits}, {"labels": labels})
    assert_close(losses.sums, difference.square().sum(1))
    assert losses.counts.tolist() == [C] * B


JOINT = Task({"intent": Head("intent_logits", "intent"), "slots": Head("slot_logits", "slots")})


def joint(seed=0):
    intent_logits, intent = rows(seed)
    slot_logits, slots = tokens(seed + 5)
    return {"intent_logits": intent_logits, "slot_logits": slot_logits}, {"intent": intent, "slots": slots}


@pytest.mark.parametrize("metric", METRICS)
def test_joint_heads_are_joined_as_in_the_paper(metric):
    outputs, batch = joint()
    found = JOINT.scores(outputs, batch, [metric])[metric]
    intent = row_scores(outputs["intent_logits"], batch["intent"])[metric]
    slots = token_scores(outputs["slot_logits"], batch["slots"], metric, "norm" if metric == "el2n" else "mean")
    if metric == "el2n":
        expected = (intent**2 + slots**2).sqrt()
    elif metric == "correct":
        expected = torch.minimum(intent, slots)
    elif metric == "loss":  # the authors' code: 0.5 of the intent's, and 0.5 of the sum over the words
        expected = 0.5 * intent + 0.5 * token_scores(outputs["slot_logits"], batch["slots"], metric, "sum")
    else:
        expected = (intent + slots) / 2
    assert_close(found, expected)


# (heads, tokens) -> the factor of the intent, that of the slots, and whether words are averaged
SETTINGS = [
    ("mean", "sum", 0.5, 0.5, False),
    ("mean", "mean", 0.5, 0.5, True),
    ("sum", "mean", 1.0, 1.0, True),
    ("sum", "sum", 1.0, 1.0, False),
    ({"intent": 0.25, "slots": 2.0}, "mean", 0.25, 2.0, True),
]


@pytest.mark.parametrize("heads, words, of_intent, of_slots, averaged", SETTINGS)
def test_the_joint_loss_of_a_score(heads, words, of_intent, of_slots, averaged):
    outputs, batch = joint()
    task = Task(JOINT.heads, loss=JointLoss(heads, words))
    intent = row_scores(outputs["intent_logits"], batch["intent"])["loss"]
    slots = token_scores(outputs["slot_logits"], batch["slots"], "loss", "mean" if averaged else "sum")
    found = task.scores(outputs, batch, ["loss", "margin"])
    assert_close(found["loss"], of_intent * intent + of_slots * slots)
    assert_close(found["margin"], JOINT.scores(outputs, batch, ["margin"])["margin"])  # is no loss


@pytest.mark.parametrize("heads, words, of_intent, of_slots, averaged", SETTINGS)
def test_the_joint_loss_of_a_training_step(heads, words, of_intent, of_slots, averaged):
    """The mean of the examples' parts is torch's loss of the batch, and so is its gradient."""
    outputs, batch = joint()
    leaves = {name: logits.double().requires_grad_() for name, logits in outputs.items()}
    intent = F.cross_entropy(leaves["intent_logits"], batch["intent"])
    slots = F.cross_entropy(leaves["slot_logits"].mT, batch["slots"], reduction="mean" if averaged else "sum")
    expected = of_intent * intent + of_slots * (slots if averaged else slots / B)
    expected.backward()

    ours = {name: logits.clone().requires_grad_() for name, logits in outputs.items()}
    losses = Task(JOINT.heads, loss=JointLoss(heads, words)).losses(ours, batch)
    assert losses.counts.tolist() == [1] * B and losses.sums.shape == (B,)
    losses.sums.mean().backward()
    torch.testing.assert_close(losses.sums.mean().double(), expected, rtol=1e-5, atol=1e-6)
    for name, logits in ours.items():
        torch.testing.assert_close(logits.grad.double(), leaves[name].grad, rtol=1e-4, atol=1e-7)


def test_heads_without_tokens_add_up_and_a_heads_own_reduce_has_the_last_word():
    one, labels = rows(1)
    two, others = rows(2)
    heads = {"a": Head("a", "a_labels"), "b": Head("b", "b_labels")}
    batch = {"a_labels": labels, "b_labels": others}
    expected = row_scores(one, labels)["loss"] + row_scores(two, others)["loss"]
    assert_close(Task(heads).scores({"a": one, "b": two}, batch, ["loss"])["loss"], expected)
    assert_close(Task(heads).losses({"a": one, "b": two}, batch).sums, expected)
    # Transformers' question answering is the mean of its heads.
    question = Task(heads, loss=JointLoss("mean", "mean"))
    assert_close(question.losses({"a": one, "b": two}, batch).sums, expected / 2)

    outputs, batch = joint()
    most = Task({name: dataclasses.replace(head, reduce="max") for name, head in JOINT.heads.items()})
    both = [row_scores(outputs["intent_logits"], batch["intent"])["loss"]]
    both.append(token_scores(outputs["slot_logits"], batch["slots"], "loss", "max"))
    assert_close(most.scores(outputs, batch, ["loss"])["loss"], torch.stack(both).amax(0))


@pytest.mark.parametrize(
    "build, error, message",
    [
        (lambda: JointLoss("average"), ValueError, "heads must be one of sum, mean or a factor by head, got 'average'"),
        (lambda: JointLoss(0.5), TypeError, "heads must be 'sum', 'mean' or a dict of factors by head, got 0.5"),
        (lambda: JointLoss("sum", "max"), ValueError, "tokens must be one of sum, mean, got 'max'"),
        (
            lambda: Task(JOINT.heads, loss=JointLoss({"intent": 1.0})),
            ValueError,
            r"loss has factors for \['intent'\], but the heads are \['intent', 'slots'\]",
        ),
    ],
)
def test_what_a_joint_loss_cannot_be(build, error, message):
    with pytest.raises(error, match=message):
        build()


def test_joint_grand_is_the_norm_over_heads():
    outputs, batch = joint()
    h, tokens_h = torch.randn(B, 3, generator=rng(8)), torch.randn(B, T, 3, generator=rng(9))
    features = {"intent": (h, True), "slots": (tokens_h, False)}
    found = JOINT.scores(outputs, batch, ["grand"], features)["grand"]
    squares = torch.zeros(B, dtype=torch.float64)
    for i in range(B):
        p = outputs["intent_logits"][i].double().softmax(0) - F.one_hot(batch["intent"][i], C)
        squares[i] += torch.outer(p, torch.cat([h[i], torch.ones(1)]).double()).square().sum()
        valid = batch["slots"][i] != -100
        e = outputs["slot_logits"][i][valid].double().softmax(1) - F.one_hot(batch["slots"][i][valid], C)
        squares[i] += (e.T @ tokens_h[i][valid].double()).square().sum()
    assert_close(found, squares.sqrt())


# --- losses ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_losses_of_single_labels_are_torchs(smoothing):
    logits, labels = rows()
    labels[3] = -100
    one, other = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    found = Task().losses({"logits": one}, {"labels": labels}, label_smoothing=smoothing)
    expected = F.cross_entropy(other, labels, reduction="none", label_smoothing=smoothing)
    torch.testing.assert_close(found.sums, expected, **CLOSE)
    assert found.counts.tolist() == [1, 1, 1, 0, 1, 1]
    weights = torch.arange(1.0, B + 1)
    (found.sums * weights).sum().backward()
    (expected * weights).sum().backward()
    torch.testing.assert_close(one.grad, other.grad, **CLOSE)


@pytest.mark.parametrize("kind, shift", [("tokens", 0), ("causal_lm", 1)])
def test_losses_of_tokens_are_sums_and_counts(kind, shift):
    logits, labels = tokens()
    found = Task(Head(kind=kind)).losses({"logits": logits}, {"labels": labels})
    z, y = (logits[:, :-1], labels[:, 1:]) if shift else (logits, labels)
    each = F.cross_entropy(z.transpose(1, 2), y, reduction="none")
    torch.testing.assert_close(found.sums, each.sum(1), **CLOSE)
    assert found.counts.tolist() == (y != -100).sum(1).tolist()
    mean = F.cross_entropy(z.flatten(0, 1), y.flatten())
    torch.testing.assert_close(found.sums.sum() / found.counts.sum(), mean, **CLOSE)


def test_losses_of_many_labels_leave_out_the_ignored():
    logits = torch.randn(B, C, generator=rng(), requires_grad=True)
    labels = torch.randint(2, (B, C), generator=rng(1)).float()
    labels[0, 1], labels[4] = -100, -100
    found = Task(Head(kind="multi_label")).losses({"logits": logits}, {"labels": labels})
    expected = []
    for z, y in zip(logits, labels, strict=True):
        counted = y != -100
        expected.append(F.binary_cross_entropy_with_logits(z[counted], y[counted], reduction="sum"))
    torch.testing.assert_close(found.sums, torch.stack(expected), **CLOSE)
    assert torch.equal(found.counts, (labels != -100).sum(1))
    found.sums.sum().backward()
    assert (logits.grad[labels == -100] == 0).all()


def test_losses_of_joint_heads_are_the_papers():
    outputs, batch = joint()
    found = JOINT.losses(outputs, batch)
    intent = F.cross_entropy(outputs["intent_logits"], batch["intent"], reduction="none")
    slots = F.cross_entropy(outputs["slot_logits"].transpose(1, 2), batch["slots"], reduction="none").sum(1)
    torch.testing.assert_close(found.sums, 0.5 * intent + 0.5 * slots, **CLOSE)
    assert found.counts.tolist() == [1] * B


# --- spans -----------------------------------------------------------------------------------------

SPAN = Task(Head(("first", "last"), ("from", "to"), kind="span", reduce="mean"))


def span_batch():
    """Four examples of five tokens: whole, cut off at the end, cut off altogether, and before the first token."""
    ends = torch.randn(4, 2, 5, generator=rng(3)) * 2
    places = torch.tensor([[1, 3], [2, 5], [9, 7], [-1, 4]])
    outputs = {"first": ends[:, 0], "last": ends[:, 1]}
    return ends, outputs, {"from": places[:, 0], "to": places[:, 1:]}


@pytest.mark.parametrize("metric", ["el2n", "loss"])
def test_a_span_is_the_mean_of_its_ends_that_are_among_the_tokens(metric):
    ends, outputs, batch = span_batch()
    start = row_scores(ends[:, 0], torch.tensor([1, 2, 0, 0]))[metric]
    end = row_scores(ends[:, 1], torch.tensor([3, 0, 0, 4]))[metric]
    expected = torch.stack([(start[0] + end[0]) / 2, start[1], 0 * start[2], (start[3] + end[3]) / 2])
    assert_close(SPAN.scores(outputs, batch, [metric])[metric], expected)


def test_losses_of_a_span_are_sums_and_counts_of_its_ends():
    ends, outputs, batch = span_batch()
    start = row_scores(ends[:, 0], torch.tensor([1, 2, 0, 0]))["loss"]
    end = row_scores(ends[:, 1], torch.tensor([3, 0, 0, 4]))["loss"]
    found = SPAN.losses(outputs, batch)
    expected = torch.stack([start[0] + end[0], start[1], 0 * start[2], start[3] + end[3]])
    torch.testing.assert_close(found.sums.double(), expected.double(), **CLOSE)
    assert found.counts.tolist() == [2, 1, 0, 2]


def test_a_span_whose_labels_are_no_positions_is_named():
    _, outputs, batch = span_batch()
    for bad in (torch.zeros(4), torch.zeros(4, 5, dtype=torch.int64)):
        with pytest.raises(ValueError, match="a span's labels must be one token's position for each of 4 examples"):
            SPAN.scores(outputs, {**batch, "to": bad}, ["loss"])
    with pytest.raises(ValueError, match="the batch .* hold no 'to'"):
        SPAN.scores(outputs, {"from": batch["from"]}, ["loss"])


# --- where things are ------------------------------------------------------------------------------

Output = namedtuple("Output", "hidden logits")


@pytest.mark.parametrize(
    "wrap",
    [
        lambda z: {"loss": torch.tensor(1.0), "logits": z},
        lambda z: SimpleNamespace(logits=z),
        lambda z: (torch.tensor(1.0), z, torch.zeros(2)),
        lambda z: [z],
        lambda z: z,
        lambda z: Output(torch.zeros(B, 9), z),
    ],
)
def test_logits_are_found_where_models_put_them(wrap):
    logits, labels = rows()
    task = Task()
    assert torch.equal(task.logits(wrap(logits))[""], logits)
    assert_close(task.scores(wrap(logits), {"labels": labels}, ["loss"])["loss"], row_scores(logits, labels)["loss"])


def test_positions_name_logits_and_labels():
    logits, labels = rows()
    found = Task(Head(logits=1, labels=-1)).scores((torch.zeros(B, 9), logits), (torch.zeros(B, 2), labels), ["loss"])
    assert_close(found["loss"], row_scores(logits, labels)["loss"])


@pytest.mark.parametrize(
    "batch",
    [(torch.zeros(B, C), torch.zeros(B)), torch.zeros(B, C), {"label": torch.zeros(B)}, {"labels": [0] * B}],
)
def test_labels_are_never_guessed(batch):
    with pytest.raises(ValueError, match=r"the batch .* hold no 'labels'; name the place with fastprune.Head"):
        Task().scores({"logits": torch.zeros(B, C)}, batch, ["loss"])


@pytest.mark.parametrize("outputs", [{"scores": torch.zeros(B, C)}, (torch.tensor(1.0),), SimpleNamespace(), None])
def test_outputs_without_logits_are_named(outputs):
    with pytest.raises(ValueError, match="the model's outputs .* hold no 'logits'"):
        Task().scores(outputs, {"labels": torch.zeros(B, dtype=torch.int64)}, ["loss"])


@pytest.mark.parametrize(
    "logits, labels",
    [
        (torch.zeros(B, C), torch.zeros(B)),
        (torch.zeros(B, T, C), torch.zeros(B, dtype=torch.int64)),
        (torch.zeros(B, T, C), torch.zeros(B, T, C)),
        (torch.zeros(B, C), torch.zeros(B, C + 1)),
        (torch.zeros(B, C), torch.tensor(0.0)),
    ],
)
def test_shapes_of_no_kind_are_named(logits, labels):
    with pytest.raises(ValueError, match="no score is known for logits"):
        Task().scores({"logits": logits}, {"labels": labels}, ["loss"])


@pytest.mark.parametrize(
    "heads, message",
    [
        (lambda: Head(kind="ranking"), "kind must be one of .*, got 'ranking'"),
        (lambda: Head(reduce="median"), "reduce must be one of .*, got 'median'"),
        (lambda: Head(("a", "b"), ("c", "d")), r"logits must be a pair.* got \('a', 'b'\) with kind=None"),
        (lambda: Head(("a", "b"), "c", kind="span"), r"labels must be a pair.* got 'c' with kind='span'"),
        (lambda: Task({}), "heads is empty"),
    ],
)
def test_bad_heads_are_named(heads, message):
    with pytest.raises(ValueError, match=message):
        heads()


def test_heads_that_join_differently_are_refused():
    task = Task({"a": Head("intent_logits", "intent", reduce="sum"), "b": Head("slot_logits", "slots")})
    with pytest.raises(ValueError, match="heads must agree in reduce"):
        task.scores(*joint(), ["el2n"])


@pytest.mark.parametrize(
    "task, metric, message",
    [
        (Task(Head(kind="regression")), "margin", "not defined for regression"),
        (Task(Head(kind="tokens")), "probabilities", "one single-label head only, got tokens"),
        (Task(), "grand", "grand needs the input of a linear last layer"),
        (Task(), "el3n", "unknown metric 'el3n'"),
    ],
)
def test_metrics_that_a_head_cannot_give_are_named(task, metric, message):
    outputs, batch = {"logits": torch.zeros(B, 1)}, {"labels": torch.zeros(B, dtype=torch.int64)}
    with pytest.raises(ValueError, match=message):
        task.scores(outputs, batch, [metric])


def test_probabilities_of_joint_heads_are_refused():
    with pytest.raises(ValueError, match="probabilities are kept for one single-label head only"):
        JOINT.scores(*joint(), ["probabilities"])


def test_several_heads_are_found_by_their_names_alone():
    torch.manual_seed(0)
    za, zb = torch.randn(4, 3), torch.randn(4, 3)
    y = torch.tensor([0, 1, 2, 0])
    task = Task({"a": Head(logits=0, labels="y"), "b": Head(logits=1, labels="y")})
    expected = (fastprune.el2n(za, y).square() + fastprune.el2n(zb, y).square()).sqrt()
    torch.testing.assert_close(task.scores((za, zb), {"y": y}, ["el2n"])["el2n"], expected)
    for heads in ({"a": Head("a", "y"), "b": Head("b", "y")}, {"a": Head(labels="y"), "b": Head(1, "y")}, Head(5, "y")):
        with pytest.raises(ValueError, match="the model's outputs .* hold no"):
            Task(heads).scores((za, zb), {"y": y}, ["el2n"])


def test_one_label_that_may_hold_or_not_needs_no_dimension_of_its_own():
    torch.manual_seed(0)
    z, y = torch.randn(5, 1), torch.tensor([0.0, 1.0, 1.0, 0.0, 1.0])
    expected = (z[:, 0].sigmoid() - y).abs()
    task = Task(Head(kind="multi_label"))
    for logits, labels in ((z, y[:, None]), (z, y), (z[:, 0], y), (z[:, 0], y[:, None])):
        torch.testing.assert_close(task.scores(logits, {"labels": labels}, ["el2n"])["el2n"], expected)
        losses = task.losses(logits, {"labels": labels})
        assert losses.counts.tolist() == [1] * 5
        torch.testing.assert_close(losses.sums, F.binary_cross_entropy_with_logits(z[:, 0], y, reduction="none"))


def test_numbers_to_predict_are_not_taken_for_several_labels():
    z, y = torch.randn(4, 2), torch.tensor([[0.0, 1.0], [0.5, 0.2], [-1.5, 3.0], [1.0, 1.0]])
    with pytest.raises(ValueError, match=r"one is -1.5; pass fastprune.Head\(kind='regression'\)"):
        Task().scores({"logits": z}, {"labels": y}, ["el2n"])
    found = Task(Head(kind="regression")).scores({"logits": z}, {"labels": y}, ["el2n"])["el2n"]
    torch.testing.assert_close(found, (z - y).norm(dim=1))


def test_the_largest_margin_is_that_of_a_token_that_counts():
    z = torch.tensor([[[0.0, 5.0, 0.0], [0.0, 2.0, 0.0]], [[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]])
    y = torch.tensor([[-100, 0], [-100, -100]])
    assert fastprune.score(z, y, "margin", reduce="max").tolist() == [-2.0, 0.0]
