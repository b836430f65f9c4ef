"""The one exception type that means "the user can fix this".

Library functions raise plain ``ValueError``/``TypeError`` for bad arguments.  `UsageError` is for
input that lives outside the program (files, columns, checkpoints): the command line prints its
sentence and exits with status 2.
"""


class UsageError(ValueError):
    """Bad input from outside.  The message says what was given, why it is wrong and how to fix it."""


def class_of(value: object) -> str:
    """Return the class of ``value`` with its module, as there is more than one Trainer.

    Builtins go by their name alone.

    >>> class_of(1), class_of(UsageError("no"))
    ('int', 'fastprune.errors.UsageError')
    """
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def shown(value: object, longest: int = 60) -> str:
    """Return ``repr(value)``, cut to a length that fits a message.

    >>> shown("a" * 99, 9)
    "'aaaaaaa…"
    """
    text = repr(value)
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def in_short(text: object, longest: int = 1000) -> str:
    """Return the text, without its middle if it is longer.

    A sentence begins with what is wrong, and ends with the fix.

    >>> in_short("a long cell: mend it", 14)
    'a long … mend it'
    """
    whole = str(text)
    half = longest // 2
    return whole if len(whole) <= longest else f"{whole[:half].rstrip()} … {whole[-half:].lstrip()}"
