"""Scores of examples and tokens, from one read of their logits."""

from fastprune.scores.api import el2n, joint_el2n, score
from fastprune.scores.crossentropy import cross_entropy
from fastprune.scores.grand import grand
from fastprune.scores.joint_loss import JointLoss
from fastprune.scores.last_layer import LastLayers
from fastprune.scores.per_sample_grand import per_sample_grand
from fastprune.scores.task import Head, Task

__all__ = [
    "Head",
    "JointLoss",
    "LastLayers",
    "Task",
    "cross_entropy",
    "el2n",
    "grand",
    "joint_el2n",
    "per_sample_grand",
    "score",
]
