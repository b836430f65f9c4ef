"""In which order a Trainer reads examples, and which of them each batch of one process holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from accelerate.data_loader import BatchSamplerShard
from torch import Tensor
from torch.utils.data import BatchSampler, RandomSampler, Sampler, SequentialSampler
from transformers import Trainer
from transformers.trainer_pt_utils import get_length_grouped_indices

from fastprune.integrations.datasets import lengths
from fastprune.pruning.sampler import Arrange


def sampling_strategy(args: Any) -> str:
    """``random``, ``group_by_length``, ``sequential`` or ``batch_rebalance``, in any version of transformers."""
    if getattr(args, "group_by_length", False):
        return "group_by_length"
    return str(getattr(args, "train_sampling_strategy", "random"))


def check_sampler(trainer: Any) -> None:
    """Refuse a Trainer whose own sampler gives another order than its arguments say.

    Raises:
        ValueError: it does.
    """
    if type(trainer)._get_train_sampler is Trainer._get_train_sampler:
        return
    if _strategy_of_sampler(trainer) is None:
        raise ValueError(
            f"{type(trainer).__name__} overrides _get_train_sampler, but pruning decides the order; "
            "attach to a Trainer without a sampler of its own"
        )


def _strategy_of_sampler(trainer: Any) -> str | None:
    """The strategy of a Trainer that overrides ``_get_train_sampler``, told by what that returns.

    None if it is an order of its own.
    """
    state = torch.get_rng_state()
    sampler = trainer._get_train_sampler()
    torch.set_rng_state(state)
    if type(sampler) is SequentialSampler:
        return "sequential"
    usual = type(sampler) is RandomSampler and not sampler.replacement and len(sampler) == len(trainer.train_dataset)
    return "random" if usual and sampling_strategy(trainer.args) == "random" else None


def trainer_order(trainer: Any) -> Arrange | None:
    """The trainer's sampling strategy as an order within an epoch.  None for random.

    Raises:
        ValueError: lengths are asked for and cannot be had.
    """
    args = trainer.args
    strategy = sampling_strategy(args)
    if type(trainer)._get_train_sampler is not Trainer._get_train_sampler:
        strategy = _strategy_of_sampler(trainer) or strategy
    if strategy == "sequential":
        return lambda order, generator: order.sort().values
    if strategy != "group_by_length":
        return None
    known = lengths(trainer.train_dataset, args.length_column_name)
    if known is None:
        name = trainer.processing_class.model_input_names[0] if trainer.processing_class is not None else "input_ids"
        try:
            known = [len(example[name]) for example in trainer.train_dataset]
        except (KeyError, TypeError, IndexError):
            raise ValueError(
                f"group_by_length needs the length of every example, but train_dataset has neither a column "
                f"{args.length_column_name!r} nor examples with {name!r}; add one, or sample at random"
            ) from None
    size, by_example = args.train_batch_size * args.gradient_accumulation_steps, torch.as_tensor(known)

    def arrange(order: Tensor, generator: torch.Generator) -> Tensor:
        # The Trainer's own grouping, over the kept examples.
        places = get_length_grouped_indices(by_example[order].tolist(), size, generator=generator)
        return order[torch.tensor(places)]

    return arrange


class RecordedOrder(Sampler[int]):
    """The Trainer's own sampler.  Its order is remembered while it is read."""

    def __init__(self, sampler: Any) -> None:
        self.sampler = sampler
        self.order: list[int] = []

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[int]:
        self.order = list(self.sampler)
        return iter(self.order)


def rank_batches(order: Sequence[int], trainer: Any) -> list[Tensor]:
    """The examples of every batch that this process gets of an epoch in this order, as accelerate deals them out."""
    args = trainer.args
    batches = BatchSampler(order, trainer._train_batch_size, args.dataloader_drop_last)  # type: ignore[arg-type]
    even = args.accelerator_config.even_batches
    if args.world_size > 1:
        batches = BatchSamplerShard(batches, args.world_size, args.process_index, even_batches=even)
    return [torch.tensor(batch) for batch in batches]
