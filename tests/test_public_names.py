"""The names that users may rely on.  What is not listed here is private."""

import importlib
import inspect

import pytest

import fastprune
from fastprune.pruning import DEFAULT_METHOD, DynamicPruner

PUBLIC = {
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
PRUNER = [
    "cycle",
    "epochs",
    "exchange",
    "history",
    "kept_indices",
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


@pytest.mark.parametrize("module", PUBLIC)
def test_every_public_name_can_be_imported_and_is_documented(module: str) -> None:
    pytest.importorskip("transformers")
    pytest.importorskip("lightning")
    found = importlib.import_module(module)
    for name in PUBLIC[module]:
        assert inspect.getdoc(getattr(found, name)), name
    if module == "fastprune":
        assert sorted(fastprune.__all__) == sorted(PUBLIC[module])


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
