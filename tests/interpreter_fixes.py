"""Two faults of Triton's interpreter in older releases, mended for the tests.

Before Triton 3.9 its fma rounds twice: it multiplies, rounds, and adds. The kernels rely on the one rounding that
every GPU gives. Before 3.8 a scalar cannot end a range under NumPy 2.4 or newer, which no longer turns an array of one
element into a number.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any


def mend_interpreter() -> None:
    """Patches the interpreter of this process; does nothing where neither fault is."""
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
