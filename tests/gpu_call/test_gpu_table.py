"""The table that a call prints last is short, and shows what matters first."""

from __future__ import annotations

import pytest
from gpu import cases, figures, plan, table
from helpers import made_up_call


def test_everything_is_shown() -> None:
    text = table.of(made_up_call.call())
    for shown in ("made-up H100", "copy 3000 GB/s", "1 of 2 cases hold", "WRONG 64 x 7", "el2n, 8,192 x 128,256 bf16"):
        assert shown in text
    assert "fastprune 0.75 ms" in text  # a median, not a mean
    assert "compile(textbook) failed: out of memory" in text


def test_the_bars_are_judged_by_medians() -> None:
    found = {v.what: v for v in figures.verdicts(made_up_call.call())}
    share = found["el2n, bf16, 1 GB and more: of the copy bandwidth"]
    assert share.holds and share.measured.startswith("93%")  # 2.1 GB in 0.75 ms of 3,000 GB/s
    assert found["the same: textbook eager"].holds  # 20 x
    compiled = found["el2n, 32,768 classes and more: faster compiled form"]
    assert compiled.holds is False and "1.20 x" in compiled.measured
    assert found["scores added to the loss step"].measured.startswith("+0.9 %")
    assert found["el2n, fewer classes: the same"].holds is None
    assert found["what fastprune adds to a MiniLM step"].holds
    assert found["selection, 10^7: torch.topk"].holds and found["selection, 10^7: torch.topk + sort"].holds is None


def test_one_waiting_call_breaks_the_bar() -> None:
    waits = made_up_call.record("waiting", none=False, why="called a synchronizing CUDA operation")
    verdict = figures.verdicts([*made_up_call.call(), waits])[-1]
    assert verdict.holds is False and "synchronizing" in verdict.measured


@pytest.mark.parametrize("limit", [300, 2_000, table.LIMIT])
def test_it_is_never_longer_than_its_limit(limit: int) -> None:
    many = [made_up_call.record("note", text=f"{number} " + "x" * 300) for number in range(100)]
    text = table.of([*made_up_call.call(), *many], limit)
    assert len(text) <= limit
    assert text.startswith("== the call") and text.endswith("results.jsonl")


def test_a_record_that_cannot_be_shown_costs_only_its_section() -> None:
    text = table.of([made_up_call.record("accuracy", case="no answer"), *made_up_call.call()])
    assert "cannot be shown: KeyError" in text
    assert "== selection" in text


def test_nothing_at_all_is_a_table_too() -> None:
    assert "unknown machine" in table.of([])


def test_a_whole_call_leaves_room_for_what_matters() -> None:
    """All sizes of all steps with long lines: only the sweeps may be cut off."""
    found = [r for r in made_up_call.call() if r["kind"] not in ("speed", "step")]
    found += [made_up_call.record("step", step=s.name, status="ok", why="", seconds=99.9) for s in plan.STEPS]
    eager = {"fastprune_all_six": [0.8], "textbook_eager": [15.0], "lean_eager": [9.0]}
    compiled = {"compile(textbook)": [1.0], "compile(lean)": [1.0]}
    for size in cases.SPEED:
        found.append(made_up_call.speed("el2n", size, fastprune=[0.7], **eager))
        found.append(made_up_call.speed("loss step", size, fastprune_with_el2n=[2.2], fastprune=[2.18], torch=[5.0]))
    for size in cases.SPEED[:5]:
        found.append(made_up_call.speed("el2n", size, True, fastprune=[0.7], **compiled))
        others = {"compile(torch)": [3.0], "liger": [4.0]}
        found.append(made_up_call.speed("loss step", size, True, fastprune_with_el2n=[2.2], **others))
    loads = {f"triton_red_fused_{i}": {"in_ptr0": 2} for i in range(5)}
    found += [
        made_up_call.record("compiled by torch", provider="compile(lean)", size=str(size), seconds=9.0, loads=loads)
        for size in cases.SPEED[:5] * 3
    ]
    found += [
        made_up_call.speed(task, size, fastprune=[0.7]) | {"step": "sweeps"}
        for size in cases.SWEEP
        for task in ("el2n", "loss step")
    ]
    found.append(made_up_call.record("counters", skipped="ncu is not here"))
    text = table.of(found)
    assert len(text) <= table.LIMIT
    assert "counters: ncu is not here" in text and "== torch.compile" in text
