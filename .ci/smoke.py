"""Tries an installed fastprune, where no source tree is in the way: scores, selection, a pruned loop and the command.

cd /elsewhere && python -I path/to/.ci/smoke.py
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch
from torch.utils.data import DataLoader, TensorDataset

import fastprune


def main() -> None:
    """Fail with an AssertionError where something does not work."""
    installed = Path(fastprune.__file__).parent
    assert "site-packages" in installed.parts, f"{installed} is a source tree"
    assert (installed / "py.typed").is_file()

    torch.manual_seed(0)
    logits, labels = torch.randn(64, 10), torch.randint(10, (64,))
    scores = fastprune.el2n(logits, labels)
    truth = torch.nn.functional.one_hot(labels, 10)
    torch.testing.assert_close(scores, (logits.softmax(-1) - truth).norm(dim=-1), rtol=1e-5, atol=1e-6)
    assert torch.equal(fastprune.select_topk(scores, 20), scores.topk(20).indices.sort().values)

    train, model = TensorDataset(torch.randn(96, 4), torch.randint(3, (96,))), torch.nn.Linear(4, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    pruner = fastprune.DynamicPruner(len(train), keep_fraction=0.5, warmup_epochs=1)
    loader = DataLoader(fastprune.with_index(train), sampler=pruner.sampler, batch_size=32)
    for _ in pruner.epochs(3):
        for x, y, index in loader:
            loss, found = fastprune.cross_entropy(model(x), y, return_scores="el2n")
            pruner.observe(index, found)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    assert len(pruner.kept_indices) == 48 and pruner.progress.examples_seen == 192

    said = subprocess.run(
        [Path(sys.executable).with_name("fastprune"), "info"], capture_output=True, text=True, check=True
    )
    assert fastprune.__version__ in said.stdout, said.stdout
    print(f"works: {installed}, version {fastprune.__version__}")


if __name__ == "__main__":
    main()
