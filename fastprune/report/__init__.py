"""Run folders: writing and reading their files, the table, the picture and the page."""

from fastprune.report.folder import RunFolder
from fastprune.report.page import rich_examples
from fastprune.report.plots import draw
from fastprune.report.report import Report, write_report
from fastprune.report.summary import last_epoch_rows, summarise
from fastprune.report.table import markdown_table, rich_table

__all__ = [
    "Report",
    "RunFolder",
    "draw",
    "last_epoch_rows",
    "markdown_table",
    "rich_examples",
    "rich_table",
    "summarise",
    "write_report",
]
