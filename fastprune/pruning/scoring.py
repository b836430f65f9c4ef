"""The scoring pass: one forward pass over (part of) a data set, leaving no trace in the model."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset

BatchScores = Callable[[Any], Tensor]


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Eval mode without gradients; every submodule's mode and all global random states are put back.

    No inference mode: a tensor that the model caches in its forward pass (rotary tables grown for a longer
    input) could not be used in training afterwards.
    """
    modes = {module: module.training for module in model.modules()}
    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else None
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes.items():
            module.training = training
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(cpu)
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)


def score_dataset(
    model: nn.Module,
    dataset: Dataset[Any],
    batch_scores: BatchScores,
    *,
    indices: Tensor | None = None,
    lengths: Sequence[int] | Tensor | None = None,
    batch_size: int = 128,
    collate_fn: Callable[[list[Any]], Any] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Tensor:
    """Score examples in eval mode without gradients, longest first, in large batches.

    Args:
        model: put into eval mode for the pass; modes and random states are restored.
        dataset: map-style.
        batch_scores: given a collated batch, returns its (B,) scores, or (B, M) for M metrics; runs the
            model itself.
        indices: (K,) which examples, all by default.
        lengths: one number per example of ``dataset``; like lengths share a batch, which saves padding.
        batch_size: of the pass; larger than in training is fine, nothing is kept for a backward pass.
        collate_fn: as for `DataLoader`.
        progress: called with the number of examples of each finished batch.

    Returns:
        fp32 (K,) or (K, M) on the device of the scores, in the order of ``indices``.

    Cost: one forward pass over M examples; memory of one batch.
    """
    size = len(dataset)  # type: ignore[arg-type]
    wanted = torch.arange(size, device="cpu") if indices is None else indices
    order = torch.arange(len(wanted), device="cpu")
    if lengths is not None:
        order = torch.as_tensor(lengths, device="cpu")[wanted].argsort(descending=True, stable=True)
    loader = DataLoader(
        Subset(dataset, wanted[order].tolist()),
        batch_size=batch_size,
        collate_fn=collate_fn,
        generator=torch.Generator(),
    )
    parts: list[Tensor] = []
    with evaluation_mode(model):
        for batch in loader:
            parts.append(batch_scores(batch).float())
            if progress is not None:
                progress(len(parts[-1]))
    found = torch.cat(parts)
    scores = torch.empty((len(wanted), *found.shape[1:]), device=found.device)
    scores[order.to(found.device)] = found
    return scores
