"""The same recipe without fastprune: a plain `transformers.Trainer` script on CoLA, to compare ``finetune`` with.

    python benchmarks/plain_trainer.py ../shared/data/glue-cola --seed 0 1 2

Prints Matthews correlation on GLUE's dev set after the last epoch, by seed.  The recipe is that of ``fastprune finetune
--task glue/cola --epochs 3``: AdamW 3e-4, linear decay after a tenth of warm-up, batches of 32 of like length, bf16
where it is fast.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import matthews_corrcoef
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)

from fastprune.app.finetune.encoder import packaged_minilm
from fastprune.app.finetune.precision import fast_bf16

TRAIN, DEV = "in_domain_train.tsv", ("in_domain_dev.tsv", "out_of_domain_dev.tsv")


def read(folder: Path, names: tuple[str, ...]) -> list[tuple[str, int]]:
    """(sentence, acceptable) of each line."""
    rows = []
    for name in names:
        with (folder / name).open(encoding="utf-8", newline="") as file:
            rows += [(cells[3], int(cells[1])) for cells in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)]
    return rows


def run(folder: Path, seed: int, epochs: int, lr: float) -> float:
    """Matthews correlation on dev after the last epoch."""
    source = str(packaged_minilm())
    tokenizer = AutoTokenizer.from_pretrained(source)

    def encode(rows: list[tuple[str, int]]) -> list[dict[str, object]]:
        ids = tokenizer([text for text, _ in rows], truncation=True, max_length=128)["input_ids"]
        return [{"input_ids": i, "labels": label} for i, (_, label) in zip(ids, rows, strict=True)]

    train, dev = encode(read(folder, (TRAIN,))), encode(read(folder, DEV))
    torch.manual_seed(seed)
    model = AutoModelForSequenceClassification.from_pretrained(source, num_labels=2)
    with tempfile.TemporaryDirectory() as scratch:
        arguments = TrainingArguments(
            output_dir=scratch,
            num_train_epochs=epochs,
            learning_rate=lr,
            warmup_steps=int(0.1 * epochs * -(-len(train) // 32)),
            per_device_train_batch_size=32,
            per_device_eval_batch_size=128,
            train_sampling_strategy="group_by_length",
            bf16=fast_bf16(),
            use_cpu=not torch.cuda.is_available(),
            seed=seed,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=False,
        )
        trainer = Trainer(model, arguments, train_dataset=train, data_collator=DataCollatorWithPadding(tokenizer))  # type: ignore[arg-type]
        trainer.train()
        found = trainer.predict(dev)  # type: ignore[arg-type]
    return float(matthews_corrcoef(found.label_ids, np.argmax(found.predictions, -1)))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder of CoLA, with in_domain_train.tsv in it or in tokenized/")
    parser.add_argument("--seed", type=int, nargs="+", default=[0])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--lr", type=float, default=3e-4)
    options = parser.parse_args()
    folder = options.data / "tokenized" if (options.data / "tokenized").is_dir() else options.data
    for seed in options.seed:
        print(f"seed {seed}: Matthews {100 * run(folder, seed, options.epochs, options.lr):.1f} %", flush=True)


if __name__ == "__main__":
    main()
