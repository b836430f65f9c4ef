"""What a training step's own call of the Trainer's loss function tells about the examples, by kind of Trainer.

A reader calls the loss function once, and looks on.  `Outcome.outputs` is what it saw, and `metrics` are read off it.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from fastprune.integrations.causal_lm import plain_model
from fastprune.integrations.packed import Layout, pad_left
from fastprune.integrations.trainer.tile_fold import Tile, TileScores
from fastprune.integrations.trainer.token_rows import TokenRows, rows_of_logits, rows_of_predictions
from fastprune.integrations.trainer.trl import Kind, is_fused_output, watched_tiles
from fastprune.scores.task import Head, Task


class Outcome(NamedTuple):
    """What one call of ``compute_loss`` gave.

    Attributes:
        result: what it returned, for whoever called it.
        loss: the loss.
        outputs: what scores are read off.
    """

    result: Any
    loss: Any
    outputs: Any


class Reader(Protocol):
    """Calls a loss function, and keeps what scores are read off."""

    def run(self, call: Callable[..., Any], model: Any, inputs: Any, return_outputs: bool, **kwargs: Any) -> Outcome:
        """One call of ``compute_loss``."""


class OwnOutputs:
    """Reads what ``compute_loss(return_outputs=True)`` returns."""

    def run(self, call: Callable[..., Any], model: Any, inputs: Any, return_outputs: bool, **kwargs: Any) -> Outcome:
        """One call of ``compute_loss``."""
        loss, outputs = loss_and_outputs(call(model, inputs, return_outputs=True, **kwargs))
        return Outcome((loss, outputs) if return_outputs else loss, loss, outputs)


class FusedHead:
    """Reads the tiles of TRL's fused head.  Where TRL builds logits for its loss, it reads these.

    Args:
        trainer: an ``SFTTrainer``.
        metrics: names of metrics.
    """

    def __init__(self, trainer: Any, metrics: Sequence[str]) -> None:
        self._trainer = weakref.ref(trainer)
        self.metrics = tuple(metrics)

    def run(self, call: Callable[..., Any], model: Any, inputs: Any, return_outputs: bool, **kwargs: Any) -> Outcome:
        """One call of ``compute_loss``.

        Raises:
            RuntimeError: outside of training, what the tiles give is not what TRL makes of them.
        """
        net: Any = self._trainer().model  # type: ignore[union-attr]
        checked = () if net.training else ("loss",)
        tiles = TileScores(tuple(dict.fromkeys((*self.metrics, *checked))), classes_of(net))
        seen = FusedOutputs(tiles, self.metrics)
        with ExitStack() as stack:
            stack.enter_context(watched_tiles(seen.take_tile))
            stack.callback(net.register_forward_hook(seen.take_outputs).remove)
            result = call(model, inputs, return_outputs=return_outputs, **kwargs)
        if checked:
            seen.check_losses()
        return Outcome(result, result[0] if return_outputs else result, seen)


class FusedOutputs:
    """What is seen of the first forward pass in a call of TRL's loss function.

    Attributes:
        first: the model's outputs, with log-probabilities or logits.
    """

    def __init__(self, tiles: TileScores, metrics: Sequence[str]) -> None:
        self.tiles, self.metrics = tiles, tuple(metrics)
        self.first: Any = None

    def take_tile(self, tile: Tile) -> None:
        """A tile has been folded."""
        if self.first is None:
            self.tiles.add(tile)

    def take_outputs(self, module: nn.Module, args: Any, outputs: Any) -> None:
        """The model has returned."""
        if self.first is None:
            self.first = outputs

    def rows(self, labels: Tensor) -> TokenRows:
        """The scores of the tokens of labels (R, T)."""
        if not is_fused_output(self.first):
            return rows_of_logits(logits_of(self.first), labels, self.metrics)
        found = self.tiles.rows()
        return rows_of_predictions({name: found[name] for name in self.metrics}, self._mask, labels.shape[1])

    @property
    def _mask(self) -> Tensor:
        return self.first.label_mask

    def check_losses(self) -> None:
        """Refuse a fused head whose log-probabilities are not those of the tiles that were seen.

        Raises:
            RuntimeError: they are not.
        """
        if not is_fused_output(self.first):
            return
        losses = self.tiles.rows().get("loss", torch.empty(0))
        ours = rows_of_predictions({"loss": losses}, self._mask, self._mask.shape[1] + 1).values["loss"][:, :-1]
        if not torch.allclose(ours, -self.first.log_probs.detach().float(), rtol=1e-3, atol=1e-3, equal_nan=True):
            raise RuntimeError(
                "the log-probabilities of TRL's fused head are not those of the tiles that it folded, so these give "
                "no scores; use method='el2n', which scores in a pass of its own, and report this to fastprune"
            )

    def losses(self, loss_type: str) -> Tensor:
        """The differentiable loss of each prediction, as TRL sums it, (R, T - 1)."""
        log_probs = self.first.log_probs
        return -log_probs * log_probs.exp().detach() if loss_type == "dft" else -log_probs

    def surplus(self, loss_type: str, layout: Layout, weights: Tensor) -> Tensor:
        """The sum over all predictions of their losses times their example's weight less 1.

        At weights of 1 it is 0.
        """
        losses = self.losses(loss_type)
        extra = layout.per_token(weights.to(losses) - 1)[:, :-1]
        return (pad_left(extra, losses.shape[1], 0) * losses).sum()


class Preferences:
    """Reads the margins of TRL's DPO, KTO and reward trainers, from their own log-probabilities or rewards.

    A pair with margin m is a choice between two classes with the logits (m, 0), of which the first is right.

    Args:
        trainer: one of these trainers.
        kind: which.
    """

    def __init__(self, trainer: Any, kind: Kind) -> None:
        self._trainer = weakref.ref(trainer)
        self.kind = kind

    def run(self, call: Callable[..., Any], model: Any, inputs: Any, return_outputs: bool, **kwargs: Any) -> Outcome:
        """One call of ``compute_loss``."""
        trainer: Any = self._trainer()
        given, seen = dict(inputs), []

        def take(module: nn.Module, args: Any, named: dict[str, Any], outputs: Any) -> None:
            if _same(named.get("input_ids"), given["input_ids"]):
                seen.append(outputs)

        with ExitStack() as stack:
            for net in (trainer.model, getattr(trainer, "ref_model", None)):
                if net is not None:
                    stack.callback(net.register_forward_hook(take, with_kwargs=True).remove)
            result = call(model, inputs, return_outputs=return_outputs, **kwargs)
        margins = self._margins(trainer, given, seen).detach()
        return Outcome(result, result[0] if return_outputs else result, margins)

    def _margins(self, trainer: Any, given: Mapping[str, Any], seen: list[Any]) -> Tensor:
        if self.kind == "reward":
            chosen, rejected = _rewards(seen).chunk(2)
            return chosen - rejected - given.get("margin", 0.0)
        names = ("ref_chosen_logps", "ref_rejected_logps") if self.kind == "dpo" else ("ref_logps",)
        own = _log_probability(seen, 0, given)
        if getattr(trainer, "precompute_ref_logps", False):
            reference = torch.cat([given[name] for name in names]).to(own)
        else:
            reference = _log_probability(seen, 1, given)
        ratios = own - reference
        if self.kind == "dpo":
            chosen, rejected = ratios.chunk(2)
            return trainer.beta * (chosen - rejected)
        mode = "train" if trainer.model.training else "eval"
        divergence = trainer._metrics[mode]["kl"][-1]
        wanted = torch.as_tensor(given["label"], dtype=torch.bool, device=ratios.device)
        return trainer.beta * torch.where(wanted, ratios - divergence, divergence - ratios)


def margin_scores(margins: Tensor, metrics: Sequence[str]) -> Mapping[str, Tensor]:
    """The metrics of choices between two with these margins."""
    logits = torch.stack([margins, torch.zeros_like(margins)], dim=-1).float()
    labels = torch.zeros(len(margins), dtype=torch.int64, device=margins.device)
    return Task(Head(kind="single_label")).scores({"logits": logits}, {"labels": labels}, metrics)


def logits_of(outputs: Any) -> Tensor:
    """The logits of a model's outputs.

    Raises:
        ValueError: there are none.
    """
    logits = getattr(outputs, "logits", None)
    if not isinstance(logits, Tensor):
        raise ValueError(
            f"the model's outputs ({type(outputs).__name__}) hold neither logits nor log-probabilities of TRL's fused "
            "head; pass attach(score_fn=...), or choose a method without scores (`fastprune methods`)"
        )
    return logits


def classes_of(model: nn.Module) -> int:
    """How many classes the output head has.  It is the same number if the head is sharded."""
    weight = plain_model(model).get_output_embeddings().weight
    return getattr(weight, "ds_shape", weight.shape)[0]


def loss_and_outputs(result: Any) -> tuple[Any, Any]:
    """What ``compute_loss(..., return_outputs=True)`` returned, if it is a pair.

    Raises:
        ValueError: it is not.
    """
    if not isinstance(result, tuple) or len(result) != 2:
        raise ValueError(
            "compute_loss(..., return_outputs=True) returned no (loss, outputs); scores need the outputs, so "
            "let your compute_loss honour return_outputs"
        )
    return result


def _log_probability(seen: list[Any], place: int, given: Mapping[str, Any]) -> Tensor:
    """(R,): the log-probability of each completion in one of the forward passes."""
    if place >= len(seen) or not is_fused_output(seen[place]):
        raise ValueError(
            "this trainer's forward passes give no log-probabilities of TRL's fused head; pass attach(score_fn=...), "
            "or choose a method without scores (`fastprune methods`)"
        )
    return seen[place].log_probs[:, -(given["input_ids"].shape[1] - 1) :].sum(1)


def _rewards(seen: list[Any]) -> Tensor:
    if not seen or getattr(seen[0], "logits", None) is None:
        raise ValueError("the reward model's forward pass gave no logits; pass attach(score_fn=...)")
    return seen[0].logits.squeeze(-1)


def _same(found: Any, wanted: Any) -> bool:
    if found is wanted or not isinstance(found, Tensor):
        return found is wanted
    return found.shape == wanted.shape and bool(torch.equal(found, wanted))
