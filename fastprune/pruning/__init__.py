"""History, schedule, methods' contract, sampler and the pruner that puts them together.

This room knows scores and selection.  It knows no training framework.  Its public names are for three readers:

* A training loop uses `DynamicPruner`, `with_index`, `score_dataset`, the keep fractions (`Budget`, `CosineRamp`,
  `LinearRamp`), the statistics (`EMA`, `Latest`, `Mean`) and `Listener`.
* A method of your own uses `Method`, `register`, `History`, `Statistic` and `Moments`.
* An adapter of a framework uses `Driver`, `Progress`, `Schedule`, `Phase`, `Piece`, `PruningSampler` and `RankSampler`.

The command line also uses those that read what a user writes: `as_statistic`, `check_fraction`, `get_method`,
`method_names`, `parse_keep_fraction` and `parse_method`.
"""

from fastprune.pruning.dataset import with_index
from fastprune.pruning.driver import Driver
from fastprune.pruning.history import History
from fastprune.pruning.keep import (
    Budget,
    CosineRamp,
    KeepFraction,
    LinearRamp,
    check_fraction,
    parse_keep_fraction,
)
from fastprune.pruning.listener import Listener
from fastprune.pruning.method import DEFAULT_METHOD, Method, get_method, method_names, register
from fastprune.pruning.naming import parse_method
from fastprune.pruning.progress import Progress
from fastprune.pruning.pruner import DynamicPruner
from fastprune.pruning.sampler import PruningSampler, RankSampler
from fastprune.pruning.schedule import Phase, Piece, Schedule
from fastprune.pruning.scoring import score_dataset
from fastprune.pruning.statistics import EMA, Latest, Mean, Moments, Statistic, as_statistic

__all__ = [
    "DEFAULT_METHOD",
    "EMA",
    "Budget",
    "CosineRamp",
    "Driver",
    "DynamicPruner",
    "History",
    "KeepFraction",
    "Latest",
    "LinearRamp",
    "Listener",
    "Mean",
    "Method",
    "Moments",
    "Phase",
    "Piece",
    "Progress",
    "PruningSampler",
    "RankSampler",
    "Schedule",
    "Statistic",
    "as_statistic",
    "check_fraction",
    "get_method",
    "method_names",
    "parse_keep_fraction",
    "parse_method",
    "register",
    "score_dataset",
    "with_index",
]
