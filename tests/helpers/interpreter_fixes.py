"""Two faults of Triton's interpreter in older releases, mended for the tests, and three that make it slow in all.

Before Triton 3.9 its fma rounds twice: it multiplies, rounds, and adds. The kernels rely on the one rounding that
every GPU gives. Before 3.8 a scalar cannot end a range under NumPy 2.4 or newer, which no longer turns an array of one
element into a number.

What makes it slow takes more than half of the time of these tests:

- Before each launch, and each call of a function inside a kernel, it replaces all of `triton.language` by its own
  again.  In a process that interprets and does nothing else, once is enough.
- Whether integers overflow is computed for each of their sums and products, and then not looked at, as it would be
  with `debug`.
- It looks the NumPy type of a Triton type up in a table that it makes anew each time.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from importlib.metadata import version
from types import FunctionType
from typing import Any


def mend_interpreter() -> None:
    """Patches the interpreter of this process, each fault where it is.  The process can compile no kernel then."""
    _hasten()
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


@functools.cache
def _hasten() -> None:
    import triton.language as tl
    from triton.runtime import interpreter

    if hasattr(interpreter, "_LangPatchScope"):  # what older releases replace stays replaced
        interpreter._patch_lang = _once(interpreter._patch_lang, (tl, tl.core))
    builder = interpreter.interpreter_builder
    if not builder.options.debug and hasattr(builder.options, "sanitize_overflow"):
        builder.options = dataclasses.replace(builder.options, sanitize_overflow=False)
    interpreter._get_np_dtype = _by_name(interpreter._get_np_dtype)


class _Kept:
    """What stays replaced."""

    def restore(self) -> None:
        pass


def _once(replace: Callable[[FunctionType], Any], languages: tuple[Any, ...]) -> Callable[[FunctionType], _Kept]:
    """`replace`, which is called with each kernel and function, but for what it has replaced already.

    Args:
        replace: replaces those of the languages that a function's module holds.
    """
    modules: set[str] = set()
    replaced: set[Any] = set()
    kept = _Kept()

    def replace_once(function: FunctionType) -> _Kept:
        if function.__module__ not in modules:
            modules.add(function.__module__)
            wanted = {one for one in languages if any(value is one for value in function.__globals__.values())}
            if not wanted <= replaced:
                replaced.update(wanted)
                replace(function)
        return kept

    return replace_once


def _by_name(numpy_type: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """`numpy_type`, called once for each name of a type."""
    found: dict[str, Any] = {}

    def numpy_type_once(kind: Any) -> Any:
        if kind.name not in found:
            found[kind.name] = numpy_type(kind)
        return found[kind.name]

    return numpy_type_once
