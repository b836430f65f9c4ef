"""The scoring pass: one forward pass over a data set, or a part of it, that leaves no trace in the model."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset

BatchScores = TypeVar("BatchScores", Tensor, Mapping[str, Tensor])


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Runs the body in eval mode without gradients, and leaves no trace.

    At the end every submodule's mode and all global random states are put back.

    This is not torch's inference mode.  A model may cache a tensor in its forward pass, such as rotary tables for a
    longer input.  A tensor made in inference mode could not be used in training afterwards.
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
    batch_scores: Callable[[Any], BatchScores],
    *,
    indices: Tensor | None = None,
    lengths: Sequence[int] | Tensor | None = None,
    batch_size: int = 128,
    collate_fn: Callable[[list[Any]], Any] | None = None,
    progress: Callable[[int], None] | None = None,
) -> BatchScores:
    """Score examples in eval mode without gradients, longest first, in large batches.

    Args:
        model: put into eval mode for the pass.  Its modes and all random states are restored.
        dataset: map-style.
        batch_scores: called with a collated batch.  It runs the model, and returns scores (B,) or a dict of them by
            metric.
        indices: (K,) which examples, all by default.
        lengths: one number per example of ``dataset``.  Examples of like length share a batch, which saves padding.
        batch_size: batch size of the pass.  It may be larger than in training, because nothing is kept for a backward
            pass.
        collate_fn: see `DataLoader`.
        progress: called with the number of examples of each finished batch.

    Returns:
        fp32 (K,), or a dict of them, on the device of the scores, in the order of ``indices``.

    Raises:
        ValueError: ``indices`` is empty, or ``batch_scores`` returns another number of scores than examples.

    Cost: one forward pass over K examples, and memory of one batch.

    Example:
        >>> import fastprune
        >>> from torch.utils.data import TensorDataset
        >>> data = TensorDataset(torch.eye(4, 3), torch.tensor([0, 1, 2, 0]))
        >>> model = nn.Linear(3, 3)
        >>> scores = score_dataset(model, data, lambda batch: fastprune.el2n(model(batch[0]), batch[1]), batch_size=2)
        >>> scores.shape
        torch.Size([4])
    """
    size = len(dataset)  # type: ignore[arg-type]
    wanted = torch.arange(size, device="cpu") if indices is None else indices
    if not len(wanted):
        raise ValueError("indices is empty: there is nothing to score")
    order = longest_first(wanted, lengths)
    loader = DataLoader(
        Subset(dataset, wanted[order].tolist()),
        batch_size=batch_size,
        collate_fn=collate_fn,
        generator=torch.Generator(),
    )
    parts: dict[str | None, list[Tensor]] = defaultdict(list)
    with evaluation_mode(model):
        for batch in loader:
            found = batch_scores(batch)
            columns = dict(found) if isinstance(found, Mapping) else {None: found}
            for metric, values in columns.items():
                parts[metric].append(values.float())
            if progress is not None:
                progress(len(next(iter(columns.values()))))
    scores = {metric: _put_back(torch.cat(values), order) for metric, values in parts.items()}
    return cast(BatchScores, scores[None] if None in scores else scores)


def longest_first(indices: Tensor, lengths: Sequence[int] | Tensor | None) -> Tensor:
    """The order in which `score_dataset` reads ``indices``, as places in them."""
    if lengths is None:
        return torch.arange(len(indices), device="cpu")
    return torch.as_tensor(lengths, device="cpu")[indices].argsort(descending=True, stable=True)


def _put_back(found: Tensor, order: Tensor) -> Tensor:
    if len(found) != len(order):
        raise ValueError(
            f"batch_scores returned {len(found)} scores for {len(order)} examples: return one for each of a batch "
            "(token scores: reduce='norm')"
        )
    scores = torch.empty_like(found)
    scores[order.to(found.device)] = found
    return scores
