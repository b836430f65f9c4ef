"""fastprune: finetune on the examples that still teach the model something.

* Scores: `el2n`, `joint_el2n`, `score`, `cross_entropy`.
* Exact selection: `select_topk`, `TopK`, the strategies in `fastprune.selection`, and `fastprune.distributed` for many
  processes.
* Pruning around the loop you already have: `DynamicPruner`, `attach` for the Trainer, `PruningCallback` for Lightning,
  and `prepare_accelerate` for Accelerate.
"""

import warnings
from typing import TYPE_CHECKING, Any

import fastprune.built  # first: it says what to do where the core is missing
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
"""Names of version 0.1 and what they are called now.  The old ones go away in 0.3."""


def __getattr__(name: str) -> Any:
    if name in RENAMED:
        warnings.warn(
            f"fastprune.{name} is called fastprune.{RENAMED[name]} now; the old name goes away in version 0.3",
            DeprecationWarning,
            stacklevel=2,
        )
        return globals()[RENAMED[name]]
    # Importing a framework takes seconds and is an extra: only those who use it pay for it.
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
