"""``fastprune predict``: what a finetuned model says of a file."""

from __future__ import annotations

import argparse
from typing import Any

from fastprune.cli.arguments import add_data, add_split, add_trust, need_packages, say, source_of, trust_of, use_bf16
from fastprune.cli.paths import refuse_inputs, user_path
from fastprune.data import files_of, load_rows
from fastprune.errors import UsageError
from fastprune.score_files import KINDS


def add(commands: Any) -> None:
    """The command's grammar."""
    predict = commands.add_parser(
        "predict",
        help="predict the labels of a file with a finetuned model",
        description="Predict with a finetuned model. The file holds row (in --data, from 0), id if there is one, "
        "prediction (a label, a number, labels joined by commas, or tags joined by blanks), the probability of a "
        "label, and tags beside the label of a joint model.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    predict.set_defaults(command=run)
    predict.add_argument(
        "--model", required=True, help="run folder or its model/, or a sequence or token classifier: folder or hub id"
    )
    add_data(predict)
    add_split(predict)
    add_trust(predict)
    predict.add_argument(
        "--out", type=user_path, required=True, help="file of predictions: .tsv, .csv, .jsonl or .parquet"
    )
    predict.add_argument("--batch-size", type=int, default=128)
    predict.add_argument("--max-length", type=int, default=128, help="tokens a text is cut to")
    predict.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto")


def run(arguments: argparse.Namespace) -> None:
    """``fastprune predict``."""
    need_packages("predict", "transformers", "accelerate")
    for name in ("batch_size", "max_length"):
        if getattr(arguments, name) < 1:
            raise UsageError(f"--{name.replace('_', '-')} must be >= 1, got {getattr(arguments, name)}")
    if arguments.out.suffix not in (".tsv", *KINDS):
        raise UsageError(f"--out {arguments.out}: a file of predictions ends in .tsv, {', '.join(KINDS)}")
    if not arguments.out.parent.is_dir():
        raise UsageError(f"--out {arguments.out}: there is no folder {arguments.out.parent}; make it first")
    refuse_inputs("--out", arguments.out, [*files_of(source_of(arguments)), user_path(arguments.model)])
    from fastprune.finetune.finetuned import load_finetuned
    from fastprune.finetune.predict import predict_texts
    from fastprune.finetune.tables import write_table

    finetuned = load_finetuned(arguments.model, trust_of(arguments))
    split, notes = load_rows(source_of(arguments), finetuned.kind, split=arguments.split)
    say(notes)
    columns = predict_texts(
        finetuned,
        split,
        batch_size=arguments.batch_size,
        max_length=arguments.max_length,
        bf16=use_bf16(arguments.precision),
    )
    write_table(arguments.out, columns)
    print(f"{len(split)} rows predicted: {arguments.out}")
