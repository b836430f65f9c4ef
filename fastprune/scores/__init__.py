"""Scores of examples and tokens from one read of their logits."""

from fastprune.scores.api import el2n, joint_el2n, score
from fastprune.scores.crossentropy import cross_entropy

__all__ = ["cross_entropy", "el2n", "joint_el2n", "score"]
