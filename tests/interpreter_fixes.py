"""Two faults of Triton's interpreter in older releases, mended for the tests, and one that makes it slow in all.

Before Triton 3.9 its fma rounds twice: it multiplies, rounds, and adds. The kernels rely on the one rounding that
every GPU gives. Before 3.8 a scalar cannot end a range under NumPy 2.4 or newer, which no longer turns an array of one
element into a number.

Before each call of a function inside a kernel it replaces all of `triton.language` by its own again. That is a third to
a half of the time of these tests. Once a launch is enough.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from importlib.metadata import version
from types import FunctionType
from typing import Any


def mend_interpreter() -> None:
    """Patches the interpreter of this process, each fault where it is."""
    _replace_language_once_a_launch()
    release = tuple(int(part) for part in version("triton").split(".")[:2])
    if release >= (3, 9):
        return
    import numpy as np
    from triton.runtime import interpreter

    def create_fma(self: Any, x: Any, y: Any, z: Any) -> Any:
        wide = np.float64 if z.data.dtype == np.float32 else np.longdouble
        # The product of two fp32 is exact in double, and so is that of two doubles, nearly, in extended precision.
        exact = x.data.astype(wide) * y.data.astype(wide) + z.data.astype(wide)
        return interpreter.TensorHandle(exact.astype(z.data.dtype), z.dtype.scalar)

    interpreter.InterpreterBuilder.create_fma = create_fma
    if release >= (3, 8):
        return
    patch = interpreter._patch_lang_tensor

    def patch_lang_tensor(tensor: Any, *scope: Any) -> None:
        patch(tensor, *scope)
        tensor.__index__ = lambda self: int(self.handle.data.squeeze())

    interpreter._patch_lang_tensor = patch_lang_tensor


class _Launch:
    """What was replaced for a launch, in order."""

    def __init__(self) -> None:
        self.languages: set[Any] = set()
        self.scopes: list[Any] = []

    def restore(self) -> None:
        while self.scopes:
            self.scopes.pop().restore()
        self.languages.clear()


def once_a_launch(replace: Callable[[FunctionType], Any], languages: tuple[Any, ...]) -> Callable[[FunctionType], Any]:
    """`replace`, which is called with a kernel and with each function inside it, but for what is replaced already.

    Args:
        replace: replaces those of the languages that a function's module holds; returns what has `restore`.
    """
    launch = _Launch()

    def replace_once(function: FunctionType) -> Any:
        wanted = {one for one in languages if any(value is one for value in function.__globals__.values())}
        if launch.scopes and wanted <= launch.languages:
            return None
        launch.languages |= wanted
        launch.scopes.append(replace(function))
        return launch

    return replace_once


@functools.cache
def _replace_language_once_a_launch() -> None:
    import triton.language as tl
    from triton.runtime import interpreter

    if hasattr(interpreter, "_LangPatchScope"):  # older releases restore nothing at the end of a launch
        interpreter._patch_lang = once_a_launch(interpreter._patch_lang, (tl, tl.core))
