"""How a command ends that failed: one sentence, of one process, and no lock is left."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import torch.distributed as dist
from helpers.made_up_data import utterances, write_slotgated

from fastprune.app.cli import ending, main
from fastprune.app.finetune import ranks, session
from fastprune.errors import UsageError
from fastprune.platform.collectives import FailedElsewhereError


@pytest.fixture(autouse=True)
def listens_to_ctrl_c() -> Iterator[None]:
    """A shell's background job is started with Ctrl-C ignored, and Python leaves it so."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class EndedError(Exception):
    """Stands for the end of the process."""


@pytest.fixture
def several(monkeypatch: pytest.MonkeyPatch) -> dist.TCPStore:
    """This process counts as rank 1 of 2, and ``os._exit`` raises `EndedError`."""
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, timeout=timedelta(seconds=10))
    for name, value in {"RANK": 1, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": store.port}.items():
        monkeypatch.setenv(name, str(value))

    def leave(status: int) -> None:
        raise EndedError(status)

    monkeypatch.setattr(ending.os, "_exit", leave)
    monkeypatch.setattr(ending, "GRACE", 0.0)
    monkeypatch.setattr(ranks, "TURN", timedelta(seconds=0.2))
    return store


def end(error: BaseException) -> int:
    with pytest.raises(EndedError) as ended:
        ending.ended(error)
    return ended.value.args[0]


def test_the_first_that_fails_speaks_and_names_itself(several, capsys: pytest.CaptureFixture) -> None:
    assert end(ValueError("a\nb")) == 1
    assert capsys.readouterr().err == "ValueError: a\nb\nfastprune: rank 1: ValueError: a\n"
    assert end(UsageError("not again")) == 2
    assert capsys.readouterr().err == ""


def test_a_restart_speaks_again(several, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    assert end(UsageError("--lr is 0")) == 2
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert end(OSError(28, "No space left on device")) == 1
    first, second = capsys.readouterr().err.splitlines()
    assert first == "fastprune: rank 1: --lr is 0"
    assert second.startswith("fastprune: rank 1: [Errno 28] No space left on device; nothing that was written")


def test_what_follows_from_another_failure_is_not_said(several, capsys: pytest.CaptureFixture) -> None:
    follows = FailedElsewhereError("score_fn failed on rank [0]; see the error raised there")
    wrapped = UsageError("--resume: cannot be gone on with")
    wrapped.__cause__ = follows
    assert end(follows) == 1 and end(wrapped) == 2
    assert capsys.readouterr().err == ""
    assert end(ValueError("why")) == 1, "the one that failed still has its turn"
    assert "rank 1: ValueError: why" in capsys.readouterr().err


def test_a_process_that_vanished_is_named_as_the_cause(several, capsys: pytest.CaptureFixture) -> None:
    assert end(RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:4242")) == 1
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("fastprune: rank 1: another process ended without a word")


@pytest.mark.parametrize("rank", ["0", "1"])
def test_without_the_store_the_first_process_speaks(
    several, rank: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.delenv("MASTER_PORT")
    monkeypatch.setenv("RANK", rank)
    assert end(UsageError("--lr is 0")) == 2
    assert capsys.readouterr().err == ("fastprune: --lr is 0\n" if rank == "0" else "")


def test_a_mistake_of_the_program_shows_where(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("fastprune.app.cli.info.run", broken)
    with pytest.raises(ZeroDivisionError):
        main(["info"])


@pytest.mark.parametrize(
    ("number", "status", "word"), [(signal.SIGTERM, 143, "terminated"), (signal.SIGINT, 130, "interrupted")]
)
def test_a_request_to_end_lets_go_of_the_lock(
    number: int, status: int, word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    write_slotgated(tmp_path / "data", {"train": utterances(20, 0), "test": utterances(5, 1)})
    out = tmp_path / "run"

    def train(*args: object, **kwargs: object) -> None:
        (out / "config.json").write_text('{"fastprune_run": 1}')
        assert (out / ".lock").exists()
        signal.raise_signal(number)

    monkeypatch.setattr(session, "finetune", train)
    before = signal.getsignal(signal.SIGTERM)
    assert main(["finetune", "--data", str(tmp_path / "data"), "--out", str(out)]) == status
    hint, said = capsys.readouterr().err.splitlines()
    assert hint == f"fastprune finetune --out {out} --resume goes on after the last whole epoch"
    assert said == f"fastprune: {word}"
    assert [path.name for path in out.iterdir()] == ["config.json"]
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("more", [{}, {"OMPI_COMM_WORLD_SIZE": "2"}])
def test_accelerate_on_the_cpu_is_told_that_it_started_one(
    more: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    for name, value in {"ACCELERATE_USE_CPU": "True", "MASTER_ADDR": "127.0.0.1", **more}.items():
        monkeypatch.setenv(name, value)
    ranks.join()
    assert capsys.readouterr().err.startswith("note: accelerate launch --cpu starts one process") == (not more)
