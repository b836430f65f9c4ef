"""What a method's card says beside its docstring: how it is made, with every setting that it has."""

from __future__ import annotations

import inspect
import shlex

from fastprune.pruning.method import factory_of

STAND_IN = '"scores.parquet"'


def usage(name: str) -> str:
    """Two lines: the method of that registered name in Python and on the command line, each setting at its default."""
    factory = factory_of(name)
    settings = inspect.signature(factory).parameters.values()
    shown = ", ".join(
        STAND_IN if setting.default is inspect.Parameter.empty else f"{setting.name}={setting.default!r}"
        for setting in settings
    )
    made = factory.__qualname__
    text = f"{name}({shown})" if shown else name
    return (
        f"In Python: from {factory.__module__} import {made}; {made}({shown})\n"
        f"On the command line: --method {shlex.quote(text)}"
    )
