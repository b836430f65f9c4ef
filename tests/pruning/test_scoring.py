"""The scoring pass."""

import pytest
import torch
from helpers import toy

import fastprune


def problem():
    return toy.Net(), list(toy.examples(11)[0])


def test_scores_come_back_in_the_order_asked_for():
    net, data = problem()
    lengths = [3, 9, 1, 9, 2, 7, 7, 0, 4, 5, 6]
    index = torch.tensor([7, 2, 10, 0, 3])
    asked = []

    def of_batch(batch):
        asked.append(tuple(batch.shape))
        return net(batch).sum(1)

    done = []
    scores = fastprune.score_dataset(
        net, data, of_batch, indices=index, lengths=lengths, batch_size=2, progress=done.append
    )
    expected = net(torch.stack([data[i] for i in index])).sum(1)
    torch.testing.assert_close(scores, expected.detach())
    assert asked == [(2, 4), (2, 4), (1, 4)] and done == [2, 2, 1]


def test_several_metrics_come_back_by_name():
    net, data = problem()

    def of_batch(batch):
        logits = net(batch)
        return {"margin": logits[:, 0].to(torch.float64), "probabilities": logits.softmax(1)}

    lengths = torch.arange(11).flip(0)
    found = fastprune.score_dataset(net, data, of_batch, lengths=lengths, batch_size=4)
    logits = net(torch.stack(data)).detach()
    assert set(found) == {"margin", "probabilities"} and {v.dtype for v in found.values()} == {torch.float32}
    torch.testing.assert_close(found["margin"], logits[:, 0])
    torch.testing.assert_close(found["probabilities"], logits.softmax(1))


def test_what_cannot_be_matched_to_examples_is_refused():
    net, data = problem()
    with pytest.raises(ValueError, match="returned 33 scores for 11 examples: return one for each"):
        fastprune.score_dataset(net, data, lambda batch: net(batch).flatten())
    with pytest.raises(ValueError, match="returned 1 scores for 11 examples"):
        fastprune.score_dataset(net, data, lambda batch: {"el2n": net(batch)[:1, 0]})
    with pytest.raises(ValueError, match="indices is empty"):
        fastprune.score_dataset(net, data, lambda batch: net(batch)[:, 0], indices=torch.arange(0))


def test_the_pass_leaves_nothing_in_the_model_that_cannot_train():
    """A model may keep tensors from its forward pass, like rotary tables grown for a longer input."""

    class Caching(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.table = torch.nn.Linear(4, 3), torch.ones(1, 4)

        def forward(self, x):
            if len(self.table) < len(x):
                self.table = torch.ones(len(x), 4)
            return self.linear.weight.sum(0) * self.table[: len(x)] * x

    net, data = Caching(), [torch.ones(4)] * 8
    scores = fastprune.score_dataset(net, data, lambda batch: net(batch).sum(1), batch_size=8)
    assert not scores.requires_grad
    net(torch.ones(4, 4)).sum().backward()
    assert net.linear.weight.grad is not None
