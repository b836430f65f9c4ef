"""The measured model, in a plain loop: an encoder with an intent head and, for joint data, a slot head."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

import fastprune
from fastprune.app.finetune.encode import IGNORE
from fastprune.scores import Head, JointLoss, LastLayers, Task


class JointModel(nn.Module):
    """Intent from the mean of the last hidden states, and one slot tag for each token.

    It returns logits by head name: ``{"intent": (B, I)}``, and ``"slots": (B, T, S)`` if ``n_slots`` is given.
    """

    def __init__(self, encoder: nn.Module, n_intents: int, n_slots: int | None, dropout: float = 0.1) -> None:
        super().__init__()
        hidden: int = encoder.config.hidden_size  # type: ignore[union-attr, assignment]
        self.encoder = encoder
        self.dropout = nn.Dropout(dropout)
        self.intent = nn.Linear(hidden, n_intents)
        self.slots = None if n_slots is None else nn.Linear(hidden, n_slots)

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Logits of every head for a collated batch."""
        inputs = {k: batch[k] for k in ("input_ids", "attention_mask", "token_type_ids") if k in batch}
        states = self.encoder(**inputs).last_hidden_state
        mask = batch["attention_mask"].unsqueeze(-1).to(states.dtype)
        pooled = (states * mask).sum(1) / mask.sum(1)
        logits = {"intent": self.intent(self.dropout(pooled))}
        if self.slots is not None:
            logits["slots"] = self.slots(self.dropout(states))
        return logits


def forward(
    model: nn.Module, batch: Mapping[str, Tensor], *, bf16: bool
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Logits by head, and the batch on the model's device. With ``bf16`` the forward pass runs under bf16 autocast."""
    device = next(model.parameters()).device
    placed = {key: value.to(device, non_blocking=True) for key, value in batch.items()}
    with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        return model(placed), placed


def joint_loss(logits: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
    """The training loss, a scalar in fp32: the sum over heads of the mean cross-entropy of the head's valid labels."""
    losses = [fastprune.cross_entropy(z.float(), batch[head], ignore_index=IGNORE) for head, z in logits.items()]
    return torch.stack(losses).sum()


def example_losses(logits: Mapping[str, Tensor], batch: Mapping[str, Tensor]) -> Tensor:
    """Each example's part in `joint_loss`, differentiable fp32 (B,). Their mean equals that loss up to rounding.

    A longer text has more words that count, as in the mean over words.
    """
    rule = JointLoss("sum", "mean")
    losses = task(logits, rule).losses({head: z.float() for head, z in logits.items()}, batch)
    return losses.sums if len(logits) > 1 else rule.parts({"intent": (losses.sums, losses.counts)})


def example_scores(
    logits: Mapping[str, Tensor],
    batch: Mapping[str, Tensor],
    metrics: Sequence[str],
    features: Mapping[str, tuple[Tensor, bool]] | None = None,
) -> dict[str, Tensor]:
    """The metrics of each example, fp32 (B,), as `fastprune.Task` defines them.

    ``probabilities`` are (B, C), those of the intent head.

    Args:
        logits: By head.
        batch: The labels by head.
        metrics: The names of the metrics.
        features: The last layers' inputs by head, for ``grand`` (`fastprune.scores.LastLayers`).
    """
    with torch.no_grad():
        of_the_task = [metric for metric in metrics if metric != "probabilities"]
        scores = task(logits).scores(logits, batch, of_the_task, features)
        if "probabilities" in metrics:
            scores["probabilities"] = logits["intent"].detach().float().softmax(-1)
        return scores


def task(heads: Iterable[str], loss: JointLoss | None = None) -> Task:
    """The task of these heads. Logits and labels have the name of the head."""
    return Task({name: Head(logits=name, labels=name, ignore_index=IGNORE) for name in heads}, loss)


def batch_scores(
    model: nn.Module, metrics: Sequence[str], *, bf16: bool
) -> Callable[[Mapping[str, Tensor]], tuple[dict[str, Tensor], dict[str, Tensor]]]:
    """A function from a collated batch to its scores by metric and its logits by head."""
    layers = LastLayers(model, wanted="grand" in metrics)

    def run(batch: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        with layers.watch():
            logits, placed = forward(model, batch, bf16=bf16)
        return example_scores(logits, placed, metrics, layers.features(logits)), logits

    return run


LR_WARMUP_SHARE = 0.1


def lr_factor(step: int, total: int) -> float:
    """Linear warm-up over a tenth of the steps, then linear decay to 0 at the last step."""
    warmup = max(1, int(LR_WARMUP_SHARE * total))
    return min((step + 1) / warmup, max(0.0, (total - step) / max(1, total - warmup)))
