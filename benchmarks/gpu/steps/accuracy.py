"""Step 3: scores, loss and gradient of about 25 kinds of rows against double precision, masks included."""

from __future__ import annotations

from typing import Any

import row_score_cases
import torch
import torch.nn.functional as F
from torch import Tensor

import fastprune
from fastprune.scores import definition
from gpu.cases import ACCURACY, TOY_ACCURACY, Case
from gpu.step import Context

BOUND = row_score_cases.BOUND
ULP = {torch.float32: 2.0**-23, torch.float16: 2.0**-10, torch.bfloat16: 2.0**-7}


def rows_of(case: Case, device: str) -> tuple[Tensor, Tensor]:
    """Logits that lead and trail in turn, from sure and right to sure and wrong, then masked; and their labels."""
    rows, classes = case.size.rows, case.size.classes
    generator = torch.Generator(device).manual_seed(0)
    logits = 2 * torch.randn(rows, classes, generator=generator, device=device)
    labels = torch.randint(classes // 2, (rows,), generator=generator, device=device)
    lead = torch.linspace(-20, 25, rows, device=device)
    logits[torch.arange(rows, device=device), labels] = logits.amax(1) + lead
    if case.mask is not None:
        mask(logits, labels, case.mask, case.where)
    return logits.to(case.size.torch_dtype), labels


def mask(logits: Tensor, labels: Tensor, value: float, where: str) -> None:
    """Put the mask's value where `Case` says, in place."""
    classes = logits.shape[1]
    if where == "all":
        logits.fill_(value)
    elif where == "label":
        kept = logits.gather(1, labels[:, None])
        logits.fill_(value).scatter_(1, labels[:, None], kept)
    elif where == "head":
        logits[:, : classes // 2] = value
        labels += classes // 2
    else:
        logits[:, 65_536 if classes > 65_536 else classes // 2 :] = value


def score_errors(logits: Tensor, labels: Tensor, metrics: tuple[str, ...]) -> dict[str, Any]:
    """The worst relative error by metric; a text where NaN, infinities or zeros are in other places."""
    scores = fastprune.score(logits, labels, metrics)
    expected = definition.row_scores(logits, labels, metrics, -100, 0)
    return {metric: error_of(scores[metric], expected[metric]) for metric in metrics}


def error_of(actual: Tensor, expected: Tensor) -> float | str:
    try:
        return row_score_cases.worst_error(actual, expected)
    except AssertionError:
        return "NaN, infinities or zeros differ"


def loss_errors(logits: Tensor, labels: Tensor) -> tuple[float | str, float]:
    """(relative error of the losses, error of the gradient in units of what is allowed).

    Allowed of an entry are one rounding to the logits' dtype, 2e-6, and the rounding of fp32's exponent.
    """
    z = logits.detach().requires_grad_()
    with torch.autocast(logits.device.type, torch.bfloat16):  # in which the losses stay fp32
        losses = fastprune.cross_entropy(z, labels, reduction="none")
    (grad,) = torch.autograd.grad(losses.sum(), z)
    expected_loss = definition.row_scores(logits, labels, ("loss",), -100, 0)["loss"]
    exact = logits.double().requires_grad_()
    (expected,) = torch.autograd.grad(F.cross_entropy(exact, labels, reduction="sum"), exact)
    below = (logits.double().amax(1, keepdim=True) - logits.double()).clamp(max=200)
    smallest = torch.finfo(logits.dtype).smallest_normal
    allowed = (2e-6 + 2.0**-22 * below + ULP[logits.dtype]) * expected.abs() + 1e-14 + smallest
    # A NaN must not pass as a small error.
    worst = ((grad.double() - expected).abs() / allowed).nan_to_num(nan=1e9).max().item()
    return error_of(losses.detach(), expected_loss), worst


def check(case: Case, device: str) -> dict[str, Any]:
    """The errors of a case and whether all are within their bounds."""
    logits, labels = rows_of(case, device)
    six = score_errors(logits, labels, definition.METRICS)
    found: dict[str, Any] = {"scores": six, "el2n alone": score_errors(logits, labels, ("el2n",))["el2n"]}
    errors = [*six.values(), found["el2n alone"]]
    if case.size.dtype != "fp64":  # whose loss goes through PyTorch
        found["loss"], found["gradient"] = loss_errors(logits, labels)
        errors.append(found["loss"])
    ok = all(isinstance(error, float) and error <= BOUND for error in errors) and found.get("gradient", 0.0) <= 1.0
    return found | {"ok": bool(ok)}


def run(context: Context) -> None:
    for case in TOY_ACCURACY if context.rehearsal else ACCURACY:
        try:
            found = check(case, context.device)
        except Exception as error:  # one case must not cost the others
            found = {"ok": False, "error": f"{type(error).__name__}: {str(error)[:300]}"}
        context.record("accuracy", case=str(case), **found)
