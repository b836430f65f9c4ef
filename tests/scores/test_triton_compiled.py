"""The Triton kernels compiled ahead of time for real GPUs, with what their launchers pass, and disassembled.

No GPU is needed: Triton brings the assembler and the disassembler. Held here is what speed rests on and
no result shows: nothing spilled, logits loaded 16 bytes at a time and once, one exponential a logit, and
how many instructions the main loop issues a logit. For 16-bit logits at full bandwidth an H200 has 12
issue slots a logit (132 multiprocessors x 4 x 32 lanes x 1.75 GHz x 2 bytes / 4.8 TB/s) and a B200 9.

A kernel takes about a second to compile. So each pair of parameters is compiled, and all combinations in `make soak`.
"""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton")
import triton
from helpers.ahead_of_time import AMD, CUDA, SUPPORTED, Recorder, compile_launch, disassemble
from helpers.combinations import pairwise, some

from fastprune.scores import (
    tile_sums,
    triton_gradient,
    triton_long_rows,
    triton_rows,
    triton_short_rows,
    triton_tile_sums,
)
from fastprune.scores.definition import METRICS
from fastprune.scores.options import LossOptions

if not SUPPORTED:
    pytest.skip("compiling ahead of time has another interface before Triton 3.3", allow_module_level=True)

HALVES = (torch.bfloat16, torch.float16)


@pytest.fixture
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Recorder]:
    """Recorders in place of all kernels; compiled code goes to a cache of its own, or an older build would be found."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "cache"))
    arch = getattr(request.node, "callspec", None) and request.node.callspec.params.get("arch", 90)
    monkeypatch.setattr(triton_long_rows, "_is_blackwell", lambda device: arch == 100)
    recorders = {}
    for module in (triton_short_rows, triton_long_rows, triton_gradient, triton_tile_sums):
        for name, value in vars(module).copy().items():
            if name.endswith("_kernel") and isinstance(value, triton.JITFunction):
                recorders[name] = Recorder(value)
                monkeypatch.setattr(module, name, recorders[name])
    return recorders


def most_registers(entropy: bool, arch: int) -> int:
    """So that 7 programs of 128 threads run on a multiprocessor, or 6 with the entropy; see `long_row_limit`."""
    if triton_long_rows._TRITON == (3, 8) and arch == 100:
        return 92 if entropy else 76
    return 80 if entropy else 72


def rows_of(classes: int, dtype: torch.dtype, shape: tuple[int, ...] = (2, 3)) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.zeros(*shape, classes, dtype=dtype), torch.zeros(shape, dtype=torch.int64)


# One whose rows all start at a multiple of 16 bytes, and one whose do not.
LENGTHS = (128_256, 50_257)
LONG = [
    (metrics, classes, dtype, arch)
    for metrics in (("el2n",), ("el2n", "loss"), METRICS)
    for dtype in (torch.bfloat16, torch.float16, torch.float32)
    for number, arch in enumerate(CUDA)
    for classes in some(LENGTHS, [LENGTHS[(number + (dtype is torch.float32)) % 2]])
    # Half precision differs in how a logit is unpacked alone.
    if dtype is not torch.float16 or arch == 90
    if metrics != ("el2n", "loss") or dtype is torch.bfloat16
]


@pytest.mark.parametrize(("metrics", "classes", "dtype", "arch"), LONG)
def test_long_rows(
    metrics: tuple[str, ...],
    classes: int,
    dtype: torch.dtype,
    arch: int,
    kernels: dict[str, Recorder],
    tmp_path: Path,
) -> None:
    triton_rows.row_scores(*rows_of(classes, dtype), metrics, -100, 1)
    kernel = disassemble(compile_launch(kernels["long_rows_kernel"], CUDA[arch]), tmp_path)
    entropy = "entropy" in metrics
    assert kernel.spilled == 0
    assert kernel.registers <= most_registers(entropy, arch)

    # A thread's logits in one turn of the loop: 16 of 16 bits, 8 of 32.
    logits = 16 if dtype in HALVES else 8
    per_load = 16 // dtype.itemsize
    loads = sum("LDG.E.128" in line for line in kernel.loop)
    assert loads == logits // per_load
    assert sum("MUFU.EX2" in line for line in kernel.loop) == logits
    # The first turn's loads and those of a second reading; the entropy's reading of its own.
    assert kernel.operations["LDG.E.128"] == 3 * loads + (8 // per_load if entropy else 0)
    # Else only the label and its logit.
    assert kernel.count("LDG") - kernel.operations["LDG.E.128"] <= 2
    # The scaling's and the closed form's, guarded twice on sm_80.
    assert logits <= kernel.operations["MUFU.EX2"] - (8 if entropy else 0) <= logits + 4

    issued = len(kernel.loop) / logits
    if dtype in HALVES:
        assert issued <= (10.0 if entropy else 7.75)
    else:
        assert issued <= (11.5 if entropy else 10.0)


@pytest.mark.parametrize(
    ("arch", "dtype"),
    some(
        list(itertools.product(CUDA, (torch.bfloat16, torch.float32))),
        [(80, torch.bfloat16), (90, torch.float32), (100, torch.bfloat16)],
    ),
)
def test_merge(arch: int, dtype: torch.dtype, kernels: dict[str, Recorder], tmp_path: Path) -> None:
    triton_rows.row_scores(*rows_of(128_256, dtype), METRICS, -100, 0)
    kernel = disassemble(compile_launch(kernels["merge_kernel"], CUDA[arch]), tmp_path)
    assert kernel.spilled == 0
    assert kernel.registers <= 40


@pytest.mark.parametrize(
    ("metrics", "dtype", "arch"),
    some(
        list(itertools.product([("el2n",), METRICS], [torch.bfloat16, torch.float32], CUDA)),
        [(("el2n",), torch.bfloat16, 90), (METRICS, torch.float32, 80), (METRICS, torch.bfloat16, 100)],
    ),
)
def test_tiles(
    metrics: tuple[str, ...], dtype: torch.dtype, arch: int, kernels: dict[str, Recorder], tmp_path: Path
) -> None:
    """A tile's loop is that of long rows, and its gradient is loaded and stored 16 bytes at a time."""
    tile, labels = torch.zeros(6, 2048, dtype=dtype), torch.zeros(6, dtype=torch.int64)
    sums, wanted = tile_sums.empty_sums(6, tile.device), tile_sums.Wanted(metrics, True)
    triton_tile_sums.add_tile(sums, tile, 4096, labels, wanted, begins=False)
    adder = disassemble(compile_launch(kernels["add_tile_kernel"], CUDA[arch]), tmp_path)
    logits = 16 if dtype in HALVES else 8
    assert adder.spilled == 0
    assert sum("MUFU.EX2" in line for line in adder.loop) == logits
    assert sum("LDG.E.128" in line for line in adder.loop) == logits * dtype.itemsize // 16

    closed = triton_tile_sums.close_sums(sums, 32_000, wanted)
    closer = disassemble(compile_launch(kernels["close_sums_kernel"], CUDA[arch]), tmp_path)
    assert closer.spilled == 0

    assert closed.state is not None
    row_grad = torch.ones(6)
    triton_tile_sums.gradient_in_place(tile, 4096, labels, 32_000, closed.state, row_grad, 0.0, 1.0, 0.0)
    gradient = disassemble(compile_launch(kernels["tile_gradient_kernel"], CUDA[arch]), tmp_path)
    assert gradient.spilled == 0
    assert gradient.operations["LDG.E.128"] == gradient.operations["STG.E.128"] == 8 * dtype.itemsize // 16


@pytest.mark.parametrize(
    ("classes", "dtype", "arch"), pairwise([1000, 150], [torch.bfloat16, torch.float32], list(CUDA))
)
def test_short_rows(classes: int, dtype: torch.dtype, arch: int, kernels: dict[str, Recorder], tmp_path: Path) -> None:
    triton_rows.row_scores(*rows_of(classes, dtype), ("el2n",), -100, 0)
    kernel = disassemble(compile_launch(kernels["short_rows_kernel"], CUDA[arch]), tmp_path)
    assert kernel.spilled == 0
    assert 32 <= kernel.operations["MUFU.EX2"] <= 32 + 8
    if classes * dtype.itemsize % 16 == 0:
        assert kernel.operations["LDG.E.128"] == 32 * dtype.itemsize // 16
        # The label and its logit; Triton 3.8 loads the label twice.
        assert kernel.count("LDG") - kernel.operations["LDG.E.128"] <= (3 if triton_long_rows._TRITON == (3, 8) else 2)


@pytest.mark.parametrize(("classes", "most"), [(2, 110), (7, 52), (33, 52), (50, 36), (150, 48)])
@pytest.mark.parametrize("arch", CUDA)
def test_rows_of_few_classes(
    classes: int, most: float, arch: int, kernels: dict[str, Recorder], tmp_path: Path
) -> None:
    """The instructions of the whole kernel for a logit.

    Where lanes share a row they are two to four times as many. Triton 3.8 and 3.9 have lanes share it all the same.
    """
    if triton_long_rows._TRITON >= (3, 7):
        pytest.skip("Triton 3.7 and newer spread a row of any length over the lanes of a warp")
    triton_rows.row_scores(*rows_of(classes, torch.bfloat16), ("el2n",), -100, 0)
    kernel = disassemble(compile_launch(kernels["short_rows_kernel"], CUDA[arch]), tmp_path)
    launched = kernels["short_rows_kernel"].launches[-1][1]
    threads = 32 * launched["num_warps"]
    assert kernel.spilled == 0
    assert kernel.operations.total() * threads / (launched["ROWS"] * classes) <= most


LOSSES = [
    (torch.bfloat16, False, 0.0),
    (torch.bfloat16, True, 0.0),
    (torch.bfloat16, False, 0.1),
    (torch.float32, False, 0.1),
]


@pytest.mark.parametrize(("loss", "classes", "arch"), pairwise(LOSSES, LENGTHS, list(CUDA)))
def test_loss_forward(
    loss: tuple[torch.dtype, bool, float], classes: int, arch: int, kernels: dict[str, Recorder], tmp_path: Path
) -> None:
    dtype, weighted, smoothing = loss
    weight = torch.ones(classes) if weighted else None
    triton_rows.loss_forward(*rows_of(classes, dtype), weight, LossOptions(("el2n",), -100, smoothing, 1))
    kernel = disassemble(compile_launch(kernels["long_rows_kernel"], CUDA[arch]), tmp_path)
    assert kernel.spilled == 0
    assert kernel.registers <= (112 if smoothing else most_registers(False, arch))
    logits = 16 if dtype in HALVES else 8
    loads = logits * dtype.itemsize // 16
    assert sum("LDG.E.128" in line for line in kernel.loop) == loads
    assert kernel.operations["LDG.E.128"] == 3 * loads
    assert kernel.count("LDG") - kernel.operations["LDG.E.128"] <= 3
    assert len(kernel.loop) / logits <= (10.75 if smoothing else 7.75) + (3.0 if dtype is torch.float32 else 0)


@pytest.mark.parametrize(("dtype", "classes", "arch"), pairwise([*HALVES, torch.float32], LENGTHS, list(CUDA)))
def test_loss_backward(
    dtype: torch.dtype, classes: int, arch: int, kernels: dict[str, Recorder], tmp_path: Path
) -> None:
    logits, labels = rows_of(classes, dtype)
    state = torch.zeros(3 * labels.numel() + 1)
    options = LossOptions(label_smoothing=0.1, shift=1)
    triton_gradient.loss_backward(torch.zeros(labels.shape), state, logits, labels, None, options)
    kernel = disassemble(compile_launch(kernels["long_gradient_kernel"], CUDA[arch]), tmp_path)
    assert kernel.spilled == 0
    vectors = 32 * dtype.itemsize // 16
    assert kernel.operations["LDG.E.128"] == kernel.operations["STG.E.128"] == vectors
    # The label, the loss' gradient, the reduction's factor and three statistics; the ends of a row that share their
    # 16 bytes.
    assert kernel.count("LDG") - vectors == 6
    assert kernel.count("STG") - vectors == 32
    assert kernel.operations["MUFU.EX2"] == 32


@pytest.mark.parametrize(
    ("arch", "classes"),
    some(
        list(itertools.product(CUDA, (5, 1000, 50_257, 128_256))),
        [(80, 1000), (80, 128_256), (90, 5), (90, 50_257), (100, 1000), (100, 50_257)],
    ),
)
def test_double_precision(arch: int, classes: int, kernels: dict[str, Recorder]) -> None:
    triton_rows.row_scores(*rows_of(classes, torch.float64), METRICS, -100, 0)
    for recorder in kernels.values():
        if recorder.launches:
            assert compile_launch(recorder, CUDA[arch]).asm["cubin"]


@pytest.mark.parametrize(
    ("classes", "weighted"),
    some(
        list(itertools.product((1, 3, 3000, 70_000), (False, True))),
        [(1, True), (3, False), (3000, False), (70_000, True)],
    ),
)
def test_arguments_that_are_one(classes: int, weighted: bool, kernels: dict[str, Recorder]) -> None:
    """Triton makes a constant of each, which does not have a tensor's methods."""
    logits, labels = rows_of(classes, torch.bfloat16, (1, 1))
    weight = torch.ones(classes) if weighted else None
    options = LossOptions(METRICS, 1, 1.0, 1)
    _, state, _ = triton_rows.loss_forward(logits, labels, weight, options)
    triton_gradient.loss_backward(torch.zeros(1, 1), state, logits, labels, weight, options)
    for recorder in kernels.values():
        if recorder.launches:
            assert compile_launch(recorder, CUDA[90]).asm["cubin"]


@pytest.mark.parametrize(
    ("dtype", "classes"),
    some(
        list(itertools.product((torch.bfloat16, torch.float32), (1000, *LENGTHS))),
        [(torch.bfloat16, 1000), (torch.bfloat16, 50_257), (torch.float32, 1000), (torch.float32, 128_256)],
    ),
)
def test_amd(dtype: torch.dtype, classes: int, kernels: dict[str, Recorder], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "hip", "6.4")
    logits, labels = rows_of(classes, dtype)
    triton_rows.row_scores(logits, labels, METRICS, -100, 0)
    _, state, _ = triton_rows.loss_forward(logits, labels, None, LossOptions(("el2n",)))
    triton_gradient.loss_backward(torch.zeros(labels.shape), state, logits, labels, None, LossOptions())
    for name, recorder in kernels.items():
        if not recorder.launches:
            continue
        assert recorder.launches[-1][1]["num_warps"] * AMD.warp_size <= 1024
        assembly = compile_launch(recorder, AMD).asm["amdgcn"]
        for spill in ("vgpr_spill_count", "sgpr_spill_count", "private_segment_fixed_size"):
            assert re.search(rf"\.{spill}: +(\d+)", assembly)[1] == "0", (name, spill)
        wide = len(re.findall(r"(?:global|buffer)_load_dwordx4", assembly))
        exponentials = assembly.count("v_exp_f32")
        if name == "long_rows_kernel":
            logits_a_turn = 16 if dtype is torch.bfloat16 else 8
            assert wide == 3 * logits_a_turn * dtype.itemsize // 16
            assert logits_a_turn <= exponentials <= logits_a_turn + 4
        elif name == "long_gradient_kernel":
            assert wide == 32 * dtype.itemsize // 16
            assert exponentials == 32
