"""Pure functions that choose which examples to keep: from scores to indices."""

from fastprune.selection.accumulator import TopK
from fastprune.selection.by_chance import probabilistic, random, threshold_random
from fastprune.selection.by_group import class_balanced, stratified
from fastprune.selection.by_rank import easiest, hardest, window
from fastprune.selection.topk import select_topk
from fastprune.selection.types import Selection

__all__ = [
    "Selection",
    "TopK",
    "class_balanced",
    "easiest",
    "hardest",
    "probabilistic",
    "random",
    "select_topk",
    "stratified",
    "threshold_random",
    "window",
]
