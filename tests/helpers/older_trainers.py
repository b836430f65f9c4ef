"""What Trainers of older versions of transformers do otherwise, and up to which version they do."""

from __future__ import annotations

from importlib.metadata import version

VERSION = tuple(int(part) for part in version("transformers").split(".")[:2])

LOSS_NEEDS_LABELS = VERSION < (4, 57)
"""A compute_loss_func is called only for a batch that has 'labels'."""
REFUSAL = "calls no compute_loss_func unless the batch has 'labels'"
"""What fastprune says of it where a method weights losses."""

KEEPS_BATCH_SIZE = VERSION < (5, 2)
"""A resumed run takes the batch size of its checkpoint, whatever its arguments say."""

NO_RESUME_ON_CPUS = VERSION < (5, 18)
"""Several processes on CPUs restore no optimizer.  Their device is called cpu:0, which torch.load does not know."""
