"""What several commands share: the options that name the data, and a check that required packages are installed."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Iterable
from typing import Any

from fastprune.app.cli.paths import refuse_inputs, user_path
from fastprune.app.cli.usual import said, usual
from fastprune.app.data import Source, files_of
from fastprune.app.data.load import TASKS
from fastprune.app.finetune.trust import Trust
from fastprune.app.printable import printable
from fastprune.errors import UsageError


def add_data(group: Any) -> None:
    """Add ``--data`` and the options that say how to read it: the fields of `fastprune.app.data.Source`."""
    group.add_argument(
        "--data",
        help="a folder, a file (csv, tsv, json, jsonl, parquet or text, packed or not) or a hub id (by default the "
        "packaged home-assistant commands)",
    )
    for split in ("train", "validation", "test"):
        group.add_argument(f"--{split}-file", help=f"the file of the {split} split, in place of --data")
    group.add_argument(
        "--task",
        help=f"what is predicted: {', '.join(TASKS)}, or glue/NAME (by default the data tell, but for causal-lm)",
    )
    group.add_argument(
        "--text-column", help="column with the text, or a prompt, or messages (found by its usual names)"
    )
    group.add_argument("--label-column", help="column with the label (found by its usual names)")
    group.add_argument("--pair-column", help="column with a second text or a completion (found by its usual names)")
    group.add_argument("--tags-column", "--slots-column", help="column with a BIO tag for each word")
    group.add_argument("--id-column", help="column that says which example it is, for the files that are written")
    group.add_argument("--split-column", help="column that says which split a row is of")
    group.add_argument(
        "--columns",
        type=_comma_separated,
        help="names of the columns of files without a header line: text,label",
    )
    group.add_argument("--encoding", help="encoding of text files (utf-8)")
    group.add_argument("--max-train", type=int, help="use at most that many training examples (all)")


def add_held_out(group: Any) -> None:
    """The options about the data that only training needs."""
    group.add_argument("--metric", help="the quality measure that decides (the task's own)")
    group.add_argument("--max-test", type=int, help="that many examples of every other split only (all)")
    group.add_argument("--keep", help="file of the training rows to keep, as `fastprune select` writes it (all)")


def add_trust(group: Any) -> None:
    """Add the options that allow a downloaded model to execute code.  By default it may not."""
    group.add_argument("--trust-remote-code", action="store_true", help="run the Python files that come with --model")
    group.add_argument("--allow-pickle", action="store_true", help="load weights from .bin files, if --model has them")


def trust_of(arguments: argparse.Namespace) -> Trust:
    """Return what ``--trust-remote-code`` and ``--allow-pickle`` allow."""
    return Trust(remote_code=arguments.trust_remote_code, pickle=arguments.allow_pickle)


def source_of(arguments: argparse.Namespace) -> Source:
    """Return how the data are to be read."""
    fields = Source.__dataclass_fields__
    return Source(**{name: getattr(arguments, name) for name in fields if hasattr(arguments, name)})


def say(notes: Iterable[str]) -> None:
    """Print each note as a line on standard error."""
    for note in notes:
        print(f"note: {printable(note)}", file=sys.stderr)


def add_use(job: Any, *, language_models: bool = False) -> None:
    """Add the options of a command that uses a finetuned model without training it.

    Args:
        job: the command.
        language_models: whether it takes language models, too.  Then what is not given depends on the task.
    """
    more = ", or with --task causal-lm a language model (then by default a tiny one made of the data)"
    job.add_argument(
        "--model",
        required=not language_models,
        help="run folder or its model/, or a sequence or token classifier: folder or hub id"
        + (more if language_models else ""),
    )
    add_data(job)
    job.add_argument(
        "--split", help="which split of the data (by default the only one, else train, and to predict test)"
    )
    add_trust(job)
    for name, setting, what in (
        ("--batch-size", "score_batch_size", "texts in a batch"),
        ("--max-length", "max_length", "tokens a text is cut to"),
    ):
        default = None if language_models else getattr(usual(None), setting)
        job.add_argument(
            name, type=int, default=default, help=what + (f" ({said(setting)})" if language_models else "")
        )
    job.add_argument(
        "--precision",
        choices=("auto", "fp32", "bf16"),
        default="auto",
        help="number format. auto is bf16 where that is fast",
    )


def check_use(arguments: argparse.Namespace) -> None:
    """Refuse sizes below 1, and an ``--out`` that has no folder or is itself an input.

    Raises:
        UsageError: the message names the option.
    """
    for name in ("batch_size", "max_length"):
        if getattr(arguments, name) is not None and getattr(arguments, name) < 1:
            raise UsageError(f"--{name.replace('_', '-')} must be >= 1, got {getattr(arguments, name)}")
    if not arguments.out.parent.is_dir():
        raise UsageError(f"--out {arguments.out}: there is no folder {arguments.out.parent}; make it first")
    model = [] if arguments.model is None else [user_path(arguments.model)]
    refuse_inputs("--out", arguments.out, [*files_of(source_of(arguments)), *model])


def use_bf16(precision: str) -> bool:
    """Return whether ``--precision`` means bf16 on this machine."""
    from fastprune.app.finetune.precision import fast_bf16

    return fast_bf16() if precision == "auto" else precision == "bf16"


def need_packages(command: str, *names: str) -> None:
    """Refuse to start a command whose packages are missing, before it has worked for hours.

    Raises:
        UsageError: a package is missing.
    """
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(f"{command} needs {', '.join(missing)}: pip install 'fastprune[demo]'")


def _comma_separated(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(","))
