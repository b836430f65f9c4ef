"""``fastprune score``: score a data set with a finetuned model, without training."""

from __future__ import annotations

import argparse
from typing import Any

from fastprune.app.cli.arguments import add_use, check_use, need_packages, say, source_of, trust_of, use_bf16
from fastprune.app.cli.paths import user_path
from fastprune.app.data import load_rows
from fastprune.files.score_files import check_kind, write_columns
from fastprune.scores.metrics import of_examples


def add(commands: Any) -> None:
    """Add the command's grammar."""
    score = commands.add_parser(
        "score",
        help="score a data set with a finetuned model",
        description="Score the training examples of a data set with a finetuned model, without training. The file "
        "holds index, one column a metric, score and label. The score is the first metric, negated if small is hard, "
        "so that the largest are the hardest.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    score.set_defaults(command=run)
    add_use(score)
    score.add_argument("--metrics", nargs="+", choices=of_examples(), default=["el2n"])
    score.add_argument("--out", type=user_path, required=True, help="file of scores: .parquet, .csv or .jsonl")
    score.add_argument(
        "--dynamics", type=user_path, help="folder to which the logits are added as the next epoch of training dynamics"
    )


def run(arguments: argparse.Namespace) -> None:
    """Run ``fastprune score``."""
    need_packages("score", "transformers", "rich")
    check_kind(arguments.out)
    check_use(arguments)

    from fastprune.app.finetune.finetuned import load_finetuned
    from fastprune.app.finetune.progress import counting
    from fastprune.app.finetune.scoring import score_texts

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
