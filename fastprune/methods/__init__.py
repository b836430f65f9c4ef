"""The pruning methods, one file each; the module docstring of each file is its method card.

Importing this package registers them all.
"""

from fastprune.methods import el2n, el2n_free, el2n_static, full, loss, random
from fastprune.methods.score_method import ScoreMethod

METHOD_CARDS = {
    name: (module.__doc__ or "").strip()
    for name, module in {
        "el2n": el2n,
        "el2n-free": el2n_free,
        "el2n-static": el2n_static,
        "full": full,
        "loss": loss,
        "random": random,
    }.items()
}
"""The card of each registered method, for ``fastprune methods``."""

__all__ = ["METHOD_CARDS", "ScoreMethod"]
