"""Examples of language models: sums as prompts and completions of GSM8K's form."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


def sums(n: int) -> list[dict[str, str]]:
    """Sums of one number with itself."""
    return [{"prompt": f"what is {i} and {i}?", "completion": f" it is {2 * i}. #### {2 * i}"} for i in range(n)]


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write one JSON object a line."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
