"""A call's results with made-up numbers. No machine measured any of them."""

from __future__ import annotations

from typing import Any

from gpu import predict
from gpu.cases import Size

KERNELS = "0123456789ab"


def record(kind: str, **fields: Any) -> dict[str, Any]:
    return {"kind": kind, "time": 0.0, **fields}


def speed(task: str, size: Size, compiled: bool = False, **ms: list[float] | str) -> dict[str, Any]:
    """Providers' names are written with _ for a space."""
    useful = (1 if task == "el2n" else 3) * size.logits * size.itemsize
    times = {name.replace("_", " "): t for name, t in ms.items()}
    where = {"rows": size.rows, "classes": size.classes, "dtype": size.dtype}
    return record("speed", step="speed", task=task, useful_bytes=useful, ms=times, compiled=compiled, **where)


LARGE = Size(8_192, 128_256, "bf16")


def call(device: str = "cuda", kernels: str = KERNELS) -> list[dict[str, Any]]:
    """A call on a made-up H100 in which everything but one bar holds."""
    return [
        record("call", device=device, kernels=kernels, commit="made-up", expected={"machine": 12.0, "speed": 40.0}),
        record("machine", name="made-up H100", python="3.12.0", versions={"torch": "2.11.0", "triton": "3.6.0"}),
        record("bandwidth", copy_gb_per_s=3_000.0, read_gb_per_s=3_100.0, smallest_launch_ms=0.002),
        record("step", step="machine", status="ok", why="", seconds=9.0),
        record("accuracy", step="accuracy", case="right", ok=True, scores={}),
        record("accuracy", step="accuracy", case="64 x 7", ok=False, scores={"el2n": "NaN"}, loss=0.0, gradient=9.0),
        speed("el2n", LARGE, fastprune=[0.75, 0.70, 5.0], fastprune_all_six=[0.8], textbook_eager=[15.0]),
        speed("loss step", LARGE, fastprune_with_el2n=[2.2], fastprune=[2.18], torch=[5.0]),
        speed("el2n", LARGE, True, fastprune=[0.75], **{"compile(lean)": [0.9], "compile(textbook)": "out of memory"}),
        record(
            "selection",
            scores="uniform",
            n=10_000_000,
            keep=0.5,
            right=True,
            ms={"fastprune": [0.1], "torch.topk": [0.3]},
        ),
        record("training", without_ms=10.0, with_ms=10.1, added_us=100.0, own_us=80.0, pairs=220),
        record("waiting", none=True, why=""),
    ]


def predictions() -> dict[str, Any]:
    """Two lines for the same size, the second with a time that was missed by far."""
    kernel = predict.Kernel("long_rows_kernel", 10.0, 1.0, LARGE.logits)
    lines = [predict.predict("el2n", "fastprune", LARGE, 1, [kernel])]
    lines.append(lines[0] | {"task": "loss step", "provider": "fastprune with el2n", "ms": {"H100": 1.0, "H200": 1.0}})
    return {"kernels": KERNELS, "triton": "3.6.0", "arch": 90, "clock_ghz": 1.755, "predictions": lines}
