"""The pruning methods, one file each.  The docstring of what a file registers is the method's card.

Importing this package imports every module in it, and each registers its method.  So a method is one file.
"""

import importlib
import pkgutil

from fastprune.methods.cards import Cards
from fastprune.methods.score_method import ScoreMethod
from fastprune.methods.static import Static

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

METHOD_CARDS = Cards()
"""The card of each registered method, for ``fastprune methods``."""

__all__ = ["METHOD_CARDS", "ScoreMethod", "Static"]
