"""Reports without their picture, which takes longer than a tiny run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

PNG = b"\x89PNG\r\n\x1a\n" + b"Software\0fastprune report"
"""A tiny file of ours."""


def leave_out_the_picture(patch: pytest.MonkeyPatch) -> None:
    """Reports get `PNG` in its place."""
    from fastprune.app.report import report

    patch.setattr(report, "png_of", lambda runs, fields: PNG)


@pytest.fixture(scope="module", autouse=True)
def pictures_left_out() -> Iterator[None]:
    """Makes no picture in all tests below the conftest that imports it, unless a test asks for `picture`."""
    with pytest.MonkeyPatch.context() as patch:
        leave_out_the_picture(patch)
        yield


@pytest.fixture
def picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """The report has its picture after all."""
    from fastprune.app.report import plots, report

    monkeypatch.setattr(report, "png_of", plots.png_of)
