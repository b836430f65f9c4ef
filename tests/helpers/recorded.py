"""A run recorded in full beside the streaming history, and the plain rules that the methods are compared with."""

import numpy as np
import torch

EPSILON = 2.0**-23


class Recorded:
    """A run in which examples are visited unevenly: all of them in the first epoch, a random part in each later one.

    ``draw(rng, index)`` gives the values of a step: (B,), or (B, C) for probabilities.
    """

    def __init__(self, method, draw, n=40, epochs=6, seed=0, share=0.7, batch=9):
        rng = np.random.default_rng(seed)
        self.n, self.epochs = n, epochs
        self.history = method.new_history(n)
        self.past = [[] for _ in range(n)]
        self.steps = []
        for epoch in range(epochs):
            order = rng.permutation(n)
            order = order if epoch == 0 else order[rng.random(n) < share]
            for start in range(0, len(order), batch):
                self.step(method, order[start : start + batch], draw, rng, epoch)

    def step(self, method, index, draw, rng, epoch):
        values = np.asarray(draw(rng, index), dtype=np.float32)
        (metric,) = method.reads
        self.history.update(torch.from_numpy(index), {metric: torch.from_numpy(values)}, epoch)
        self.steps.append((epoch, index, values))
        for i, value in zip(index, values, strict=True):
            self.past[i].append(value.astype(np.float64))

    @property
    def visits(self):
        """How often each example was visited."""
        return np.array([len(values) for values in self.past])

    def select(self, method, k, cycle=1, seed=0):
        return method.select(self.history, k, cycle=cycle, epoch=self.epochs, seed=seed)


def scored(method, values, epochs=1, unscored=()):
    """A history in which every example but ``unscored`` has had these values, once an epoch, in one step."""
    history = method.new_history(len(values))
    index = torch.tensor([i for i in range(len(values)) if i not in set(unscored)], dtype=torch.int64)
    (metric,) = method.reads
    for epoch in range(epochs):
        history.update(index, {metric: torch.as_tensor(values, dtype=torch.float32)[index]}, epoch)
    return history


def top(values, k):
    """The k largest, of equal ones those of smaller index; ascending."""
    return sorted(sorted(range(len(values)), key=lambda i: (-values[i], i))[:k])


def uniform(rng, index):
    return rng.random(len(index))
