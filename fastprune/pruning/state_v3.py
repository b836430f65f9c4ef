"""Reads the states that fastprune 0.1 wrote, in version 3 of their form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def converted(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """A state of version 3 in the form of version 4; any other as it is.

    Version 3 kept the position in several places: ``trained``, ``scored_for`` and ``place``, and in ``sampler``
    ``epoch`` (the number of the piece), ``yielded`` and ``kept_phase``.
    """
    if state.get("version") != 3:
        return state
    sampler = state["sampler"]
    own = ("n", "method", "method_settings", "schedule", "fingerprint", "cycle", "weights", "history")
    return {
        "version": 4,
        **{key: state[key] for key in own},
        "seed": sampler["seed"],
        "kept": sampler["indices"],
        "progress": {
            "piece_number": sampler["epoch"],
            "position": sampler["yielded"],
            "counts_steps": state["trained"] is not None,
            "chosen_for": sampler["kept_phase"],
            "scored_for": state["scored_for"],
            "place": state["place"],
        },
    }
