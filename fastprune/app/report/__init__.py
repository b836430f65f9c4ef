"""Run folders: writing and reading their files, the tables, the picture and the page."""

from fastprune.report.folder import RunFolder
from fastprune.report.headline import headline
from fastprune.report.page import rich_examples
from fastprune.report.plots import draw
from fastprune.report.report import Report, write_report
from fastprune.report.summary import make_summary
from fastprune.report.table import markdown_tables, rich_table

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
