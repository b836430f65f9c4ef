"""The state of a run: what a checkpoint holds so that a resumed run gives the same bits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from fastprune.pruning.by_length import digest
from fastprune.pruning.cycle import CycleRecord
from fastprune.pruning.exchange import Steps
from fastprune.pruning.history import settings_of
from fastprune.pruning.state_versions import VERSION, check_version, converted
from fastprune.pruning.weighting import Weights

if TYPE_CHECKING:
    from fastprune.pruning.driver import Driver


def state_of(driver: Driver) -> dict[str, Any]:
    """History, kept set, weights and progress, in tensors and plain values.  It is the same on every rank.

    Raises:
        RuntimeError: other processes have scores that this one has not seen.
    """
    if driver.steps.unsent:
        raise RuntimeError(
            f"{len(driver.steps.unsent)} steps' scores have not been exchanged between the processes yet: call "
            "pruner.exchange() on every rank, then state_dict()"
        )
    kept = driver.sampler.indices
    return {
        **_identity(driver),
        "fingerprint": driver.fingerprint,
        "cycle": asdict(driver.cycle),
        "weights": driver.weights.saved(),
        "history": driver.history.state_dict(),
        "kept": None if kept is None else kept.clone(),
        "progress": driver.progress.state_dict(),
    }


def check_method(driver: Driver, state: Mapping[str, Any]) -> None:
    """Refuse the state of another method, and say how to go on with that one.

    Raises:
        ValueError: it is of another method.
    """
    theirs, ours = state.get("method"), driver.method.name
    if theirs != ours:
        raise ValueError(
            f"the checkpoint has method = {theirs!r}, this run has {ours!r}; go on with method={theirs!r}, or start a "
            "new run"
        )


def checked(driver: Driver, state: Mapping[str, Any]) -> Mapping[str, Any]:
    """The state in the form of this version, after a check that it belongs to this run.

    Raises:
        ValueError: it belongs to another data set, method, schedule, seed or version, or to a run whose epochs were
            planned differently.
    """
    check_version(state.get("version"), "the checkpoint")
    state = converted(state)
    check_method(driver, state)
    for key, value in _identity(driver).items():
        if state.get(key) != value:
            raise ValueError(f"the checkpoint has {key} = {state.get(key)!r}, this run has {value!r}")
    theirs, ours = state.get("fingerprint"), driver.fingerprint
    if None not in (theirs, ours) and theirs != ours:
        raise ValueError(
            f"the checkpoint belongs to another data set: its fingerprint is {theirs!r}, this one's is "
            f"{ours!r}; resume with the data it was made with"
        )
    driver.history.check_state(state["history"])
    driver.progress.check_state(state["progress"])
    return state


def load_state(driver: Driver, state: Mapping[str, Any]) -> None:
    """Restore a state that `checked` has returned."""
    driver.sampler.keep(state["kept"])
    driver.progress.load_state_dict(state["progress"])
    driver.history.load_state_dict(state["history"])
    driver.cycle = CycleRecord(**state["cycle"])
    table = state["weights"]
    driver.weights = Weights(None if table is None else table.clone())
    driver.steps = Steps(driver.n)


def _identity(driver: Driver) -> dict[str, Any]:
    """What must be equal in two runs, so that one can resume from the other's state."""
    return {
        "version": VERSION,
        "n": driver.n,
        "seed": driver.sampler.seed,
        "method": driver.method.name,
        "method_settings": settings_of(driver.method),
        "schedule": driver.schedule.describe(),
        # Only if there are any, because older states do not have it.
        **({} if driver.groups is None else {"groups": digest(driver.groups)}),
    }
