"""History, schedule, methods' contract, sampler and the pruner that puts them together.

Knows scores and selection; knows no training framework.
"""

from fastprune.pruning.dataset import with_index
from fastprune.pruning.driver import Driver
from fastprune.pruning.history import History
from fastprune.pruning.keep import Budget, CosineRamp, KeepFraction, LinearRamp
from fastprune.pruning.method import DEFAULT_METHOD, Method, get_method, method_names, register
from fastprune.pruning.progress import Progress
from fastprune.pruning.pruner import DynamicPruner
from fastprune.pruning.sampler import PruningSampler, RankSampler
from fastprune.pruning.schedule import Phase, Piece, Schedule
from fastprune.pruning.scoring import score_dataset
from fastprune.pruning.statistics import EMA, Latest, Mean, Moments, Statistic

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
    "get_method",
    "method_names",
    "register",
    "score_dataset",
    "with_index",
]
