"""The sentences: what was saved and lost, and how the tables are to be read."""

import pytest

from fastprune.app.report.headline import headline, notes


def run(name, gain=None, saved=None, std=None, seeds=3, deciding="exact_match", value=0.9, **more):
    compared = gain is not None or saved is not None
    return {
        "run": name,
        "method": name.rpartition(" ")[0] or name,
        "deciding": deciding,
        deciding: value,
        "n_seeds": seeds,
        "gain": gain,
        "gain_std": std,
        "time_saved": saved,
        "shared_seeds": seeds if compared else 0,
        **more,
    }


FULL = run("full", method="full", exact_match_std=0.003)


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        (
            run("el2n-free 0.5", -0.004, 0.42, 0.007),
            "el2n-free at 0.5 saved 42 % of the time and lost 0.4 ± 0.7 points of exact match (3 seeds).",
        ),
        (
            run("el2n 0.5", 0.0123, 0.3, seeds=1, deciding="matthews"),
            "el2n at 0.5 saved 30 % of the time and gained 1.2 points of Matthews correlation (one seed).",
        ),
        (
            run("el2n 0.5", -0.1, -0.123, 0.0, seeds=2, deciding="macro_f1"),
            "el2n at 0.5 took 12 % more time and lost 10.0 ± 0.0 points of macro F1 (2 seeds).",
        ),
        (
            run("el2n 0.5", 0.0004, 0.001, 0.002),
            "el2n at 0.5 took as long as full and kept the exact match (0.0 ± 0.2 points) (3 seeds).",
        ),
        (run("m 0.5", -0.0001, 0.5, seeds=1), "m at 0.5 saved 50 % of the time and kept the exact match (one seed)."),
        (run("x", saved=0.5, seeds=1), "x saved 50 % of the time (one seed)."),
        (run("x", 0.5, seeds=1), "x gained 50.0 points of exact match (one seed)."),
        (
            run("ccs linear:0.8:0.3", 0.01, 0.5, seeds=1),
            "ccs at linear:0.8:0.3 saved 50 % of the time and gained 1.0 points of exact match (one seed).",
        ),
        (
            run("el2n 0.5", -0.0123, 0.4, 0.002, seeds=2, deciding="loss"),
            "el2n at 0.5 saved 40 % of the time and raised the loss by 0.012 ± 0.002 (2 seeds).",
        ),
        (
            run("el2n 0.5", 1.5, 0.4, seeds=1, deciding="perplexity"),
            "el2n at 0.5 saved 40 % of the time and lowered the perplexity by 1.500 (one seed).",
        ),
        (
            run("el2n 0.5", 0.0001, 0.4, 0.0004, seeds=2, deciding="loss"),
            "el2n at 0.5 saved 40 % of the time and kept the loss (0.000 ± 0.000) (2 seeds).",
        ),
    ],
)  # fmt: skip
def test_one_method(row, sentence):
    assert headline({"rows": [FULL, row]}) == [sentence]


def test_several_methods_best_first_and_three_at_most():
    rows = [FULL] + [run(f"m{i} 0.5", gain, 0.4) for i, gain in enumerate((-0.03, 0.01, -0.02, 0.0, -0.01))]
    yardsticks = [run("random 0.5", 0.5, 0.4), run("short full 0.5", 0.5, 0.4, method="full")]
    said = headline({"rows": [*rows, *yardsticks]})
    assert [sentence.split()[0] for sentence in said] == ["m1", "m3", "m4"]
    assert headline({"rows": [FULL, *yardsticks]})[0].startswith("random at 0.5 saved")


def test_without_a_run_on_all_data_that_is_said():
    assert headline({"rows": [run("el2n 0.5"), run("el2n 0.3", value=0.8)]}) == [
        "There is no run on all data to compare with.",
        "el2n at 0.5 reached 90.0 % exact match (3 seeds).",
    ]


def test_the_run_on_all_data_alone():
    assert headline({"rows": [FULL]}) == ["full reached 90.0 ± 0.3 % exact match (3 seeds)."]
    assert headline({"rows": [{**FULL, "exact_match": None}]}) == []


SUMMARY = {"deciding": "accuracy", "split": "test", "chosen_on": None, "model_run": None, "others": {}}
SUMMARY["rows"] = [{"n_seeds": 1}]


def test_the_notes_name_what_decides_and_the_run_that_is_kept():
    assert notes(SUMMARY) == ["Decides: accuracy on test."]
    held = {"run": "el2n 0.5", "seed": 1, "epoch": 4}
    assert notes({**SUMMARY, "model_run": held, "rows": [{"n_seeds": 2}]}) == [
        "Decides: accuracy on test.",
        "model/ holds el2n 0.5, seed 1, after epoch 4.",
        "± is the standard deviation over 2 seeds.",
    ]


def test_a_split_that_chose_what_it_reports_is_called_flattering():
    fair = notes({**SUMMARY, "chosen_on": "validation"})
    assert fair[1] == "Shown is each run's best epoch by accuracy on validation." and len(fair) == 2
    for summary in ({**SUMMARY, "chosen_on": "test"}, {**SUMMARY, "chosen_on": "dev", "others": {"dev": []}}):
        split = summary["chosen_on"]
        assert notes(summary)[2] == f"The epochs were chosen on {split}, so the figures on {split} flatter."


def test_notes_of_several_folders_name_the_folder_where_they_differ():
    other = {**SUMMARY, "deciding": "pearson", "model_run": {"run": "full", "seed": 0, "epoch": 1}}
    both = {"folders": {"a": SUMMARY, "b": other}, "rows": [{"n_seeds": 1}]}
    assert notes(both) == [
        "In a: Decides: accuracy on test.",
        "In b: Decides: Pearson correlation on test.",
        "In b: model/ holds full, seed 0, after epoch 1.",
    ]
    assert notes({"folders": {"a": SUMMARY, "b": SUMMARY}, "rows": [{"n_seeds": 1}]}) == ["Decides: accuracy on test."]


def test_a_measure_whose_small_values_are_good():
    alone = [run("a", deciding="loss", value=1.25, seeds=1), run("b", deciding="loss", value=0.5, seeds=1)]
    assert headline({"rows": alone})[-1] == "b reached a loss of 0.500 (one seed)."
    assert notes({"rows": alone, "deciding": "loss", "split": "test", "others": {}})[0] == (
        "Decides: loss on test, and lower is better."
    )
