"""Which variants of the kernels the steps launch: found by calling the launchers on tensors without memory.

Triton compiles a kernel anew for other dtypes, flags, and arguments that are 1 or divisible by 16. Here its own binder
says which variant a launch is, and nothing is compiled. So the list is exact for the Triton that is installed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

from fastprune.scores import triton_gradient, triton_long_rows, triton_reduction, triton_rows, triton_short_rows
from fastprune.scores.definition import METRICS
from fastprune.scores.options import LossOptions
from fastprune.selection import triton_topk
from gpu.cases import (
    ACCURACY,
    SELECTION,
    SPEED,
    SWEEP,
    TOY_ACCURACY,
    TOY_SELECTION,
    TOY_SPEED,
    TOY_SWEEP,
    TOY_TRAINING,
    TRAINING,
    Size,
)

MODULES = (triton_short_rows, triton_long_rows, triton_reduction, triton_gradient, triton_topk)
MULTIPROCESSORS = 132  # of an H100 and an H200; only an argument that is not specialised depends on it
Variant = dict[str, Any]


class NoDevice:
    """The part of a Triton driver that the binder needs."""

    def __init__(self, arch: int) -> None:
        self.target = GPUTarget("cuda", arch, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self) -> GPUTarget:
        return self.target


class Launched:
    """Stands in for a kernel: a launch adds its variant to a list."""

    def __init__(self, kernel: triton.JITFunction, found: list[Variant]) -> None:
        self.kernel, self.found = kernel, found

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
        self.grid = grid

        def launch(*args: Any, **kwargs: Any) -> None:
            self.kernel._do_compile = self._note
            try:
                self.kernel.run(*args, grid=grid, warmup=True, **kwargs)
            finally:
                del self.kernel._do_compile

        return launch

    def _note(
        self, key: str, signature: Any, device: int, constants: Any, options: Any, attributes: Any, *_: Any
    ) -> None:
        self.found.append(
            {
                "module": self.kernel.fn.__module__,
                "kernel": self.kernel.fn.__name__,
                "grid": list(self.grid),
                "signature": dict(signature),
                "constants": [[list(path), value] for path, value in constants.items()],
                "attributes": [[list(path), value] for path, value in attributes.items()],
                "options": {name: getattr(options, name) for name in ("num_warps", "maxnreg", "enable_fp_fusion")},
            }
        )


@contextmanager
def standing_in(arch: int, stand_in: Callable[[triton.JITFunction], Any]) -> Iterator[None]:
    """Inside the block every kernel is replaced, and the device has that architecture."""
    before, programs = driver._active, triton_topk._most_programs
    kernels = [
        (module, name, value)
        for module in MODULES
        for name, value in vars(module).items()
        if name.endswith("_kernel") and isinstance(value, triton.JITFunction)
    ]
    driver.set_active(NoDevice(arch))
    triton_topk._most_programs = lambda scores: triton_topk._RESIDENT * MULTIPROCESSORS
    for module, name, kernel in kernels:
        setattr(module, name, stand_in(kernel))
    try:
        yield
    finally:
        driver._active, triton_topk._most_programs = before, programs
        for module, name, kernel in kernels:
            setattr(module, name, kernel)


@contextmanager
def noted(arch: int) -> Iterator[list[Variant]]:
    """Launches within add to the list instead of running."""
    found: list[Variant] = []
    with standing_in(arch, lambda kernel: Launched(kernel, found)):
        yield found


def score_rows(size: Size, *several: tuple[str, ...]) -> None:
    """The launches of `fastprune.score` with each set of metrics."""
    logits, labels = _rows(size)
    for metrics in several:
        triton_rows.row_scores(logits, labels, metrics, -100, 0)


def loss_step(size: Size, *several: tuple[str, ...]) -> None:
    """The launches of `fastprune.cross_entropy` with each set of scores, forward and backward."""
    logits, labels = _rows(size)
    for metrics in several:
        options = LossOptions(metrics)
        losses, state, _ = triton_rows.loss_forward(logits, labels, None, options)
        loss = triton_reduction.reduced(losses, state, labels, None, size.classes, options)
        triton_gradient.loss_backward(loss, state, logits, labels, None, options)


def select(n: int, k: int) -> None:
    triton_topk.select_topk(torch.empty(n, device="meta"), k, largest=True, nan="last")


def _rows(size: Size) -> tuple[torch.Tensor, torch.Tensor]:
    logits = torch.empty(size.rows, size.classes, dtype=size.torch_dtype, device="meta")
    return logits, torch.empty(size.rows, dtype=torch.int64, device="meta")


def launches(toy: bool) -> Iterator[tuple[str, Callable[[], None]]]:
    """(step, call) for all that steps 3 to 6 launch, and the sizes of step 9."""
    for case in TOY_ACCURACY if toy else ACCURACY:
        yield "accuracy", partial(score_rows, case.size, METRICS, ("el2n",))
        if case.size.dtype != "fp64":
            yield "accuracy", partial(loss_step, case.size, ())
    for size in TOY_SPEED if toy else SPEED:
        yield "speed", partial(score_rows, size, METRICS, ("el2n",))
        yield "speed", partial(loss_step, size, ("el2n",), ())
    shape = TOY_TRAINING if toy else TRAINING
    yield "training", partial(loss_step, Size(shape["batch"], shape["classes"], "bf16"), ("el2n",))
    for _, n, keep in TOY_SELECTION if toy else SELECTION:
        yield "selection", partial(select, n, round(n * keep))
    for size in TOY_SWEEP if toy else SWEEP:
        yield "sweeps", partial(score_rows, size, ("el2n",))
        yield "sweeps", partial(loss_step, size, ("el2n",))


def variants(arch: int, toy: bool = False) -> list[Variant]:
    """All variants, each once, with the steps that launch it under "steps"."""
    unique: dict[str, Variant] = {}
    with noted(arch) as found:
        for step, call in launches(toy):
            found.clear()
            call()
            for variant in found:
                known = {name: value for name, value in variant.items() if name != "grid"}
                known = unique.setdefault(repr(known), known | {"steps": []})
                if step not in known["steps"]:
                    known["steps"].append(step)
    return list(unique.values())
