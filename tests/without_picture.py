"""Reports without their picture, which takes longer than a tiny run."""

from __future__ import annotations

import pytest

PNG = b"\x89PNG\r\n\x1a\n" + b"Software\0fastprune report"
"""A tiny file of ours."""


def leave_out_the_picture(patch: pytest.MonkeyPatch) -> None:
    """Reports get `PNG` in its place."""
    from fastprune.app.report import report

    patch.setattr(report, "png_of", lambda runs, fields: PNG)
