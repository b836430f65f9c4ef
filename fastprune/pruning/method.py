"""The contract of a pruning method, and the registry of methods.

A method is a small frozen object.  It says which metrics it reads, where they come from, and how it picks k examples
from the history.  It holds no state of a run.
"""

from __future__ import annotations

import functools
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal, TypeVar, overload

from torch import Tensor

from fastprune.pruning.history import History
from fastprune.pruning.keep import KeepFraction, counts_tokens
from fastprune.pruning.naming import MethodText, parse_method
from fastprune.pruning.schedule import Schedule
from fastprune.pruning.statistics import Statistic
from fastprune.selection import Selection

Pass = Literal["all", "pruned"]
DEFAULT_METHOD = "auto"
"""The method that is used if none is named, in a loop, an integration or on the command line."""


class Method(ABC):
    """The contract between a pruning method and `DynamicPruner`.

    Only `select` must be written.  The attributes say what it needs.  A subclass with settings is a frozen dataclass,
    because a checkpoint compares its ``repr``.

    Example:
        A method of your own, the k examples with the smallest margin:

        >>> from dataclasses import dataclass
        >>> from fastprune import DynamicPruner
        >>> from fastprune.pruning import Latest
        >>> from fastprune.selection import hardest
        >>> @dataclass(frozen=True)
        ... class SmallMargin(Method):
        ...     name = "small-margin"
        ...     statistics = {"margin": Latest()}
        ...     observes = True
        ...
        ...     def select(self, history: History, k: int, *, cycle: int, epoch: int, seed: int) -> Selection:
        ...         return hardest(history.value("margin"), k)
        >>> DynamicPruner(100, keep_fraction=0.5, method=SmallMargin()).method.reads
        ('margin',)
    """

    name: str
    """The name it is registered and reported under."""

    statistics: Mapping[str, Statistic] = MappingProxyType({})
    """What is remembered of each metric that the method reads.

    A metric is a name of `fastprune.scores.metrics` with one value per row or example, or a name of your own that
    ``score_fn`` gives.
    """

    follows: tuple[str, ...] = ()
    """The metrics of ``statistics`` whose mean is followed over the run, for methods without a scoring pass.

    ``history.courses[metric].fallen`` is by which share it has fallen, see `fastprune.pruning.course`.
    """

    observes: bool = False
    """Whether the training step's own scores are recorded, through ``observe``.  This takes no extra forward pass."""

    keeps_all: bool = False
    """True for a baseline that never drops an example, whatever the keep_fraction is."""

    weighted: bool = False
    """Whether its selections carry weights.  The loss of an example is multiplied by its weight."""

    final_share: float = 0.0
    """The default of ``final_share``: the share of the epochs that are at the end and on all examples."""

    blind: bool = False
    """Whether it chooses without knowing anything of the examples, as ``rs2`` does."""

    constant: bool = False
    """Whether it keeps the same examples in every cycle, as ``static`` does."""

    least_warmup: int = 0
    """How many epochs on all examples it needs before its statistic can differ between examples.

    A run with fewer epochs logs a warning.
    """

    most_classes: int | None = None
    """The largest number of classes that it supports, if it stores a number for each class.  None means no limit."""

    warmup_epochs: int = 1
    """The default of ``warmup_epochs``, as published: epochs on all examples at the start."""

    drops_warmup: bool = False
    """Whether its own ``warmup_epochs`` are left out where they would take more than two thirds of a budget."""

    cycle_epochs: int = 1
    """The default of ``cycle_epochs``, as published: epochs between two selections."""

    without_evidence: Method | None = None
    """What `attach` uses in its place where no evidence says what its scores are worth.  None keeps it."""

    rule_version: int = 1
    """The version of the rule.  Raise it by one when the rule chooses other subsets.  Older results then no longer
    count."""

    def scoring_pass(self, history: History, cycle: int) -> Pass | None:
        """Which examples need a scoring pass before ``cycle`` (1, 2, …): all, those that are pruned now, or none."""
        return None

    def check_size(self, n: int) -> None:  # noqa: B027  (most methods serve any)
        """Refuse a data set of ``n`` examples that it does not support, before the run begins.

        Raises:
            ValueError: it cannot.
        """

    def check_keep(self, n: int, k: int) -> None:  # noqa: B027  (most methods keep any)
        """Refuse to keep ``k`` of ``n`` examples if the settings leave fewer, before the run begins.

        Raises:
            ValueError: they do.
        """

    def check_scores(self, index: Tensor, scores: Mapping[str, Tensor]) -> None:  # noqa: B027  (most methods rank)
        """Refuse scores that the rule cannot read, by those of a trial batch, before the run begins.

        Args:
            index: int64 (B,), the examples.
            scores: by metric, with B rows.

        Raises:
            ValueError: it cannot read them.
        """

    def of_part(self, index: Tensor) -> Method:
        """The method for the examples at ``index`` alone, which get the numbers from 0 on.

        A method that holds a number of its own for each example overrides this.
        """
        return self

    def new_history(self, n: int) -> History:
        """The history of a run over ``n`` examples, empty."""
        return History(n, self.statistics, self.follows)

    @abstractmethod
    def select(self, history: History, k: int, *, cycle: int, epoch: int, seed: int) -> Selection:
        """Pick k of ``history.n`` examples for ``cycle`` (1, 2, …), which starts with user epoch ``epoch``.

        The same arguments give the same selection.
        """

    def facts(self, history: History) -> Mapping[str, float]:
        """The quantities that the next selection depends on, by name, such as the share of examples already learned.

        They are logged as ``prune/<name>`` with each selection, and are saved with the state.  Do not take the name of
        a log key of `DynamicPruner.log`, because that one is logged then.
        """
        return {}

    def schedule(
        self,
        keep_fraction: KeepFraction,
        warmup_epochs: int | None = None,
        cycle_epochs: int | None = None,
        final_share: float | None = None,
    ) -> Schedule:
        """The schedule of a run with these options of `DynamicPruner`.  For None the method's own value is taken.

        Raises:
            ValueError: one is out of range, or a budget of tokens goes with a method that weights its examples.
        """
        if self.weighted and counts_tokens(keep_fraction):
            raise ValueError(
                f"a budget of tokens lets a method choose among texts of like length, and the weights of {self.name!r} "
                "are right only if it chooses among all; take a budget of examples, or a method without weights"
            )
        warmup = self.warmup_epochs if warmup_epochs is None else warmup_epochs
        cycle = self.cycle_epochs if cycle_epochs is None else cycle_epochs
        share = self.final_share if final_share is None else final_share
        asked = Schedule(keep_fraction, warmup, cycle, share, self.drops_warmup and warmup_epochs is None)
        return Schedule(1.0, warmup, cycle) if self.keeps_all else asked

    @property
    def reads(self) -> tuple[str, ...]:
        """The metrics that ``observe`` or ``rescore`` must supply."""
        return tuple(self.statistics)


Factory = TypeVar("Factory", bound=Callable[..., Method])
_REGISTRY: dict[str, Callable[..., Method]] = {}


@overload
def register(name: str, factory: Factory) -> Factory: ...


@overload
def register(name: str) -> Callable[[Factory], Factory]: ...


def register(name: str, factory: Any = None) -> Any:
    """Make ``method=name`` mean ``factory()``, and ``method="name:text"`` mean ``factory("text")``.

    Without a factory it decorates a `Method` class, or a function that makes one.  The docstring of what it decorates
    is the method's card::

        @register("uncertain")
        @dataclass(frozen=True)
        class Uncertain(Method): ...

    A later definition replaces an earlier one of the same module and name.  So a cell of a notebook can run twice.

    Raises:
        ValueError: the name is that of another method.

    Example:
        >>> from fastprune import DynamicPruner
        >>> from fastprune.methods import ScoreMethod
        >>> @register("hard-loss")
        ... def hard_loss() -> Method:
        ...     return ScoreMethod("hard-loss", metric="loss", source="step")
        >>> DynamicPruner(100, keep_fraction=0.5, method="hard-loss").method.reads
        ('loss',)
    """
    if factory is None:
        return functools.partial(register, name)
    before = _REGISTRY.get(name)
    if before is not None and _place(before) != _place(factory):
        raise ValueError(
            f"a method named {name!r} is registered already, by {'.'.join(_place(before))}; choose another name"
        )
    _REGISTRY[name] = factory
    return factory


def _place(factory: Any) -> tuple[str, str]:
    """Module and name of a definition.  One without a name, such as a partial function, equals no other."""
    return getattr(factory, "__module__", ""), getattr(factory, "__qualname__", f"object {id(factory)}")


def method_names() -> list[str]:
    """The registered names, sorted.

    Example:
        >>> import fastprune
        >>> "el2n-free" in method_names()
        True
    """
    return sorted(_REGISTRY)


def get_method(method: str | Method) -> Method:
    """Return the method itself, or a fresh one of that registered name.

    Text is a name, ``name:text``, or ``name(setting=value, …)`` with literals as values, such as
    ``"orderdp(ratio=0.375)"``.  `parse_method` reads it.

    Raises:
        ValueError: no method has that name, or it has no such setting.  The message lists those that exist.

    Example:
        >>> import fastprune
        >>> get_method("orderdp(ratio=0.375)").ratio
        0.375
    """
    if not isinstance(method, str):
        return method
    wanted = parse_method(method)
    if wanted.name not in _REGISTRY:
        raise ValueError(f"method {method!r} is unknown; choose one of {', '.join(method_names())}")
    factory = _REGISTRY[wanted.name]
    try:
        inspect.signature(factory).bind(*wanted.positional, **wanted.settings)
    except TypeError:
        raise ValueError(f"{_misfit(method, wanted, factory)}; see `fastprune methods {wanted.name}`") from None
    try:
        return factory(*wanted.positional, **wanted.settings)
    except TypeError as error:  # such as text where a number belongs
        raise ValueError(f"method {method!r}: {error}") from None


def factory_of(name: str) -> Callable[..., Method]:
    """What makes the method of that registered name.  Its arguments are the method's settings."""
    return _REGISTRY[name]


def _misfit(text: str, wanted: MethodText, factory: Callable[..., Method]) -> str:
    """Why the factory cannot be called like this."""
    settings = inspect.signature(factory).parameters
    required = [name for name, parameter in settings.items() if parameter.default is inspect.Parameter.empty]
    unknown = [name for name in wanted.settings if name not in settings]
    if unknown:
        there = f"its settings are {', '.join(settings)}" if settings else "it has none"
        return f"method {text!r} has no setting {unknown[0]!r}: {there}"
    if wanted.positional and not required:
        there = f"; say {', '.join(f'{name}=…' for name in settings)} by name" if settings else ""
        return f"method {wanted.name!r} takes no argument, got {str(wanted.positional[0])!r}{there}"
    return f"method {wanted.name!r} needs an argument: {wanted.name}:..."
