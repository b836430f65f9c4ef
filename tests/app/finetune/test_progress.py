"""What is shown while runs go on: at every width, and without a terminal."""

import io
from types import SimpleNamespace

import pytest

rich_console = pytest.importorskip("rich.console")

from fastprune.app.finetune import progress  # noqa: E402
from fastprune.app.finetune.progress import LiveProgress, Work, fitted, time_left  # noqa: E402


@pytest.fixture
def clock(monkeypatch):
    now = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now.seconds)
    return now


def watch(watcher, clock, name="el2n-free 0.5"):
    """Two epochs of 100 examples at 10 a second, each with 60 evaluated at 30 a second; a second run is to come."""
    spec = SimpleNamespace(name=name, seed=3)
    watcher.total(400, 240)
    watcher.run(spec)
    for epoch in (1, 2):
        watcher.epoch(spec, "warmup" if epoch == 1 else "pruned", epoch, 2, 1 / epoch, 100)
        clock.seconds += 10
        watcher.advance(100)
        watcher.loss(0.5 / epoch)
        watcher.epoch(spec, "evaluate", epoch, 2, 1.0, 60)
        clock.seconds += 2
        watcher.advance(60)
        watcher.quality("exact_match", 0.8 + epoch / 10)


def live(width, terminal, **more):
    out = io.StringIO()
    console = rich_console.Console(file=out, width=width, force_terminal=terminal)
    return LiveProgress(2, console=console, **more), out


@pytest.mark.parametrize("width", [60, 80, 120])
def test_loss_metric_and_time_left_are_shown_at_every_width(width, clock):
    watcher, out = live(width, True)
    with watcher:
        watch(watcher, clock)
        shown = watcher.bar.tasks[0].description
        assert all(part in shown for part in ("1/2 el2n-f", "loss 0.25", "Exact 100.0 %", "24 s left"))
        assert ("seed 3" in shown) == (width == 120) and ("epoch 2/2" in shown) == (width >= 80)
        assert watcher.bar.tasks[0].completed == pytest.approx(0.5)
        lines = rich_console.Console(width=width).render_lines(watcher.bar.get_renderable(), pad=False)
        assert len(lines) == 1 and sum(segment.cell_length for segment in lines[0]) <= width


@pytest.mark.parametrize("done", [40, 100])
def test_an_epoch_that_broke_off_is_not_said_to_have_ended(clock, done):
    watcher, out = live(60, False)
    with pytest.raises(KeyboardInterrupt), watcher:
        watch(watcher, clock)
        watcher.epoch(SimpleNamespace(name="full", seed=3), "full", 3, 3, 1.0, 100)
        watcher.advance(done)
        raise KeyboardInterrupt
    assert len(out.getvalue().splitlines()) == (2 if done < 100 else 3)


def test_plain_lines_without_a_terminal(clock):
    watcher, out = live(60, False)
    with watcher:
        watch(watcher, clock)
    assert out.getvalue().splitlines() == [
        "1/2 el2n-free 0.5 · seed 3 · warmup · epoch 1/2 · kept 100% · 10 ex/s · loss 0.5 · Exact 90.0 % · 36 s left",
        "1/2 el2n-free 0.5 · seed 3 · pruned · epoch 2/2 · kept 50% · 10 ex/s · loss 0.25 · Exact 100.0 % · 24 s left",
    ]


def test_silence(clock):
    for terminal in (True, False):
        watcher, out = live(80, terminal, silent=True)
        with watcher:
            watch(watcher, clock)
        assert out.getvalue() == ""


def test_names_from_elsewhere_do_not_reach_the_terminal(clock):
    for terminal in (True, False):
        watcher, out = live(120, terminal)
        with watcher:
            watch(watcher, clock, "[red]\x1b[2J")
        assert "\x1b[2J" not in out.getvalue() and "[red]\\x1b[2J" in out.getvalue()


def test_a_resumed_comparison_counts_what_was_done_before(clock):
    watcher, _ = live(80, True)
    watcher.total(1000, done=0.5)
    spec = SimpleNamespace(name="full", seed=0)
    clock.seconds = 100.0  # loading
    watcher.run(spec)
    watcher.epoch(spec, "full", 1, 1, 1.0, 1000)
    clock.seconds += 10
    watcher.advance(100)
    assert watcher.work == Work(1000, 500, 100) and watcher.work.share == 0.6
    assert "40 s left" in watcher.bar.tasks[0].description


def test_passes_that_nobody_planned_are_spread_over_the_training(clock):
    watcher, _ = live(80, True)
    spec = SimpleNamespace(name="full", seed=0)
    watcher.total(300)
    for epoch in (1, 2):
        for phase, length in (("full", 100), ("score", 500)):
            watcher.epoch(spec, phase, epoch, 3, 1.0, length)
            clock.seconds += 5
            watcher.advance(length)
    assert watcher.work.done == 200 and watcher.work.left(clock.seconds) == 10


def test_without_a_plan_there_is_no_guess(clock):
    watcher, _ = live(80, True)
    spec = SimpleNamespace(name="full", seed=0)
    watcher.epoch(spec, "full", 1, 3, 1.0, 100)
    watcher.advance(25)
    assert "left" not in watcher.bar.tasks[0].description and watcher.bar.tasks[0].completed == 0.25
    assert time_left(Work(total=5).left(3.0)) == ""


def test_the_line_never_is_too_long():
    parts = [(10, "x" * 50), (3, "seed 0"), (9, "12 min left")]
    for width in range(1, 80):
        assert len(fitted(parts, width)) <= width
    assert fitted(parts, 26) == "x" * 11 + "… · 12 min left"


def test_counting_is_silent_without_a_terminal(capsys):
    with progress.counting("scoring", 3) as done:
        done(3)
    assert capsys.readouterr() == ("", "")
