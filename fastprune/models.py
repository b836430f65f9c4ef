"""Models of this project: heads on the mean of an encoder's last hidden states, and joint intent and tags.

Sentence encoders were trained with that mean.  Transformers' own classifiers take the first token, which works worse
with such encoders (MiniLM on Banking77: 89.1 % against 92.5 %).

After ``import fastprune.models`` the auto classes and ``pipeline(...)`` know these models.  Elsewhere
``trust_remote_code=True`` runs this file, a copy of which lies beside the weights.  So it imports nothing of fastprune.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.utils import ModelOutput

IGNORE = -100


class MeanConfig(PretrainedConfig):
    """Configuration of these models.

    Args:
        encoder: the configuration of the encoder, as a dict with its ``model_type``.
        classifier_dropout: probability of the dropout before the heads.
        tag_names: names of a joint model's tags, in the order of its ``tag_logits``.

    >>> MeanConfig({"model_type": "bert"}, tag_names=["O", "B-city"]).tag_names
    ['O', 'B-city']
    """

    model_type = "fastprune"

    def __init__(
        self,
        encoder: dict[str, Any] | None = None,
        classifier_dropout: float = 0.1,
        tag_names: list[str] | None = None,
        **kwargs: Any,
    ) -> None:
        self.encoder = encoder
        self.classifier_dropout = classifier_dropout
        self.tag_names = tag_names
        super().__init__(**kwargs)


@dataclass
class JointOutput(ModelOutput):
    """What `JointModel` returns: ``logits`` (B, C) of the class, ``tag_logits`` (B, T, S) of every token."""

    loss: Tensor | None = None
    logits: Tensor | None = None
    tag_logits: Tensor | None = None


class _Model(PreTrainedModel):
    """An encoder and a classifier on the mean of its last hidden states.

    Args:
        config: this model's configuration.
        encoder: the encoder to finetune.  None makes one with random weights from ``config.encoder``.
    """

    config_class = MeanConfig
    base_model_prefix = "encoder"
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True

    def __init__(self, config: MeanConfig, encoder: Any = None) -> None:
        super().__init__(config)
        given = encoder is not None
        if not given:
            encoder = AutoModel.from_config(AutoConfig.for_model(**dict(config.encoder or {})))
        if getattr(encoder, "pooler", None) is not None:
            encoder.pooler = None  # no code reads it
        for module in encoder.modules() if given else ():
            module._is_hf_initialized = True  # otherwise `post_init` would draw its weights again
        self.encoder = encoder
        self.dropout = nn.Dropout(config.classifier_dropout)
        labels: Any = config.num_labels
        self.classifier = nn.Linear(encoder.config.hidden_size, labels)
        self.add_heads(encoder.config.hidden_size)
        self.post_init()

    def add_heads(self, hidden: int) -> None:
        """Add heads beside the classifier."""

    def _init_weights(self, module: nn.Module) -> None:
        """Do nothing, so that layers keep PyTorch's initial weights."""

    def get_input_embeddings(self) -> nn.Module:
        """Return those of the encoder."""
        return self.encoder.get_input_embeddings()

    def states(self, input_ids: Tensor, attention_mask: Tensor | None, token_type_ids: Tensor | None) -> Any:
        """Return the last hidden states, (B, T, H), and the logits of the classifier on their mean."""
        given = {"attention_mask": attention_mask, "token_type_ids": token_type_ids}
        given = {name: value for name, value in given.items() if value is not None}
        states = self.encoder(input_ids=input_ids, **given).last_hidden_state
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        mask = mask.unsqueeze(-1).to(states.dtype)
        pooled = (states * mask).sum(1) / mask.sum(1)
        return states, self.classifier(self.dropout(pooled))


class MeanForSequenceClassification(_Model):
    """One class, several, or a number for each text, by ``config.problem_type`` as in Transformers' own models.

    Example:
        >>> from transformers import BertConfig
        >>> sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
        >>> config = MeanConfig(BertConfig(vocab_size=30, **sizes).to_dict(), num_labels=3)
        >>> model = MeanForSequenceClassification(config)
        >>> model(torch.tensor([[2, 7, 9], [2, 5, 3]]), labels=torch.tensor([0, 2])).logits.shape
        torch.Size([2, 3])
    """

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> SequenceClassifierOutput:
        """Return ``logits`` (B, C), and with ``labels`` the mean ``loss``."""
        logits = self.states(input_ids, attention_mask, token_type_ids)[1]
        loss = None
        if labels is not None and self.config.problem_type == "regression":
            loss = functional.mse_loss(logits.float().squeeze(-1), labels.float())
        elif labels is not None and self.config.problem_type == "multi_label_classification":
            loss = functional.binary_cross_entropy_with_logits(logits.float(), labels.float())
        elif labels is not None:
            loss = functional.cross_entropy(logits.float(), labels, ignore_index=IGNORE)
        return SequenceClassifierOutput(loss=loss, logits=logits)


class JointModel(_Model):
    """A class for each text and a tag for each token; ``config.id2label`` and ``config.tag_names`` name them.

    Example:
        >>> from transformers import BertConfig
        >>> sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
        >>> encoder = BertConfig(vocab_size=30, **sizes).to_dict()
        >>> model = JointModel(MeanConfig(encoder, num_labels=3, tag_names=["O", "B-city"]))
        >>> output = model(torch.tensor([[2, 7, 9], [2, 5, 3]]))
        >>> output.logits.shape, output.tag_logits.shape
        (torch.Size([2, 3]), torch.Size([2, 3, 2]))
    """

    def add_heads(self, hidden: int) -> None:
        """Add the head of the tags."""
        self.tagger = nn.Linear(hidden, len(self.config.tag_names))

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        labels: Tensor | None = None,
        tag_labels: Tensor | None = None,
    ) -> JointOutput:
        """Return logits, and with both kinds of labels the loss.

        The loss is the sum of the two mean cross-entropies.  Label -100 counts nowhere.
        """
        states, logits = self.states(input_ids, attention_mask, token_type_ids)
        tag_logits = self.tagger(self.dropout(states))
        loss = None
        if labels is not None and tag_labels is not None:
            loss = functional.cross_entropy(logits.float(), labels, ignore_index=IGNORE)
            flat = tag_logits.float().flatten(0, 1)
            loss = loss + functional.cross_entropy(flat, tag_labels.flatten(), ignore_index=IGNORE)
        return JointOutput(loss=loss, logits=logits, tag_logits=tag_logits)


AutoConfig.register(MeanConfig.model_type, MeanConfig, exist_ok=True)
AutoModelForSequenceClassification.register(MeanConfig, MeanForSequenceClassification, exist_ok=True)
MeanConfig.register_for_auto_class()
MeanForSequenceClassification.register_for_auto_class("AutoModelForSequenceClassification")
JointModel.register_for_auto_class("AutoModel")
