"""One run from its arguments to its result line, in the process that calls it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.evidence.data import load
from benchmarks.evidence.encoder import make_model, read_encoder
from benchmarks.evidence.loop import LOOP_VERSION, Outcome, Saver, Training
from benchmarks.evidence.machine import commit, machine, versions
from benchmarks.evidence.measures import answers, evaluate, figure_name
from benchmarks.evidence.spec import Run, method_of
from benchmarks.evidence.tokens import Prepared, prepare, restore, save
from fastprune.files.atomic import sweep, write_atomic
from fastprune.pruning.history import settings_of

SAVE_SECONDS = 60.0
"""CPU seconds of work after which a run's state is saved, at the end of the epoch."""

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Place:
    """Where runs are made.

    Attributes:
        device: "cpu" or "cuda".
        threads: The threads of each worker.
        data: The folder with the data sets' files. It is needed until they are in the cache.
        cache: The folder for token tables and the states of runs in progress.
        model: A model folder in place of the packaged MiniLM.
        save_seconds: CPU seconds between saved states of a run.
    """

    device: str
    threads: int
    data: Path
    cache: Path
    model: Path | None = None
    save_seconds: float = SAVE_SECONDS

    def tokens_file(self, run: Run) -> Path:
        """The token tables of the run's data."""
        noise = f"-noise-{run.noise:g}" if run.noise else ""
        return self.cache / "tokens" / f"{run.data}{noise}-{run.model}-{run.max_length}.pt.gz"

    def state_file(self, run: Run) -> Path:
        """The state of the run while it is in progress."""
        return self.cache / "states" / f"{run.key}.pt"


class Work:
    """A process that does one run after the other. What the runs share is read once."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.device = torch.device(place.device)
        torch.set_num_threads(place.threads)
        self.commit = commit()
        self.versions = versions()
        encoder, self.tokenizer = read_encoder(None if place.model is None else str(place.model))
        self.encoder: nn.Module = encoder
        if place.device == "cpu":
            # On the CPU PyTorch's fused attention with dropout is slower than plain matrix products.
            encoder.config._attn_implementation = "eager"  # type: ignore[union-attr]
        self._prepared: dict[Path, Prepared] = {}

    def prepared(self, run: Run) -> Prepared:
        """The run's data on the device. It comes from the cache, or is read and put there."""
        path = self.place.tokens_file(run)
        if path not in self._prepared:
            found = restore(path)
            if found is None:
                found = prepare(load(run.data, self.place.data, noise=run.noise), self.tokenizer, run.max_length)
                save(found, path)
            self._prepared[path] = found.to(self.device)
        return self._prepared[path]

    def line(self, run: Run, progress: Progress = lambda examples: None) -> dict[str, Any]:
        """Make the run, or the rest of it, and return its result line.

        Raises:
            FloatingPointError: The run diverged.
        """
        training = self.start(run)
        versions_of_run = {"rule_version": method_of(run).rule_version, "loop_version": LOOP_VERSION}
        commits = [self.commit]
        path = self.place.state_file(run)
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent, [path.name])
        if (saved := self._saved(path, versions_of_run)) is not None:
            training.load_state_dict(saved["training"])
            commits = list(dict.fromkeys([*saved["commits"], self.commit]))

        def write(state: dict[str, Any]) -> None:
            content = {"training": state, "commits": commits, **versions_of_run}
            write_atomic(path, lambda temporary: torch.save(content, temporary))

        outcome = training.finish(progress, Saver(write, self.place.save_seconds))
        return {**self._line(run, outcome, commits, versions_of_run), **_judged(training)}

    def start(self, run: Run) -> Training:
        """The run at its beginning."""
        prepared = self.prepared(run)
        return Training(run, prepared, make_model(self.encoder, run.layers, prepared, run.seed))

    def _saved(self, path: Path, versions_of_run: dict[str, int]) -> dict[str, Any] | None:
        if not path.is_file():
            return None
        saved: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
        same = all(saved.get(name) == value for name, value in versions_of_run.items())
        return saved if same else None

    def _line(self, run: Run, outcome: Outcome, commits: list[str], versions_of_run: dict[str, int]) -> dict[str, Any]:
        metric = figure_name(run.data)
        return {
            "key": run.key,
            "group": run.group,
            "label": run.label,
            "arguments": run.arguments,
            "method_settings": settings_of(method_of(run)),
            **versions_of_run,
            "metric": metric,
            "figure": outcome.epochs[-1][metric],
            "epochs": outcome.epochs,
            "counts": outcome.counts.as_json(),
            "machine": machine(self.place.device, self.place.threads, run.precision),
            "versions": self.versions,
            "commits": commits,
            "data_fingerprint": self.prepared(run).fingerprint[:16],
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        }


def _judged(training: Training) -> dict[str, Any]:
    """What the model of a finished run answers on both splits."""
    run, model, prepared = training.run, training.model, training.prepared
    held_out = evaluate(model, prepared, "validation", bf16=training.bf16)
    return {
        "validation": held_out[figure_name(run.data)],
        "answers": answers(model, prepared, run.split, bf16=training.bf16),
    }
