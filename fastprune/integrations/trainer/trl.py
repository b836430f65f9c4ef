"""What fastprune knows of TRL's internals, and nothing else does.

TRL trains through a fused head, which never builds the matrix of logits (`add_fused_lm_head`).  It multiplies tiles of
the head with the hidden states, and folds each tile at once.  `watched_tiles` sees these tiles as they are folded.  So
scores cost no forward pass and no product of their own.  TRL's own numbers stay as they are.

The fold is a global function of a module of TRL.  It is replaced only while one forward pass runs.  Names and arguments
are checked by `lacking_in_trl` before anything is replaced.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

from fastprune.integrations.trainer.tile_fold import Tile

OLDEST, NEWEST = "1.15", "1.16"
"""The versions of TRL that were tested, 1.15 in Triton's interpreter."""

Kind = Literal["sft", "dpo", "kto", "reward"]
_KINDS: dict[str, Kind] = {
    "SFTTrainer": "sft",
    "DPOTrainer": "dpo",
    "KTOTrainer": "kto",
    "RewardTrainer": "reward",
}
_HEAD, _OUTPUTS = "trl.kernels.chunked_logprob", "trl.trainer.utils"
_FOLDS = ("_forward_tile", "_forward_kernel")
_BY_NAME = ("vocab_start", "n_cols", "logit_scale", "softcap", "inv_t", "HAS_SOFTCAP")
_FIELDS = ("log_probs", "label_mask", "aux_loss")


def trl_kind(trainer: Any) -> Kind | None:
    """Which of TRL's trainers this is, or a subclass of.  None for any other trainer."""
    for base in type(trainer).__mro__:
        if base.__module__.split(".")[0] == "trl" and base.__name__ in _KINDS:
            return _KINDS[base.__name__]
    return None


def lacking_in_trl() -> str | None:
    """What this version of TRL lacks for scores from its fused head, as a part of a sentence.  None if it has all."""
    try:
        head, outputs = importlib.import_module(_HEAD), importlib.import_module(_OUTPUTS)
    except ImportError:
        return f"no module {_HEAD}"
    fused = getattr(outputs, "FusedCausalLMOutput", None)
    if fused is None or not hasattr(outputs, "add_fused_lm_head"):
        return "no add_fused_lm_head"
    missing = set(_FIELDS) - {field.name for field in dataclasses.fields(fused)}
    if missing:
        return f"no {sorted(missing)[0]} in FusedCausalLMOutput"
    folds = [getattr(head, name) for name in _FOLDS if hasattr(head, name)]
    if not folds:
        return "no fold of tiles under a known name"
    for fold in folds:
        names = _argument_names(fold)
        if "targets" not in names[2] or not set(_BY_NAME) <= set(names):
            return f"other arguments of {_HEAD}"
    return None


def refuse_unknown_trl(method: str) -> None:
    """Refuse to read scores inside of a TRL whose names or arguments are others.

    Raises:
        ValueError: they are.
    """
    lack = lacking_in_trl()
    if lack is not None:
        version = getattr(sys.modules.get("trl"), "__version__", "of this version")
        raise ValueError(
            f"method {method!r} reads its scores inside of TRL {OLDEST} to {NEWEST}, but TRL {version} has {lack}; "
            f"install trl=={NEWEST}.*, or choose a method that scores in a pass of its own, such as 'el2n'"
        )


def is_fused_output(outputs: Any) -> bool:
    """Whether these outputs are of the fused head, with log-probabilities in place of logits."""
    return getattr(outputs, "log_probs", None) is not None and getattr(outputs, "label_mask", None) is not None


@contextmanager
def watched_tiles(see: Callable[[Tile], None]) -> Iterator[None]:
    """Let ``see`` have every tile that TRL's fused heads fold inside."""
    head = importlib.import_module(_HEAD)
    before = {name: getattr(head, name) for name in _FOLDS if hasattr(head, name)}
    for name, fold in before.items():
        watched = _Launcher(fold, see) if name == "_forward_kernel" else _watched(fold, _argument_names(fold), see)
        setattr(head, name, watched)
    try:
        yield
    finally:
        for name, fold in before.items():
            setattr(head, name, fold)


class _Launcher:
    """A Triton kernel whose launches are watched."""

    def __init__(self, kernel: Any, see: Callable[[Tile], None]) -> None:
        self._kernel, self._see = kernel, see

    def __getitem__(self, grid: Any) -> Callable[..., None]:
        return _watched(self._kernel[grid], _argument_names(self._kernel), self._see)


def _watched(fold: Callable[..., Any], names: list[str], see: Callable[[Tile], None]) -> Callable[..., None]:
    def watched(*args: Any, **kwargs: Any) -> None:
        fold(*args, **kwargs)
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        softcap = given["softcap"] if given["HAS_SOFTCAP"] else None
        product, targets = args[0][:, : given["n_cols"]], args[2]
        see(Tile(product, targets, given["vocab_start"], given["logit_scale"], softcap, given["inv_t"]))

    return watched


def _argument_names(fold: Any) -> list[str]:
    """The names of a function's or a Triton kernel's arguments."""
    names = getattr(fold, "arg_names", None)
    return list(names) if names is not None else list(inspect.signature(fold).parameters)
