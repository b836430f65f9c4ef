"""Reports without their picture, for tests that ask for it."""

import pytest
from helpers.without_picture import leave_out_the_picture


@pytest.fixture
def no_picture(monkeypatch):
    leave_out_the_picture(monkeypatch)
