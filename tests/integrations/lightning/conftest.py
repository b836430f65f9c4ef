"""These tests are skipped where Lightning is not installed."""

import pytest

pytest.importorskip("lightning.pytorch")  # not "lightning": so is this folder called
