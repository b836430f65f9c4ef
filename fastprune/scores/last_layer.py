"""The inputs of a model's last layers, for the closed form of GraNd."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


class LastLayers:
    """Finds the linear layers that compute the logits, and remembers their inputs.

    During the first batch every ``nn.Linear`` is watched. The last layer of a head is the last one whose output equals
    the head's logits. After that only these layers are watched. A head has no such layer if its logits are computed
    from a layer's output by more than a cast. The closed form does not hold there.

    Args:
        model: The model that is called inside `watch`.
        wanted: Whether the inputs are needed. If not, no layer is watched and none is found.

    Example:
        >>> import torch
        >>> import fastprune
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
        >>> layers = LastLayers(model)
        >>> with layers.watch():
        ...     logits = model(torch.randn(5, 4))
        >>> features, bias = layers.features({"": logits})[""]
        >>> features.shape
        torch.Size([5, 8])
        >>> scores = fastprune.grand(logits, torch.tensor([0, 1, 2, 0, 1]), features, bias=bias)
    """

    def __init__(self, model: nn.Module, *, wanted: bool = True) -> None:
        self.model = model
        self._found: dict[str, nn.Linear] | None = None if wanted else {}
        self._calls: list[tuple[nn.Linear, Tensor, Tensor]] = []

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Watch the layers. Run the model's forward pass inside."""
        watched = self._found.values() if self._found is not None else self.model.modules()
        layers = {module for module in watched if isinstance(module, nn.Linear)}
        handles = [layer.register_forward_hook(self._remember, with_kwargs=True) for layer in layers]
        self._calls.clear()
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def features(self, logits: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, bool]]:
        """(input, whether the layer has a bias) by head. A head without a linear last layer is missing."""
        calls, self._calls = self._calls, []
        if self._found is None:
            made = {name: [layer for layer, _, output in calls if _is(output, z)] for name, z in logits.items()}
            self._found = {name: layers[-1] for name, layers in made.items() if layers}
        inputs = {layer: h for layer, h, _ in calls}
        return {name: (inputs[layer], layer.bias is not None) for name, layer in self._found.items() if layer in inputs}

    def _remember(self, layer: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], output: Tensor) -> None:
        assert isinstance(layer, nn.Linear)
        given = inputs[0] if inputs else named["input"]
        self._calls.append((layer, given.detach(), output.detach()))


def _is(output: Tensor, logits: Tensor) -> bool:
    """Whether ``logits`` equal ``output`` or a cast of it. Waits for the device."""
    if output.shape != logits.shape:
        return False
    return output.data_ptr() == logits.data_ptr() or output.to(logits.dtype).allclose(logits, 0, 0, equal_nan=True)
