"""The worked examples of the pages run: an integration of one's own, and the simplest kernel."""

from __future__ import annotations

import copy
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import fastprune

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"```python\n(.*?)```", re.DOTALL)
EPOCHS = 4
pytestmark = pytest.mark.skipif(not (ROOT / "docs" / "conf.py").exists(), reason="needs the source tree")


def examples(page: str) -> list[str]:
    """The Python blocks of a page."""
    return FENCE.findall((ROOT / "docs" / page).read_text(encoding="utf-8"))


class Saver:
    """A callback that keeps a checkpoint at the end of every epoch."""

    def __init__(self) -> None:
        self.checkpoints: list[dict[str, Any]] = []

    def on_epoch_end(self, trainer: Any) -> None:
        self.checkpoints.append(copy.deepcopy(trainer.checkpoint()))

    def __getattr__(self, event: str) -> Any:
        if not event.startswith("on_"):
            raise AttributeError(event)
        return lambda *arguments: None


@pytest.fixture
def mini() -> dict[str, Any]:
    """The names that the page's framework and its adapter define."""
    names: dict[str, Any] = {"torch": torch}
    for code in examples("adding_an_integration.md"):
        exec(code, names)
    return names


def problem() -> tuple[TensorDataset, torch.nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 3)
    train = TensorDataset(torch.randn(48, 4), torch.randint(3, (48,)))
    return train, model, torch.optim.SGD(model.parameters(), lr=0.5)


def adapted(mini: dict[str, Any], method: str) -> tuple[Any, Any, Saver]:
    """A trainer with the page's adapter, its pruning and a saver behind it."""
    train, model, optimizer = problem()
    trainer = mini["MiniTrainer"](model, optimizer, DataLoader(train, batch_size=8), EPOCHS)
    pruning = mini["MiniPruning"](trainer, keep_fraction=0.5, method=method)
    trainer.callbacks.append(saver := Saver())
    return trainer, pruning, saver


def in_a_plain_loop(method: str) -> tuple[torch.nn.Module, torch.Tensor]:
    train, model, optimizer = problem()
    pruner = fastprune.DynamicPruner(len(train), keep_fraction=0.5, method=method)
    loader = DataLoader(fastprune.with_index(train), batch_size=8, sampler=pruner.sampler)

    def batch_scores(batch: Any) -> torch.Tensor:
        return fastprune.el2n(model(batch[0]), batch[1])

    for _ in pruner.epochs(EPOCHS):
        for x, y, index in loader:
            logits = model(x)
            torch.nn.functional.cross_entropy(logits, y).backward()
            pruner.observe(index, fastprune.el2n(logits.detach(), y))
            optimizer.step()
            optimizer.zero_grad()
        if pruner.wants_scores:
            pruner.rescore(lambda index: fastprune.score_dataset(model, train, batch_scores, indices=index))
    return model, pruner.kept_indices


@pytest.mark.parametrize("method", ["el2n-free", "el2n"])
def test_the_integration_keeps_what_a_plain_loop_keeps(mini: dict[str, Any], method: str) -> None:
    trainer, pruning, _ = adapted(mini, method)
    trainer.fit()
    model, kept = in_a_plain_loop(method)
    assert len(kept) == 24
    assert torch.equal(pruning.pruner.kept_indices, kept)
    assert torch.equal(trainer.model.weight, model.weight)


@pytest.mark.parametrize("method", ["el2n-free", "el2n"])
def test_the_integration_resumes_to_the_same_bits(mini: dict[str, Any], method: str) -> None:
    trainer, pruning, saver = adapted(mini, method)
    trainer.fit()
    resumed, its_pruning, _ = adapted(mini, method)
    resumed.fit(saver.checkpoints[1])
    assert torch.equal(resumed.model.weight, trainer.model.weight)
    assert torch.equal(its_pruning.pruner.kept_indices, pruning.pruner.kept_indices)
    assert its_pruning.pruner.progress.examples_seen == 48 + 3 * 24


def test_the_integration_refuses_early(mini: dict[str, Any]) -> None:
    trainer, _, _ = adapted(mini, "el2n-free")
    weight = trainer.model.weight.clone()
    trainer.callbacks[0].batch_scores = lambda batch: torch.tensor([1.0])
    with pytest.raises(ValueError, match="scores"):
        trainer.fit()
    assert torch.equal(trainer.model.weight, weight)


def test_the_simplest_kernel_gives_el2n(tmp_path: Path) -> None:
    """In Triton's interpreter, which must be chosen before Triton is imported, and which needs a file."""
    pytest.importorskip("triton")
    check = """
import torch
import fastprune
from helpers.interpreter_fixes import mend_interpreter

mend_interpreter()
generator = torch.Generator().manual_seed(0)
for classes in (3, 7, 100):
    logits = torch.randn(5, classes, generator=generator)
    labels = torch.randint(classes, (5,), generator=generator)
    torch.testing.assert_close(simple_el2n(logits, labels), fastprune.el2n(logits, labels), rtol=4e-6, atol=0)
print("equal")
"""
    script = tmp_path / "simplest_kernel.py"
    script.write_text(examples("kernels.md")[0] + check, encoding="utf-8")
    environment = os.environ | {
        "TRITON_INTERPRET": "1",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    ended = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, timeout=300)
    assert ended.stdout == "equal\n", ended.stderr
