"""Loads a causal language model with its tokenizer, and puts low-rank adapters on it."""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from fastprune.app.data.types import Split
from fastprune.app.finetune.encoder import check_vocabulary, load_fast_tokenizer, load_pretrained
from fastprune.app.finetune.finetuned import LANGUAGE_MODELS
from fastprune.app.finetune.lm.tiny import NAME, tiny_model
from fastprune.app.finetune.ranks import tell
from fastprune.app.finetune.trust import Trust
from fastprune.app.report.folder import MODEL
from fastprune.errors import UsageError
from fastprune.integrations.causal_lm import check_head

ADAPTER = "adapter_config.json"
ALPHA, DROPOUT = 2, 0.05
"""Of the adapters: alpha is so many times the rank."""


class LanguageModel(NamedTuple):
    """A model (fp32), its tokenizer and its display name."""

    model: Any
    tokenizer: Any
    name: str


def load_language_model(model: str | None, split: Split, trust: Trust) -> LanguageModel:
    """Load a folder or a hub id.  Without a name a tiny model is made of the data, and a line says so.

    Args:
        model: the folder or hub id.  A run folder stands for its ``model/``.
        split: the data.
        trust: what may be executed of the model.

    Raises:
        UsageError: it cannot be loaded, is no causal language model, or has no token that ends a text.
    """
    if model is None:
        made = LanguageModel(*tiny_model(split), NAME)
        tell("note: no --model is given, so a tiny random model is made of the data; its numbers are no evidence")
        return made
    name = _folder(model)
    config = load_pretrained("AutoConfig", name, trust)
    classes = config.architectures or []
    if not any(ending in each for each in classes for ending in LANGUAGE_MODELS):
        shown = ", ".join(classes) or "of no known architecture"
        raise UsageError(f"--model {name} is {shown}; --task causal-lm takes a causal language model")
    loaded = load_pretrained("AutoModelForCausalLM", name, trust).float()
    tokenizer = load_fast_tokenizer(name, trust, "completions with tokens", words=False)
    if tokenizer.eos_token_id is None:
        raise UsageError(f"--model {name} has a tokenizer without a token that ends a text (eos_token); set one there")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    check_vocabulary(name, loaded, tokenizer)
    _check_head(loaded, tokenizer, name)
    return LanguageModel(loaded, tokenizer, model)


def longest_row(model: Any, tokenizer: Any, wanted: int) -> int:
    """Return ``wanted`` tokens, or as many as the model has positions for.

    Raises:
        UsageError: fewer than two tokens, of which none answers another.
    """
    if wanted < 2:
        raise UsageError(f"--max-length {wanted}: a language model learns from two tokens or more; raise it")
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return int(min([wanted, tokenizer.model_max_length] + ([positions] if positions else [])))


def adapted(model: nn.Module, rank: int) -> nn.Module:
    """Return the model under new low-rank adapters on all linear layers but the head.  Only they are trained.

    They are drawn from the global random state.
    """
    import peft

    # Transformers keeps the same model: what adapters an earlier run put on it are taken off first.
    base: Any = model.unload() if isinstance(model, peft.PeftModel) else model
    config = peft.LoraConfig(
        r=rank, lora_alpha=ALPHA * rank, lora_dropout=DROPOUT, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft mends what it warns of, and what it calls in Transformers is deprecated
        found: nn.Module = peft.get_peft_model(base, config)
    return found


def check_lora(rank: int | None) -> None:
    """Refuse a rank below 1, and adapters without the package that makes them.

    Raises:
        UsageError: the message names the option.
    """
    if rank is None:
        return
    if rank < 1:
        raise UsageError(f"--lora {rank}: the rank must be 1 or more")
    if importlib.util.find_spec("peft") is None:
        raise UsageError("--lora needs the peft package, which is not installed: pip install 'fastprune[lora]'")


def _folder(model: str) -> str:
    folder = Path(model)
    if (folder / MODEL / "config.json").is_file() and not (folder / "tokenizer_config.json").is_file():
        folder = folder / MODEL
    if (folder / ADAPTER).is_file() and not (folder / "config.json").is_file():
        raise UsageError(
            f"--model {folder} holds adapters of PEFT without their model; pass a model that they are merged into "
            "(merge_and_unload, then save_pretrained)"
        )
    return str(folder) if folder.is_dir() else model


def _check_head(model: Any, tokenizer: Any, name: str) -> None:
    ids = torch.arange(min(8, len(tokenizer)))[None]
    try:
        check_head(model, {"input_ids": ids})  # the model was loaded in eval mode
    except ValueError as error:
        raise UsageError(f"--model {name}: {error}") from error
