"""Run folders: writing and reading their files, the tables, the picture and the page."""

from fastprune.app.report.folder import RunFolder
from fastprune.app.report.headline import headline
from fastprune.app.report.page import rich_examples
from fastprune.app.report.plots import draw
from fastprune.app.report.report import Report, write_report
from fastprune.app.report.summary import make_summary
from fastprune.app.report.table import markdown_tables, rich_table

__all__ = [
    "Report",
    "RunFolder",
    "draw",
    "headline",
    "make_summary",
    "markdown_tables",
    "rich_examples",
    "rich_table",
    "write_report",
]
