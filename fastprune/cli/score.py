"""``fastprune score``: score a data set with a finetuned model, without training."""

from __future__ import annotations

import argparse
from typing import Any

from fastprune.cli.arguments import add_data, add_split, add_trust, need_packages, say, source_of, trust_of, use_bf16
from fastprune.cli.paths import refuse_inputs, user_path
from fastprune.data import files_of, load_rows
from fastprune.errors import UsageError
from fastprune.score_files import check_kind, write_columns

METRICS = ("el2n", "loss", "grand", "entropy", "confidence", "margin", "correct")


def add(commands: Any) -> None:
    """The command's grammar."""
    score = commands.add_parser(
        "score",
        help="score a data set with a finetuned model",
        description="Score the training examples of a data set with a finetuned model, without training. The file "
        "holds index, one column a metric, score (the first metric; of confidence, margin and correct the negative, so "
        "that the largest are the hardest) and label.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    score.set_defaults(command=run)
    score.add_argument(
        "--model", required=True, help="run folder or its model/, or a sequence or token classifier: folder or hub id"
    )
    add_data(score)
    add_split(score)
    add_trust(score)
    score.add_argument("--metrics", nargs="+", choices=METRICS, default=["el2n"])
    score.add_argument("--out", type=user_path, required=True, help="file of scores: .parquet, .csv or .jsonl")
    score.add_argument(
        "--dynamics", type=user_path, help="folder to which the logits are added as the next epoch of training dynamics"
    )
    score.add_argument("--batch-size", type=int, default=128)
    score.add_argument("--max-length", type=int, default=128, help="tokens a text is cut to")
    score.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto")


def run(arguments: argparse.Namespace) -> None:
    """``fastprune score``."""
    need_packages("score", "transformers", "rich")
    for name in ("batch_size", "max_length"):
        if getattr(arguments, name) < 1:
            raise UsageError(f"--{name.replace('_', '-')} must be >= 1, got {getattr(arguments, name)}")
    check_kind(arguments.out)
    if not arguments.out.parent.is_dir():
        raise UsageError(f"--out {arguments.out}: there is no folder {arguments.out.parent}; make it first")
    refuse_inputs("--out", arguments.out, [*files_of(source_of(arguments)), user_path(arguments.model)])

    from fastprune.finetune.finetuned import load_finetuned
    from fastprune.finetune.progress import counting
    from fastprune.finetune.scoring import score_texts

    finetuned = load_finetuned(arguments.model, trust_of(arguments))
    metrics = list(dict.fromkeys(arguments.metrics))
    split, notes = load_rows(source_of(arguments), finetuned.kind, split=arguments.split, labels_needed=True)
    say(notes)
    with counting("scoring", len(split)) as progress:
        columns = score_texts(
            finetuned,
            split,
            metrics,
            batch_size=arguments.batch_size,
            max_length=arguments.max_length,
            bf16=use_bf16(arguments.precision),
            progress=progress,
            dynamics=arguments.dynamics,
        )
    write_columns(arguments.out, columns)
    print(f"{len(split)} examples scored by {', '.join(metrics)}: {arguments.out}")
