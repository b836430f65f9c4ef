"""The pruning methods, one file each; the module docstring of each file is its method card.

Importing this package registers them all.
"""

from fastprune.methods import (
    aum,
    cartography,
    ccs,
    dyn_unc,
    el2n,
    el2n_free,
    el2n_static,
    forgetting,
    full,
    grand,
    infobatch,
    loss,
    orderdp,
    random,
    repb,
    rs2,
    seta,
    static,
    tdds,
    ucb,
)
from fastprune.methods.cards import usage
from fastprune.methods.score_method import ScoreMethod

_MODULES = (
    el2n,
    el2n_free,
    el2n_static,
    loss,
    grand,
    forgetting,
    aum,
    cartography,
    ccs,
    infobatch,
    repb,
    orderdp,
    seta,
    ucb,
    dyn_unc,
    tdds,
    random,
    rs2,
    static,
    full,
)

METHOD_CARDS = {
    name: f"{(module.__doc__ or '').strip()}\n{usage(name)}"
    for module in _MODULES
    for name in [module.__name__.rpartition(".")[2].replace("_", "-")]
}
"""The card of each registered method, for ``fastprune methods``."""

__all__ = ["METHOD_CARDS", "ScoreMethod"]
