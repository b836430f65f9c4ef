"""What several commands share: which data, and whether the packages they need are there."""

from __future__ import annotations

import argparse
import importlib.util
from typing import Any

from fastprune.data import TextData, load_source
from fastprune.errors import UsageError
from fastprune.finetune.trust import Trust


def add_data(group: Any) -> None:
    """``--data`` and the options that say how to read it."""
    group.add_argument(
        "--data",
        help="folder in SlotGated form (train/seq.in, seq.out, label), a .csv/.tsv/.jsonl file or a folder "
        "of them, or a hub id (the packaged home-assistant commands)",
    )
    group.add_argument("--text-column", help="column with the text (found by its usual names)")
    group.add_argument("--label-column", help="column with the label (found by its usual names)")
    group.add_argument("--pair-column", help="column with a second sentence (none)")
    group.add_argument("--slots-column", help="column with space-separated BIO tags (none)")
    group.add_argument("--max-train", type=int, help="that many training examples only (all)")


def add_trust(group: Any) -> None:
    """What a model from elsewhere may do: nothing, unless these are given."""
    group.add_argument("--trust-remote-code", action="store_true", help="run the Python files that come with --model")
    group.add_argument("--allow-pickle", action="store_true", help="load weights from .bin files, if --model has them")


def trust_of(arguments: argparse.Namespace) -> Trust:
    """What ``--trust-remote-code`` and ``--allow-pickle`` say."""
    return Trust(remote_code=arguments.trust_remote_code, pickle=arguments.allow_pickle)


def source_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """How the data is loaded: arguments of `fastprune.data.load`, and ``max_train``."""
    names = ("data", "text_column", "label_column", "pair_column", "slots_column", "max_train")
    return {name: getattr(arguments, name) for name in names}


def load_data(arguments: argparse.Namespace) -> TextData:
    """The data that the options name."""
    return load_source(source_of(arguments))


def use_bf16(precision: str) -> bool:
    """What ``--precision`` means on this machine."""
    from fastprune.finetune.precision import fast_bf16

    return fast_bf16() if precision == "auto" else precision == "bf16"


def need_packages(command: str, *names: str) -> None:
    """Refuse to start what would fail for want of a package: before hours of work, not after them."""
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(f"{command} needs {', '.join(missing)}: pip install 'fastprune[demo]'")
