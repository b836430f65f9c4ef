"""``fastprune predict``: predicts the labels of a file with a finetuned model."""

from __future__ import annotations

import argparse
from typing import Any

from fastprune.app.cli.arguments import add_use, check_use, need_packages, say, source_of, trust_of, use_bf16
from fastprune.app.cli.paths import user_path
from fastprune.app.data import load_rows
from fastprune.errors import UsageError
from fastprune.files.score_files import KINDS


def add(commands: Any) -> None:
    """Add the command's grammar."""
    predict = commands.add_parser(
        "predict",
        help="predict the labels of a file with a finetuned model",
        description="Predict with a finetuned model. The output has the columns row (its number in --data, "
        "from 0), id if the data have one, and prediction. A prediction is a label, a number, labels joined by "
        "commas, or tags joined by blanks. A label comes with its probability, that of a joint model also with tags.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    predict.set_defaults(command=run)
    add_use(predict)
    predict.add_argument(
        "--out", type=user_path, required=True, help="file of predictions: .tsv, .csv, .jsonl or .parquet"
    )


def run(arguments: argparse.Namespace) -> None:
    """Run ``fastprune predict``."""
    need_packages("predict", "transformers", "accelerate")
    if arguments.out.suffix not in (".tsv", *KINDS):
        raise UsageError(f"--out {arguments.out}: a file of predictions ends in .tsv, {', '.join(KINDS)}")
    check_use(arguments)
    from fastprune.app.finetune.finetuned import load_finetuned
    from fastprune.app.finetune.predict import predict_texts
    from fastprune.app.finetune.tables import write_table

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
