"""Dynamic pruning in a training loop with Hugging Face Accelerate.

The loop stays the plain one of `DynamicPruner`.  Accelerate deals out the batches of a sampler that all processes read
alike, one batch ahead.  The indices travel in the batches, so reading ahead changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch.utils.data import DataLoader

from fastprune.pruning import DynamicPruner

if TYPE_CHECKING:
    from accelerate import Accelerator


def prepare_accelerate(accelerator: Accelerator, pruner: DynamicPruner, loader: DataLoader[Any]) -> DataLoader[Any]:
    """``accelerator.prepare(loader)``, with the pruner in the checkpoints of ``accelerator.save_state``.

    After ``accelerator.load_state`` a run of several processes reads exactly what it would have read.  Accelerate
    repeats examples to give every process whole batches.  These are then the first of the epoch, and not the first
    after the resume.  ``save_state`` exchanges the scores of the processes first.

    Where a scoring pass is due at the end of an epoch, save after the pass.  Otherwise the epoch is handed out once
    more for the pass, with no batch left.  ``dispatch_batches`` cannot iterate an empty loader, nor can accelerate
    before 1.9.  ``dispatch_batches`` also leaves out the loader's ``generator``, so that dropout differs after a resume
    within an epoch.

    Args:
        accelerator: of the loop.
        pruner: of the loop.
        loader: with ``sampler=pruner.sampler``, prepared already or not.

    Raises:
        ValueError: the loader samples otherwise, or accelerate is to keep its position (``use_stateful_dataloader``),
            which the pruner does.

    Example:
        >>> import torch
        >>> from accelerate import Accelerator
        >>> import fastprune
        >>> data = torch.utils.data.TensorDataset(torch.randn(8, 4), torch.arange(8) % 2)
        >>> accelerator, pruner = Accelerator(cpu=True), DynamicPruner(8, keep_fraction=0.5)
        >>> loader = DataLoader(fastprune.with_index(data), sampler=pruner.sampler, batch_size=4)
        >>> model = torch.nn.Linear(4, 2)
        >>> model, optimizer = accelerator.prepare(model, torch.optim.AdamW(model.parameters()))
        >>> loader = prepare_accelerate(accelerator, pruner, loader)
        >>> for epoch in pruner.epochs(2):
        ...     for x, y, index in loader:
        ...         loss, scores = fastprune.cross_entropy(model(x), y, return_scores="el2n")
        ...         pruner.observe(index, scores)
        ...         accelerator.backward(loss)
        ...         optimizer.step()
        ...         optimizer.zero_grad()
        >>> len(pruner.kept_indices)
        4
    """
    batches: Any = loader.batch_sampler
    batches = getattr(batches, "batch_sampler", batches)
    if getattr(batches, "sampler", None) is not pruner.sampler:
        raise ValueError("loader does not read pruner.sampler; build it with DataLoader(..., sampler=pruner.sampler)")
    if accelerator.use_stateful_dataloader:
        raise ValueError(
            "use_stateful_dataloader=True would skip examples a second time: the pruner's state holds the position "
            "already; leave it out of DataLoaderConfiguration"
        )
    prepared: Any = accelerator.prepare(loader)
    if accelerator.num_processes > 1 and accelerator.even_batches and not batches.drop_last:
        ranks = 1 if accelerator.split_batches else accelerator.num_processes
        prepared.set_sampler(pruner.sampler.filled(batches.batch_size * ranks))
    accelerator.register_for_checkpointing(pruner)
    accelerator.register_save_state_pre_hook(lambda models, weights, folder: pruner.exchange())
    return prepared
