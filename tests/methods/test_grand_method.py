"""GraNd before every cycle: with the norms of autograd's gradients, the largest are kept."""

import torch
import torch.nn.functional as F
from helpers.recorded import scored, top

import fastprune
from fastprune.pruning import DynamicPruner, get_method

N, WIDTH, CLASSES = 24, 6, 4


def test_the_largest_gradients_are_kept():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(N, WIDTH, generator=generator) * torch.linspace(0.1, 3.0, N).unsqueeze(1)
    y = torch.randint(CLASSES, (N,), generator=generator)
    layer = torch.nn.Linear(WIDTH, CLASSES)
    torch.nn.init.normal_(layer.weight, generator=generator)
    norms = []
    for i in range(N):
        gradients = torch.autograd.grad(F.cross_entropy(layer(x[i : i + 1]), y[i : i + 1]), layer.parameters())
        norms.append(sum(g.double().square().sum() for g in gradients).sqrt().item())

    pruner = DynamicPruner(N, keep_fraction=0.5, method="grand")
    for epoch in pruner.epochs(2):
        kept = sorted(pruner.sampler)
        if pruner.wants_scores:
            assert epoch == 0
            pruner.rescore(lambda index: fastprune.grand(layer(x[index]), y[index], x[index]))
    assert epoch == 1
    assert kept == top(norms, N // 2)


def test_the_offset_is_the_methods():
    from fastprune.methods.grand import grand

    method = grand(offset=0.25)
    history = scored(method, torch.arange(8.0))
    assert method.select(history, 3, cycle=1, epoch=1, seed=0).indices.tolist() == [3, 4, 5]
    assert get_method("grand").offset == 0.0
