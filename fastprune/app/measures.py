"""The table of quality measures: how each is headed and shown, and which end of it is good.

What they are is in `fastprune.app.quality`, and for language models in `fastprune.app.finetune.lm`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Measure:
    """How a quality measure is shown.

    Args:
        heading: of its column in tables.
        lower: whether small values are good.
        percent: whether it is a share or a correlation, which is shown in per cent.
    """

    heading: str
    lower: bool = False
    percent: bool = True

    @property
    def scale(self) -> float:
        """What a value is multiplied with to be shown."""
        return 100.0 if self.percent else 1.0

    @property
    def sign(self) -> int:
        """1 where large values are good, and -1 where small ones are."""
        return -1 if self.lower else 1

    @property
    def digits(self) -> int:
        """Digits after the point, in sentences."""
        return 1 if self.percent else 3

    @property
    def unit(self) -> str:
        """What stands behind a shown value."""
        return " %" if self.percent else ""

    def shown(self, value: float) -> str:
        """Return the value as sentences and legends show it.

        >>> MEASURES["accuracy"].shown(0.5), MEASURES["loss"].shown(0.5)
        ('50.0 %', '0.500')
        """
        return f"{self.number(value)}{self.unit}"

    def number(self, value: float) -> str:
        """Return the value as `shown`, without its unit."""
        return f"{self.scale * value:.{self.digits}f}"


MEASURES: Mapping[str, Measure] = {
    "accuracy": Measure("Accuracy %"),
    "f1": Measure("F1 %"),
    "macro_f1": Measure("Macro F1 %"),
    "micro_f1": Measure("Micro F1 %"),
    "matthews": Measure("Matthews %"),
    "pearson": Measure("Pearson %"),
    "spearman": Measure("Spearman %"),
    "intent_accuracy": Measure("Intent %"),
    "slot_f1": Measure("Slot F1 %"),
    "span_f1": Measure("Span F1 %"),
    "tag_accuracy": Measure("Tag acc. %"),
    "exact_match": Measure("Exact %"),
    "exact_answer": Measure("Answer %"),
    "loss": Measure("Eval loss", lower=True, percent=False),
    "perplexity": Measure("Perplexity", lower=True, percent=False),
}
"""Every quality measure by its name in files."""


def measure_of(name: str | None) -> Measure:
    """Return the measure of that name.  None, and a name that no row has, are shown as shares."""
    return MEASURES.get(name or "", Measure(name or ""))
