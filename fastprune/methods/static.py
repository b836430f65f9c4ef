"""The method ``static``."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from fastprune.errors import UsageError
from fastprune.files.score_files import numbers, read_examples, whole_numbers
from fastprune.files.score_runs import Which
from fastprune.methods.ranking import keep_hardest
from fastprune.methods.unscored import check_fits, check_offset, fitting_offset
from fastprune.pruning.history import History
from fastprune.pruning.method import Method, register
from fastprune.scores.metrics import difficulty
from fastprune.selection import Selection


@dataclass(frozen=True)
class Static(Method):
    """Rank by scores that never change.

    Args:
        scores: fp32 (n,).  Larger scores are kept first.
        offset: share of all examples dropped from the hard end first, in [0, 1).
        rows: int64 (n,), the row of the user's file that each score belongs to.  None if the file does not say it.

    Example:
        >>> from fastprune import DynamicPruner
        >>> method = Static(torch.tensor([0.9, 0.1, 0.5, 0.7]))
        >>> pruner = DynamicPruner(4, keep_fraction=0.5, warmup_epochs=0, method=method)
        >>> [sorted(pruner.sampler) for epoch in pruner.epochs(2)]
        [[0, 3], [0, 3]]
    """

    scores: Tensor = field(repr=False)
    offset: float = 0.0
    rows: Tensor | None = field(default=None, repr=False, compare=False)
    digest: str = field(init=False)
    name = "static"
    constant = True
    rule_version = 2

    def __post_init__(self) -> None:
        check_offset(self.offset)
        if self.scores.ndim != 1 or bool(self.scores.isnan().any()):
            raise ValueError(f"scores must be (n,) without NaN, got shape {tuple(self.scores.shape)}")
        # A checkpoint compares the digest, because the scores themselves would be too long.
        content = self.scores.detach().cpu().float().contiguous().numpy().tobytes()
        object.__setattr__(self, "digest", hashlib.sha256(content).hexdigest())

    def of_rows(self, rows: Sequence[int]) -> Static:
        """The same method for the examples in these rows of the user's file.  If rows are not known, it returns itself.

        Raises:
            ValueError: a row has no score.
        """
        if self.rows is None:
            return self
        place = {row: i for i, row in enumerate(self.rows.tolist())}
        missing = next((row for row in rows if row not in place), None)
        if missing is not None:
            raise ValueError(f"row {missing} of the training file has no score; score that file")
        return Static(self.scores[torch.tensor([place[row] for row in rows], dtype=torch.int64)], self.offset)

    def of_part(self, index: Tensor) -> Static:
        """The scores of these examples."""
        return Static(self.scores[index.to(self.scores.device)], self.offset)

    def check_size(self, n: int) -> None:
        """Refuse scores of another number of examples."""
        if len(self.scores) != n:
            raise ValueError(
                f"there are scores of {len(self.scores)} examples, but the data set has {n}; score the data set that "
                "is trained on"
            )

    def check_keep(self, n: int, k: int) -> None:
        """Refuse an offset that leaves fewer than k."""
        check_fits(self.name, self.offset, n, k)

    def select(self, history: History, k: int, *, cycle: int, epoch: int, seed: int) -> Selection:
        """The same k every cycle, as long as k stays the same."""
        offset = fitting_offset(self.offset, history.n, k)
        return keep_hardest(self.name, self.scores, k, offset=offset, ties="random", seed=seed)


@register("static")
def static(
    path: str,
    *,
    column: str = "score",
    run: str | None = None,
    seed: int | None = None,
    epoch: int | None = None,
    offset: float = 0.0,
) -> Static:
    """Static pruning by scores from a file: any method's scores of an earlier run, or your own.

    Source: the static baselines of arXiv 2306.03208 (``static_score_file_path``).  These are EL2N and GraNd (Paul et
    al. 2021), forgetting (Toneva et al. 2019), AUM (Pleiss et al. 2020), and any score computed before the run.
    Rule: every cycle keeps the k examples of the largest score in the file.  Among equal scores a draw from the seed
    decides, the same every cycle.  Counts such as forgetting have few values, and files are often sorted by class.  Use
    ``method="static:PATH"``, where PATH is a .parquet, .csv or .jsonl file with the columns ``index`` and ``score``, as
    `fastprune score` writes it.  A column ``row`` says which row of the user's file a score belongs to.  `fastprune
    finetune` uses it, so held-out rows do no harm.  If an example has several scores, that of the newest epoch counts,
    or that of the last row.  A file of several runs, such as the ``scores.parquet`` of a comparison, is refused until
    one run is named.
    Settings: ``run``, ``seed`` and ``epoch`` choose among the rows of a file.  An example is ``static("scores.parquet",
    run="el2n 0.5", seed=0, epoch=3)``.  ``column`` is the score.  A score whose small values are hard, such as
    ``confidence``, is negated (`fastprune.scores.metrics` says which).  ``offset`` is the share dropped from the hard
    end first.  Advice: take scores of a late epoch of a full run, and name the run if the file has several.
    Reads: nothing while training.
    Cost: one read of the file.
    Memory: 8 bytes an example and 4 for the scores.
    When: the scores exist already, or one subset is to serve many runs.
    When not: for a single run.  Computing the scores costs a run or a good part of one, and what is hard early is not
    what is hard late.
    """
    columns = read_examples(Path(path), Which(run, seed, epoch))
    scores = difficulty(column, torch.from_numpy(numbers(columns, column, path)))
    rows = torch.from_numpy(whole_numbers(columns, "row", path)) if "row" in columns else None
    broken = scores.isnan().nonzero().flatten()
    if len(broken):
        raise UsageError(
            f"{path}: the score of example {int(broken[0])} is NaN, and of {len(broken) - 1} others; score them again"
        )
    return Static(scores, offset, rows)
