"""A method as text: ``name``, ``name:text`` or ``name(setting=value, …)``, as the command line writes it.

Values are literals of Python: numbers, strings, True, False and None.  Nothing is ever evaluated.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field
from typing import Any

_CALL = re.compile(r"\s*([\w-]+)\s*\((.*)\)\s*", re.DOTALL)


@dataclass(frozen=True)
class MethodText:
    """The parts of such a text.

    Attributes:
        name: the method's name.
        positional: values without a name.
        settings: values by the names of their settings.
    """

    name: str
    positional: tuple[Any, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)


def parse_method(text: str) -> MethodText:
    """Split ``text`` into its parts.

    Raises:
        ValueError: the brackets do not hold a list of literals.  The message says how it should look.

    Example:
        >>> parse_method("orderdp(ratio=0.375)")
        MethodText(name='orderdp', positional=(), settings={'ratio': 0.375})
    """
    call = _CALL.fullmatch(text)
    name, colon, argument = text.partition(":")
    if call is None or (colon and "(" not in name):
        return MethodText(name, (argument,) if colon else ())
    name, inside = call.groups()
    shape = f"write method {text!r} as {name}(setting=value, …) with literals as values (numbers, quoted text, None)"
    try:
        tree = ast.parse(f"_({inside}\n)", mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ValueError(shape) from None
    if not isinstance(tree, ast.Call) or not isinstance(tree.func, ast.Name):
        raise ValueError(shape)
    try:
        positional = tuple(ast.literal_eval(value) for value in tree.args)
        pairs = [(setting.arg, ast.literal_eval(setting.value)) for setting in tree.keywords]
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        raise ValueError(shape) from None
    settings = {arg: value for arg, value in pairs if arg is not None}
    if len(settings) < len(pairs):
        raise ValueError(shape)
    return MethodText(name, positional, settings)
