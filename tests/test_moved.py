"""Old import paths give the modules that have moved, and warn."""

import importlib
import subprocess
import sys

import pytest

from fastprune.moved import MOVED, MovedModules, new_path

EXTRAS = ["pyarrow", "transformers", "datasets"]


@pytest.mark.parametrize("old", MOVED)
def test_an_old_path_is_the_new_module(old: str) -> None:
    for extra in EXTRAS:
        pytest.importorskip(extra)
    sys.modules.pop(old, None)
    new = importlib.import_module(MOVED[old])
    with pytest.warns(DeprecationWarning, match=f"{old} is {MOVED[old]} now; the old path goes away in version 0.3"):
        assert importlib.import_module(old) is new
    assert new.__name__ == new.__spec__.name == MOVED[old], "the module does not remember the old path"


def test_a_path_below_an_old_one_moved_along() -> None:
    pytest.importorskip("datasets")
    old = importlib.import_module("fastprune.data.load")
    assert old is importlib.import_module("fastprune.app.data.load")
    with pytest.raises(ModuleNotFoundError, match="fastprune.app.data.nothing"):
        importlib.import_module("fastprune.data.nothing")


def test_other_paths_are_left_to_python() -> None:
    assert new_path("fastprune.scores") is new_path("fastprune") is new_path("json.decoder") is None
    assert MovedModules().find_spec("fastprune.absent") is None


def test_the_library_itself_uses_no_old_path() -> None:
    every = "import importlib, pkgutil, fastprune\n" + (
        "for m in pkgutil.walk_packages(fastprune.__path__, 'fastprune.'):\n"
        "    if not m.name.endswith('__main__'): importlib.import_module(m.name)\n"
    )
    for extra in [*EXTRAS, "lightning"]:
        pytest.importorskip(extra)
    command = [sys.executable, "-W", "error:fastprune:DeprecationWarning", "-c", every]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
