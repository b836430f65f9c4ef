"""Step 8: el2n and the loss step beside what torch.compile makes of PyTorch's, and beside Liger's Triton kernel.

Inductor's compilation is what takes the time, so the sizes come in the order of their worth, and no size starts
that might not end.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import providers
import torch

from gpu.cases import SPEED, TOY_SPEED, Size
from gpu.step import Context
from gpu.timing import logits_of, time_providers


def reads_of_inputs(code: str) -> dict[str, dict[str, int]]:
    """For each Triton kernel in Inductor's output: how often its code loads from each of its pointers.

    A pointer to the logits that is loaded from twice is read twice: once for the sum, once for what follows.
    """
    found = {}
    for kernel in re.split(r"\n(?=def triton_\w+\()", code):
        if name := re.match(r"def (triton_\w+)\(", kernel):
            pointers = re.findall(r"tl\.load\((in_(?:out_)?ptr\d+)\b", kernel)
            found[name[1]] = {pointer: pointers.count(pointer) for pointer in sorted(set(pointers))}
    return found


def compiled_code(call: Callable[[], Any]) -> str:
    """What Inductor writes while it compiles a call."""
    from torch._inductor.utils import run_and_get_code

    _, code = run_and_get_code(call)
    return "\n".join(code)


def warm(context: Context, size: Size, task: str, some: list[providers.Provider]) -> None:
    """Compile each provider, and record for how long and how often the logits are loaded."""
    logits, labels = logits_of(size, context.device)
    logits.requires_grad_(task == "loss step")
    for provider in some:
        start = time.monotonic()
        found: dict[str, Any] = {}
        try:
            code = compiled_code(partial(provider.call, logits, labels))
            print(f"---- {provider.name}, {size}\n{code}")
            found = {"loads": reads_of_inputs(code)}
        except Exception as error:
            found = {"error": f"{type(error).__name__}: {str(error)[:200]}"}
        seconds = time.monotonic() - start
        context.record("compiled by torch", task=task, size=str(size), provider=provider.name, seconds=seconds, **found)


def run(context: Context) -> None:
    sizes, rounds = (TOY_SPEED[1:], 1) if context.rehearsal else (SPEED[:5], 9)
    others = providers.liger()
    if not others:
        context.record("note", text="Liger is not timed, because its wheel was not carried")
    elif context.rehearsal:
        context.record("note", text="Liger was imported; its kernels do not run in the interpreter")
        others = []
    slowest = 0.0
    for size in sizes:
        for task, ours, theirs in (
            ("el2n", providers.el2n_eager()[:1], providers.el2n_compiled()),
            ("loss step", providers.loss_eager()[:1], providers.loss_compiled()),
        ):
            if context.left < 1.3 * slowest + 2:
                context.record("note", text=f"{task} at {size} and what follows: no time left")
                return
            start = time.monotonic()
            torch.compiler.reset()  # a fresh specialisation for each shape
            warm(context, size, task, theirs)
            beside = others if task == "loss step" else []
            time_providers(context, size, task, [*ours, *theirs, *beside], rounds, compiled=True)
            slowest = max(slowest, time.monotonic() - start)
