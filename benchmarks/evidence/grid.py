"""Small pictures in rows."""

from __future__ import annotations

from typing import Any


def grid(count: int, columns: int, size: tuple[float, float]) -> tuple[Any, list[Any]]:
    """A figure, and its axes row by row.  A place that is left over stays blank.

    Args:
        count: How many pictures there are, at least 1.
        columns: How many stand in a row at most.
        size: Of one picture, in inches.
    """
    from matplotlib.figure import Figure

    columns = min(columns, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(size[0] * columns, size[1] * rows), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis in axes[count:]:
        axis.axis("off")
    return figure, axes[:count]
