"""Which runs there are: every registered method, and a few other schedules and settings.  No loop refuses any of them.

All of them train on `N` examples of the toy problem, in batches of `BATCH`, for `EPOCHS` epochs.  Neither 46 examples
nor the 23 of a cycle are a multiple of 4, so that every loop meets short batches, or steps that go on into the next
permutation.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from helpers import toy

import fastprune
from fastprune.pruning import method_names

N, EPOCHS, BATCH, SEED = 46, 5, 4, 5

WARMUPS = {"cartography": 2, "dyn-unc": 2, "forgetting": 2, "tdds": 3}
"""Epochs on all examples for the methods that tell no two examples apart before; the others have their own default."""

OTHERS: dict[str, dict[str, Any]] = {
    "keeps-all": {"method": "el2n", "keep_fraction": 1.0},
    "two-epochs": {"method": "el2n", "cycle_epochs": 2},
    "no-warm-up": {"method": "el2n-free", "warmup_epochs": 0, "final_share": 0.25},
    "ramp": {"method": "infobatch", "keep_fraction": fastprune.LinearRamp(0.8, 0.3)},
    "budget": {"method": "el2n-free", "keep_fraction": fastprune.Budget(0.7)},
    "smoothed": {"method": "el2n(smoothing='ema', offset=0.1)"},
    "re-entry": {"method": "el2n-free(reentry=0.25, rescore_every=2)"},
}
"""Other schedules, and the settings that have passes or draws of their own."""

CASES = [*method_names(), *OTHERS]
RESUMED = ("el2n", "infobatch", "tdds")
"""One with a scoring pass, one with weights, one that observes and has the largest state."""
RANKS = ("el2n", "infobatch", "ucb")

PLACES = {"plain": ("inside", "end", "scored"), "trainer": ("inside", "end"), "lightning": ("inside", "end")}
"""Where the runs of each loop are interrupted: two batches into epoch 3, at the end of that epoch, and after the
scoring pass that follows that end.  A Trainer and Lightning make that pass when they go on.  With "infobatch" the epoch
after that end is a longer one, on all examples."""
BREAK, INSIDE = 3, 2
STATES = {
    "plain": {"inside": "infobatch", "scored": "el2n"},
    "trainer": {"inside": "infobatch", "end": "el2n"},
    "lightning": {"inside": "infobatch", "end": "el2n"},
}
"""The state files of each loop: where its run was interrupted, and the case."""


def options(case: str, folder: Path) -> dict[str, Any]:
    """The keyword arguments of ``DynamicPruner``, ``attach`` and ``PruningCallback``."""
    if case in OTHERS:
        return {"keep_fraction": 0.5, **OTHERS[case]}
    chosen: dict[str, Any] = {"method": toy.method_text(case, folder, N), "keep_fraction": 0.5}
    if case in WARMUPS:
        chosen["warmup_epochs"] = WARMUPS[case]
    return chosen
