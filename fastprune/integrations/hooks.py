"""Overrides a method on one instance.  The object is still freed as soon as its last reference goes."""

from __future__ import annotations

import functools
import inspect
import weakref
from collections.abc import Callable
from typing import Any


def weak(owner: Any, name: str) -> Callable[..., Any]:
    """The method ``owner.name``, which does not hold ``owner``.

    A reference cycle would leave the Trainer to the garbage collector.  It would close the queues of persistent data
    loader workers before it stops the workers, and that takes five seconds a worker.
    """
    method = getattr(owner, name)
    if getattr(method, "__self__", None) is not owner:
        return method
    reference = weakref.WeakMethod(method)

    def call(*args: Any, **kwargs: Any) -> Any:
        target = reference()
        assert target is not None
        return target(*args, **kwargs)

    call.__name__, call.__doc__ = name, method.__doc__
    call.__signature__ = inspect.signature(method)  # type: ignore[attr-defined]
    return call


class Overrides:
    """Overridden methods of instances, which can be put back."""

    def __init__(self) -> None:
        self._put_back: list[Callable[[], None]] = []

    def add(self, owner: Any, name: str, hook: Callable[..., Any]) -> None:
        """Call ``hook(original, ...)`` in place of ``owner.name(...)``, on this instance only."""
        own, reference = vars(owner).get(name), weakref.ref(owner)
        override(owner, name, hook)
        ours = vars(owner)[name]

        def put_back() -> None:
            target = reference()
            if target is None or vars(target).get(name) is not ours:
                return
            if own is None:
                delattr(target, name)
            else:
                setattr(target, name, own)

        self._put_back.append(put_back)

    def remove(self) -> None:
        """Undo the overrides, the newest first.  A method that someone has overridden again since then stays."""
        while self._put_back:
            self._put_back.pop()()


def override(owner: Any, name: str, hook: Callable[..., Any]) -> None:
    """Call ``hook(original, ...)`` in place of ``owner.name(...)``, on this instance only."""
    original = weak(owner, name)

    @functools.wraps(original)
    def overriding(*args: Any, **kwargs: Any) -> Any:
        return hook(original, *args, **kwargs)

    setattr(owner, name, overriding)
