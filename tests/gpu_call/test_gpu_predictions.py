"""The arithmetic of the predictions, and what the launchers launch."""

from __future__ import annotations

import pytest

pytest.importorskip("triton")

from importlib.metadata import version

from gpu import predict
from gpu.cases import Size
from gpu.predict import Kernel


def test_memory_time_is_bytes_over_bandwidth() -> None:
    assert predict.memory_ms(3e9, 3_000) == pytest.approx(1.0)


def test_issue_time_counts_lanes_of_all_schedulers() -> None:
    slots = 132 * 4 * 32 * 1.755e9  # instructions of one thread, in a second
    assert predict.issue_ms([Kernel("k", 10, 0, slots / 10)]) == pytest.approx(1_000.0)
    # An exponential takes eight places, but only where exponentials are what is waited for.
    assert predict.issue_ms([Kernel("k", 10, 1, slots / 10)]) == pytest.approx(1_000.0)
    assert predict.issue_ms([Kernel("k", 10, 2, slots / 10)]) == pytest.approx(1_600.0)


def test_bytes_are_the_logits_and_what_rows_bring_with_them() -> None:
    size = Size(100, 1_000, "bf16")
    assert predict.bytes_moved("el2n", size, 1) == (200_000 + 1_200, 0)
    assert predict.bytes_moved("el2n", size, 6) == (200_000 + 3_200, 0)
    assert predict.bytes_moved("loss step", size, 1) == (200_000 + 2_800, 400_000 + 2_400)


def test_each_pass_takes_the_larger_of_its_two_times() -> None:
    size = Size(1_000, 1_000_000, "bf16")
    slots = 132 * 4 * 32 * 1.755e6  # of a millisecond
    forward, backward = Kernel("long_rows_kernel", 1, 0, 5 * slots), Kernel("long_gradient_kernel", 1, 0, 0.1 * slots)
    line = predict.predict("loss step", "fastprune with el2n", size, 1, [forward, backward])
    # 2 GB read in 0.67 ms, which 5 ms of instructions hide; then 4 GB in 1.33 ms, which hide 0.1 ms.
    assert line["ms"]["H100"] == pytest.approx(5 + 4 / 3, rel=1e-4)
    assert line["bound"]["H100"] == "issue" and line["issue_ms"] == pytest.approx(5.1)
    assert line["instructions_per_logit"] == pytest.approx(5.1 * slots / 1e9, abs=0.01)


TRITON = tuple(int(part) for part in version("triton").split(".")[:2])
compiles = pytest.mark.skipif(TRITON < (3, 6), reason="the GPU machine has Triton 3.6; older ones launch in other ways")


@compiles
def test_the_launchers_are_called_as_they_are() -> None:
    from gpu import variants

    from fastprune.scores import triton_long_rows

    kernel = triton_long_rows.long_rows_kernel
    with variants.noted(90) as found:
        variants.score_rows(Size(64, 128_256, "bf16"), ("el2n",))
        variants.loss_step(Size(64, 50_257, "bf16"), ("el2n",))
    assert [v["kernel"] for v in found] == [
        "long_rows_kernel",
        "merge_kernel",
        "long_rows_kernel",
        "sum_kernel",
        "long_gradient_kernel",
    ]
    assert found[0]["grid"] == [64, 2] and found[2]["grid"] == [64, 1]
    assert found[0]["signature"]["logits"] == "*bf16"
    assert triton_long_rows.long_rows_kernel is kernel and "_do_compile" not in vars(kernel)


@compiles
def test_every_step_with_kernels_has_its_variants() -> None:
    from gpu import variants

    found = variants.variants(90, toy=True)
    assert {step for v in found for step in v["steps"]} == {"accuracy", "speed", "training", "selection", "sweeps"}
    without_steps = [str({key: value for key, value in v.items() if key != "steps"}) for v in found]
    assert len(set(without_steps)) == len(without_steps)


@compiles
def test_a_kernel_is_counted_from_its_machine_code(tmp_path, monkeypatch) -> None:
    """The long rows' loop is counted for every logit, so twice the classes are nearly twice the instructions."""
    from gpu import variants

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "cache"))
    kernels = []
    for classes in (16_384, 32_768):
        size = Size(64, classes, "bf16")
        kernels += predict.kernels_of(lambda size=size: variants.score_rows(size, ("el2n",)), size, tmp_path)
    short, long = kernels
    assert short.threads == long.threads == 64 * 128
    assert long.exponentials - short.exponentials == pytest.approx(16_384 / 128)
    assert 6 < (long.instructions - short.instructions) / (16_384 / 128) < 12
