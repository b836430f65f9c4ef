"""Compiles what a launcher of Triton kernels would launch, for real GPUs, and disassembles it; no GPU is needed.

Triton brings the assembler and the disassembler. Before Triton 3.3 compiling ahead of time has another interface.
"""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

SUPPORTED = tuple(int(part) for part in version("triton").split(".")[:2]) >= (3, 3)
TOOLS = Path(triton.__file__).parent / "backends/nvidia/bin"
CUDA = {80: GPUTarget("cuda", 80, 32), 90: GPUTarget("cuda", 90, 32), 100: GPUTarget("cuda", 100, 32)}
AMD = GPUTarget("hip", "gfx942", 64)
TYPES = {
    torch.float16: "fp16",
    torch.bfloat16: "bf16",
    torch.float32: "fp32",
    torch.float64: "fp64",
    torch.int8: "i8",
    torch.int16: "i16",
    torch.int32: "i32",
    torch.int64: "i64",
    torch.uint64: "u64",
}
OPTIONS = ("num_warps", "maxnreg", "enable_fp_fusion")


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
        if param.is_constexpr or value is None:
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
