"""``fastprune select``: reads a file of scores, and writes a file of the examples to keep."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from typing import Any, get_args

import numpy as np
import torch

from fastprune.app import dynamics
from fastprune.app.cli.paths import refuse_inputs, user_path
from fastprune.app.cli.strategies import BY_RANK, QUOTAS, STRATEGIES, WITH_OFFSET, selection_of
from fastprune.app.data.subset import write_subset
from fastprune.errors import UsageError
from fastprune.files.score_files import (
    check_kind,
    numbers,
    one_row_each,
    read_columns,
    whole_numbers,
    write_columns,
)
from fastprune.files.score_runs import Which
from fastprune.scores.metrics import hard_where_small, is_hard_where_small
from fastprune.selection import (
    Selection,
)
from fastprune.selection.ties import Ties, tie_note


def add(commands: Any) -> None:
    """Add the command's grammar."""
    select = commands.add_parser(
        "select",
        help="choose the examples to keep from a file of scores",
        description="Choose the examples to keep. The file written holds index and score, row and id where the "
        "scores have them, and weight where the strategy has it. With --data it holds the user's own rows.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    select.set_defaults(command=run)
    select.add_argument(
        "scores",
        type=user_path,
        help="file of scores (.parquet, .csv, .jsonl), or a folder of training dynamics, which gives "
        f"{', '.join(dynamics.COLUMNS)}. Of several rows of an index the newest epoch counts, or the last",
    )
    select.add_argument("--keep-fraction", type=float, required=True, help="share kept, in (0, 1]")
    select.add_argument("--out", type=user_path, required=True, help="file of the kept: .parquet, .csv or .jsonl")
    select.add_argument(
        "--data",
        type=user_path,
        help="the file that was scored. --out then holds its rows that are kept, as they are in it",
    )
    select.add_argument("--encoding", help="of --data (utf-8)")
    select.add_argument("--no-header", action="store_true", help="the first line of --data is a row")
    select.add_argument("--strategy", choices=STRATEGIES, default="hardest", help="see fastprune.selection")
    select.add_argument("--column", help="which score (by default score, and of training dynamics variability)")
    select.add_argument("--run", help="the run whose scores count, where the file holds several")
    select.add_argument("--run-seed", type=int, help="its seed, where the run was made with several")
    select.add_argument("--run-epoch", type=int, help="the epoch whose scores count (the newest)")
    select.add_argument(
        "--hardest",
        choices=("largest", "smallest"),
        help=f"which end of the column is hard (smallest for {', '.join(hard_where_small())})",
    )
    select.add_argument("--offset", type=float, default=0.0, help=f"share dropped first: {', '.join(WITH_OFFSET)}")
    select.add_argument("--labels", help="column with the class of each example: class-balanced")
    select.add_argument(
        "--quota", choices=QUOTAS, help=f"how k is divided among the classes ({QUOTAS[0]}): class-balanced"
    )
    select.add_argument("--power", type=float, help="of the score (1): probabilistic")
    select.add_argument("--weighted", action="store_true", help="add weights: probabilistic")
    select.add_argument(
        "--ties",
        choices=get_args(Ties),
        default="random",
        help="which of the equal scores at the cut are kept: drawn from --seed, or those of the smaller index",
    )
    select.add_argument("--seed", type=int, default=0, help="of the strategies that draw, and of --ties random")


def run(arguments: argparse.Namespace) -> None:
    """Run ``fastprune select``."""
    given = arguments.scores
    if arguments.data is None:
        check_kind(arguments.out)
    elif not arguments.data.is_file():
        raise UsageError(f"--data {arguments.data} is no file; give the file that was scored")
    inputs = dynamics.epoch_files(given) if given.is_dir() else [given]
    refuse_inputs("--out", arguments.out, inputs if arguments.data is None else [*inputs, arguments.data])
    where = str(arguments.scores)
    if arguments.scores.is_dir():
        if (arguments.run, arguments.run_seed, arguments.run_epoch) != (None, None, None):
            raise UsageError(f"--run, --run-seed and --run-epoch go with a file of scores, and {where} is a folder")
        columns, column = dynamics.read_dynamics(arguments.scores), arguments.column or "variability"
    else:
        which = Which(arguments.run, arguments.run_seed, arguments.run_epoch)
        columns, note = one_row_each(read_columns(arguments.scores), where, which)
        column = arguments.column or "score"
        if note is not None:
            print(f"note: {note}", file=sys.stderr)
    scores = numbers(columns, column, where)
    small = is_hard_where_small(column)
    smallest = small if arguments.hardest is None else arguments.hardest == "smallest"
    if smallest and arguments.strategy == "probabilistic":
        raise UsageError(
            f"--strategy probabilistic draws in proportion to the score, and {column} is smallest where most is left "
            "to learn; name another --column, such as el2n or loss"
        )
    try:
        selection = selection_of(arguments, torch.from_numpy(-scores if smallest else scores), columns, where)
    except UsageError:
        raise
    except ValueError as error:
        raise UsageError(f"{where}: {error}") from None
    kept = selection.indices.numpy()
    note = tie_note(scores, kept, arguments.ties) if arguments.strategy in BY_RANK else None
    if note is not None:
        print(f"note: {note}", file=sys.stderr)
    _write(arguments, columns, scores, selection, where)
    print(summary(arguments.strategy, column, scores, kept, smallest=smallest))
    print(f"kept: {arguments.out}")


def _write(
    arguments: argparse.Namespace,
    columns: Mapping[str, np.ndarray],
    scores: np.ndarray,
    selection: Selection,
    where: str,
) -> None:
    """Write ``--out``: the user's own rows that are kept, or their numbers, scores and weights."""
    kept = selection.indices.numpy()
    if arguments.data is not None:
        named = "row" in columns
        rows = whole_numbers(columns, "row" if named else "index", where)[kept]
        write_subset(
            arguments.data,
            sorted(rows.tolist()),
            arguments.out,
            header=not arguments.no_header,
            encoding=arguments.encoding,
            scored=None if named else len(scores),
        )
        return
    ours = ("row", "id", "index", "guid")
    written: dict[str, np.ndarray] = {name: columns[name][kept] for name in ours if name in columns}
    written["score"] = scores[kept]
    if selection.weights is not None:
        written["weight"] = selection.weights.numpy()
    write_columns(arguments.out, written)


def summary(strategy: str, column: str, scores: np.ndarray, kept: np.ndarray, *, smallest: bool) -> str:
    """A text: how many are kept, the score at the cut, and the range of scores on both sides of it."""
    inside = np.zeros(len(scores), dtype=bool)
    inside[kept] = True
    hard_end = "smallest" if smallest else "largest"
    lines = [f"strategy   {strategy}, {column}: {hard_end} is hardest", f"kept       {len(kept)} of {len(scores)}"]
    if strategy in ("hardest", "easiest") and len(kept):
        last = scores[kept].min() if (strategy == "hardest") != smallest else scores[kept].max()
        lines.append(f"threshold  {last:.6g}")
    lines.append(f"{'':<11}{'examples':>9}{'least':>13}{'mean':>13}{'most':>13}")
    for name, part in (("kept", scores[inside]), ("pruned", scores[~inside])):
        numbers = (
            [f"{v:.6g}" for v in (part.min(), part.mean(dtype=np.float64), part.max())] if len(part) else ["–"] * 3
        )
        lines.append(f"{name:<11}{len(part):>9}" + "".join(f"{number:>13}" for number in numbers))
    return "\n".join(lines)
