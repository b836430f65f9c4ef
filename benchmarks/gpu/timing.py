"""Times providers side by side on logits of one size, and records every single time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import measure
import torch
from providers import Provider

from gpu.cases import Size
from gpu.step import Context

# How many times a task must move each logit. A loss step reads the logits twice and writes their gradient.
USEFUL = {"el2n": 1, "loss step": 3}


def logits_of(size: Size, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Random logits as a model's, and labels."""
    generator = torch.Generator(device).manual_seed(0)
    logits = torch.empty(size.rows, size.classes, dtype=size.torch_dtype, device=device)
    logits.normal_(0, 3, generator=generator)
    return logits, torch.randint(size.classes, (size.rows,), device=device, generator=generator)


def time_providers(
    context: Context, size: Size, task: str, providers: Sequence[Provider], rounds: int, **more: Any
) -> None:
    """A record of kind "speed": the milliseconds of every round of each provider, in turns."""
    logits, labels = logits_of(size, context.device)
    logits.requires_grad_(task == "loss step")

    calls: dict[str, Callable[[], Any]] = {p.name: partial(p.call, logits, labels) for p in providers}
    times = measure.samples(measure.timed(calls, context.device), rounds, patience=context.left / 8)
    context.record(
        "speed",
        task=task,
        rows=size.rows,
        classes=size.classes,
        dtype=size.dtype,
        useful_bytes=USEFUL[task] * size.logits * size.itemsize,
        moves={p.name: p.bytes(size.itemsize) * size.logits for p in providers},
        ms={name: t if isinstance(t, str) else [round(x, 5) for x in t] for name, t in times.items()},
        **more,
    )
    if context.device == "cuda":
        torch.cuda.empty_cache()
