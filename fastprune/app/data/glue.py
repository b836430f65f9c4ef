"""The nine tasks of GLUE: their columns, files and quality measures, from a folder in GLUE's form or from the hub."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fastprune.app.data.builders import read_table
from fastprune.app.data.columns import Wanted
from fastprune.app.data.table import Table, appended
from fastprune.app.data.text import open_text
from fastprune.app.data.types import Kind
from fastprune.errors import UsageError

PREFIX = "glue/"
HUB = "nyu-mll/glue"
FORMS: Sequence[Mapping[str, Sequence[str]]] = (
    {
        "train": ["train.tsv"],
        "validation": ["dev.tsv"],
        "validation_matched": ["dev_matched.tsv"],
        "validation_mismatched": ["dev_mismatched.tsv"],
        "test": ["test.tsv"],
        "test_matched": ["test_matched.tsv"],
        "test_mismatched": ["test_mismatched.tsv"],
    },
    {"train": ["in_domain_train.tsv"], "validation": ["in_domain_dev.tsv", "out_of_domain_dev.tsv"]},
    {"train": ["msr_paraphrase_train.txt"], "test": ["msr_paraphrase_test.txt"]},
)
"""Files by split: GLUE's own, those of CoLA's authors, whose two dev files together are GLUE's, and Microsoft's."""


@dataclass(frozen=True)
class GlueTask:
    """One task.

    Attributes:
        folder: what GLUE calls its folder.
        text, pair, label: columns of its files.
        metrics: the quality measures, the deciding one first.
        header: names of the columns of files without a header line.
        positive: the class whose F1 counts, as files and as the hub call it.
    """

    folder: str
    text: str
    label: str
    metrics: tuple[str, ...] = ("accuracy", "macro_f1")
    pair: str | None = None
    kind: Kind = "classification"
    header: tuple[str, ...] = ()
    positive: tuple[str, ...] = ()

    def wanted(self, names: Sequence[str]) -> Wanted:
        """Return the columns of a table of the task: those of the files, or the hub's usual names."""
        if self.text not in names:
            return Wanted(label="label" if "label" in names else None)
        return Wanted(text=self.text, pair=self.pair, label=self.label if self.label in names else None)


BOTH = ("f1", "accuracy", "macro_f1")
GLUE_TASKS: Mapping[str, GlueTask] = {
    "cola": GlueTask(
        "CoLA", "sentence", "label", ("matthews", "accuracy"), header=("source", "label", "mark", "sentence")
    ),
    "sst2": GlueTask("SST-2", "sentence", "label"),
    "mrpc": GlueTask("MRPC", "#1 String", "Quality", BOTH, pair="#2 String", positive=("1", "equivalent")),
    "qqp": GlueTask("QQP", "question1", "is_duplicate", BOTH, pair="question2", positive=("1", "duplicate")),
    "stsb": GlueTask("STS-B", "sentence1", "score", ("pearson", "spearman"), pair="sentence2", kind="regression"),
    "mnli": GlueTask("MNLI", "sentence1", "gold_label", pair="sentence2"),
    "qnli": GlueTask("QNLI", "question", "label", pair="sentence"),
    "rte": GlueTask("RTE", "sentence1", "label", pair="sentence2"),
    "wnli": GlueTask("WNLI", "sentence1", "label", pair="sentence2"),
}


def glue_task(name: str) -> GlueTask:
    """Return the task that a name such as "glue/cola" means.

    Raises:
        UsageError: there is none of that name.
    """
    found = GLUE_TASKS.get(name.removeprefix(PREFIX).lower().replace("-", ""))
    if found is None:
        raise UsageError(f"--task {name}: GLUE's tasks are {', '.join(PREFIX + task for task in GLUE_TASKS)}.")
    return found


def read_glue(folder: Path, task: GlueTask) -> Mapping[str, Table]:
    """Read the splits of a folder in GLUE's form, or of a folder that holds the task's.

    Raises:
        UsageError: there are no files of the task.
    """
    inside = next((folder / name for name in (task.folder, "tokenized") if (folder / name).is_dir()), folder)
    form = next((form for form in FORMS if all((inside / name).is_file() for name in form["train"])), {})
    splits: dict[str, Table] = {}
    for role, names in form.items():
        tables = [
            read_table(inside / name, kind=".tsv", header=_header(inside / name, task))
            for name in names
            if (inside / name).is_file()
        ]
        if tables:
            splits[role] = appended(tables, str(inside / names[0]))
    if "train" not in splits:
        raise UsageError(
            f"{folder}: no train.tsv of {task.folder} in it: give the folder that GLUE calls {task.folder}."
        )
    return splits


def _header(path: Path, task: GlueTask) -> tuple[str, ...] | None:
    """Return names for the columns if the first line has none."""
    if not task.header:
        return None
    with open_text(path, "latin-1") as file:  # decodes everything, and the reader says later what is no UTF-8
        return None if task.text in file.readline().rstrip("\r\n").split("\t") else task.header
