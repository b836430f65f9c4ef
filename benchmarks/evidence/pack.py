"""One folder with everything that a lent machine needs: code, model, tokens and missing packages.

Such a machine has PyTorch, transformers and a compiler. It has no registry, no data sets and no seqeval.
"""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterable
from pathlib import Path

import torch

from benchmarks.evidence.machine import CODE, COMMIT_FILE, ROOT
from benchmarks.evidence.plan import Plan
from benchmarks.evidence.work import Work
from fastprune.app.finetune.encoder import load_encoder
from fastprune.files.atomic import write_folder_atomic

MOST_BYTES = 56 * 2**20
CARRIED = ("seqeval",)
"""Pure Python packages that the machine lacks."""

BUILD = ("setup.py", "pyproject.toml", "README.md", "LICENSE")
SCRIPT = Path(__file__).with_name("lent.sh")
_NOT_CARRIED = shutil.ignore_patterns("__pycache__", "*.so", "*.pyc", ".*")


def make_pack(target: Path, work: Work, plan: Plan, plan_file: Path, results: Path, cores: Iterable[Path] = ()) -> int:
    """Write the folder, in the place of an older one. Returns its size in bytes.

    Args:
        target: The folder to write.
        work: Reads the data sets into its cache, and reads them from there.
        plan: The runs that the machine may do. Their data is packed.
        plan_file: The file of the plan.
        results: The folder of the result lines so far. They travel along, so that no run is done twice.
        cores: Compiled cores for the machine's Python. Without one that fits, the machine builds it.

    Raises:
        RuntimeError: The folder would be larger than `MOST_BYTES`. The old one stays.
    """

    def fill(folder: Path) -> None:
        _copy_code(folder)
        for core in cores:
            shutil.copy(core, folder / "fastprune")
        shutil.copy(plan_file, folder / "plan.toml")
        shutil.copy(SCRIPT, folder / SCRIPT.name)
        (folder / COMMIT_FILE).write_text(work.commit + "\n")
        _save_model(folder / "model", work.place.model)
        (folder / "cache" / "tokens").mkdir(parents=True)
        for planned in plan.allowed():
            path = work.place.tokens_file(planned.run)
            if not (folder / "cache" / "tokens" / path.name).exists():
                work.prepared(planned.run)
                shutil.copy(path, folder / "cache" / "tokens")
        (folder / "known").mkdir()
        for path in results.glob("*.jsonl"):
            shutil.copy(path, folder / "known")
        size = size_of(folder)
        if size > MOST_BYTES:
            raise RuntimeError(f"the folder would have {size / 2**20:.1f} MiB, at most {MOST_BYTES / 2**20:.0f} travel")

    target.parent.mkdir(parents=True, exist_ok=True)
    write_folder_atomic(target, fill)
    return size_of(target)


def size_of(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _copy_code(folder: Path) -> None:
    for name in CODE:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=_NOT_CARRIED)
        else:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, folder / name)
    for name in BUILD:
        shutil.copy(ROOT / name, folder)
    for name in CARRIED:
        spec = importlib.util.find_spec(name)
        if spec is None or not spec.submodule_search_locations:
            raise RuntimeError(f"the package {name} is not installed here, so it cannot be packed")
        shutil.copytree(spec.submodule_search_locations[0], folder / "site" / name, ignore=_NOT_CARRIED)


def _save_model(folder: Path, source: Path | None) -> None:
    """Save the encoder in bf16, at half the size. `read_encoder` rounds to bf16 anyway."""
    encoder, tokenizer, _ = load_encoder(None if source is None else str(source))
    encoder.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
