"""Versions of a run's state, and how to read version 3, which fastprune 0.1 wrote."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

VERSION = 4
OLDEST_READ = 3


def check_version(version: object, what: str) -> None:
    """Refuse a state that has neither this version nor the one before.

    Raises:
        ValueError: the message calls the state ``what``.
    """
    if version not in (OLDEST_READ, VERSION):
        raise ValueError(
            f"{what} is of version {version}, this fastprune reads versions {OLDEST_READ} and {VERSION}; resume it "
            "with the fastprune that wrote it, or start afresh"
        )


def converted(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """A state of version 3 in the form of version 4.  Any other state stays as it is.

    Version 3 kept the position in several fields: ``trained``, ``scored_for`` and ``place``.  Its ``sampler`` held
    three more: ``epoch`` (the number of the piece), ``yielded`` and ``kept_phase``.  Its ``place`` called a phase a
    cycle.
    """
    if state.get("version") != OLDEST_READ:
        return state
    sampler, place = state["sampler"], state["place"]
    own = ("n", "method", "method_settings", "schedule", "fingerprint", "cycle", "weights", "history")
    return {
        "version": VERSION,
        **{key: state[key] for key in own},
        "seed": sampler["seed"],
        "kept": sampler["indices"],
        "progress": {
            "piece_number": sampler["epoch"],
            "position": sampler["yielded"],
            "counts_steps": state["trained"] is not None,
            "chosen_for": sampler["kept_phase"],
            "scored_for": state["scored_for"],
            "place": None if place is None else {"phase" if key == "cycle" else key: place[key] for key in place},
        },
    }
