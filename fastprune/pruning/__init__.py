"""History, schedule, methods' contract, sampler and the pruner that puts them together.

Knows scores and selection; knows no training framework.
"""

from fastprune.pruning.dataset import with_index
from fastprune.pruning.history import History
from fastprune.pruning.method import Method, get_method, method_names, register
from fastprune.pruning.pruner import DynamicPruner
from fastprune.pruning.sampler import PruningSampler
from fastprune.pruning.schedule import Phase, Piece, Schedule
from fastprune.pruning.scoring import score_dataset
from fastprune.pruning.smoothing import EMA, Latest, Mean

__all__ = [
    "EMA",
    "DynamicPruner",
    "History",
    "Latest",
    "Mean",
    "Method",
    "Phase",
    "Piece",
    "PruningSampler",
    "Schedule",
    "get_method",
    "method_names",
    "register",
    "score_dataset",
    "with_index",
]
