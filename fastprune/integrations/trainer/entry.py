"""Dynamic pruning inside an unmodified Hugging Face ``Trainer``, 4.54 to 5.x, in one process or many.

``attach`` overrides attributes of one Trainer *instance*.  Nothing global is patched:

* ``train``: ``resume_from_checkpoint=True`` means the newest *complete* checkpoint.
* ``_inner_training_loop``: a run begins and ends here, and which checkpoint it resumes is known here.
* ``_get_train_sampler``: hands out the pruning sampler, planned for this run.
* ``set_initial_training_values``: the Trainer freezes the length of an epoch.  It counts chunks as epochs
  (`fastprune.pruning.chunks`).
* ``_save_checkpoint``: the pruning state goes in last, before older checkpoints are deleted.
* ``callback_handler.call_event``: callbacks see the user's epochs, not the chunks.  Cycles start here, and one batch is
  tried here.
* ``compute_loss``: the logits of the training step become scores (methods that learn from it only).
* ``compute_loss_func``: examples are weighted (methods with weights only).

In TRL one more thing is replaced, while a training step's forward pass runs (`fastprune.integrations.trainer.trl`).
"""

from __future__ import annotations

import logging
from typing import Any

try:
    from transformers import Trainer
except ImportError as error:
    raise ImportError("fastprune.attach needs transformers: pip install 'fastprune[hf]'") from error

from fastprune.errors import class_of
from fastprune.integrations.batch_scoring import BatchScoring, ScoreFn
from fastprune.integrations.datasets import check_readable_by_index, fingerprint, lengths_for
from fastprune.integrations.trainer.attachment import Attachment
from fastprune.integrations.trainer.evidence import with_evidence
from fastprune.integrations.trainer.fused_loss import check_fused_head
from fastprune.integrations.trainer.order import check_sampler, sampling_strategy, trainer_order
from fastprune.pruning import DEFAULT_METHOD, DynamicPruner, KeepFraction, Method, get_method
from fastprune.scores.task import Task

logger = logging.getLogger(__name__)


def attach(
    trainer: Trainer,
    *,
    keep_fraction: KeepFraction,
    warmup_epochs: int | None = None,
    cycle_epochs: int | None = None,
    final_share: float | None = None,
    method: str | Method = DEFAULT_METHOD,
    seed: int | None = None,
    task: Task | None = None,
    score_fn: ScoreFn | None = None,
    score_batch_size: int | None = None,
) -> DynamicPruner:
    """Make ``trainer.train()`` prune its training set while it trains.

    ``num_train_epochs`` keeps its meaning: passes over all examples during the warm-up, then over the kept ones.  2.5
    is the run of 3, cut in the third.  An explicit ``max_steps`` wins.  Evaluation, saving and logging by epoch,
    ``on_epoch_end`` of callbacks and the logged ``epoch`` follow these epochs.  The learning rate ends where it would.
    A scheduler of your own needs the number of optimizer steps, which is logged then.  Checkpoints hold the pruning
    state, and ``resume_from_checkpoint`` goes on exactly.  Each new cycle is logged as ``prune/*``.

    If epochs differ in size, every optimizer step is a whole one.  There are then at most half a percent more steps
    than if the last of each epoch were short.  The last step of a cycle is filled up with examples of the next
    permutation.  No batch holds an example twice.  An epoch smaller than a batch of all processes is one short step,
    and a warning says so.

    When training begins, one batch is scored on every process, and its scores are forgotten.  What cannot be scored or
    weighted fails before the first step.  A run without scores, or with ``keep_fraction=1.0``, leaves that out.  That
    batch and the scoring pass change nothing of the run.  Random states, the model's mode, and what the trainer counts,
    collects and logs stay as they are (`left_as_it_was` says what that covers).  A training step may run the model
    several times on a micro-batch (FGM, SAM).  It is observed once, at its first forward pass.

    Args:
        trainer: with a map-style ``train_dataset`` and random, sequential or length-grouped sampling.  It runs in one
            process or, under torchrun or accelerate, in several.
        keep_fraction: share of the examples kept after the warm-up, see `DynamicPruner`.  At 1.0 nothing changes.
            Order, random numbers and weights are those without ``attach``, and no scoring pass is made.
        warmup_epochs: epochs on all examples first, see `DynamicPruner`.
        cycle_epochs: epochs between two selections, see `DynamicPruner`.
        final_share: share of the epochs at the end on all examples, see `DynamicPruner`.
        method: a registered name (``fastprune methods``) or a `Method`.  "auto" reads the scores off the training
            steps.  For language models, TRL's trainers, regression, several labels, question answering and multiple
            choice it is "rs2", random subsets, and a warning says so.  Nobody has measured what scores are worth there.
            With "el2n-free" the highest of the same scores are kept, whatever the model.  With "el2n", the paper's, a
            scoring pass is made before each cycle.
        seed: of the order and of random selections.  By default the Trainer's (``data_seed``, else ``seed``).
        task: where logits and labels are, for models with several heads or unusual names.  Models with one head of
            Transformers' kinds need none.
        score_fn: ``(outputs, inputs) -> (B,)`` scores or a dict of them by metric, in place of ``task``.  It receives
            what ``compute_loss(return_outputs=True)`` and the collator return, and is called without gradients.  It is
            needed where no score is defined.  For "auto" scores must be at least 0.
        score_batch_size: of the scoring pass.  By default 4 × ``per_device_train_batch_size``.

    Returns:
        The pruner, for ``pruner.kept_indices``, ``pruner.history`` and ``pruner.log()``.

    Raises:
        TypeError: ``trainer`` is no ``transformers.Trainer``.
        ValueError: the trainer is set up in a way that does not go with pruning.  The message says which.

    A method with weights ("infobatch", "repb") takes over the loss.  Per example it is cross-entropy, binary
    cross-entropy or squared error, as Transformers' own models have it, over ``num_items_in_batch``.  A
    ``compute_loss_func`` of yours must then return the (B,) losses of the examples.  To the loss of TRL's SFTTrainer
    the weights add their part, so that weights of 1 leave it as it is.

    A scoring pass over a causal language model makes no matrix of logits.  In TRL's SFTTrainer training steps make none
    either.  DPO, KTO and reward trainers of TRL have a score for each pair by default.

    Cost: the history (12 bytes an example) and, for "el2n", one forward pass over the data a cycle.  Before the first
    step one forward pass of one batch, two for a method with weights.  Remembering what the trainer holds takes a few
    milliseconds a pass.

    Example:
        >>> import torch
        >>> from transformers import BertConfig, BertForSequenceClassification, TrainingArguments
        >>> sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
        >>> model = BertForSequenceClassification(BertConfig(vocab_size=30, **sizes))
        >>> data = [{"input_ids": torch.tensor([i, 1]), "labels": i % 2} for i in range(16)]
        >>> quiet = {"report_to": "none", "disable_tqdm": True, "save_strategy": "no", "use_cpu": True}
        >>> arguments = TrainingArguments("runs", num_train_epochs=2, **quiet)
        >>> trainer = Trainer(model, arguments, train_dataset=data)
        >>> pruner = attach(trainer, keep_fraction=0.5)
        >>> trainer.train().global_step  # two steps of 8 examples, and one on the 8 that are kept
        {'prune/seen': ...}
        {'train_runtime': ...}
        3
        >>> len(pruner.kept_indices)
        8
    """
    _check_trainer(trainer)
    dataset: Any = trainer.train_dataset
    scoring = BatchScoring(task, score_fn, score_batch_size)
    pruner = DynamicPruner(
        len(dataset),
        method=get_method(method) if keep_fraction == 1.0 else with_evidence(get_method(method), trainer, scoring),
        seed=trainer.args.seed if seed is None else seed,
        fingerprint=fingerprint(dataset),
        arrange=trainer_order(trainer),
        lengths=lengths_for(keep_fraction, dataset, getattr(trainer.args, "length_column_name", "length")),
        keep_fraction=keep_fraction,
        warmup_epochs=warmup_epochs,
        cycle_epochs=cycle_epochs,
        final_share=final_share,
    )
    if not pruner.schedule.keeps_all:
        check_fused_head(trainer, pruner.method, scoring)
    Attachment(trainer, pruner, seed, scoring).install()
    return pruner


def detach(trainer: Trainer) -> None:
    """Undo `attach`: the trainer trains on everything again, and another `attach` is allowed.

    Args:
        trainer: one that fastprune is attached to, and that does not train now.

    Raises:
        ValueError: fastprune is not attached to it.
        RuntimeError: it trains now.

    Example:
        >>> import torch
        >>> from transformers import TrainingArguments
        >>> data = [{"x": torch.tensor([float(i)])} for i in range(16)]
        >>> arguments = TrainingArguments("runs", report_to="none", use_cpu=True)
        >>> trainer = Trainer(torch.nn.Linear(1, 2), arguments, train_dataset=data)
        >>> pruner = attach(trainer, keep_fraction=0.5)
        >>> detach(trainer)  # train() would use all 16 examples again
        >>> pruner = attach(trainer, keep_fraction=0.2)
    """
    attachment = getattr(trainer, "_fastprune", None)
    if attachment is None:
        raise ValueError("fastprune is not attached to this trainer; attach it with fastprune.attach(trainer, ...)")
    if attachment.training:
        raise RuntimeError("the trainer is training: call fastprune.detach(trainer) after trainer.train() has returned")
    attachment.remove()


def _check_trainer(trainer: Trainer) -> None:
    """Refuse what this version cannot do, naming the argument and the way out."""
    if not isinstance(trainer, Trainer):
        raise TypeError(
            f"trainer must be a transformers.Trainer, got {class_of(trainer)}; in Lightning use "
            "fastprune.PruningCallback, in other loops fastprune.DynamicPruner"
        )
    args: Any = trainer.args
    dataset = trainer.train_dataset
    if getattr(trainer, "_fastprune", None) is not None:
        raise ValueError(
            "fastprune is attached to this trainer already; attach once, or call fastprune.detach(trainer) first"
        )
    if dataset is None:
        raise ValueError("trainer has no train_dataset; pass train_dataset=... to Trainer")
    check_readable_by_index(dataset, "train_dataset", " (datasets: load_dataset(..., streaming=False))")
    if args.world_size > 1 and (args.accelerator_config.split_batches or args.accelerator_config.dispatch_batches):
        raise ValueError(
            "accelerator_config has split_batches or dispatch_batches, with which a process cannot tell which examples "
            "it is given; leave both unset"
        )
    strategy = sampling_strategy(args)
    if strategy == "batch_rebalance":
        raise ValueError(
            f"train_sampling_strategy is {strategy!r}, whose batches no sampler decides; set it to 'random', "
            "'group_by_length' or 'sequential'"
        )
    check_sampler(trainer)
    if not getattr(args.accelerator_config, "use_seedable_sampler", True):
        logger.warning(
            "accelerator_config has use_seedable_sampler=False: fastprune's order is reproducible all the same, "
            "so even with keep_fraction=1.0 it is not that of the Trainer alone"
        )
