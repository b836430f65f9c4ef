"""Full against pruned finetuning from random weights on generated data. It needs only torch and transformers.

It is for machines without a registry (see gpu_check.sh). The task is to tell which of 16 marker tokens occurs most
often in a text of random tokens. The result is time: the train, score and select seconds of each method on this device.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset
from transformers import BertConfig, BertForSequenceClassification

import fastprune

CLASSES, VOCABULARY, LENGTH = 16, 4096, 64


def generated(n: int, seed: int) -> TensorDataset:
    """Generates n texts of LENGTH tokens. The label is the marker (token id < CLASSES) that was planted most often."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(CLASSES, VOCABULARY, (n, LENGTH), generator=generator)
    labels = torch.randint(CLASSES, (n,), generator=generator)
    planted = torch.rand(n, LENGTH, generator=generator)
    tokens = torch.where(planted < 0.06, labels[:, None], tokens)
    noise = torch.randint(CLASSES, (n, LENGTH), generator=generator)
    return TensorDataset(torch.where(planted > 0.97, noise, tokens), labels)


def train(method: str, keep: float, epochs: int, data: TensorDataset, test: TensorDataset, args: argparse.Namespace):
    """One run. Returns its row of the table."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=args.hidden,
        num_hidden_layers=args.layers,
        num_attention_heads=args.hidden // 32,
        intermediate_size=4 * args.hidden,
        num_labels=CLASSES,
    )
    model = BertForSequenceClassification(config).to(args.device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, fused=True)
    pruner = fastprune.DynamicPruner(len(data), keep_fraction=keep, cycle_epochs=3, method=method)
    loader = DataLoader(fastprune.with_index(data), sampler=pruner.sampler, batch_size=args.batch_size)
    seconds = {"train": 0.0, "score": 0.0}

    def logits_of(tokens: Tensor) -> Tensor:
        with torch.autocast(args.device, torch.bfloat16, enabled=args.device == "cuda"):
            return model(input_ids=tokens.to(args.device)).logits

    def batch_scores(batch: list[Tensor]) -> Tensor:
        return fastprune.el2n(logits_of(batch[0]), batch[1].to(args.device))

    def now() -> float:
        if args.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    seen = 0
    for _ in pruner.epochs(epochs):
        model.train()
        start = now()
        for tokens, labels, index in loader:
            logits = logits_of(tokens)
            loss, scores = fastprune.cross_entropy(logits.float(), labels.to(args.device), return_scores="el2n")
            pruner.observe(index, scores)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            seen += len(index)
        seconds["train"] += now() - start
        if pruner.wants_scores:
            start = now()
            pruner.rescore(
                lambda index: fastprune.score_dataset(
                    model, data, batch_scores, indices=index, batch_size=8 * args.batch_size
                )
            )
            seconds["score"] += now() - start
    model.eval()
    with torch.inference_mode():
        hits = [logits_of(tokens).argmax(-1).cpu() == labels for tokens, labels in DataLoader(test, batch_size=512)]
    return {
        "run": method if keep == 1.0 else f"{method} {keep:g}",
        "accuracy": float(torch.cat(hits).float().mean()),
        "train_seconds": seconds["train"],
        "score_seconds": seconds["score"],
        "examples": seen,
    }


def main() -> None:
    """Run the comparison and write end_to_end.{json,md}."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--examples", type=int, default=40_000)
    parser.add_argument("--epochs", type=int, default=7)
    parser.add_argument("--hidden", type=int, default=384)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    args = parser.parse_args()
    data, test = generated(args.examples, seed=1), generated(4000, seed=2)
    train("full", 1.0, 1, TensorDataset(*data[: 8 * args.batch_size]), test, args)  # warm-up, not reported
    runs = [("full", 1.0), ("random", 0.5), ("el2n", 0.5), ("el2n-free", 0.5), ("el2n-free", 0.2)]
    rows = [train(method, keep, args.epochs, data, test, args) for method, keep in runs]
    base = rows[0]["train_seconds"]
    lines = ["| run | accuracy % | train s | score s | time saved % | examples |", "|---|---:|---:|---:|---:|---:|"]
    for row in rows:
        row["time_saved"] = 1 - (row["train_seconds"] + row["score_seconds"]) / base
        lines.append(
            f"| {row['run']} | {100 * row['accuracy']:.1f} | {row['train_seconds']:.1f} | {row['score_seconds']:.1f} "
            f"| {100 * row['time_saved']:.0f} | {row['examples']:,} |"
        )
    machine = torch.cuda.get_device_name() if args.device == "cuda" else platform.processor() or platform.machine()
    head = f"{machine}, torch {torch.__version__}: {args.examples:,} generated texts, {args.epochs} epochs"
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / f"end_to_end_{args.device}.json").write_text(json.dumps({"setting": head, "rows": rows}, indent=2))
    table = f"{head}\n\n" + "\n".join(lines) + "\n"
    (args.out / f"end_to_end_{args.device}.md").write_text(table)
    print(table)


if __name__ == "__main__":
    main()
