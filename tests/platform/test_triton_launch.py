"""What a prepared launch hands to a compiled kernel, with a kernel that only notes it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

triton_launch = pytest.importorskip("fastprune.platform.triton_launch")


class Compiled:
    function, packed_metadata = "function", "metadata"

    def __init__(self) -> None:
        self.started: list[tuple[Any, ...]] = []

    def run(self, *args: Any) -> None:
        self.started.append(args)


class Kernel:
    """The part of a `triton.jit` function that a launch uses."""

    arg_names = ("x", "y", "n", "factor", "BLOCK", "FLAG")

    def __init__(self, compiled: Compiled | None) -> None:
        self.compiled, self.launched = compiled, []

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        def launch(*args: Any, **options: Any) -> Compiled | None:
            self.launched.append((grid, args, options))
            return self.compiled

        return launch


OPTIONS = {"FLAG": True, "BLOCK": 64, "num_warps": 4}


@pytest.fixture
def on_stream_7(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device whose stream is 7, and a Triton whose kernels can be started again."""
    monkeypatch.setattr(triton_launch.triton, "__version__", "3.3.0")
    monkeypatch.setattr(torch._C, "_cuda_getDevice", lambda: 0, raising=False)
    monkeypatch.setattr(torch._C, "_cuda_getCurrentRawStream", lambda device: 7 + device, raising=False)


def test_the_first_launch_compiles_and_later_ones_fill_in_addresses(on_stream_7: None) -> None:
    compiled = Compiled()
    kernel = Kernel(compiled)
    launch = triton_launch.Launch(kernel, (5, 2), (100, 0.5), OPTIONS)
    x, y, z = torch.zeros(3), torch.ones(3), torch.ones(3)
    launch(x, y)
    assert kernel.launched == [((5, 2), (x, y, 100, 0.5), OPTIONS)] and not compiled.started
    launch(x, z)
    launch(y, None)
    assert len(kernel.launched) == 1
    same = (5, 2, 1, 7, "function", "metadata", None, None, None)
    tail = (100, 0.5, 64, True)  # the constants in the order of the parameters
    assert compiled.started == [(*same, x.data_ptr(), z.data_ptr(), *tail), (*same, y.data_ptr(), None, *tail)]


@pytest.mark.parametrize("why", ["the interpreter", "an old Triton", "AMD"])
def test_where_a_compiled_kernel_cannot_be_started_again(
    why: str, on_stream_7: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if why == "an old Triton":
        monkeypatch.setattr(triton_launch.triton, "__version__", "3.2.0")
    if why == "AMD":
        monkeypatch.setattr(torch.version, "hip", "6.4")
    compiled = Compiled()
    kernel = Kernel(None if why == "the interpreter" else compiled)
    launch = triton_launch.Launch(kernel, (1,), (100, 0.5), OPTIONS)
    for _ in range(2):
        launch(torch.zeros(3), None)
    assert len(kernel.launched) == 2 and not compiled.started


def test_plans_forget_when_there_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_launch.Plans, "LIMIT", 3)
    plans = triton_launch.Plans()
    for key in range(4):
        assert plans.keep(key, f"plan {key}") == f"plan {key}"
    assert dict(plans) == {3: "plan 3"}
