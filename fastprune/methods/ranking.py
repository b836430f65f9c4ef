"""The cut of the methods that rank: which examples are kept, and a warning if many scores at the cut are equal."""

from __future__ import annotations

import logging

from torch import Tensor

from fastprune.selection import Selection, window
from fastprune.selection.ties import Ties, tie_note

logger = logging.getLogger(__name__)


def keep_hardest(
    name: str, values: Tensor, k: int, *, offset: float = 0.0, ties: Ties = "index", seed: int = 0, cycle: int = 0
) -> Selection:
    """The `window` of the values.  It logs a warning if more than 1 % of them are equal at the cut.

    Args:
        name: the method's, for the warning.
        values: (n,).  Larger values are kept first.
        k: how many to keep.
        offset: share dropped from the hard end.
        ties: which of equal values are kept, as in `select_topk`.
        seed: of the draw among equal values.
        cycle: number of the cycle, which gives each cycle a draw of its own.
    """
    kept = window(values, k, offset, ties=ties, seed=seed, round=cycle)
    note_ties(name, values, kept.indices, ties)
    return kept


def note_ties(name: str, values: Tensor, kept: Tensor, ties: Ties) -> None:
    """Log a warning if the cut falls into a tie of more than 1 % of the values."""
    note = tie_note(values, kept, ties)
    if note is not None:
        logger.warning("method %r: %s", name, note)
