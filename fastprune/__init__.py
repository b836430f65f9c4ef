"""fastprune: finetune on the examples that still teach the model something.

- Scores: `el2n`, `joint_el2n`, `score` and `cross_entropy`.
- Exact selection: `select_topk`, `TopK` and the strategies in `fastprune.selection`. `fastprune.distributed` selects
  over many processes.
- Dynamic pruning around the loop you already have: `DynamicPruner` for a plain loop, `prepare_accelerate` for
  Accelerate, `attach` for the Trainer, and `PruningCallback` for Lightning.
"""

import warnings
from typing import TYPE_CHECKING, Any

import fastprune.built  # first, because it says what to do if the core is missing
import fastprune.distributed
import fastprune.methods  # noqa: F401  (registers the methods)
import fastprune.moved
from fastprune.integrations.accelerate import prepare_accelerate
from fastprune.pruning import (
    EMA,
    Budget,
    CosineRamp,
    DynamicPruner,
    Latest,
    LinearRamp,
    Mean,
    Schedule,
    score_dataset,
    with_index,
)
from fastprune.scores import Head, JointLoss, Task, cross_entropy, el2n, grand, joint_el2n, per_sample_grand, score
from fastprune.selection import Selection, TopK, select_topk

if TYPE_CHECKING:
    from fastprune.integrations.lightning import PruningCallback
    from fastprune.integrations.trainer import attach, detach
    from fastprune.models import JointModel

fastprune.moved.install()

__version__ = "0.2.0"

__all__ = [
    "EMA",
    "Budget",
    "CosineRamp",
    "DynamicPruner",
    "Head",
    "JointLoss",
    "JointModel",
    "Latest",
    "LinearRamp",
    "Mean",
    "PruningCallback",
    "Schedule",
    "Selection",
    "Task",
    "TopK",
    "attach",
    "cross_entropy",
    "detach",
    "el2n",
    "grand",
    "joint_el2n",
    "per_sample_grand",
    "prepare_accelerate",
    "score",
    "score_dataset",
    "select_topk",
    "with_index",
]


RENAMED = {"prepare": "prepare_accelerate"}
"""Names of version 0.1, and the names that replace them. The old ones go away in 0.3."""


def __getattr__(name: str) -> Any:
    if name in RENAMED:
        warnings.warn(
            f"fastprune.{name} is called fastprune.{RENAMED[name]} now; the old name goes away in version 0.3",
            DeprecationWarning,
            stacklevel=2,
        )
        return globals()[RENAMED[name]]
    # A framework takes seconds to import and may not be installed. So it is imported only when it is used.
    if name in ("attach", "detach"):
        from fastprune.integrations import trainer

        return getattr(trainer, name)
    if name == "PruningCallback":
        from fastprune.integrations.lightning import PruningCallback

        return PruningCallback
    if name == "JointModel":
        from fastprune.models import JointModel

        return JointModel
    raise AttributeError(f"module 'fastprune' has no attribute {name!r}")
