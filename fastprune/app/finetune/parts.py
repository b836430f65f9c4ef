"""What a task brings to the training of its model.  `fastprune.app.finetune.tasks` has the table of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from torch import Tensor, nn

from fastprune.app.data.types import Split
from fastprune.app.finetune.encode import Collate, EncodedExample
from fastprune.app.report import RunFolder


class Examples(Protocol):
    """An encoded split."""

    split: Split
    truncated: int

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> EncodedExample: ...

    @property
    def lengths(self) -> Tensor:
        """The tokens of each example, int64 (n,)."""
        ...


class Evaluated(Protocol):
    """An encoded split in the order that evaluation reads it in."""

    @property
    def encoded(self) -> Examples:
        """The split."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> EncodedExample: ...

    def measured(self, names: Sequence[str], answers: Any) -> dict[str, float]:
        """The quality measures of these names, of the model's answers as the Trainer has joined them."""
        ...


class Parts(Protocol):
    """A model with its tokenizer, and how it sees the data.

    Attributes:
        name: of the model, as tables show it.
        length: tokens that an example is cut to.
        collate: makes batches.
    """

    name: str
    length: int
    collate: Collate

    @property
    def trainer(self) -> type[Any]:
        """The class of `RunTrainer` that trains the model."""
        ...

    @property
    def own(self) -> Mapping[str, Any]:
        """TrainingArguments that this task sets, unless the user does."""
        ...

    @property
    def compact(self) -> Callable[[Any, Any], Any] | None:
        """Makes of a batch's answers and labels what evaluation keeps.  None keeps the answers."""
        ...

    def encode(self, split: Split, *, numbered: bool = False) -> Examples:
        """Encode a split.  Its examples hold their ``index``, too, if they are to be ``numbered``."""
        ...

    def to_evaluate(self, split: Split) -> Evaluated:
        """Encode a split for evaluation."""
        ...

    def make_model(self) -> nn.Module:
        """Return a fresh model.  What is new in it is drawn from the global random state."""
        ...

    def write_model(self, folder: RunFolder, run: Any, job: Any) -> None:
        """Write ``model/`` of the run folder, and what else is known of the model.  All processes call it."""
        ...
