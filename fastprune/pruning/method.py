"""What a pruning method has to say, and the registry of those that exist.

A method is a small frozen object: which metrics it reads, where its scores come from, and how it picks k
examples from the history.  It holds no state of a run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

from fastprune.pruning.history import History
from fastprune.pruning.smoothing import Smoothing
from fastprune.selection import Selection

Source = Literal["pass", "once", "step", "none"]
"""Where a method's scores come from.

``pass``  a scoring pass over the whole data set before every cycle (the paper's procedure);
``once``  one scoring pass, after the warm-up (static pruning);
``step``  the training steps themselves, through ``observe``: no extra forward pass;
``none``  nowhere: the method looks at no score.
"""


class Method(Protocol):
    """The contract between a pruning method and `DynamicPruner`."""

    @property
    def name(self) -> str:
        """The name it is registered and reported under."""
        ...

    @property
    def reads(self) -> tuple[str, ...]:
        """The metrics that ``observe`` or ``rescore`` must supply."""
        ...

    @property
    def source(self) -> Source:
        """Where the scores come from."""
        ...

    @property
    def smoothing(self) -> Smoothing:
        """How an example's scores over time become one."""
        ...

    @property
    def keeps_all(self) -> bool:
        """True for a baseline that never drops an example, whatever the keep_fraction."""
        ...

    def select(self, history: History, k: int, *, cycle: int, seed: int) -> Selection:
        """Pick k of ``history.n`` examples for ``cycle`` (1, 2, …): kept indices, int64, ascending."""
        ...


_REGISTRY: dict[str, Callable[[], Method]] = {}


def register(name: str, factory: Callable[[], Method]) -> None:
    """Make ``method=name`` mean ``factory()``.

    Raises:
        ValueError: the name is taken.
    """
    if name in _REGISTRY:
        raise ValueError(f"a method named {name!r} is registered already; choose another name")
    _REGISTRY[name] = factory


def method_names() -> list[str]:
    """The registered names, sorted."""
    return sorted(_REGISTRY)


def get_method(method: str | Method) -> Method:
    """The method itself, or a fresh one of that registered name.

    Raises:
        ValueError: no method has that name; the message lists those that exist.
    """
    if not isinstance(method, str):
        return method
    if method not in _REGISTRY:
        raise ValueError(f"method {method!r} is unknown; choose one of {', '.join(method_names())}")
    return _REGISTRY[method]()
