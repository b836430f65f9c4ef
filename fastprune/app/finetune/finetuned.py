"""Loads a model that is finetuned already, to score data with or to predict.

It is a run folder's ``model/``, or any classifier in Hugging Face form.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fastprune.app.data.types import Kind, Split
from fastprune.app.finetune.encoder import check_vocabulary, load_pretrained, load_tokenizer, own_class
from fastprune.app.finetune.trust import NONE, Trust
from fastprune.app.report.folder import MODEL
from fastprune.errors import UsageError

OLDER_HEADS = ("heads.safetensors", "heads.pt")
LANGUAGE_MODELS = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
"""How the classes of language models end."""
TOKEN_CLASSIFIER, TEXT_CLASSIFIER = "ForTokenClassification", "ForSequenceClassification"


@dataclass(frozen=True)
class Finetuned:
    """A finetuned model.  ``label_names`` and ``tag_names`` name its classes, and are None without that head."""

    model: Any
    tokenizer: Any
    name: str
    kind: Kind
    label_names: list[str] | None
    tag_names: list[str] | None

    def fit(self, split: Split) -> tuple[Finetuned, Split]:
        """Return this model and labelled examples with the same classes, without labels that it has no head for.

        A model whose classes have no names takes labels that are whole numbers.

        Raises:
            UsageError: a label is none of the model's, or of another kind.
        """
        if self.tag_names is not None and split.tags is None:
            raise UsageError(f"--model {self.name} predicts a tag for each word, but the data have none: --tags-column")
        split = replace(split, tags=None if self.tag_names is None else split.tags)
        split = replace(split, labels=None if self.kind == "tokens" else split.labels)
        if split.unlabelled or split.kind != self.kind:
            what = "have no labels" if split.unlabelled else f"are for {split.kind}"
            raise UsageError(f"--model {self.name} is for {self.kind}, and the data {what}")
        labels, tags = self.label_names, self.tag_names
        if tags is not None:
            tags = self._numbered(tags, [tag for row in split.tags or [] for tag in row], "tag")
        if labels is not None:
            labels = self._numbered(labels, [c for label in split.labels or [] for c in _classes(label)], "label")
        return replace(self, label_names=labels, tag_names=tags), split

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
    """Load the model in a folder written by ``fastprune finetune``, or a sequence or token classifier.

    Args:
        model: a folder or hub id.  A run folder stands for its ``model/``.
        trust: what may be executed of it.

    Raises:
        UsageError: it cannot be loaded, or is no classifier.
    """
    folder = Path(model)
    if not (folder / "config.json").is_file() or not (folder / "tokenizer_config.json").is_file():
        folder = folder / MODEL if (folder / MODEL / "config.json").is_file() else folder
    older = [name for name in OLDER_HEADS if (folder / name).is_file()]
    if older:
        raise UsageError(
            f"--model {folder}: {older[0]} is of version 0.1.0, whose models this one cannot read; finetune again"
        )
    name = str(folder) if folder.is_dir() else model
    own = own_class(name)
    config = load_pretrained("AutoConfig", name, trust)
    # A folder without a class to load is tried as what its number of outputs says, and refused there.
    ends = [
        end for end in (TEXT_CLASSIFIER, TOKEN_CLASSIFIER) if any(a.endswith(end) for a in config.architectures or [])
    ]
    if own is None and not ends:
        shown = ", ".join(config.architectures or ["of no known architecture"])
        language = any(ending in shown for ending in LANGUAGE_MODELS)
        hint = ", and `fastprune score --task causal-lm` takes a language model" if language else ""
        raise UsageError(f"--model {name} is {shown}; it takes a sequence or token classifier{hint}")
    loaded = load_pretrained(own or f"AutoModel{ends[0]}", name, trust).float()
    tokens = own is None and ends[0] == TOKEN_CLASSIFIER
    tags = getattr(loaded.config, "tag_names", None) if own else None
    tokenizer = load_tokenizer(name, trust, words=tokens or tags is not None)
    check_vocabulary(name, loaded, tokenizer)
    labels = [str(loaded.config.id2label[number]) for number in range(loaded.config.num_labels)]
    if tokens:
        return Finetuned(loaded, tokenizer, name, "tokens", None, labels)
    kind = _kind_of(loaded.config, joint=tags is not None)
    return Finetuned(loaded, tokenizer, name, kind, None if kind == "regression" else labels, tags)


def _kind_of(config: Any, *, joint: bool) -> Kind:
    if joint:
        return "joint"
    if config.problem_type == "multi_label_classification":
        return "multi-label"
    return "regression" if config.num_labels == 1 or config.problem_type == "regression" else "classification"


def _classes(label: Any) -> Sequence[str]:
    return label if isinstance(label, tuple) else (str(label),)


def _first(names: Sequence[str]) -> str:
    return ", ".join([*names[:5], *(["…"] if len(names) > 5 else [])])


def without_labels(split: Split) -> Split:
    """The texts alone."""
    return replace(split, labels=None, tags=None)
