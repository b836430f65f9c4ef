"""A model that is finetuned already, to score data with: a run folder's ``model/``, or any classifier in HF form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from fastprune.data.types import Split, TextData
from fastprune.errors import UsageError
from fastprune.finetune.encoder import check_vocabulary, load_encoder, load_pretrained, load_tokenizer
from fastprune.finetune.model import JointModel
from fastprune.finetune.trust import NONE, Trust
from fastprune.report.folder import read_json

HEADS, LABELS = "heads.safetensors", "labels.json"
OLDER_HEADS = "heads.pt"
KINDS = {"ForSequenceClassification": "intent", "ForTokenClassification": "slots"}
"""The end of an architecture's name, and the head it answers for."""


@dataclass(frozen=True)
class Finetuned:
    """``model`` returns logits by head; ``intents`` and ``tags`` name its classes, None without that head."""

    model: nn.Module
    tokenizer: Any
    config: Any
    name: str
    intents: list[str] | None
    tags: list[str] | None

    def fit(self, data: TextData) -> TextData:
        """``data`` with the labels numbered as the model numbers them, and without those it has no head for.

        A model whose classes have no names takes labels that are whole numbers.

        Raises:
            UsageError: a training label is none of the model's, or the data lack the slot tags that it predicts.
        """
        if self.tags is not None and data.slot_names is None:
            raise UsageError(
                f"--model {self.name} predicts a tag for each word, but the data have none: --slots-column"
            )
        if self.tags is not None:
            used = [tag for tags in data.train.slots or [] for tag in tags]
            data = replace(data, slot_names=self._numbered(self.tags, used, "tag"))
        else:
            data = replace(
                data,
                slot_names=None,
                train=_without_slots(data.train),
                validation=None if data.validation is None else _without_slots(data.validation),
                test=_without_slots(data.test),
            )
        if self.intents is not None:
            data = replace(data, intent_names=self._numbered(self.intents, data.train.intents, "label"))
        return data

    def _numbered(self, names: Sequence[str], used: Sequence[str], what: str) -> list[str]:
        unknown = sorted(set(used) - set(names))
        numbers = [str(number) for number in range(len(names))]
        if not unknown:
            return list(names)
        if set(used) <= set(numbers):
            return numbers
        raise UsageError(
            f"--model {self.name} does not know {len(unknown)} {what}s of the data ({_first(unknown)}); "
            f"it knows {_first(names)}; score the data it was finetuned on"
        )


def load_finetuned(model: str, trust: Trust = NONE) -> Finetuned:
    """The model in a folder written by ``fastprune finetune``, or a sequence or token classifier.

    Args:
        model: a folder or hub id; a run folder stands for its ``model/``.
        trust: what may be executed of it.

    Raises:
        UsageError: it cannot be loaded, or is no classifier.
    """
    folder = Path(model)
    if any((folder / "model" / name).is_file() for name in (HEADS, OLDER_HEADS)):
        folder = folder / "model"
    if (folder / OLDER_HEADS).is_file():
        raise UsageError(f"--model {folder}: {OLDER_HEADS} is of an earlier version, a pickle; finetune again")
    return _load_own(folder) if (folder / HEADS).is_file() else _load_classifier(model, trust)


class _Classifier(nn.Module):
    """A Hugging Face classifier that returns its logits by head."""

    def __init__(self, model: nn.Module, head: str) -> None:
        super().__init__()
        self.model = model
        self.head = head

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        inputs = {k: batch[k] for k in ("input_ids", "attention_mask", "token_type_ids") if k in batch}
        return {self.head: self.model(**inputs).logits}


def _load_own(folder: Path) -> Finetuned:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    encoder, tokenizer, _ = load_encoder(str(folder))
    try:
        heads, labels = load_file(folder / HEADS), read_json(folder / LABELS)
        intents, tags = labels["intent_names"], labels["slot_names"]
        model = JointModel(encoder, len(intents), None if tags is None else len(tags))
        own = {name: value for name, value in model.state_dict().items() if name.startswith("encoder.")}
        model.load_state_dict({**own, **heads})
    except (OSError, ValueError, RuntimeError, SafetensorError, KeyError, TypeError) as error:
        what = f"{HEADS} and {LABELS} are not those of a finetuned model"
        raise UsageError(f"--model {folder}: {what}; finetune again") from error
    return Finetuned(model, tokenizer, encoder.config, str(folder), intents, tags)


def _load_classifier(name: str, trust: Trust) -> Finetuned:
    config = load_pretrained("AutoConfig", name, trust)
    head = next((head for end, head in KINDS.items() for a in config.architectures or [] if a.endswith(end)), None)
    if head is None or config.num_labels < 2 or config.problem_type == "multi_label_classification":
        raise UsageError(
            f"--model {name} is {', '.join(config.architectures or ['of no known architecture'])} with "
            f"{config.num_labels} outputs; it takes a sequence or token classifier of one label out of several"
        )
    kind = next(end for end, of in KINDS.items() if of == head)
    model = load_pretrained(f"AutoModel{kind}", name, trust).float()
    tokenizer = load_tokenizer(name, trust, words=head == "slots")
    check_vocabulary(name, model, tokenizer)
    labels = [str(config.id2label[number]) for number in range(config.num_labels)]
    intents, tags = (labels, None) if head == "intent" else (None, labels)
    return Finetuned(_Classifier(model, head), tokenizer, config, name, intents, tags)


def _first(names: Sequence[str]) -> str:
    return ", ".join([*names[:5], *(["…"] if len(names) > 5 else [])])


def _without_slots(split: Split) -> Split:
    return replace(split, slots=None)
