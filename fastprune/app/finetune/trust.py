"""Says what may be executed of a model that somebody else made: nothing, unless the user allows it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Trust:
    """What the user allows a model folder or hub id to do.

    Args:
        remote_code: run the Python files that come with it.
        pickle: load weights from .bin files.  Their reader has had security holes, so `weights_only` is used, too.
    """

    remote_code: bool = False
    pickle: bool = False


NONE = Trust()
