"""Trainers that run the model twice on a batch: adversarial training (FGM), and sharpness-aware steps (SAM)."""

from __future__ import annotations

from typing import Any

import torch
from transformers import Trainer, TrainerCallback

import fastprune
from helpers import toy_trainer as toy


class Watched(toy.Recorder):
    """Remembers of each pass in training mode which examples it was over and what they scored."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.passes: list[tuple[list[int], torch.Tensor, bool]] = []
        self.again = False
        self.held: list[tuple[dict[str, Any], Any]] = []
        self.model.register_forward_hook(self._watch, with_kwargs=True)

    def _watch(self, model: Any, args: Any, inputs: Any, outputs: Any) -> None:
        if model.training and self.labels is not None:
            scores = fastprune.el2n(outputs["logits"].detach(), self.labels)
            self.passes.append((inputs["input_ids"][:, 0].tolist(), scores, self.again))

    labels: torch.Tensor | None = None

    def training_step(self, model, inputs, *args, **kwargs):
        self.labels = inputs["labels"].clone()
        return super().training_step(model, inputs, *args, **kwargs)

    def first_scores(self) -> dict[int, float]:
        """The score of each example in its newest first pass."""
        return {
            i: s for ids, scores, again in self.passes if not again for i, s in zip(ids, scores.tolist(), strict=True)
        }

    def moved(self) -> Any:
        """Move the embeddings up their gradient; returns how to put them back."""
        weight = self.model.get_input_embeddings().weight
        before = weight.detach().clone()
        weight.data.add_(weight.grad, alpha=float(1.0 / weight.grad.norm().clamp_min(1e-8)))
        return lambda: weight.data.copy_(before)


class Adversarial(Watched):
    """FGM: a second pass over the micro-batch with moved embeddings, whose gradient is added."""

    def training_step(self, model, inputs, *args, **kwargs):
        loss = super().training_step(model, dict(inputs), *args, **kwargs)
        put_back, self.again = self.moved(), True
        Trainer.training_step(self, model, dict(inputs), *args, **kwargs)
        put_back()
        self.again = False
        return loss


class SharpnessAware(Watched):
    """SAM: before the optimizer's step a second pass over all its micro-batches, whose gradient is taken."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        trainer = self

        class Again(TrainerCallback):
            def on_pre_optimizer_step(self, args, state, control, **kwargs):
                trainer.second_passes()

        self.add_callback(Again())

    def training_step(self, model, inputs, num_items_in_batch=None):
        self.held.append((dict(inputs), num_items_in_batch))
        return super().training_step(model, inputs, num_items_in_batch)

    def second_passes(self) -> None:
        put_back, self.again = self.moved(), True
        self.model.zero_grad()
        for inputs, items in self.held:
            self.labels = inputs["labels"]
            self.compute_loss(self.model_wrapped, dict(inputs), num_items_in_batch=items).backward()
        put_back()
        self.held, self.again = [], False
