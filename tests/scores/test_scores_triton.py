"""The Triton kernels in the interpreter, and on a GPU where there is one.

What compiles to what is in test_triton_compiled.py. A GPU machine may have nothing but torch, triton, pytest
and hypothesis, so nothing else is imported here.
"""

from __future__ import annotations

from pathlib import Path

import plateau_cases
import pytest
import row_score_cases as cases
import torch
from helpers.interpreter import run_interpreted
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("triton")

import triton_cases
from triton_cases import poisoned

from fastprune.scores import triton_gradient, triton_rows
from fastprune.scores.options import LossOptions

HERE = Path(__file__).parent


def test_interpreted() -> None:
    """Runs these three, where the assertions are, in a process of their own."""
    names = ("test_triton_interpreted.py", "test_triton_plateaus.py", "test_triton_tiles.py")
    run_interpreted(*(HERE / name for name in names))


gpu = pytest.mark.gpu
on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
LOSS_DTYPES = [torch.float32, torch.float16, torch.bfloat16]


@gpu
@on_gpu
@pytest.mark.parametrize("classes", (*cases.CLASSES, 2048, 2049, 128_256, 50_257))
@pytest.mark.parametrize("dtype", cases.DTYPES)
def test_accuracy_on_gpu(classes: int, dtype: torch.dtype) -> None:
    cases.check_accuracy(poisoned, classes, dtype, "cuda")


@gpu
@on_gpu
@pytest.mark.parametrize("classes", [7, 1000, 5000, 150_000])
@pytest.mark.parametrize("dtype", LOSS_DTYPES)
def test_entropy_where_the_model_is_sure_and_wrong_on_gpu(classes: int, dtype: torch.dtype) -> None:
    triton_cases.check_sure_and_wrong(classes, dtype, "cuda")


@gpu
@on_gpu
@pytest.mark.parametrize("dtype", cases.DTYPES)
def test_strides_and_shift_on_gpu(dtype: torch.dtype) -> None:
    cases.check_strides_and_shift(poisoned, dtype, "cuda")


@gpu
@on_gpu
@pytest.mark.parametrize("classes", [3, 16, 2040, 5000, 9001, 140_000])
@pytest.mark.parametrize("dtype", cases.DTYPES)
def test_special_rows_on_gpu(classes: int, dtype: torch.dtype) -> None:
    cases.check_special_rows(poisoned, dtype, classes, "cuda")
    if dtype in (torch.bfloat16, torch.float32):
        triton_cases.check_finfo_min(classes, dtype, "cuda")
    triton_cases.check_labels_out_of_range(classes, "cuda")


@gpu
@on_gpu
@pytest.mark.parametrize("classes", [151, 152, 2049, 4096, 50_257, 128_256, 140_001])
@pytest.mark.parametrize("dtype", LOSS_DTYPES)
def test_bits_depend_on_the_row_alone_on_gpu(classes: int, dtype: torch.dtype) -> None:
    """Neither on its address, nor on the batch, nor on what else is asked for."""
    triton_cases.check_every_misalignment(classes, dtype, "cuda")
    logits, labels = (x.cuda() for x in cases.rows(classes, dtype))
    whole = poisoned(logits, labels, cases.METRICS, -100, 0)
    part = poisoned(logits[3:5], labels[3:5], cases.METRICS, -100, 0)
    for metric in cases.METRICS:
        assert torch.equal(part[metric], whole[metric][3:5])
        assert torch.equal(poisoned(logits, labels, (metric,), -100, 0)[metric], whole[metric])


@gpu
@on_gpu
@pytest.mark.parametrize("dtype", LOSS_DTYPES)
@pytest.mark.parametrize("classes", [2, 7, 50, 1000, 4096, 6000, 70_000])
def test_launches_again_on_gpu(classes: int, dtype: torch.dtype) -> None:
    triton_cases.check_launches_again(classes, dtype, "cuda")


@gpu
@on_gpu
@pytest.mark.parametrize("rows", [1, 2, 600, 5000, 1_000_003])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_reduction_on_gpu(rows: int, weighted: bool, reduction: str) -> None:
    for _ in range(2):
        triton_cases.check_reduction(rows, reduction, weighted, "cuda")


@gpu
@on_gpu
@pytest.mark.parametrize("dtype", LOSS_DTYPES)
@pytest.mark.parametrize("classes", [1, 3, 150, 1000, 2049, 6000, 50_257, 128_256])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_and_gradient_on_gpu(classes: int, dtype: torch.dtype, weighted: bool, smoothing: float) -> None:
    triton_cases.check_loss(classes, dtype, weighted, smoothing, "cuda")


@gpu
@on_gpu
@pytest.mark.parametrize("classes", [20, 2500, 70_001])
def test_loss_layouts_and_special_rows_on_gpu(classes: int) -> None:
    triton_cases.check_loss_layouts(classes, torch.bfloat16, "cuda")
    for smoothing in (0.0, 0.1):
        triton_cases.check_loss_special_rows(classes, torch.float32, smoothing, "cuda")


@gpu
@on_gpu
@pytest.mark.parametrize("mask", triton_cases.MASKS)
def test_masked_segments_on_gpu(mask: float) -> None:
    triton_cases.check_masked_segment(mask, "cuda")


@gpu
@on_gpu
@pytest.mark.parametrize("dtype", cases.DTYPES)
@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_plateaus_on_gpu(dtype: torch.dtype, data: st.DataObject) -> None:
    logits, labels = data.draw(plateau_cases.rows(dtype))
    triton_cases.check_scores(logits, labels, "cuda")
    if dtype != torch.float64:
        smoothing = data.draw(st.sampled_from([0.0, 0.1, 1.0]))
        triton_cases.check_loss_of(logits, labels, data.draw(st.booleans()), smoothing, "cuda")


@gpu
@on_gpu
def test_capture_in_a_cuda_graph_on_gpu() -> None:
    """No synchronisation, and no memory but what the graph keeps, also where segments are merged."""
    logits, labels = (x.cuda() for x in cases.rows(128_256, torch.bfloat16))
    row_grads = torch.ones(len(labels), device="cuda")

    def step() -> tuple[torch.Tensor, ...]:
        scores = triton_rows.row_scores(logits, labels, ("el2n",), -100, 0)
        losses, state, _ = triton_rows.loss_forward(logits, labels, None, LossOptions())
        grad = triton_gradient.loss_backward(row_grads, state, logits, labels, None, LossOptions())
        return scores["el2n"], losses, grad

    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        step()  # compiles
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    logits.copy_(logits.flip(0))
    labels.copy_(labels.flip(0))
    graph.replay()
    for replayed, fresh in zip(captured, step(), strict=True):
        assert torch.equal(replayed, fresh)


@gpu
@on_gpu
def test_offsets_beyond_32_bits_on_gpu() -> None:
    rows, classes = 70_000, 32_000  # 2.24e9 logits, 4.5 GB
    logits = torch.zeros(rows, classes, dtype=torch.bfloat16, device="cuda")
    labels = torch.arange(rows, device="cuda") % classes
    logits[torch.arange(rows), labels] = (torch.arange(rows, device="cuda") % 13).to(torch.bfloat16)
    tail = slice(rows - 50, rows)
    scores = poisoned(logits, labels, cases.METRICS, -100, 0)
    expected = cases.definition.row_scores(logits[tail].cpu(), labels[tail].cpu(), cases.METRICS, -100, 0)
    for metric in cases.METRICS:
        assert cases.worst_error(scores[metric][tail], expected[metric]) <= cases.BOUND
    losses, state, _ = triton_rows.loss_forward(logits, labels, None, LossOptions())
    assert torch.equal(losses[tail], scores["loss"][tail])
    grad = triton_gradient.loss_backward(torch.ones_like(losses), state, logits, labels, None, LossOptions())
    z = logits[tail].double().requires_grad_()
    torch.nn.functional.cross_entropy(z, labels[tail], reduction="sum").backward()
    torch.testing.assert_close(grad[tail].double(), z.grad, rtol=2.0**-8, atol=1e-12)


@gpu
@on_gpu
def test_public_functions_do_not_synchronise_on_gpu() -> None:
    import fastprune

    logits = torch.randn(8, 16, 100, device="cuda", requires_grad=True)
    labels = torch.randint(100, (8, 16), device="cuda")
    labels[0] = -100

    def step() -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        scores = fastprune.score(logits, labels, shift=1, reduce="norm")
        loss, el2n = fastprune.cross_entropy(logits, labels, shift=1, return_scores="el2n")
        loss.backward()
        return scores, el2n

    step()  # compiles
    torch.cuda.set_sync_debug_mode("error")
    try:
        scores, el2n = step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert scores["el2n"].device.type == "cuda" and not scores["el2n"].requires_grad
    torch.testing.assert_close(scores["el2n"], el2n.double().square().sum(-1).sqrt().float())
    assert logits.grad is not None


@gpu
@on_gpu
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("compiled", [False, True])
def test_public_loss_on_gpu(reduction: str, weighted: bool, compiled: bool) -> None:
    import fastprune

    generator = torch.Generator("cuda").manual_seed(0)
    logits = torch.randn(6, 10, 3000, device="cuda", generator=generator)
    labels = torch.randint(3000, (6, 10), device="cuda", generator=generator)
    labels[1, 3:] = -100
    weight = torch.rand(3000, device="cuda", generator=generator) + 0.1 if weighted else None
    loss_fn = torch.compile(fastprune.cross_entropy, fullgraph=True) if compiled else fastprune.cross_entropy
    ours, theirs = logits.clone().requires_grad_(), logits.double().requires_grad_()
    loss = loss_fn(ours, labels, weight=weight, reduction=reduction, label_smoothing=0.1)
    expected = torch.nn.functional.cross_entropy(
        theirs.view(60, 3000),
        labels.view(60),
        weight=None if weight is None else weight.double(),
        reduction=reduction,
        label_smoothing=0.1,
    )
    torch.testing.assert_close(loss.double().view(-1), expected.view(-1), rtol=1e-5, atol=0)
    loss.sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(ours.grad.double(), theirs.grad, rtol=1e-4, atol=1e-7)


@gpu
@on_gpu
def test_labels_out_of_range_on_gpu() -> None:
    import fastprune

    logits, labels = torch.randn(4, 50, device="cuda"), torch.tensor([0, 50, -1, -100], device="cuda")
    assert fastprune.el2n(logits, labels).isnan().tolist() == [False, True, True, False]
    with pytest.raises(IndexError, match=r"labels\[1\] is 50, but logits have 50 classes"):
        fastprune.el2n(logits, labels, validate_labels=True)
