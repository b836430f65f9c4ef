"""Reports without their picture, which is what takes time."""

import pytest


@pytest.fixture
def no_picture(monkeypatch):
    """A tiny file of ours in place of the picture."""
    from fastprune.report import report

    png = b"\x89PNG\r\n\x1a\n" + b"Software\0fastprune report"
    monkeypatch.setattr(report, "png_of", lambda runs, fields: png)
