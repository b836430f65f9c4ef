"""Types of what the files of a run folder hold."""

from typing import Any

Row = dict[str, Any]
"""A JSON object, such as a line of metrics.jsonl."""
