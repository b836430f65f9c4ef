"""Refuses methods that do not fit the data, and names runs that prune nothing, before the first step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from fastprune.app.data import TextData
from fastprune.app.data.types import UNMEASURED
from fastprune.app.finetune.model import head_kinds
from fastprune.app.finetune.ranks import tell
from fastprune.app.finetune.spec import RunSpec, Training, never_pruned, resolve_method, takes_offset, takes_smoothing
from fastprune.app.printable import printable
from fastprune.errors import UsageError
from fastprune.pruning import get_method, parse_method
from fastprune.scores.metrics import lacking


def check_methods(specs: Iterable[RunSpec], training: Training, data: TextData, dynamics: Path | None = None) -> None:
    """Refuse methods that read what a task has not, before the run and not after its warm-up.

    Raises:
        UsageError: the message names the option.
    """
    one_class = data.kind in ("classification", "joint")
    if dynamics is not None and not one_class:
        raise UsageError(f"--dynamics holds the class of each text, and these data are for {data.kind}; leave it out")
    for spec in specs:
        method = resolve_method(spec.method, training, data.train.row_numbers)
        missing = lacking(method.reads, head_kinds(data.kind))
        if missing:
            raise UsageError(
                f"--method {spec.method} reads {', '.join(missing)}, which {data.kind} does not have; choose another, "
                "for instance el2n-free"
            )
        classes = len(data.label_names or ())
        if method.most_classes is not None and classes > method.most_classes:
            raise UsageError(
                f"--method {spec.method} keeps a number for each class of an example and takes {method.most_classes} "
                f"classes at most, the data have {classes}; choose another, for instance dyn-unc"
            )


def check_given(methods: Iterable[str], *, smoothing: str | None, offset: float) -> None:
    """Refuse an option of methods that no method of the command reads.

    Args:
        methods: known names, perhaps with settings.
        smoothing: as it was given, or None if it was not.
        offset: as it was given.  0 says nothing.

    Raises:
        UsageError: the message names the option and a method that reads it.
    """
    names = list(methods)
    given = (("smoothing", smoothing, takes_smoothing), ("offset", offset or None, takes_offset))
    for option, value, takes in given:
        open_to = [name for name in names if takes(get_method(name)) and option not in parse_method(name).settings]
        if value is not None and not open_to:
            raise UsageError(
                f"--{option} {value} is not read by --method {printable(' '.join(names))}; leave it out, or name a "
                "method that reads it, for instance el2n-free"
            )


def with_substitutes(methods: Iterable[str], kind: str) -> list[str]:
    """The methods, and in place of one whose scores nobody has measured for ``kind`` its substitute, with a note.

    `attach` would take the same.  So the plan, the tables and the report name the method that runs.

    Raises:
        UsageError: a method is unknown.
    """
    found = []
    for name in methods:
        try:
            substitute = get_method(name).without_evidence if kind in UNMEASURED else None
        except ValueError as error:
            raise UsageError(str(error)) from error
        if substitute is not None:
            tell(
                f"note: --method {printable(name)} is {substitute.name} here, because no evidence says which examples "
                f"matter for {kind}; name another method to choose by scores, for instance el2n-free"
            )
        found.append(name if substitute is None else substitute.name)
    return list(dict.fromkeys(found))


def tell_never_pruned(specs: Sequence[RunSpec], rows: Sequence[int], training: Training) -> None:
    """Name the runs in which nothing is pruned."""
    for name in never_pruned(specs, rows, training):
        tell(
            f"note: nothing is pruned in run {printable(name)!r}, whose warm-up covers all epochs; "
            "raise --epochs or lower --warmup-epochs"
        )
