"""The documentation: what it names exists, its links lead somewhere, and its examples run."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import re
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import fastprune
from fastprune.app.cli import parser
from fastprune.methods import METHOD_CARDS
from fastprune.pruning import get_method
from fastprune.pruning.method import factory_of

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("docs/*.md"), *ROOT.glob("docs/[a-z]*/*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"])
pytestmark = pytest.mark.skipif(not (ROOT / "docs" / "conf.py").exists(), reason="needs the source tree")

NAMED = re.compile(r"`((?:fastprune|csrc|tests|benchmarks|docs|\.ci|\.github)/[\w./*-]*)`")
AT_THE_TOP = re.compile(r"`([A-Za-z_]+\.(?:md|toml|py|cff)|Makefile|LICENSE)`")
DIRECTIVE = re.compile(r"^```\{(?:image|include|literalinclude)\} (\S+)", re.MULTILINE)
DEFINED = re.compile(r"`([\w.]+)`(?: and `([\w.]+)`)? in\s+`([\w/-]+\.(?:py|h))`")
LINK = re.compile(r"\]\(([^)#\s]+)(#[^)\s]*)?\)")
FENCE = re.compile(r"```python\n(.*?)```", re.DOTALL)


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def generated():
    specification = importlib.util.spec_from_file_location("generated", ROOT / "docs" / "generated.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_every_file_that_a_page_names_exists() -> None:
    named = {(page.name, name) for page in PAGES for name in NAMED.findall(read(page)) if "NAME" not in name}
    assert len(named) > 60
    assert [where for where in sorted(named) if not any(ROOT.glob(where[1].rstrip("/")))] == []


def test_every_file_at_the_top_that_a_page_names_exists() -> None:
    """A path without a folder is one of the repository's top folder, of a run folder, or of a checkpoint."""
    of_runs = {"report.md", "dynamics_epoch_0.jsonl"}
    named = {(page.name, name) for page in PAGES for name in AT_THE_TOP.findall(read(page)) if name not in of_runs}
    assert len(named) > 2
    assert [where for where in sorted(named) if not (ROOT / where[1]).is_file()] == []


def test_every_picture_and_every_part_that_a_page_takes_in_exists() -> None:
    taken = [(page, name) for page in PAGES for name in DIRECTIVE.findall(read(page)) if "_generated" not in name]
    assert len(taken) > 6
    assert [(page.name, name) for page, name in taken if not (page.parent / name).is_file()] == []


def test_a_name_that_a_page_puts_into_a_file_is_in_it() -> None:
    """The text "`Progress` in `fastprune/pruning/progress.py`" says where to look."""
    said = [(page.name, *names) for page in PAGES for names in DEFINED.findall(read(page))]
    assert len(said) > 5
    for page, *names, path in said:
        for name in filter(None, names):
            assert re.search(rf"\b{name.split('.')[-1]}\b", read(ROOT / path)), (page, name, path)


def test_a_figure_has_the_date_of_its_results() -> None:
    """A page that quotes a results file says when that was measured."""
    quoted = [
        (page, name) for page in PAGES for name in NAMED.findall(read(page)) if name.startswith("benchmarks/results/")
    ]
    dated = []
    for page, name in quoted:
        for path in ROOT.glob(name):
            dates = re.findall(r"^- date: (\d{4}-\d\d-\d\d)", read(path), re.MULTILINE) if path.suffix == ".md" else []
            dated += [(page, path.name, date) for date in dates]
    assert len(dated) > 4
    assert [(page.name, name, date) for page, name, date in dated if date not in read(page)] == []


def test_every_link_leads_to_a_file() -> None:
    links = [(page, target) for page in PAGES for target, _ in LINK.findall(read(page)) if "://" not in target]
    assert len(links) > 60
    assert [(page.name, target) for page, target in links if not (page.parent / target).exists()] == []


def test_what_the_map_says_to_look_for_is_in_the_file() -> None:
    rows = [row.split("|")[1:4] for row in read(ROOT / "docs" / "map.md").splitlines() if row.startswith("| ")]
    questions = [row for row in rows if row[0].strip().endswith("?")]
    assert len(questions) > 20
    for question, files, names in questions:
        text = "".join(read(ROOT / name) for name in re.findall(r"`([^`]+\.py)`", files))
        for name in re.findall(r"`([\w.]+)`", names if text else ""):
            assert re.search(rf"\b{name.split('.')[-1]}\b", text), (question, name)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_example_is_python(page: Path) -> None:
    for code in FENCE.findall(read(page)):
        ast.parse(code)


@pytest.mark.parametrize(
    ("page", "number"), [("README.md", 1), ("docs/start/plain_loop.md", 0), ("docs/start/plain_loop.md", 1)]
)
def test_the_plain_loop_runs(page: str, number: int) -> None:
    torch.manual_seed(0)
    train = TensorDataset(torch.randn(96, 4), torch.randint(3, (96,)))
    model = torch.nn.Linear(4, 3)
    names = {
        "torch": torch,
        "fastprune": fastprune,
        "DataLoader": DataLoader,
        "train": train,
        "model": model,
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.1),
    }
    exec(FENCE.findall(read(ROOT / page))[number], names)
    pruner = names["pruner"]
    assert len(pruner.kept_indices) == 48
    assert pruner.progress.examples_seen == pruner.total_examples(10) == 96 + 9 * 48


@pytest.mark.usefixtures("registry_of_its_own")
def test_the_example_of_a_method_runs_in_a_loop() -> None:
    names: dict[str, object] = {}
    exec(FENCE.findall(read(ROOT / "docs" / "adding_a_method.md"))[0], names)
    assert METHOD_CARDS["uncertain"].startswith("Keep the k examples of the largest entropy")
    pruner = fastprune.DynamicPruner(8, keep_fraction=0.5, method="uncertain")
    for epoch in pruner.epochs(2):
        if epoch == 0:
            pruner.observe(torch.arange(8), torch.tensor([0.1, 0.9, 0.2, 0.8, 0.3, 0.7, 0.4, 0.6]))
    assert pruner.kept_indices.tolist() == [1, 3, 5, 7]
    assert isinstance(get_method("uncertain"), names["Uncertain"])


def test_the_generated_pages_hold_every_method_and_every_option(generated) -> None:
    cards, table, commands = generated.method_cards(), generated.method_table(), generated.command_line()
    for name in METHOD_CARDS:
        assert f"\n## `{name}`\n" in cards and f"[`{name}`](#method-{name})" in table
    (choices,) = (action.choices for action in parser()._actions if action.choices)
    for name, command in choices.items():
        section = commands.split(f"## fastprune {name}\n")[1].split("\n## fastprune ")[0]
        options = [
            option for action in command._actions for option in action.option_strings if option not in ("-h", "--help")
        ]
        assert [option for option in options if option not in section] == []


def test_a_card_shows_advice_by_itself(generated) -> None:
    """A method with settings gives advice on them."""
    cards = {name: generated._card(name, card) for name, card in METHOD_CARDS.items()}
    with_settings = [name for name in cards if inspect.signature(factory_of(name)).parameters]
    assert len(with_settings) > 12
    assert [name for name in with_settings if "\n**Advice.** " not in cards[name]] == []


def test_every_environment_variable_has_a_row() -> None:
    """Those that the package, the core, the build or a test reads.  One is a test's own."""
    sources = [*ROOT.glob("fastprune/**/*.py"), *ROOT.glob("tests/**/*.py"), *ROOT.glob("csrc/**/*.cpp")]
    reads = re.compile(r"\"(FASTPRUNE_[A-Z]+(?:_[A-Z]+)*)\"")
    names = {name for path in [*sources, ROOT / "setup.py"] for name in reads.findall(read(path))} - {
        "FASTPRUNE_TEST_FAIL"
    }
    page = read(ROOT / "docs" / "environment.md")
    assert len(names) > 4
    assert [name for name in sorted(names) if f"| `{name}" not in page] == []


def test_every_log_key_has_a_row() -> None:
    page = read(ROOT / "docs" / "watching_a_run.md")
    keys = fastprune.DynamicPruner(4, keep_fraction=0.5).log()
    assert len(keys) == 6 and [key for key in keys if f"| `{key}` |" not in page] == []


def test_a_committed_page_keeps_pictures_and_names_files(generated) -> None:
    page = generated.committed_page("benchmarks/results/evidence/README.md")
    pictures = re.findall(r"!\[[^\]]*\]\(\.\./([^)]+)\)", page)
    assert pictures and all((ROOT / picture).is_file() for picture in pictures)
    assert "the protocol (`benchmarks/README.md`)" in page and "](../../README.md)" not in page
