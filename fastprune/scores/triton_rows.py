"""Row scores and the cross-entropy forward on the GPU: Triton kernels that read each row of logits once.

    logits, labels -> sums over the classes other than the label -> scores, losses, state
                      (`triton_math` defines them)                  (`triton_results`)

Short rows: one program takes several (`triton_short_rows`). Long rows: a program takes one segment of a row
(`triton_long_rows`). Here the kernels get their arguments. Rows that are not scored are not read, but all their outputs
are written.

Bytes: rows * C * itemsize read, 8 a row and segment for the label, 4 a row and output written.

Accuracy. fp64 logits are subtracted from the reference in fp64, and everything else is fp32. Rounding the exponent of a
term costs at most 2^-19 ln 2 = 1.3e-6, and the hardware exponential 2^-22. The sums add C / 1024 roundings of numbers
of one sign. Relative error <= 4e-6 for every metric, el2n from 1.41 down to 1e-12.

Every kernel is compiled without automatic contraction to fma (`tl.fma` stands where one is wanted). So a sum has the
same bits wherever it is inlined.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastprune.platform.gpu import on_device_of
from fastprune.platform.triton_launch import Launch, Plans
from fastprune.scores import triton_long_rows, triton_short_rows
from fastprune.scores.layout import as_rows, layout_key, unit_class_stride
from fastprune.scores.options import LossOptions
from fastprune.scores.triton_results import bits_of, in_order
from fastprune.scores.triton_tiles import is_short


def row_scores(
    logits: Tensor, labels: Tensor, metrics: tuple[str, ...], ignore_index: int, shift: int
) -> dict[str, Tensor]:
    """Scores of every row by the Triton kernels, with the contract of `definition.row_scores`.

    Args:
        logits: (..., C) float16, bfloat16, float32 or float64 on a GPU, any strides.
        labels: (...) int64 on the same GPU, any strides. Labels outside [0, C) score NaN. To raise would need a
            synchronisation.
        metrics: Names of METRICS.
        ignore_index: Rows with this label score 0.
        shift: Row (b, t) is scored against label (b, t + shift).

    Returns:
        One contiguous fp32 tensor of labels.shape for each metric, relative error <= 4e-6. Every row is written. The
        tensors of several metrics share one piece of memory.

    Cost: one read of the logits and no synchronisation. The logits are copied if their class dimension is not
    contiguous, or if their leading dimensions do not collapse to one. Short rows whose size is a multiple of 16 bytes
    are also copied if they do not start at one.
    """
    scores = _empty_scores(labels, metrics)
    if scores is not None:
        launch(logits, labels, scores, LossOptions(metrics, ignore_index, shift=shift))
    return _named_rows(scores, metrics)


def launch(logits: Tensor, labels: Tensor, scores: Tensor, options: LossOptions) -> None:
    """Runs the kernels into `scores`.

    Args:
        logits: As in `row_scores`.
        labels: As in `row_scores`.
        scores: (metrics, *labels.shape) contiguous fp32. Receives a line for each metric, as `in_order` sorts them.
        options: The metrics, ignore_index and shift.
    """
    _launch(logits, labels, None, scores, None, None, options)


def loss_forward(
    logits: Tensor, labels: Tensor, weight: Tensor | None, options: LossOptions
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """The unreduced cross-entropy and row scores from one read of the logits.

    Args:
        logits: As in `row_scores`, without float64.
        labels: As in `row_scores`.
        weight: (C,) contiguous fp32 on the same GPU, or None for ones.
        options: All but the reduction, which `triton_reduction` makes.

    Returns:
        losses: fp32 labels.shape, as F.cross_entropy(reduction="none"). With hard = -log p_y and smoothing s that is
            (1 - s) w_y hard + (s / C) sum_i w_i (-log p_i). 0 for ignored rows, NaN where `row_scores` gives NaN.
        state: fp32 (3 * rows + 1,), for `triton_gradient.loss_backward`. First comes M of each row, its largest logit.
            Then 1 / Z of each row, with Z = sum_i e^(z_i - M), and 1 - p_y of each row. All are 0 for ignored rows.
            Last comes a 1, which a reduction replaces by its own factor.
        scores: As `row_scores` returns them.

    Cost: that of `row_scores`. Smoothing with a weight also reads the weight once for each row, from the L2 cache.
    """
    losses = _row_values(labels)
    state = torch.empty(3 * labels.numel() + 1, dtype=torch.float32, device=logits.device)
    if labels.numel() == 0:
        state.fill_(1.0)
    scores = _empty_scores(labels, options.metrics)
    _launch(logits, labels, weight, scores, losses, state, options)
    return losses, state, _named_rows(scores, options.metrics)


def _row_values(labels: Tensor) -> Tensor:
    return torch.empty_like(labels, dtype=torch.float32, memory_format=torch.contiguous_format)


def _empty_scores(labels: Tensor, metrics: tuple[str, ...]) -> Tensor | None:
    """The memory for the scores of each row. A single metric gets no dimension, because a view costs a microsecond."""
    lines = len(in_order(metrics))
    if lines < 2:
        return _row_values(labels) if lines else None
    return torch.empty((lines, *labels.shape), dtype=torch.float32, device=labels.device)


def _named_rows(scores: Tensor | None, metrics: tuple[str, ...]) -> dict[str, Tensor]:
    """What `_empty_scores` gave, by metric in the order in which they were asked for."""
    lines = in_order(metrics)
    if scores is None:
        return {}
    if len(lines) == 1:
        return {lines[0]: scores}
    by_line = dict(zip(lines, scores.unbind(), strict=True))
    return {metric: by_line[metric] for metric in metrics}


class _Plan(NamedTuple):
    """The launches for logits and labels of one layout."""

    launches: tuple[Launch, ...]
    long: bool  # rows are long, and their kernels take `partial` as one more pointer
    partial: tuple[int, ...] | None  # its shape, or None if it is None
    weight_sum: bool  # the kernels need it


# The key is the layout of logits and labels, and the options. Tensors that need a copy have no plan here.
_PLANS = Plans()


def _launch(
    logits: Tensor,
    labels: Tensor,
    weight: Tensor | None,
    scores: Tensor | None,
    losses: Tensor | None,
    state: Tensor | None,
    options: LossOptions,
) -> None:
    if labels.numel() == 0:
        return
    key = (layout_key(logits, labels, weight), options, losses is None)
    plan = _PLANS.get(key)
    z, y = logits, labels
    if plan is None:  # a new layout, or a tensor that needs a copy: its plan is not kept
        z, y = _readable(*as_rows(unit_class_stride(logits), labels.resolve_neg()))
        plan = _planned(z, y, weight is not None, options)
        if logits.is_cuda and z.data_ptr() == logits.data_ptr() and y.data_ptr() == labels.data_ptr():
            _PLANS.keep(key, plan)
    with on_device_of(logits):
        weight_sum = weight.sum() if weight is not None and plan.weight_sum else None
        pointers: tuple[Tensor | None, ...] = (z, y, weight, weight_sum, scores, losses, state)
        if plan.long:
            partial = None
            if plan.partial is not None:
                dtype = triton_long_rows.sums_dtype(z.dtype)
                partial = torch.empty(plan.partial, dtype=dtype, device=z.device)
            pointers = (*pointers, partial)
        for start in plan.launches:
            start(*pointers)


def _planned(z: Tensor, y: Tensor, weighted: bool, options: LossOptions) -> _Plan:
    smooth = options.label_smoothing > 0
    strides = (*z.stride()[:2], *y.stride())
    smoothing = options.label_smoothing if smooth else None
    numbers = (y.numel(), y.shape[1], z.shape[2], *strides, options.shift, options.ignore_index, smoothing)
    constants: dict[str, Any] = {"METRICS": bits_of(options.metrics), "enable_fp_fusion": False}
    if is_short(z.shape[2]):
        return _Plan((triton_short_rows.planned(z, numbers, constants),), False, None, weighted and smooth)
    launches, partial = triton_long_rows.planned(z, numbers, constants, smooth)
    return _Plan(launches, True, partial, weighted and smooth)


def _readable(z: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """(B, T, C) and (B, T), with logits copied if short rows could start at 16 bytes and do not."""
    size = z.shape[-1] * z.element_size()
    if is_short(z.shape[-1]) and size % 16 == 0 and not _starts_aligned(z):
        z = z.clone(memory_format=torch.contiguous_format)
    return z, y


def _starts_aligned(z: Tensor) -> bool:
    """Whether every row of (B, T, C) starts at a multiple of 16 bytes."""
    steps = [stride * z.element_size() for size, stride in zip(z.shape[:2], z.stride()[:2], strict=True) if size > 1]
    return all(step % 16 == 0 for step in (z.data_ptr(), *steps))
