"""Draws ``report.png``: how the runs went above, what changed from cycle to cycle below.

It uses Figure objects alone and no pyplot.  So nothing global is touched, and no display is needed.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from io import BytesIO
from typing import Any

from fastprune.app.measures import measure_of
from fastprune.app.report.curves import draw_loss, draw_quality, draw_time, line_styles
from fastprune.app.report.cycles import churn_curves, data_map, draw_churn, draw_data_map
from fastprune.app.report.headline import spoken
from fastprune.app.report.histograms import choose_run, draw_histograms
from fastprune.app.report.runs import Runs
from fastprune.app.report.words import drawn
from fastprune.errors import UsageError

DPI = 120
MOST_LABELS, LONGEST_LABEL = 24, 28


def draw(runs: Runs) -> Any:
    """Return the picture as a ``matplotlib.figure.Figure``.  Panels with nothing to show are left out."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise UsageError("report.png needs the matplotlib package: pip install 'fastprune[demo]'.") from None
    names = [row["run"] for row in runs.metrics]
    chosen = None if runs.scores is None else choose_run(runs.scores, names)
    shown = data_map(runs.scores, runs.data_map, chosen)
    lower = [bool(churn_curves(runs.judged)), shown is not None]
    below = 0.0 if not any(lower) and chosen is None else 4.5 if not all(lower) and chosen is None else 8.0
    figure = Figure(figsize=(16, 5.2 + below), layout="constrained")
    if runs.title:
        figure.suptitle(drawn(runs.title, 120), fontsize=14, fontweight="bold")
    ratios = {"height_ratios": (5.2, below)} if below else {}
    upper, rest = _divided(figure, bool(below), nrows=2, ncols=1, hspace=0.03, **ratios)
    style = line_styles(names, runs.baselines)
    _draw_upper(upper, runs, style)
    if rest is None:
        return figure
    left, right = _divided(rest, any(lower) and chosen is not None, nrows=1, ncols=2, wspace=0.03)
    if any(lower):
        places = iter(left.subplots(*((sum(lower), 1) if chosen is not None else (1, sum(lower))), squeeze=False).flat)
        if lower[0]:
            draw_churn(next(places), runs.judged, style)
        if shown is not None:
            draw_data_map(next(places), shown)
    if chosen is not None and runs.scores is not None:
        draw_histograms(left if right is None else right, runs.scores, *chosen)
    return figure


def png_of(runs: Runs, fields: Mapping[str, str]) -> bytes:
    """Return the picture's file with these text fields in it."""
    png = BytesIO()
    with warnings.catch_warnings():
        # Characters that the font lacks show as boxes, and numbers too large for a scale at its end.
        warnings.simplefilter("ignore")
        draw(runs).savefig(png, dpi=DPI, format="png", metadata=fields)
    return png.getvalue()


def _draw_upper(figure: Any, runs: Runs, style: Mapping[str, Mapping[str, Any]]) -> None:
    """Draw the three panels of the runs, and one legend beside them."""
    rows = runs.judged
    folders = (runs.summary.get("folders") or {"": runs.summary}).values()
    label = " / ".join(dict.fromkeys(f"{spoken(one['deciding'])} on {one['split']}" for one in folders))
    axes = figure.subplots(1, 3)
    measures = [measure_of(one["deciding"]) for one in folders]
    scale = measures[0].scale  # the same in all folders, unless shares and others are drawn together
    shown = f"{drawn(label)} (%)" if measures[0].percent else drawn(label)
    draw_time(axes[0], rows, style, shown, scale)
    draw_quality(axes[1], rows, style, shown, scale)
    draw_loss(axes[2], rows, style)
    counts = {row["n_seeds"] for row in runs.summary["rows"]}
    means = "" if max(counts) == 1 else f"means of {max(counts)} seeds" if len(counts) == 1 else "means over the seeds"
    labels = {run: f"{drawn(run, LONGEST_LABEL)}: not finished" for run in style}
    labels |= {row["run"]: _label(row) for row in runs.summary["rows"]}
    from matplotlib.lines import Line2D

    listed = list(labels)[:MOST_LABELS]
    more = f"and {len(labels) - MOST_LABELS} more" if len(labels) > MOST_LABELS else ""
    legend = figure.legend(
        [Line2D([], [], **style[run]) for run in listed],
        ["a run"] * len(listed),
        loc="outside right center",
        fontsize=10 if len(listed) <= 12 else 8,
        title="\n".join(filter(None, (more, means))) or None,
    )
    for text, run in zip(legend.get_texts(), listed, strict=True):
        text.set_text(labels[run])  # before 3.10 matplotlib leaves out a label that begins with "_"


def _label(row: Mapping[str, Any]) -> str:
    """Return a run and where it ended, as in the table."""
    value, seconds = row.get(row["deciding"] or ""), row.get("total_seconds")
    shown = "" if value is None else f": {measure_of(row['deciding']).shown(value)}"
    ended = shown if value is None or seconds is None else f"{shown}, {seconds:,.0f} s"
    return f"{drawn(row['run'], LONGEST_LABEL)}{ended}"


def _divided(figure: Any, wanted: bool, **grid: Any) -> tuple[Any, Any]:
    """Return two parts of the figure, or all of it and None."""
    return tuple(figure.subfigures(**grid)) if wanted else (figure, None)
