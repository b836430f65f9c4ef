"""Step 7: the head of a language model without its logits, beside the bare matrix product and PyTorch's ways."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import linear
import measure
import torch
import torch.nn.functional as F

import fastprune
from gpu.cases import HEAD, TOY_HEAD
from gpu.step import Context


def scoring_calls(hidden: torch.Tensor, head: torch.Tensor, labels: torch.Tensor) -> dict[str, Callable[[], Any]]:
    """With all scores, with the loss alone, and the product that every way must make."""
    calls = linear.scoring_calls(hidden, head, labels)
    return {
        "fastprune": calls["fastprune.linear_score"],
        "fastprune, loss alone": partial(fastprune.linear_score, hidden, head, labels, "loss"),
        "bare product": calls["bare product"],
    }


def step_calls(hidden: torch.Tensor, head: torch.Tensor, labels: torch.Tensor) -> dict[str, Callable[[], Any]]:
    """A training step. PyTorch's ways give a loss alone."""
    calls = linear.step_calls(hidden, head, labels, "mean")
    return {"fastprune": calls.pop("fastprune.linear_cross_entropy")} | calls


def worst_error(classes: int, dtype: torch.dtype, device: str) -> float:
    """Of el2n and loss, against `score` of the logits. Small whole numbers make every product exact."""
    generator = torch.Generator(device).manual_seed(0)

    def whole(*shape: int) -> torch.Tensor:
        return torch.randint(-2, 3, shape, generator=generator, device=device).to(dtype)

    hidden, head = whole(64, 16), whole(classes, 16)
    labels = torch.randint(classes, (64,), generator=generator, device=device)
    found = fastprune.linear_score(hidden, head, labels, linear.METRICS)
    expected = fastprune.score(F.linear(hidden, head).double(), labels, linear.METRICS)
    return max(float(((found[n] - expected[n]).abs() / expected[n]).max()) for n in linear.METRICS)


def run(context: Context) -> None:
    cases, rounds = (TOY_HEAD, 1) if context.rehearsal else (HEAD, 7)
    for rows, width, classes, dtype in cases:
        hidden, head, labels = linear.inputs(rows, width, classes, dtype, context.device)
        error = worst_error(classes, hidden.dtype, context.device)
        for task, calls in (
            ("scores", scoring_calls(hidden, head, labels)),
            ("step", step_calls(hidden, head, labels)),
        ):
            times = measure.samples(measure.timed(calls, context.device), rounds, patience=context.left / 8)
            peaks = {name: measure.peak_memory(calls[name], context.device) for name in calls if name in times}
            context.record(
                "head",
                task=task,
                rows=rows,
                hidden=width,
                classes=classes,
                dtype=dtype,
                error=error,
                ms={name: t if isinstance(t, str) else [round(x, 5) for x in t] for name, t in times.items()},
                peak_bytes=peaks,
            )
        if context.device == "cuda":
            torch.cuda.empty_cache()
