"""The same recipe without fastprune: a plain `transformers.Trainer` script on CoLA or Banking77.

    python benchmarks/plain_trainer.py ../shared/data/glue-cola --seed 0 1 2
    python benchmarks/plain_trainer.py ../shared/data/banking77 --seed 0 1 2 --examples 6000 --head mean

It prints the quality after the last epoch, by seed. For CoLA that is the Matthews correlation on GLUE's dev set, and
for Banking77 the accuracy on the test split. The recipe is that of ``fastprune finetune --epochs 3``. It is AdamW 3e-4,
linear decay after a tenth of warm-up, and batches of 32 of similar length. It uses bf16 where that is fast.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import accuracy_score, matthews_corrcoef
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)

from fastprune.app.finetune.encoder import packaged_minilm
from fastprune.app.finetune.precision import fast_bf16
from fastprune.models import MeanConfig, MeanForSequenceClassification

TRAIN, DEV = "in_domain_train.tsv", ("in_domain_dev.tsv", "out_of_domain_dev.tsv")


Rows = list[tuple[str, int]]


def read_cola(folder: Path, names: tuple[str, ...]) -> Rows:
    """(sentence, acceptable) of each line."""
    rows = []
    for name in names:
        with (folder / name).open(encoding="utf-8", newline="") as file:
            rows += [(cells[3], int(cells[1])) for cells in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)]
    return rows


def read_banking77(folder: Path) -> tuple[Rows, Rows]:
    """(text, class) of the training rows and of the test rows. Classes are numbered in the order of their names."""
    both = []
    for name in ("train.csv", "test.csv"):
        with (folder / name).open(encoding="utf-8", newline="") as file:
            both.append([(row["text"], row["category"]) for row in csv.DictReader(file)])
    names = sorted({label for _, label in both[0]})
    train, test = ([(text, names.index(label)) for text, label in rows] for rows in both)
    return train, test


def read(folder: Path) -> tuple[Rows, Rows]:
    """Training and evaluation rows of a folder of either data set."""
    if (folder / "train.csv").is_file():
        return read_banking77(folder)
    cola = folder / "tokenized" if (folder / "tokenized").is_dir() else folder
    return read_cola(cola, (TRAIN,)), read_cola(cola, DEV)


def build(source: str, classes: int, head: str) -> torch.nn.Module:
    """MiniLM with a new classifier, on the first token or on the mean of the last hidden states."""
    if head == "first":
        return AutoModelForSequenceClassification.from_pretrained(source, num_labels=classes)
    encoder = AutoModel.from_pretrained(source)
    config = MeanConfig(encoder.config.to_dict(), num_labels=classes)
    return MeanForSequenceClassification(config, encoder)


def run(train_rows: Rows, dev_rows: Rows, seed: int, epochs: int, lr: float, head: str) -> float:
    """Matthews correlation of two classes, accuracy of more, after the last epoch."""
    source = str(packaged_minilm())
    tokenizer = AutoTokenizer.from_pretrained(source)
    classes = 1 + max(label for _, label in train_rows)

    def encode(rows: list[tuple[str, int]]) -> list[dict[str, object]]:
        ids = tokenizer([text for text, _ in rows], truncation=True, max_length=128)["input_ids"]
        return [{"input_ids": i, "labels": label} for i, (_, label) in zip(ids, rows, strict=True)]

    train, dev = encode(train_rows), encode(dev_rows)
    torch.manual_seed(seed)
    model = build(source, classes, head)
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
    predicted = np.argmax(found.predictions, -1)
    return float((matthews_corrcoef if classes == 2 else accuracy_score)(found.label_ids, predicted))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder of CoLA (in_domain_train.tsv) or Banking77 (train.csv)")
    parser.add_argument("--seed", type=int, nargs="+", default=[0])
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--lr", type=float, default=3e-4)
    parser.add_argument("--head", choices=("first", "mean"), default="first", help="what the classifier reads")
    parser.add_argument("--examples", type=int, help="train on so many, drawn by the seed 0 (all)")
    options = parser.parse_args()
    train, dev = read(options.data)
    if options.examples is not None:
        train = [train[i] for i in np.random.default_rng(0).permutation(len(train))[: options.examples]]
    for seed in options.seed:
        value = run(train, dev, seed, options.epochs, options.lr, options.head)
        print(f"seed {seed}, head on {options.head}: {100 * value:.1f} %", flush=True)


if __name__ == "__main__":
    main()
