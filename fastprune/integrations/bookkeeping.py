"""Puts back what a trainer counts and collects, after a forward pass that does not train."""

from __future__ import annotations

import operator
import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

MANY = 1_000
"""Containers with more entries are copied, but their entries are not visited.  Tensors and arrays with more elements
are not copied."""

NO_DATA = (type, ModuleType, FunctionType, BuiltinFunctionType, MethodType, torch.optim.Optimizer)
Undo = Callable[[], None]


@contextmanager
def left_as_it_was(*owners: Any, apart_from: Sequence[Any] = (), readers: Sequence[Any] = ()) -> Iterator[None]:
    """Put the plain data of ``owners`` back at the end, also after an error.

    The rule: every attribute refers to the object that it referred to before.  If that object is plain data, its
    content is as before, too.  Plain data are

    * dicts, lists, deques and sets, nested to any depth, with everything that they hold,
    * tensors without gradients and NumPy arrays, up to 1,000 elements,
    * random generators of Python, NumPy and torch,
    * the attributes of other objects that an owner holds, one level deep, such as meters and a trainer's state,
    * the attributes of modules without parameters, such as torchmetrics'.

    Models, their parameters, optimizers, functions and larger tensors are neither copied nor looked into.

    Args:
        owners: objects whose data are put back.
        apart_from: objects that are left alone.
        readers: objects of which only random generators are put back.  These are data sets, whose other attributes are
            the data.  Generators of a wrapped data set and of transforms count as theirs, two levels deep.

    Cost: one visit of every entry, twice.  No model and no data are copied.  Containers of more than 1,000 entries are
    copied as they are, 8 bytes an entry, and what they hold is not looked into.
    """
    memory = _Memory([*apart_from, *readers])
    for owner in owners:
        memory.owner(owner)
    for reader in readers:
        memory.generators(reader)
    try:
        yield
    finally:
        memory.put_back()


def nothing(*args: Any, **kwargs: Any) -> None:
    """A stand-in for a method that logs.  `left_as_it_was` puts the method back."""


class _Memory:
    """Remembers how to put back everything that was visited."""

    def __init__(self, apart_from: Sequence[Any]) -> None:
        self._apart_from = apart_from  # kept alive, so that no new object gets the same id()
        self._known = {id(item) for item in apart_from}
        self._undo: list[Undo] = []

    def put_back(self) -> None:
        for undo in self._undo:
            undo()

    def owner(self, owner: Any) -> None:
        """Visit the attributes of ``owner``, and those of the objects that it holds."""
        if self._is_new(owner) and hasattr(owner, "__dict__"):
            self._container(vars(owner), levels=1)

    def generators(self, reader: Any, levels: int = 2) -> None:
        """Visit only the random generators of ``reader`` and of its parts, such as transforms or a wrapped data set."""
        for value in list(getattr(reader, "__dict__", {}).values()):
            for item in value[:MANY] if isinstance(value, (list, tuple)) else [value]:
                undo = _undo_generator(item)
                if undo is not None:
                    self._undo.append(undo)
                elif levels and not isinstance(item, (*NO_DATA, nn.Module)):
                    self.generators(item, levels - 1)

    def _is_new(self, value: Any) -> bool:
        if id(value) in self._known:
            return False
        self._known.add(id(value))
        return True

    def _visit(self, value: Any, levels: int) -> None:
        if isinstance(value, (bool, int, float, complex, str, bytes, type(None))) or not self._is_new(value):
            return
        if isinstance(value, (dict, list, deque, set, tuple)):
            self._container(value, levels)
            return
        undo = _undo_generator(value) or _undo_numbers(value)
        if undo is not None:
            self._undo.append(undo)
        elif isinstance(value, nn.Module):
            if next(value.parameters(), None) is None:
                for module in value.modules():
                    self._container(vars(module), 0)
        elif levels and not isinstance(value, (*NO_DATA, Tensor)) and hasattr(value, "__dict__"):
            self._container(vars(value), levels - 1)

    def _container(self, value: Any, levels: int) -> None:
        if isinstance(value, dict):
            entries = dict(value)
            self._undo.append(lambda: _refill(value, entries))
            inside = list(entries.values())
        else:
            inside = list(value)
            if not isinstance(value, tuple):
                self._undo.append(lambda: _fill(value, inside))
        if len(inside) <= MANY:
            for item in inside:
                self._visit(item, levels)


def _refill(value: dict[Any, Any], entries: dict[Any, Any]) -> None:
    """Change only what differs.  So every attribute of the object exists at every moment."""
    for name in [name for name in value if name not in entries]:
        del value[name]
    for name, entry in entries.items():
        if name not in value or value[name] is not entry:
            value[name] = entry


def _fill(value: Any, entries: list[Any]) -> None:
    if len(value) == len(entries) and all(map(operator.is_, value, entries)):
        return
    value.clear()
    (value.update if isinstance(value, set) else value.extend)(entries)


def _undo_numbers(value: Any) -> Undo | None:
    """How to put back a small tensor or array, whose content may be changed in place.  None for other values."""
    if isinstance(value, np.ndarray) and value.size <= MANY and value.flags.writeable and not value.dtype.hasobject:
        before = value.copy()
        return lambda: value.__setitem__(..., before)
    if type(value) is not Tensor or value.requires_grad or value.layout is not torch.strided or value.is_meta:
        return None
    if value.numel() > MANY or value.is_inference():
        return None
    version, content = value._version, value.clone()

    def put_back() -> None:
        if value._version != version:
            with torch.no_grad():
                value.copy_(content)

    return put_back


def _undo_generator(value: Any) -> Undo | None:
    """How to put back a random generator of Python, NumPy or torch.  None for other values."""
    if isinstance(value, random.Random):
        python = value.getstate()
        return lambda: value.setstate(python)
    if isinstance(value, np.random.RandomState):
        legacy = value.get_state()
        return lambda: value.set_state(legacy)
    if isinstance(value, np.random.Generator):
        bits, numbers = value.bit_generator, value.bit_generator.state
        return lambda: setattr(bits, "state", numbers)
    if isinstance(value, torch.Generator):
        state = value.get_state()

        def put_back() -> None:
            value.set_state(state)

        return put_back
    return None
