"""Tests the compiled core on its own: it needs NumPy and neither PyTorch nor an installed fastprune package.

So a wheel can be tested for any Python, also where PyTorch has no build.

    python .ci/core_alone.py [FOLDER]     # the folder that holds _core*.so; by default the installed fastprune
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np

METRICS = ("el2n", "loss", "confidence", "margin", "entropy", "correct")
"""The metrics, in the order of `Metric` in the core's header of row scores."""


def core(folder: Path | None) -> ModuleType:
    """The extension, loaded without its package, which would import PyTorch."""
    if folder is None:
        package = importlib.util.find_spec("fastprune")
        if package is None or not package.submodule_search_locations:
            sys.exit("fastprune is not installed; name the folder that holds its _core")
        folder = Path(package.submodule_search_locations[0])
    tag = f"_core.cpython-{sys.version_info.major}{sys.version_info.minor}"
    (path,) = (found for found in folder.glob("_core*") if found.name.startswith((tag, "_core.abi3")))
    specification = importlib.util.spec_from_file_location("fastprune._core", path)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def defined(logits: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """The scores by their textbook definitions, in double precision."""
    rows = np.arange(len(labels))
    z = logits.astype(np.float64)
    e = np.exp(z - z.max(1, keepdims=True))
    p = e / e.sum(1, keepdims=True)
    others = z.copy()
    others[rows, labels] = -np.inf
    truth = np.zeros_like(z)
    truth[rows, labels] = 1.0
    margin = z[rows, labels] - others.max(1)
    return {
        "el2n": np.linalg.norm(p - truth, axis=1),
        "loss": -np.log(p[rows, labels]),
        "confidence": p[rows, labels],
        "margin": margin,
        "entropy": -(p * np.log(p)).sum(1),
        "correct": (margin >= 0).astype(np.float64),
    }


def test_scores(module: ModuleType) -> None:
    """Row scores agree with their definitions, for few and many classes, on one thread and on two."""
    draw = np.random.default_rng(0)
    for classes in (2, 7, 150, 1_000, 20_000):
        logits = draw.normal(size=(37, classes), scale=2.0).astype(np.float32)
        labels = draw.integers(classes, size=37)
        wanted = defined(logits, labels)
        for threads in (1, 2):
            found = np.zeros((len(METRICS), 37), dtype=np.float32)
            rows = (logits.ctypes.data, module.DType.float32, 1, 37, classes, 0, classes)
            where = (labels.ctypes.data, 0, 1, 0, -100, threads)
            assert module.row_scores((*rows, *where), [row.ctypes.data for row in found]) == -1
            for name, values in zip(METRICS, found, strict=True):
                np.testing.assert_allclose(values, wanted[name], rtol=4e-6, atol=1e-6, err_msg=f"{name}, {classes}")


def test_bad_label(module: ModuleType) -> None:
    """A label out of range is reported by its position."""
    logits, labels = np.zeros((3, 4), dtype=np.float32), np.array([0, 9, 1])
    out = np.zeros((len(METRICS), 3), dtype=np.float32)
    rows = (logits.ctypes.data, module.DType.float32, 1, 3, 4, 0, 4, labels.ctypes.data, 0, 1, 0, -100, 1)
    assert module.row_scores(rows, [row.ctypes.data for row in out]) == 1


def test_selection(module: ModuleType) -> None:
    """Top-k is exact and ascending, with ties to the smaller index."""
    draw = np.random.default_rng(1)
    for n in (1, 10, 5_000, 200_000):
        for name in ("float32", "float64", "int8"):
            scores = (draw.normal(size=n) * 20).astype(name)
            for k in (0, 1, n // 2, n):
                out = np.full(k, -1, dtype=np.int64)
                arguments = (scores.ctypes.data, getattr(module.DType, name), n, scores.strides[0], k, True)
                assert module.select_topk(*arguments, module.NanPolicy.__members__["raise"], 2, out.ctypes.data) == -1
                wanted = np.sort(np.argsort(-scores.astype(np.float64), kind="stable")[:k])
                np.testing.assert_array_equal(out, wanted, err_msg=f"{name}, {k} of {n}")


def test_draws(module: ModuleType) -> None:
    """Draws are a function of seed, round and index alone."""
    whole, part = np.empty(1_000), np.empty(400)
    module.uniforms(7, 3, 0, 1_000, 2, whole.ctypes.data)
    module.uniforms(7, 3, 600, 400, 1, part.ctypes.data)
    np.testing.assert_array_equal(whole[600:], part)
    assert 0.0 < whole.min() < whole.max() < 1.0 and abs(whole.mean() - 0.5) < 0.05


if __name__ == "__main__":
    loaded = core(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
    assert "torch" not in sys.modules
    for test in (test_scores, test_bad_label, test_selection, test_draws):
        test(loaded)
    print(f"the core works: {loaded.__file__}, {loaded.instruction_set()} of {', '.join(loaded.instruction_sets())}")
