"""Which examples are kept: pure functions from scores to indices."""

from fastprune.selection.strategies import hardest, random, window
from fastprune.selection.topk import select_topk
from fastprune.selection.types import Selection

__all__ = ["Selection", "hardest", "random", "select_topk", "window"]
