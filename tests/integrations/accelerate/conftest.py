"""These tests are skipped where Accelerate is not installed."""

import pytest

pytest.importorskip("accelerate.utils")  # not "accelerate": so is a folder called
