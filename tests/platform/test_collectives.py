"""Which device the collectives of a backend use."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist

from fastprune.platform import collectives

pytestmark = pytest.mark.skipif(not dist.is_available(), reason="torch without torch.distributed")


@pytest.mark.parametrize(
    ("backend", "scores", "expected"),
    [
        ("cpu:gloo", "cpu", "cpu"),
        ("cpu:gloo", "cuda:1", "cpu"),
        ("cpu:gloo,cuda:gloo", "cuda:1", "cpu"),
        ("cpu:gloo,cuda:nccl", "cpu", "cpu"),
        ("cpu:gloo,cuda:nccl", "cuda:1", "cpu"),
        ("cuda:nccl", "cuda:1", "cuda:1"),
        ("cuda:nccl", "cpu", "cuda"),
    ],
)
def test_the_device_of_an_exchange(monkeypatch: pytest.MonkeyPatch, backend: str, scores: str, expected: str) -> None:
    """One that the backend works on, and never one kind on a rank with scores and another on a rank without."""
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_backend_config", lambda group: backend)
    assert collectives.collective_device(torch.device(scores)) == torch.device(expected)


@pytest.mark.parametrize(
    ("backend", "supported", "control"),
    [("cuda:nccl", ["cuda"], "cuda"), ("cpu:gloo,cuda:nccl", ["cpu", "cuda"], "cpu"), ("cpu:gloo", ["cpu"], "cpu")],
)
def test_devices_of_a_backend(
    monkeypatch: pytest.MonkeyPatch, backend: str, supported: list[str], control: str
) -> None:
    """A CPU tensor in a group for CUDA must be reported over CUDA, the only way to the other ranks."""
    group = object()
    assert collectives.device_types() is None
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_backend_config", lambda of: backend)
    assert collectives.device_types(group) == supported
    assert collectives.collective_device(torch.device("cpu"), group) == torch.device(control)
    assert collectives.collective_device(torch.device("cuda:1"), group).type == control


def test_one_process_without_a_group() -> None:
    assert collectives.joined(None, "score") is None
    with pytest.raises(ValueError, match="torch.distributed is not initialised"):
        collectives.joined(object(), "score")
    own = torch.arange(6.0).reshape(2, 3)
    assert torch.equal(collectives.gather_alike(own), own.unsqueeze(0))
