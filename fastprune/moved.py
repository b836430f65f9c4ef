"""Modules that have moved. Until version 0.3 an old path imports the new module, with a DeprecationWarning."""

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

MOVED = {
    "fastprune.atomic": "fastprune.files.atomic",
    "fastprune.cli": "fastprune.app.cli",
    "fastprune.collectives": "fastprune.platform.collectives",
    "fastprune.data": "fastprune.app.data",
    "fastprune.dynamics": "fastprune.app.dynamics",
    "fastprune.finetune": "fastprune.app.finetune",
    "fastprune.gpu": "fastprune.platform.gpu",
    "fastprune.integrations.transformers": "fastprune.integrations.trainer",
    "fastprune.lock": "fastprune.files.lock",
    "fastprune.metrics": "fastprune.app.quality",
    "fastprune.parquet": "fastprune.files.parquet",
    "fastprune.printable": "fastprune.app.printable",
    "fastprune.report": "fastprune.app.report",
    "fastprune.score_files": "fastprune.files.score_files",
    "fastprune.score_runs": "fastprune.files.score_runs",
    "fastprune.termination": "fastprune.app.termination",
    "fastprune.torch_private": "fastprune.platform.torch_private",
    "fastprune.triton_launch": "fastprune.platform.triton_launch",
}
"""Old path to new path. A path below an old one moved along with it."""


def new_path(old: str) -> str | None:
    """The path where the module of an old path is now, or None if it has not moved.

    Example:
        >>> new_path("fastprune.data.load")
        'fastprune.app.data.load'
        >>> new_path("fastprune.scores")
    """
    parts = old.split(".")
    for length in range(len(parts), 1, -1):
        new = MOVED.get(".".join(parts[:length]))
        if new is not None:
            return ".".join([new, *parts[length:]])
    return None


class MovedModules(MetaPathFinder, Loader):
    """Finds modules by their old paths.

    Python asks it first. Otherwise Python would find a module below an old package in the new folder, and run it twice.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return a specification for an old path, and None for all others."""
        return None if new_path(fullname) is None else ModuleSpec(fullname, self)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Import the new module, warn, and return it."""
        new = new_path(spec.name)
        assert new is not None
        if spec.name in MOVED:
            message = f"{spec.name} is {new} now; the old path goes away in version 0.3"
            warnings.warn(message, DeprecationWarning, stacklevel=2)
        module = importlib.import_module(new)
        self._identity = (module.__spec__, module.__loader__)
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Undo what the import wrote into the module: the old path. The module itself has run already."""
        module.__spec__, module.__loader__ = self._identity


def install() -> None:
    """Make Python ask `MovedModules` first. A second call changes nothing."""
    if not any(isinstance(finder, MovedModules) for finder in sys.meta_path):
        sys.meta_path.insert(0, MovedModules())
