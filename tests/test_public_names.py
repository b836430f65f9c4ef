"""The names that users may rely on, and our own application with them.  What is not listed here is private."""

import ast
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_origin

import pytest

import fastprune
from fastprune import app
from fastprune.pruning import DEFAULT_METHOD, DynamicPruner

PUBLIC: dict[str, list[str]] = {
    "fastprune": [
        "EMA",
        "Budget",
        "CosineRamp",
        "DynamicPruner",
        "Head",
        "JointLoss",
        "JointModel",
        "Latest",
        "LinearRamp",
        "Mean",
        "PruningCallback",
        "Schedule",
        "Selection",
        "Task",
        "TopK",
        "attach",
        "cross_entropy",
        "detach",
        "el2n",
        "grand",
        "joint_el2n",
        "linear_cross_entropy",
        "linear_score",
        "per_sample_grand",
        "prepare_accelerate",
        "score",
        "score_dataset",
        "select_topk",
        "with_index",
    ],
    "fastprune.distributed": ["select_topk"],
    "fastprune.methods": ["METHOD_CARDS", "ScoreMethod"],
    "fastprune.methods.unscored": ["unscored_first"],
    "fastprune.models": ["JointModel", "MeanForSequenceClassification"],
    "fastprune.pruning": [
        "History",
        "Latest",
        "Listener",
        "Mean",
        "Method",
        "Moments",
        "Statistic",
        "get_method",
        "method_names",
        "register",
    ],
    "fastprune.scores.metrics": ["Metric", "TABLE"],
    "fastprune.selection": [
        "Selection",
        "TopK",
        "class_balanced",
        "easiest",
        "hardest",
        "probabilistic",
        "random",
        "select_topk",
        "stratified",
        "threshold_random",
        "window",
    ],
}
"""What users may rely on, by the module that documents it."""

APPLICATION: dict[str, list[str]] = {
    "fastprune.errors": ["UsageError", "in_short", "shown"],
    "fastprune._core": ["instruction_set", "instruction_sets"],
    "fastprune.integrations.causal_lm": [
        "check_head",
        "counted_tokens",
        "example_scores",
        "hidden_states",
        "output_head",
    ],
    "fastprune.methods": ["Static"],
    "fastprune.methods.unscored": ["fitting_offset"],
    "fastprune.models": ["MeanConfig"],
    "fastprune.platform.collectives": [
        "FailedElsewhereError",
        "broadcast_object",
        "gather_objects",
        "is_initialized",
        "launcher_store",
        "world",
    ],
    "fastprune.pruning": [
        "DEFAULT_METHOD",
        "EMA",
        "Budget",
        "CosineRamp",
        "Driver",
        "DynamicPruner",
        "KeepFraction",
        "LinearRamp",
        "Phase",
        "Piece",
        "Progress",
        "PruningSampler",
        "RankSampler",
        "Schedule",
        "as_statistic",
        "check_fraction",
        "parse_keep_fraction",
        "parse_method",
        "score_dataset",
        "with_index",
    ],
    "fastprune.scores": [
        "Head",
        "JointLoss",
        "LastLayers",
        "Task",
        "cross_entropy",
        "el2n",
        "grand",
        "joint_el2n",
        "linear_cross_entropy",
        "linear_score",
        "per_sample_grand",
        "score",
    ],
    "fastprune.scores.metrics": [
        "HeadKind",
        "difficulty",
        "hard_where_small",
        "is_hard_where_small",
        "is_vector",
        "lacking",
        "needs_states",
        "of_examples",
        "of_rows",
    ],
    "fastprune.selection.by_chance": ["below_mean"],
    "fastprune.selection.by_group": ["Quota"],
    "fastprune.selection.by_rank": ["count_dropped"],
    "fastprune.selection.ties": ["Ties", "tie_note"],
}
"""What our own application takes beside it. It has a docstring, and no promise that it stays."""
PRUNER = [
    "cycle",
    "epochs",
    "exchange",
    "history",
    "kept_indices",
    "listener",
    "load_state_dict",
    "log",
    "mean_loss",
    "method",
    "n",
    "observe",
    "progress",
    "record_scores",
    "rescore",
    "reset",
    "sampler",
    "schedule",
    "seed",
    "state_dict",
    "total_batches",
    "total_examples",
    "wants_scores",
    "weights",
]
OPTIONS = ["keep_fraction", "warmup_epochs", "cycle_epochs", "final_share", "method", "seed"]


def names_of(module: str) -> list[str]:
    """The names of a module that are documented, for users or for the application alone."""
    return [*PUBLIC.get(module, ()), *APPLICATION.get(module, ())]


@pytest.mark.parametrize("module", PUBLIC | APPLICATION)
def test_every_public_name_can_be_imported_and_is_documented(module: str) -> None:
    pytest.importorskip("transformers")
    pytest.importorskip("lightning")
    found = importlib.import_module(module)
    for name in names_of(module):
        thing = getattr(found, name)
        assert inspect.getdoc(thing) or get_origin(thing) is Literal, name
    if hasattr(found, "__all__"):
        assert sorted(found.__all__) == sorted(names_of(module))


def imports(file: Path) -> Iterator[tuple[str, str]]:
    """What a file imports of fastprune: module and name."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "fastprune":
            for name in node.names:
                module = f"{node.module}.{name.name}"
                # `from package import module` takes what the module documents.
                yield (module, "") if module in PUBLIC | APPLICATION else (node.module, name.name)


def test_the_application_uses_documented_names_alone() -> None:
    own = ("fastprune.app", "fastprune.files")
    private = [
        f"{file.name}: from {module} import {name}"
        for folder in app.__path__
        for file in sorted(Path(folder).rglob("*.py"))
        for module, name in imports(file)
        if not f"{module}.{name}".startswith(own) and name not in ["", *names_of(module)]
    ]
    assert private == []


def test_a_pruner_has_what_a_loop_needs_and_nothing_else() -> None:
    pruner = DynamicPruner(10, keep_fraction=0.5)
    assert [name for name in dir(pruner) if not name.startswith("_")] == sorted([*PRUNER, "driver", "fingerprint"])


@pytest.mark.parametrize("way_in", ["DynamicPruner", "attach", "PruningCallback"])
def test_signatures_show_what_to_prune_and_when(way_in: str) -> None:
    pytest.importorskip("transformers")
    pytest.importorskip("lightning")
    parameters = inspect.signature(getattr(fastprune, way_in)).parameters
    assert [name for name in parameters if name in OPTIONS] == OPTIONS
    assert all(parameters[name].kind is inspect.Parameter.KEYWORD_ONLY for name in OPTIONS)
    assert parameters["keep_fraction"].default is inspect.Parameter.empty
    assert parameters["method"].default == DEFAULT_METHOD
    for name in OPTIONS:
        assert f"{name}:" in inspect.getdoc(getattr(fastprune, way_in)), "its docstring explains it"


def test_a_renamed_name_works_and_warns() -> None:
    with pytest.warns(DeprecationWarning, match="fastprune.prepare is called fastprune.prepare_accelerate now"):
        assert fastprune.prepare is fastprune.prepare_accelerate


def test_the_old_name_of_a_pieces_number_works_and_warns() -> None:
    pruner = DynamicPruner(4, keep_fraction=0.5, method="random")
    for number in pruner.epochs(2):
        with pytest.warns(DeprecationWarning, match="piece_number"):
            assert pruner.sampler.epoch == pruner.sampler.piece_number == number
        list(pruner.sampler)


def test_the_old_keyword_of_rescore_works_and_warns() -> None:
    pruner = DynamicPruner(4, keep_fraction=0.5, method="el2n")
    next(pruner.epochs(2))
    with pytest.warns(DeprecationWarning, match="score_indices"):
        pruner.rescore(score_fn=lambda index: index.float())
    assert pruner.history.value("el2n").tolist() == [0, 1, 2, 3]
    with pytest.raises(TypeError, match="needs score_indices"):
        pruner.rescore()
