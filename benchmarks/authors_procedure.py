"""The authors' procedure around the Trainer against `fastprune.attach`: the same subsets, and the time they take.

    python benchmarks/authors_procedure.py --data FOLDER     # a SlotGated folder, e.g. SNIPS; about 10 minutes
    python benchmarks/authors_procedure.py --quick           # the packaged commands, 2,000 of them, about 2 minutes

The procedure is written here from its description (arXiv 2306.03208 and its code). First it trains on everything. Then
it repeats these steps in each cycle:

1. Score all examples, sorted by length, in 16 times the training batch, with dropout on.
2. Write the scores to a TSV file, and read all files.
3. Take the mean and the deviation of pandas' ewm(alpha=0.8, adjust=False), and keep what reaches the quantile.
4. `map` and `filter` the data set to the kept examples.
5. Set the step in the checkpoint's trainer_state.json to where the shorter epochs would be.
6. Raise num_train_epochs, and call `train` again with resume_from_checkpoint.

At the end it scores once more.

Same subsets: both sides read the scores in the procedure's files. Its quantile and our exact top-k must keep the same
examples, apart from those that score exactly the cut. We keep the moving average in fp32, so there the examples within
rounding of the cut may differ too.

Time: everything except training steps, by part. Both sides take the same number of steps of one batch size. Checkpoints
are part of the procedure. `attach` saves them only where they are asked for.

Models: a small random BERT on all examples, and the packaged MiniLM on a part. The steps of the small BERT are cheap,
so overhead shows.

Writes authors-PROCESSOR.json, .md and .png to --out.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import json
import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import datasets
import measure
import pandas as pd
import torch
import transformers
from torch import Tensor
from torch.utils.data import DataLoader, Subset
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainerCallback, TrainingArguments

import fastprune
from fastprune.app.data import load
from fastprune.app.finetune.encoder import packaged_minilm
from fastprune.methods import ScoreMethod
from fastprune.pruning import EMA, History, Latest
from fastprune.selection.by_rank import floor_of_share

BATCH, KEEP, WARMUP, CYCLE = 32, 0.5, 1, 1
ALPHA = 0.8
AUTHORS, ATTACH, SAVING = "authors' procedure", "attach", "attach, a checkpoint an epoch"
PARTS = ("scoring", "scores to and from files", "selecting", "map and filter", "checkpoints", "set-up", "fetching")
TRAINING = "training steps"
ROUNDING = 4e-6  # relative, of the moving average in fp32
SMOOTHINGS = {"latest": Latest(), "EMA + deviation": EMA(alpha=ALPHA, deviation=1.0)}


class Watch(TrainerCallback):
    """Seconds by part. A training step is the time between the Trainer's events of one step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._since = 0.0
        self._begun = time.perf_counter()

    @contextlib.contextmanager
    def of(self, part: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[part] += time.perf_counter() - start

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        now = time.perf_counter()
        if self._since:
            self.seconds["fetching"] += now - self._since
        self._since = now

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        now = time.perf_counter()
        self.seconds[TRAINING] += now - self._since
        self._since = now

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._since = 0.0  # the first batch of an epoch counts as set-up

    def watch_checkpoints(self, trainer: Trainer) -> None:
        save = trainer._save_checkpoint

        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.of("checkpoints"):
                return save(*args, **kwargs)

        trainer._save_checkpoint = timed

    def finished(self) -> dict[str, float]:
        """The seconds of all parts. What no part names is set-up: loaders, devices, loading checkpoints."""
        total = time.perf_counter() - self._begun
        return {**self.seconds, "set-up": total - sum(self.seconds.values()), "total": total}


class Task:
    """A tokenized data set of texts and their classes, and a model to begin with."""

    def __init__(self, name: str, data: str | None, examples: int | None) -> None:
        found = load(data)
        folder = packaged_minilm()
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        classes = len(found.label_names)
        texts, intents = found.train.texts[:examples], found.train.labels[:examples]
        rows = dict(tokenizer(texts))
        rows["labels"] = [found.label_names.index(intent) for intent in intents]
        self.data = datasets.Dataset.from_dict(rows)
        self.collate = transformers.DataCollatorWithPadding(tokenizer)
        torch.manual_seed(0)
        if name == "minilm":
            kind = transformers.AutoModelForSequenceClassification
            self.model = kind.from_pretrained(folder, num_labels=classes)
        else:
            sizes = dict(hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=128)
            config = BertConfig(vocab_size=len(tokenizer), num_labels=classes, **sizes)
            self.model = BertForSequenceClassification(config)
        self.name = f"{name}, {len(texts):,} examples of {found.name}, {classes} classes"

    def trainer(self, epochs: int, folder: str, watch: Watch, saving: bool) -> Trainer:
        args = TrainingArguments(
            folder,
            num_train_epochs=epochs,
            per_device_train_batch_size=BATCH,
            learning_rate=3e-4,
            lr_scheduler_type="constant",
            save_strategy="epoch" if saving else "no",
            save_total_limit=1,
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
            seed=0,
        )
        model = copy.deepcopy(self.model)
        trainer = Trainer(model, args, train_dataset=self.data, data_collator=self.collate, callbacks=[watch])
        trainer.remove_callback(transformers.PrinterCallback)
        watch.watch_checkpoints(trainer)
        return trainer


# --- the authors' procedure ----------------------------------------------------------------------


def read(file: Path) -> pd.Series:
    """The scores of a file, by example."""
    return pd.read_csv(file, sep="\t", index_col="index")["score"].sort_index()


def smoothed(columns: list[pd.Series], smoothing: str) -> pd.Series:
    """One score for each example, from the scores of all cycles."""
    if smoothing == "latest":
        return columns[-1]
    over_time = pd.DataFrame(columns).ewm(alpha=ALPHA, adjust=False)
    return over_time.mean().iloc[-1] + over_time.std().iloc[-1].fillna(0.0)


def kept_by_quantile(scores: pd.Series, keep: float) -> set[int]:
    """All examples that reach the quantile."""
    return set(scores.index[scores >= scores.quantile(1.0 - keep)])


def score_all(trainer: Trainer, task: Task) -> pd.Series:
    """EL2N of every example. The model stays in training mode, as training left it."""
    lengths = [len(ids) for ids in task.data["input_ids"][:]]
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    loader = DataLoader(Subset(task.data, order), batch_size=16 * BATCH, collate_fn=task.collate)
    parts = []
    trainer.model.train()
    with torch.no_grad():
        for batch in loader:
            logits = trainer.model(**batch).logits
            wrong = logits.softmax(-1) - torch.nn.functional.one_hot(batch["labels"], logits.shape[-1])
            parts.append(wrong.norm(dim=-1))
    return pd.Series(torch.cat(parts).tolist(), index=pd.Index(order, name="index"), name="score")


def move_step(checkpoint: Path, step: int) -> None:
    """Make a checkpoint say that it was taken after ``step`` steps."""
    file = checkpoint / "trainer_state.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "global_step": step}))


def authors(task: Task, epochs: int, folder: Path) -> dict[str, float]:
    """One run. Its score files stay in the folder."""
    watch = Watch()
    trainer = task.trainer(WARMUP, str(folder), watch, saving=True)
    trainer.train()
    files: list[Path] = []
    for done in range(WARMUP, epochs, CYCLE):
        with watch.of("scoring"):
            scores = score_all(trainer, task)
        with watch.of("scores to and from files"):
            files.append(folder / f"scores-{done:02}.tsv")
            scores.to_csv(files[-1], sep="\t")
            columns = [read(file) for file in files]
        with watch.of("selecting"):
            kept = kept_by_quantile(smoothed(columns, "EMA + deviation"), KEEP)
        with watch.of("map and filter"):
            marked = task.data.map(lambda row, i, kept=kept: {"kept": i in kept}, with_indices=True)
            trainer.train_dataset = marked.filter(lambda row: row["kept"]).remove_columns("kept")
        with watch.of("checkpoints"):
            # The one with the largest number may be older, from longer epochs.
            checkpoint = max(folder.glob("checkpoint-*"), key=lambda path: path.stat().st_mtime)
            move_step(checkpoint, done * -(-len(trainer.train_dataset) // BATCH))
        trainer.args.num_train_epochs += CYCLE
        trainer.train(resume_from_checkpoint=str(checkpoint))
    with watch.of("scoring"):
        score_all(trainer, task)  # the procedure does this too, and does not use the result
    return watch.finished()


# --- fastprune -----------------------------------------------------------------------------------


def attached(task: Task, epochs: int, folder: Path, saving: bool) -> dict[str, float]:
    """One run."""
    watch = Watch()
    trainer = task.trainer(epochs, str(folder), watch, saving)
    method = ScoreMethod("el2n", metric="el2n", source="pass", smoothing=SMOOTHINGS["EMA + deviation"])
    fastprune.attach(
        trainer,
        keep_fraction=KEEP,
        warmup_epochs=WARMUP,
        cycle_epochs=CYCLE,
        method=method,
        score_batch_size=16 * BATCH,
    )
    trainer.train()
    for entry in trainer.state.log_history:
        watch.seconds["scoring"] += entry.get("prune/score_seconds", 0.0)
        watch.seconds["selecting"] += entry.get("prune/select_seconds", 0.0)
    return watch.finished()


def kept_by_topk(columns: list[pd.Series], smoothing: str, keep: float) -> tuple[set[int], Tensor]:
    """What a method keeps that has seen the scores of all cycles, and its values of all examples."""
    n = len(columns[0])
    method = ScoreMethod("el2n", source="pass", smoothing=SMOOTHINGS[smoothing])
    history = History(n, method.statistics)
    for epoch, column in enumerate(columns):
        history.update(torch.arange(n), {"el2n": torch.tensor(column.to_numpy())}, epoch)
    # The number of scores that reach the interpolated quantile when no two are equal.
    k = 1 + floor_of_share(keep, n - 1)
    kept = method.select(history, k, cycle=len(columns), epoch=len(columns), seed=0)
    return set(kept.indices.tolist()), history.value("el2n")


def compared(files: list[Path]) -> list[dict[str, Any]]:
    """Quantile and top-k on the same scores, after every cycle. The scores are also rounded to two decimals, to have
    ties.

    Raises:
        AssertionError: They disagree about an example that does not score the cut.
    """
    exact = [read(file) for file in files]
    rounded = [column.round(2) for column in exact]
    rows = []
    for name, smoothing, columns in (
        ("latest", "latest", exact),
        ("latest, two decimals", "latest", rounded),
        ("EMA + deviation", "EMA + deviation", exact),
    ):
        for keep in (0.2, 0.5, 0.8):
            alone, tied, extra, distances = [], [], [], []
            for cycle in range(1, len(columns) + 1):
                theirs = kept_by_quantile(smoothed(columns[:cycle], smoothing), keep)
                ours, value = kept_by_topk(columns[:cycle], smoothing, keep)
                cut = value[list(ours)].min()
                differ = torch.tensor(sorted(theirs ^ ours), dtype=torch.int64)
                distances.append(float(((value[differ] - cut).abs() / cut).max()) if len(differ) else 0.0)
                alone.append(len(differ))
                tied.append(int((value == cut).sum()))
                extra.append(len(theirs) - len(ours))
            farthest = max(distances)
            allowed = ROUNDING if smoothing == "EMA + deviation" else 0.0
            assert farthest <= allowed, f"{name}, keep {keep}: one kept alone is {farthest} from the cut"
            rows.append(
                {
                    "scores": name,
                    "keep": keep,
                    "selections": len(alone),
                    "top-k keeps": len(ours),
                    "most the quantile keeps beyond": max(extra, key=abs),
                    "most equal to the cut": max(tied),
                    "most kept by one alone": max(alone),
                    "farthest of these from the cut, relative": farthest,
                }
            )
    return rows


# --- results -------------------------------------------------------------------------------------


def measured(task: Task, epochs: int, rounds: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Median seconds of each part by procedure, and the comparison of the subsets."""
    runs: dict[str, Callable[[Path], dict[str, float]]] = {
        AUTHORS: partial(authors, task, epochs),
        ATTACH: partial(attached, task, epochs, saving=False),
        SAVING: partial(attached, task, epochs, saving=True),
    }
    times: dict[str, list[dict[str, float]]] = defaultdict(list)
    same: list[dict[str, Any]] = []
    for turn in range(rounds):
        for name, run in list(runs.items())[turn % 3 :] + list(runs.items())[: turn % 3]:
            with tempfile.TemporaryDirectory() as folder:
                times[name].append(run(Path(folder)))
                if name == AUTHORS and not same:
                    same = compared(sorted(Path(folder).glob("scores-*.tsv")))
    rows = []
    for name in runs:
        seconds = {part: statistics.median(t.get(part, 0.0) for t in times[name]) for part in (*PARTS, TRAINING)}
        totals = [t["total"] - t[TRAINING] for t in times[name]]
        rows.append({"task": task.name, "procedure": name, **seconds, "all but training": statistics.median(totals)})
    return rows, same


def time_table(rows: list[dict[str, Any]]) -> str:
    """Seconds, with a line for each part."""
    columns = [row["procedure"] for row in rows]
    lines = ["| seconds a run | " + " | ".join(columns) + " |", "|---|" + "--:|" * len(columns)]
    for part in (*PARTS, "all but training", TRAINING):
        lines.append(f"| {part} | " + " | ".join(f"{row[part]:.3f}" for row in rows) + " |")
    return "\n".join(lines)


def same_table(rows: list[dict[str, Any]]) -> str:
    """A line for each cycle and share."""
    lines = ["| " + " | ".join(rows[0]) + " |", "|---|" + "--:|" * (len(rows[0]) - 1)]
    for row in rows:
        cells = [f"{cell:.2g}" if isinstance(cell, float) else str(cell) for cell in row.values()]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def summary(rows: list[dict[str, Any]]) -> str:
    """How many times as long the procedure takes besides training, with a line for each task."""
    lines = []
    for task in dict.fromkeys(row["task"] for row in rows):
        spent = {row["procedure"]: row["all but training"] for row in rows if row["task"] == task}
        scored = {row["procedure"]: row["scoring"] for row in rows if row["task"] == task}
        rest = (spent[AUTHORS] - scored[AUTHORS]) / (spent[ATTACH] - scored[ATTACH])
        lines.append(
            f"- {task}: all but training {spent[AUTHORS]:.2f} s against {spent[ATTACH]:.2f} s "
            f"({spent[AUTHORS] / spent[ATTACH]:.1f} times), without the scoring passes {rest:.1f} times."
        )
    return "\n".join(lines)


def picture(rows: list[dict[str, Any]], path: Path) -> None:
    """Stacked bars of everything except training, with a panel for each task."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    tasks = list(dict.fromkeys(row["task"] for row in rows))
    figure, axes = plt.subplots(len(tasks), 1, figsize=(10, 1 + 2.2 * len(tasks)), squeeze=False)
    for axis, task in zip(axes[:, 0], tasks, strict=True):
        here = [row for row in rows if row["task"] == task]
        left = [0.0] * len(here)
        for part in PARTS:
            axis.barh([row["procedure"] for row in here], [row[part] for row in here], left=left, label=part)
            left = [before + row[part] for before, row in zip(left, here, strict=True)]
        axis.set(title=task, xlabel="seconds a run beside training")
        axis.invert_yaxis()
        axis.grid(alpha=0.3, axis="x")
    axes[0, 0].legend(fontsize=8, loc="lower right")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="as for `fastprune finetune`; by default the packaged commands")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--minilm-examples", type=int, default=500)
    parser.add_argument("--quick", action="store_true", help="2,000 examples, the small model, one round")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    args = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    datasets.disable_progress_bars()

    peers = ("transformers", "datasets", "pandas", "accelerate")
    where = measure.environment("cpu") | {name: measure.version(name) for name in peers}
    print(", ".join(f"{key} {value}" for key, value in where.items()))
    tasks = [("small BERT", 2000 if args.quick else None, 1 if args.quick else args.rounds)]
    if not args.quick:
        tasks.append(("minilm", args.minilm_examples, min(args.rounds, 3)))
    start, rows, same, sections = time.perf_counter(), [], {}, []
    for name, examples, rounds in tasks:
        task = Task(name, args.data, examples)
        found, same[task.name] = measured(task, args.epochs, rounds)
        rows += found
        heading = f"## {task.name}: {args.epochs} epochs, {KEEP:.0%} kept after {WARMUP}, median of {rounds} rounds"
        sections += [heading, time_table(found), "Quantile and top-k of the same scores:", same_table(same[task.name])]
        print("\n\n".join(sections[-4:]), flush=True)
    print(f"{summary(rows)}\n{time.perf_counter() - start:.0f} s")

    stem = measure.stem_of(args.out, "authors", "cpu")
    run = {"environment": where, "epochs": args.epochs, "times": rows, "subsets": same}
    first = ["# The authors' procedure and fastprune.attach", summary(rows), f"![seconds a run]({stem.name}.png)"]
    measure.write_results(stem, run, first + sections, partial(picture, rows))


if __name__ == "__main__":
    main()
