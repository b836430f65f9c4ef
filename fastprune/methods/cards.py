"""The card of a method: the docstring of what is registered, and how to make it with all its settings."""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Iterator, Mapping

from fastprune.pruning.method import factory_of, method_names

STAND_IN = '"scores.parquet"'


class Cards(Mapping[str, str]):
    """The card of each registered method by its name.  Methods that are registered later appear, too.

    Example:
        >>> from fastprune.methods import METHOD_CARDS
        >>> print(METHOD_CARDS["orderdp"].splitlines()[-1])
        On the command line: --method 'orderdp(ratio=0.6)'
    """

    def __getitem__(self, name: str) -> str:
        if name not in method_names():
            raise KeyError(name)
        return f"{inspect.cleandoc(factory_of(name).__doc__ or '')}\n\n{usage(name)}".lstrip()

    def __iter__(self) -> Iterator[str]:
        return iter(method_names())

    def __len__(self) -> int:
        return len(method_names())


def usage(name: str) -> str:
    """How the method is made, in two lines: in Python, and on the command line.

    Each setting is shown at its default.
    """
    factory = factory_of(name)
    settings = inspect.signature(factory).parameters.values()
    shown = ", ".join(
        STAND_IN if setting.default is inspect.Parameter.empty else f"{setting.name}={setting.default!r}"
        for setting in settings
    )
    made = getattr(factory, "__qualname__", name)
    text = f"{name}({shown})" if shown else name
    return (
        f"In Python: from {factory.__module__} import {made}; {made}({shown})\n"
        f"On the command line: --method {shlex.quote(text)}"
    )
