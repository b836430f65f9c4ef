"""The inputs of a model's last layers, for the closed form of GraNd."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


class LastLayers:
    """Finds the linear layers that make the logits, and remembers what went into them.

    The first batch is watched at every ``nn.Linear``; a head's layer is the last one called whose output has the
    shape of its logits.  From then on only those are watched.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._found: dict[str, nn.Linear] | None = None
        self._calls: list[tuple[nn.Linear, Tensor, Tensor]] = []

    @contextmanager
    def watch(self, wanted: bool = True) -> Iterator[None]:
        """Run the model's forward pass inside; unless ``wanted`` nothing is done."""
        if not wanted:
            yield
            return
        watched = self._found.values() if self._found is not None else self.model.modules()
        handles = [m.register_forward_hook(self._remember) for m in set(watched) if isinstance(m, nn.Linear)]
        self._calls.clear()
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def features(self, logits: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, bool]]:
        """(input, whether the layer has a bias) by head; a head without a linear last layer is missing."""
        found = {}
        for name, z in logits.items():
            calls = [call for call in self._calls if call[2].shape == z.shape]
            if calls:
                found[name] = calls[-1]
        if self._found is None:
            self._found = {name: layer for name, (layer, _, _) in found.items()}
        self._calls.clear()
        return {name: (h, layer.bias is not None) for name, (layer, h, _) in found.items()}

    def _remember(self, layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        assert isinstance(layer, nn.Linear)
        self._calls.append((layer, inputs[0].detach(), output.detach()))
