"""The Triton kernel: in the interpreter, compiled ahead of time, and on a GPU where there is one."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import row_score_cases as cases
import torch

pytest.importorskip("triton")

TRITON = tuple(int(part) for part in version("triton").split(".")[:2])
HERE = Path(__file__).parent

TARGETS = {
    "sm80": (("cuda", 80, 32), "cubin"),
    "sm90": (("cuda", 90, 32), "cubin"),
    "sm100": (("cuda", 100, 32), "cubin"),
    "gfx942": (("hip", "gfx942", 64), "hsaco"),
}


def test_interpreted() -> None:
    """Runs test_triton_interpreted.py, where the assertions are, in a process of its own."""
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", HERE / "test_triton_interpreted.py"],
        env=os.environ | {"TRITON_INTERPRET": "1"},
        cwd=HERE.parents[1],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert " passed" in run.stdout and "skipped" not in run.stdout, run.stdout


@pytest.mark.parametrize("dtype", ["fp16", "bf16", "fp32", "fp64"])
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.skipif(TRITON < (3, 3), reason="compiling ahead of time has another interface before Triton 3.3")
def test_compiles_ahead_of_time(target: str, dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from fastprune.scores import triton_kernel

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))  # or an older build would be found
    kernel = triton_kernel.row_scores_kernel
    config = triton_kernel.launch_config(32_000, torch.float64 if dtype == "fp64" else torch.float32)
    constants = {"EL2N": True, "LOSS": True, "DOUBLE": dtype == "fp64", "BLOCK": config["BLOCK"]}
    pointers = {"logits": f"*{dtype}", "labels": "*i64", "el2n": "*fp32", "loss": "*fp32"}
    signature = {
        name: pointers.get(name, "constexpr" if name in constants else "i64" if "stride" in name else "i32")
        for name in kernel.arg_names
    }
    (backend, arch, warp), binary = TARGETS[target]
    compiled = triton.compile(
        ASTSource(kernel, signature=signature, constexprs=constants),
        target=GPUTarget(backend, arch, warp),
        options={"num_warps": config["num_warps"], "enable_fp_fusion": True},
    )
    assert len(compiled.asm[binary]) > 1000
    # One exponential a logit: a second one would halve the speed on 16-bit logits.
    if backend == "cuda":
        per_thread = config["BLOCK"] // (32 * config["num_warps"])
        assert per_thread <= compiled.asm["ptx"].count("ex2.approx") <= per_thread + 3


gpu = pytest.mark.gpu
on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def poisoned(
    logits: torch.Tensor, labels: torch.Tensor, metrics: tuple[str, ...], ignore_index: int, shift: int
) -> dict[str, torch.Tensor]:
    from fastprune.scores import triton_kernel

    out = {metric: torch.full(labels.shape, -torch.inf, device=logits.device) for metric in metrics}
    triton_kernel.launch(logits, labels, out, ignore_index, shift)
    return out


@gpu
@on_gpu
@pytest.mark.parametrize("classes", (*cases.CLASSES, 128_256, 50_257))
@pytest.mark.parametrize("dtype", cases.DTYPES)
def test_accuracy_on_gpu(classes: int, dtype: torch.dtype) -> None:
    cases.check_accuracy(poisoned, classes, dtype, "cuda")


@gpu
@on_gpu
@pytest.mark.parametrize("dtype", cases.DTYPES)
def test_strides_and_shift_on_gpu(dtype: torch.dtype) -> None:
    cases.check_strides_and_shift(poisoned, dtype, "cuda")


@gpu
@on_gpu
@pytest.mark.parametrize("classes", [3, 16, 5000, 9000])
@pytest.mark.parametrize("dtype", cases.DTYPES)
def test_special_rows_on_gpu(classes: int, dtype: torch.dtype) -> None:
    cases.check_special_rows(poisoned, dtype, classes, "cuda")


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


@gpu
@on_gpu
def test_public_functions_do_not_synchronise_on_gpu() -> None:
    import fastprune

    logits = torch.randn(8, 16, 100, device="cuda", requires_grad=True)
    labels = torch.randint(100, (8, 16), device="cuda")
    labels[0] = -100
    fastprune.el2n(logits, labels, shift=1)  # compiles
    torch.cuda.set_sync_debug_mode("error")
    try:
        scores = fastprune.score(logits, labels, shift=1, reduce="norm")
        loss, el2n = fastprune.cross_entropy(logits, labels, shift=1, return_scores="el2n")
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert scores["el2n"].device.type == "cuda" and not scores["el2n"].requires_grad
    torch.testing.assert_close(scores["el2n"], el2n.double().square().sum(-1).sqrt().float())
    assert loss.requires_grad
