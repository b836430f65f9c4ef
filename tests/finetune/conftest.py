"""Runs whose report has no picture, unless a test asks for it."""

import pytest
from without_picture import leave_out_the_picture


@pytest.fixture(scope="module", autouse=True)
def no_picture():
    with pytest.MonkeyPatch.context() as patch:
        leave_out_the_picture(patch)
        yield


@pytest.fixture
def picture(monkeypatch):
    """The report has its picture after all."""
    from fastprune.app.report import plots, report

    monkeypatch.setattr(report, "png_of", plots.png_of)
