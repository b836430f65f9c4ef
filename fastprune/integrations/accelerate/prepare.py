"""Dynamic pruning in a training loop with Hugging Face Accelerate.

The loop is the plain one of `DynamicPruner`.  All processes read the same order, and Accelerate divides its batches
among them.  It reads one batch ahead.  That changes nothing, because the indices travel in the batches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch.utils.data import DataLoader

from fastprune.pruning import DynamicPruner

if TYPE_CHECKING:
    from accelerate import Accelerator


def prepare_accelerate(accelerator: Accelerator, pruner: DynamicPruner, loader: DataLoader[Any]) -> DataLoader[Any]:
    """Call ``accelerator.prepare(loader)``, and add the pruner to the checkpoints of ``accelerator.save_state``.

    After ``accelerator.load_state`` a run of several processes reads exactly what it would have read without a stop.
    Accelerate repeats examples so that every process gets whole batches.  Also after a resume it repeats the first
    examples of the epoch.  ``save_state`` exchanges the scores of the processes first.

    If a scoring pass is due at the end of an epoch, save after the pass.  If you save before it, the resumed run enters
    that epoch again for the pass, and its loader is empty.  ``dispatch_batches`` and accelerate before 1.9 cannot
    iterate an empty loader.  ``dispatch_batches`` also ignores the loader's ``generator``, so dropout differs after a
    resume within an epoch.

    Args:
        accelerator: the loop's ``Accelerator``.
        pruner: this process's pruner.
        loader: a loader with ``sampler=pruner.sampler``.  It may be prepared already.

    Raises:
        ValueError: the loader has another sampler.  Or ``use_stateful_dataloader`` is set: accelerate would keep the
            position, which the pruner already does.

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
