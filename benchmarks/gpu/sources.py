"""Which kernels a figure belongs to: a digest of the kernels' sources that comments and docstrings do not change."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import tokenize
from pathlib import Path

ROOT = Path(__file__).parents[2]
KERNELS = (
    "fastprune/platform/gpu.py",
    "fastprune/scores/kernels.py",
    "fastprune/scores/options.py",
    "fastprune/scores/triton_gradient.py",
    "fastprune/scores/triton_labels.py",
    "fastprune/scores/triton_long_rows.py",
    "fastprune/scores/triton_math.py",
    "fastprune/scores/triton_reduction.py",
    "fastprune/scores/triton_results.py",
    "fastprune/scores/triton_rows.py",
    "fastprune/scores/triton_segment.py",
    "fastprune/scores/triton_short_rows.py",
    "fastprune/scores/triton_tile_sums.py",
    "fastprune/scores/triton_tiles.py",
    "fastprune/scores/linear_head.py",
    "fastprune/scores/linear_tiles.py",
    "fastprune/selection/triton_topk.py",
    "fastprune/platform/triton_launch.py",
)
_BLANK = {tokenize.COMMENT, tokenize.NL, tokenize.ENCODING}
_BEFORE_STATEMENT = {tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}


def code_of(source: str) -> str:
    """The source without comments, docstrings and layout."""
    kept: list[tokenize.TokenInfo] = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in _BLANK:
            continue
        begins = len(kept) < 2 or kept[-2].type in _BEFORE_STATEMENT
        if token.type == tokenize.NEWLINE and kept and kept[-1].type == tokenize.STRING and begins:
            kept.pop()  # a string that is a statement
            continue
        kept.append(token)
    return "\n".join("\x01" if t.type == tokenize.INDENT else t.string for t in kept if t.type != tokenize.NEWLINE)


def digest(root: Path = ROOT) -> str:
    """12 hexadecimal digits of the kernels' code."""
    total = hashlib.sha256()
    for name in KERNELS:
        total.update(name.encode() + b"\0" + code_of((root / name).read_text()).encode() + b"\0")
    return total.hexdigest()[:12]


def core_digest(root: Path = ROOT) -> str:
    """12 hexadecimal digits of what the compiled extension is built from."""
    total = hashlib.sha256()
    for path in sorted([root / "setup.py", *(p for p in (root / "csrc").rglob("*") if p.is_file())]):
        total.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return total.hexdigest()[:12]


def carried_commit(root: Path = ROOT) -> str | None:
    """What `gpu.carry` left beside the wheels; a lent machine may have an older checkout's git folder."""
    carried = root / ".gpu" / "commit"
    return carried.read_text().strip() if carried.exists() else commit(root)


def commit(root: Path = ROOT) -> str | None:
    """The commit of the checkout, if git knows it."""
    try:
        run = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"GIT_CEILING_DIRECTORIES": str(root.parent)},
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return run.stdout.strip()
