"""`UsageError`, the one exception type that means "the user can fix this".

Library functions raise plain ``ValueError`` and ``TypeError`` for bad arguments. `UsageError` is for input from outside
the program: files, columns and checkpoints. The command line prints its sentence and exits with status 2.
"""


class UsageError(ValueError):
    """Bad input from outside. The message names what was given, why it is wrong and how to fix it.

    Example:
        >>> try:
        ...     raise UsageError("scores.csv has no column 'id'; its columns are row, el2n")
        ... except ValueError as error:
        ...     print(error)
        scores.csv has no column 'id'; its columns are row, el2n
    """


def class_of(value: object) -> str:
    """The class of ``value`` with its module, because there is more than one Trainer. Builtins have no module."""
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def shown(value: object, longest: int = 60) -> str:
    """Return ``repr(value)``, cut to a length that fits a message.

    Example:
        >>> shown("a" * 99, 9)
        "'aaaaaaa…"
    """
    text = repr(value)
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def in_short(text: object, longest: int = 1000) -> str:
    """The text, without its middle if it is too long. A message begins with what is wrong and ends with the fix.

    Example:
        >>> in_short("a long cell: mend it", 14)
        'a long … mend it'
    """
    whole = str(text)
    half = longest // 2
    return whole if len(whole) <= longest else f"{whole[:half].rstrip()} … {whole[-half:].lstrip()}"
