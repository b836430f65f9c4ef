"""Folders are complete whenever the process that writes them is killed, and no temporary file stays."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fastprune.files import atomic

FILES = {f"{name}.txt": name for name in "abcde"}
# atomic.py alone, which needs nothing of the package: so that each of the many processes starts soon.
WRITER = """
import importlib.util, os, sys
spec = importlib.util.spec_from_file_location("atomic", {source!r})
atomic = importlib.util.module_from_spec(spec)
spec.loader.exec_module(atomic)
from pathlib import Path
left = int(sys.argv[1])

def write(folder):
    for name in "abcde":
        (folder / f"{{name}}.txt").write_text(name + " new")

def hook(event, arguments):
    global left
    if event == "open" or event.startswith(("os.", "shutil.", "tempfile.")):
        left -= 1
        if left < 0:
            os._exit(9)

sys.addaudithook(hook)
atomic.write_folder_atomic(Path(sys.argv[2]), write)
os._exit(0)
"""


def content(folder: Path) -> str | None:
    """Which version of the folder is there, if it is whole."""
    if not folder.exists():
        return None
    found = {path.name: path.read_text() for path in folder.iterdir()}
    for version in (" old", " new", " newest"):
        if found == {name: text + version for name, text in FILES.items()}:
            return version.strip()
    raise AssertionError(f"half a folder: {found}")


def fill(version):
    return lambda folder: [(folder / name).write_text(f"{text} {version}") for name, text in FILES.items()]


def killed(steps: int, folder: Path) -> bool:
    """Write the new version in a process that is killed after ``steps`` steps. Returns whether it was killed."""
    code = WRITER.format(source=atomic.__file__)
    status = subprocess.run([sys.executable, "-I", "-S", "-c", code, str(steps), str(folder)]).returncode
    assert status in (0, 9)
    return status == 9


@pytest.mark.parametrize("before", [True, False])
def test_a_folder_is_whole_at_whatever_step_its_writer_is_killed(tmp_path, before):
    steps, seen = 0, []
    while True:
        parent = tmp_path / str(steps)
        parent.mkdir()
        folder = parent / "model"
        if before:
            atomic.write_folder_atomic(folder, fill("old"))
        was_killed = killed(steps, folder)
        seen.append(content(folder))
        if not was_killed:
            break
        if steps % 2:  # the next writer sweeps, and so does whoever looks first
            atomic.sweep(parent, ["model"])
            assert content(folder) == ((seen[-1] or "old") if before else seen[-1])
        else:
            atomic.write_folder_atomic(folder, fill("newest"))
            assert content(folder) == "newest"
        assert list(parent.iterdir()) == ([folder] if folder.exists() else [])
        steps += 1
    assert steps > 10 and seen[0] == ("old" if before else None) and seen[-1] == "new"
    assert (None in seen[1:]) and seen == sorted(seen, key=["old", None, "new"].index), "old, then none, then new"


def test_a_writer_that_fails_leaves_the_older_folder(tmp_path, monkeypatch):
    folder = tmp_path / "model"
    atomic.write_folder_atomic(folder, fill("old"))

    def fails(temporary):
        (temporary / "a.txt").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        atomic.write_folder_atomic(folder, fails)
    assert content(folder) == "old" and list(tmp_path.iterdir()) == [folder]

    real = os.replace

    def no_way_in(source, target):
        if Path(target) == folder and not str(source).endswith(atomic.OLDER):
            raise OSError("no way in")
        real(source, target)

    monkeypatch.setattr(os, "replace", no_way_in)
    with pytest.raises(OSError, match="no way in"):
        atomic.write_folder_atomic(folder, fill("new"))
    assert content(folder) == "old" and list(tmp_path.iterdir()) == [folder]
