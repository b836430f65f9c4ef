"""``fastprune score``: score a data set with a finetuned model, without training."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from fastprune.app.cli.arguments import add_use, check_use, need_packages, say, source_of, trust_of, use_bf16
from fastprune.app.cli.paths import user_path
from fastprune.app.cli.usual import usual
from fastprune.app.data import load_rows
from fastprune.app.data.types import CAUSAL_LM
from fastprune.errors import UsageError
from fastprune.files.score_files import check_kind, write_columns
from fastprune.scores.metrics import of_examples


def add(commands: Any) -> None:
    """Add the command's grammar."""
    score = commands.add_parser(
        "score",
        help="score a data set with a finetuned model",
        description="Score the training examples of a data set with a finetuned model, without training. The file "
        "holds index, one column a metric, score and label. The score is the first metric, negated if small is hard, "
        "so that the largest are the hardest. Of a language model the file also holds perplexity, and how many tokens "
        "of an example count.",
    )
    score.set_defaults(command=run)
    add_use(score, language_models=True)
    score.add_argument(
        "--metrics", nargs="+", choices=of_examples(), help="what is computed (el2n, causal-lm el2n loss entropy)"
    )
    score.add_argument(
        "--tokens",
        action="store_true",
        help="with --task causal-lm also the scores of each token that counts, as lists. --out must be .parquet",
    )
    score.add_argument("--out", type=user_path, required=True, help="file of scores: .parquet, .csv or .jsonl")
    score.add_argument(
        "--dynamics", type=user_path, help="folder to which the logits are added as the next epoch of training dynamics"
    )


def run(arguments: argparse.Namespace) -> None:
    """Run ``fastprune score``."""
    need_packages("score", "transformers", "rich")
    check_kind(arguments.out)
    check_use(arguments)
    language_model = arguments.task == CAUSAL_LM
    metrics, columns = (_score_turns if language_model else _score_texts)(arguments)
    write_columns(arguments.out, columns)
    print(f"{len(columns['index'])} examples scored by {', '.join(metrics)}: {arguments.out}")


def _score_texts(arguments: argparse.Namespace) -> tuple[list[str], Mapping[str, Any]]:
    """Return the metrics and the columns of what an encoder says."""
    from fastprune.app.finetune.finetuned import load_finetuned
    from fastprune.app.finetune.progress import counting
    from fastprune.app.finetune.scoring import score_texts

    if arguments.model is None:
        raise UsageError("--model is needed: pass a run folder, or a classifier's folder or hub id")
    if arguments.tokens:
        raise UsageError(f"--tokens is for --task {CAUSAL_LM}, where each token has scores of its own; leave it out")
    finetuned = load_finetuned(arguments.model, trust_of(arguments))
    metrics = list(dict.fromkeys(arguments.metrics or ["el2n"]))
    split, notes = load_rows(source_of(arguments), finetuned.kind, split=arguments.split, labels_needed=True)
    say(notes)
    with counting("scoring", len(split)) as progress:
        columns = score_texts(
            finetuned, split, metrics, progress=progress, dynamics=arguments.dynamics, **_settings(arguments)
        )
    return metrics, columns


def _score_turns(arguments: argparse.Namespace) -> tuple[list[str], Mapping[str, Any]]:
    """Return the metrics and the columns of what a language model says."""
    from fastprune.app.finetune.lm.model import load_language_model
    from fastprune.app.finetune.lm.scoring import METRICS, check_metrics, score_turns
    from fastprune.app.finetune.progress import counting

    if arguments.dynamics is not None:
        raise UsageError(f"--dynamics holds the class of each text, and --task {CAUSAL_LM} has none; leave it out")
    if arguments.tokens and arguments.out.suffix != ".parquet":
        raise UsageError(f"--tokens writes lists, and --out {arguments.out.name} holds none; name it .parquet")
    metrics = list(dict.fromkeys(arguments.metrics or METRICS))
    check_metrics(metrics)
    split, notes = load_rows(source_of(arguments), CAUSAL_LM, split=arguments.split, labels_needed=True)
    say(notes)
    model = load_language_model(arguments.model, split, trust_of(arguments))
    with counting("scoring", len(split)) as progress:
        columns = score_turns(model, split, metrics, progress=progress, tokens=arguments.tokens, **_settings(arguments))
    return metrics, columns


def _settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return batch size, length and precision, which are the task's own where they were not given."""
    task = usual(arguments.task)
    return {
        "batch_size": task.score_batch_size if arguments.batch_size is None else arguments.batch_size,
        "max_length": task.max_length if arguments.max_length is None else arguments.max_length,
        "bf16": use_bf16(arguments.precision),
    }
