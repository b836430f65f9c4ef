"""A name means one method, and a notebook's cell that runs twice replaces its own."""

import functools
from dataclasses import dataclass

import pytest
import torch

from fastprune.methods import METHOD_CARDS
from fastprune.methods.el2n import el2n
from fastprune.methods.forgetting import Forgetting
from fastprune.pruning import Method, get_method, method, method_names, register
from fastprune.selection import Selection


def test_a_name_is_taken_once():
    taken = "'el2n' is registered already, by fastprune.methods.el2n.el2n; choose another name"
    with pytest.raises(ValueError, match=taken):
        register("el2n", Forgetting)
    with pytest.raises(ValueError, match=taken):
        register("el2n")(functools.partial(Forgetting))
    assert get_method("el2n") == el2n()


CELL = """
@register("of-a-notebook")
@dataclass(frozen=True)
class OfANotebook(Method):
    \"\"\"Keep the first {what}.

    Rule: the first k.  Cost: {what}.
    \"\"\"

    share: float = 0.5
    name = "of-a-notebook"

    def select(self, history, k, *, cycle, epoch, seed):
        return Selection(torch.arange(k))
"""


def test_a_cell_that_runs_twice_replaces_its_method(monkeypatch):
    before = set(method_names())
    monkeypatch.setattr(method, "_REGISTRY", dict(method._REGISTRY))
    scope = {"__name__": "a_notebook", "register": register, "dataclass": dataclass, "Method": Method,
             "Selection": Selection, "torch": torch}  # fmt: skip
    made = []
    for what in ("once", "twice"):
        exec(CELL.format(what=what), scope)
        made.append(scope["OfANotebook"])
        assert type(get_method("of-a-notebook")) is made[-1]
        assert METHOD_CARDS["of-a-notebook"].splitlines() == [
            f"Keep the first {what}.",
            "",
            f"Rule: the first k.  Cost: {what}.",
            "",
            "In Python: from a_notebook import OfANotebook; OfANotebook(share=0.5)",
            "On the command line: --method 'of-a-notebook(share=0.5)'",
        ]
    assert made[0] is not made[1]
    assert set(METHOD_CARDS) == set(method_names()) == before | {"of-a-notebook"}
    with pytest.raises(ValueError, match="by a_notebook.OfANotebook; choose another name"):
        exec(CELL.format(what="elsewhere"), {**scope, "__name__": "another_notebook"})
    with pytest.raises(KeyError):
        METHOD_CARDS["magic"]
