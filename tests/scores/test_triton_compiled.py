"""The Triton kernels compiled ahead of time for real GPUs, with what their launchers pass, and disassembled.

No GPU is needed: Triton brings the assembler and the disassembler. Held here is what speed rests on and
no result shows: nothing spilled, logits loaded 16 bytes at a time and once, one exponential a logit, and
how many instructions the main loop issues a logit. For 16-bit logits at full bandwidth an H200 has 12
issue slots a logit (132 multiprocessors x 4 x 32 lanes x 1.75 GHz x 2 bytes / 4.8 TB/s) and a B200 9.
"""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("triton")
if tuple(int(part) for part in version("triton").split(".")[:2]) < (3, 3):
    pytest.skip("compiling ahead of time has another interface before Triton 3.3", allow_module_level=True)

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from fastprune.scores import triton_gradient, triton_rows
from fastprune.scores.definition import METRICS

TOOLS = Path(triton.__file__).parent / "backends/nvidia/bin"
CUDA = {80: GPUTarget("cuda", 80, 32), 90: GPUTarget("cuda", 90, 32), 100: GPUTarget("cuda", 100, 32)}
AMD = GPUTarget("hip", "gfx942", 64)
TYPES = {
    torch.float16: "fp16",
    torch.bfloat16: "bf16",
    torch.float32: "fp32",
    torch.float64: "fp64",
    torch.int64: "i64",
}
OPTIONS = ("num_warps", "maxnreg", "enable_fp_fusion")
HALVES = (torch.bfloat16, torch.float16)


class Recorder:
    """Stands in for a kernel and keeps what it is launched with."""

    def __init__(self, kernel: triton.JITFunction) -> None:
        self.kernel = kernel
        self.launches: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        return lambda *args, **kwargs: self.launches.append((args, kwargs))


@dataclass
class Compiled:
    """One kernel's machine code and what the assembler reports of it."""

    code: str
    registers: int
    spilled: int
    operations: Counter[str]
    loop: list[str]

    def count(self, start: str) -> int:
        return sum(n for name, n in self.operations.items() if name.startswith(start))


def compile_launch(recorder: Recorder, target: GPUTarget) -> Any:
    """Compiles what was launched, specialised as Triton's launcher does: on 1 and on multiples of 16."""
    args, kwargs = recorder.launches[-1]
    kernel = recorder.kernel
    signature, constants, attributes = {}, {}, {}
    for i, param in enumerate(kernel.params):
        value = args[i] if i < len(args) else kwargs[param.name]
        aligned = not param.do_not_specialize_on_alignment
        if param.is_constexpr:
            signature[param.name], constants[param.name] = "constexpr", value
        elif isinstance(value, torch.Tensor):
            signature[param.name] = "*" + TYPES[value.dtype]
            if aligned and value.data_ptr() % 16 == 0:
                attributes[(i,)] = [["tt.divisibility", 16]]
        elif isinstance(value, float):
            signature[param.name] = "fp32"
        elif value == 1 and not param.do_not_specialize:
            signature[param.name], constants[param.name] = "constexpr", 1
        else:
            signature[param.name] = "i32" if -(2**31) <= value < 2**31 else "i64"
            if aligned and value % 16 == 0:
                attributes[(i,)] = [["tt.divisibility", 16]]
    source = ASTSource(kernel, signature=signature, constexprs=constants, attrs=attributes)
    options = {name: kwargs[name] for name in OPTIONS if name in kwargs}
    return triton.compile(source, target=target, options=options)


def disassemble(compiled: Any, tmp_path: Path) -> Compiled:
    cubin = tmp_path / "kernel.cubin"
    cubin.write_bytes(compiled.asm["cubin"])
    code = _run(TOOLS / "nvdisasm", "-c", cubin)
    used = re.search(r"REG:(\d+) STACK:(\d+) .*LOCAL:(\d+)", _run(TOOLS / "cuobjdump", "-res-usage", cubin))
    lines = []
    for line in code.splitlines():
        if match := re.match(r"(\.L\w+):|\s*/\*[0-9a-f]+\*/\s+(.*?);", line):
            lines.append(match[1] or match[2])
    operations = Counter(_operation(line) for line in lines if line[0] != ".")
    local = sum(n for name, n in operations.items() if name.startswith(("LDL", "STL")))
    return Compiled(code, int(used[1]), int(used[2]) + int(used[3]) + local, operations, _main_loop(lines))


def _run(*command: Any) -> str:
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, check=True).stdout


def _operation(line: str) -> str:
    return re.sub(r"^@!?U?P\w+ ", "", line).split()[0]


def _main_loop(lines: list[str]) -> list[str]:
    """What the innermost loop with the most exponentials issues when it takes every branch ahead.

    Those branches go around blocks with the label or an end in them, a few of a segment's 64.
    """
    place = {line: i for i, line in enumerate(lines) if line[0] == "."}
    best: list[str] = []
    for end, line in enumerate(lines):
        target = re.search(r"BRA.*`\((\.L\w+)\)", line)
        start = place.get(target[1], end) if target else end
        if start >= end:
            continue
        taken, i = [], start
        while i <= end:
            if lines[i][0] != ".":
                taken.append(lines[i])
            ahead = re.search(r"\bBRA.*`\((\.L\w+)\)", lines[i])
            i = place[ahead[1]] if ahead and i < place.get(ahead[1], -1) <= end else i + 1
        exponentials = [sum("MUFU.EX2" in line for line in loop) for loop in (taken, best)]
        if exponentials[0] > exponentials[1] or (exponentials[0] == exponentials[1] and len(taken) < len(best)):
            best = taken
    return best


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Recorder]:
    """Recorders in place of all kernels; compiled code goes to a cache of its own, or an older build would be found."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "cache"))
    recorders = {}
    for module in (triton_rows, triton_gradient):
        for name, value in vars(module).copy().items():
            if name.endswith("_kernel") and isinstance(value, triton.JITFunction):
                recorders[name] = Recorder(value)
                monkeypatch.setattr(module, name, recorders[name])
    return recorders


def rows_of(classes: int, dtype: torch.dtype, shape: tuple[int, ...] = (2, 3)) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.zeros(*shape, classes, dtype=dtype), torch.zeros(shape, dtype=torch.int64)


LONG = [
    (metrics, classes, dtype, arch)
    for metrics in (("el2n",), ("el2n", "loss"), METRICS)
    for classes in (128_256, 50_257)
    for dtype in (torch.bfloat16, torch.float16, torch.float32)
    for arch in CUDA
    # Half precision differs in how a logit is unpacked alone.
    if dtype is not torch.float16 or (arch == 90 and classes == 128_256)
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
    assert kernel.registers <= (80 if entropy else 72)

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


@pytest.mark.parametrize("arch", CUDA)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_merge(arch: int, dtype: torch.dtype, kernels: dict[str, Recorder], tmp_path: Path) -> None:
    triton_rows.row_scores(*rows_of(128_256, dtype), METRICS, -100, 0)
    kernel = disassemble(compile_launch(kernels["merge_kernel"], CUDA[arch]), tmp_path)
    assert kernel.spilled == 0
    assert kernel.registers <= 40


@pytest.mark.parametrize("classes", [1000, 150])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("arch", CUDA)
def test_short_rows(classes: int, dtype: torch.dtype, arch: int, kernels: dict[str, Recorder], tmp_path: Path) -> None:
    triton_rows.row_scores(*rows_of(classes, dtype), ("el2n",), -100, 0)
    kernel = disassemble(compile_launch(kernels["short_rows_kernel"], CUDA[arch]), tmp_path)
    assert kernel.spilled == 0
    assert 32 <= kernel.operations["MUFU.EX2"] <= 32 + 8
    if classes * dtype.itemsize % 16 == 0:
        assert kernel.operations["LDG.E.128"] == 32 * dtype.itemsize // 16
        assert kernel.count("LDG") - kernel.operations["LDG.E.128"] <= 2


@pytest.mark.parametrize(
    ("dtype", "weighted", "smoothing"),
    [
        (torch.bfloat16, False, 0.0),
        (torch.bfloat16, True, 0.0),
        (torch.bfloat16, False, 0.1),
        (torch.float32, False, 0.1),
    ],
)
@pytest.mark.parametrize("classes", [128_256, 50_257])
@pytest.mark.parametrize("arch", CUDA)
def test_loss_forward(
    dtype: torch.dtype,
    weighted: bool,
    smoothing: float,
    classes: int,
    arch: int,
    kernels: dict[str, Recorder],
    tmp_path: Path,
) -> None:
    weight = torch.ones(classes) if weighted else None
    triton_rows.loss_forward(*rows_of(classes, dtype), weight, ("el2n",), -100, smoothing, 1)
    kernel = disassemble(compile_launch(kernels["long_rows_kernel"], CUDA[arch]), tmp_path)
    assert kernel.spilled == 0
    assert kernel.registers <= (112 if smoothing else 72)
    logits = 16 if dtype in HALVES else 8
    loads = logits * dtype.itemsize // 16
    assert sum("LDG.E.128" in line for line in kernel.loop) == loads
    assert kernel.operations["LDG.E.128"] == 3 * loads
    assert kernel.count("LDG") - kernel.operations["LDG.E.128"] <= 3
    assert len(kernel.loop) / logits <= (10.75 if smoothing else 7.75) + (3.0 if dtype is torch.float32 else 0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("classes", [128_256, 50_257])
@pytest.mark.parametrize("arch", CUDA)
def test_loss_backward(
    dtype: torch.dtype, classes: int, arch: int, kernels: dict[str, Recorder], tmp_path: Path
) -> None:
    logits, labels = rows_of(classes, dtype)
    triton_gradient.loss_backward(
        torch.zeros(labels.shape), logits, labels, None, torch.zeros(3, *labels.shape), -100, 0.1, 1
    )
    kernel = disassemble(compile_launch(kernels["long_gradient_kernel"], CUDA[arch]), tmp_path)
    assert kernel.spilled == 0
    vectors = 32 * dtype.itemsize // 16
    assert kernel.operations["LDG.E.128"] == kernel.operations["STG.E.128"] == vectors
    # The label, its row's gradient and three statistics; the ends of a row that share their 16 bytes.
    assert kernel.count("LDG") - vectors == 5
    assert kernel.count("STG") - vectors == 32
    assert kernel.operations["MUFU.EX2"] == 32


@pytest.mark.parametrize("arch", CUDA)
@pytest.mark.parametrize("classes", [5, 1000, 50_257, 128_256])
def test_double_precision(arch: int, classes: int, kernels: dict[str, Recorder]) -> None:
    triton_rows.row_scores(*rows_of(classes, torch.float64), METRICS, -100, 0)
    for recorder in kernels.values():
        if recorder.launches:
            assert compile_launch(recorder, CUDA[arch]).asm["cubin"]


@pytest.mark.parametrize("classes", [1, 3, 3000, 70_000])
def test_arguments_that_are_one(classes: int, kernels: dict[str, Recorder]) -> None:
    """Triton makes a constant of each, which does not have a tensor's methods."""
    logits, labels = rows_of(classes, torch.bfloat16, (1, 1))
    for weight in (None, torch.ones(classes)):
        _, stats, _ = triton_rows.loss_forward(logits, labels, weight, METRICS, 1, 1.0, 1)
        triton_gradient.loss_backward(torch.zeros(1, 1), logits, labels, weight, stats, 1, 1.0, 1)
        for recorder in kernels.values():
            if recorder.launches:
                assert compile_launch(recorder, CUDA[90]).asm["cubin"]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("classes", [1000, 50_257, 128_256])
def test_amd(dtype: torch.dtype, classes: int, kernels: dict[str, Recorder], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "hip", "6.4")
    logits, labels = rows_of(classes, dtype)
    triton_rows.row_scores(logits, labels, METRICS, -100, 0)
    _, stats, _ = triton_rows.loss_forward(logits, labels, None, ("el2n",), -100, 0.0, 0)
    triton_gradient.loss_backward(torch.zeros(labels.shape), logits, labels, None, stats, -100, 0.0, 0)
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
