"""The pruning state in a Lightning checkpoint, and checks that a run can resume from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastprune.errors import UsageError
from fastprune.pruning import Driver, Piece
from fastprune.pruning.state_versions import check_version, converted


def readable(state: Mapping[str, Any]) -> dict[str, Any]:
    """The callback's state in the form of this version.

    Raises:
        UsageError: it has neither this version nor the one before.
    """
    try:
        check_version(state["version"], "the pruning state")
    except ValueError as error:
        raise UsageError(str(error)) from None
    return {**state, "pruner": converted(state["pruner"])}


def check_has_state(checkpoint: Mapping[str, Any], key: str) -> None:
    """Refuse a Lightning checkpoint without an entry for the callback's ``key``.

    Raises:
        UsageError: it was made without the callback.
    """
    if key not in checkpoint["callbacks"]:
        raise UsageError(
            "the checkpoint holds no pruning state: it was made without PruningCallback; resume it without, or "
            "start afresh"
        )


def resume(
    driver: Driver, pieces: Sequence[Piece], state: Mapping[str, Any], seed: int | None, step_examples: int
) -> None:
    """Resume from the callback's state, see `Driver.resume`.

    Args:
        driver: the new run's driver.
        pieces: all pieces of the run.
        state: what `readable` returned.
        seed: this run's seed.  None takes the state's.
        step_examples: how many examples one batch of all processes holds.

    Raises:
        UsageError: the state is of another data set, method or schedule, or of batches of another size.
    """
    try:
        driver.resume(pieces, state["pruner"], seed)
    except ValueError as error:
        raise UsageError(str(error)) from None
    progress = driver.progress
    if 0 < progress.position < len(progress.piece) and state["step_examples"] != step_examples:
        raise UsageError(
            f"the checkpoint was made inside an epoch, in steps of {state['step_examples']} examples over all "
            f"processes; this run takes {step_examples}: resume with the same batch size and number of "
            "processes, or from the end of an epoch"
        )
