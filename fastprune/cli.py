"""The command line: ``fastprune finetune``, ``report``, ``methods`` and ``info``.

Bad input ends with one sentence on standard error and exit status 2.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from fastprune.errors import UsageError

INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    arguments = parser().parse_args(argv)
    try:
        arguments.command(arguments)
    except UsageError as error:
        print(f"fastprune: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"fastprune: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("fastprune: interrupted", file=sys.stderr)
        return INTERRUPTED
    return 0


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, without the whole usage before it."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"fastprune: {message}; see {self.prog} --help\n")


def parser() -> argparse.ArgumentParser:
    """The command line's grammar."""
    top = _Parser(prog="fastprune", description="Finetune on the examples that still teach the model something.")
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    job = commands.add_parser(
        "finetune",
        help="finetune on all examples and pruned, and report both",
        description="Finetune an encoder on all examples and with dynamic pruning, side by side. Without "
        "arguments: the packaged MiniLM on the packaged joint intent + slot data.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    job.set_defaults(command=finetune_command)
    what = job.add_argument_group("what")
    what.add_argument("--model", help="model folder or hub id (the packaged MiniLM)")
    what.add_argument(
        "--data",
        help="folder in SlotGated form (train/seq.in, seq.out, label), a .csv/.tsv/.jsonl file or a folder "
        "of them, or a hub id (the packaged home-assistant commands)",
    )
    what.add_argument("--text-column", help="column with the text (found by its usual names)")
    what.add_argument("--label-column", help="column with the label (found by its usual names)")
    what.add_argument("--pair-column", help="column with a second sentence (none)")
    what.add_argument("--slots-column", help="column with space-separated BIO tags (none)")
    what.add_argument("--max-train", type=int, help="train on that many examples only (all)")
    prune = job.add_argument_group("pruning")
    prune.add_argument("--method", nargs="+", default=["el2n"], help="see `fastprune methods`")
    prune.add_argument("--keep-fraction", nargs="+", type=float, default=[0.5], help="share kept, in (0, 1]")
    prune.add_argument("--warmup-epochs", type=int, default=1, help="epochs on everything first")
    prune.add_argument("--cycle-epochs", type=int, default=2, help="epochs between two selections")
    prune.add_argument("--smoothing", default="auto", help="latest, ema, mean:M; auto: ema for joint data")
    prune.add_argument("--offset", type=float, default=0.0, help="share dropped from the hard end first")
    prune.add_argument(
        "--compare",
        action="store_true",
        help="also full cut short to the pruned budget, and random",
    )
    train = job.add_argument_group("training")
    train.add_argument("--epochs", type=int, default=6)
    train.add_argument("--lr", type=float, default=3e-4)
    train.add_argument("--batch-size", type=int, default=32)
    train.add_argument("--max-length", type=int, default=128, help="tokens a text is cut to")
    train.add_argument("--seed", nargs="+", type=int, default=[0], help="one run of everything per seed")
    train.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto")
    train.add_argument("--out", type=Path, help="run folder (runs/<data>-<time>)")
    train.add_argument("--resume", action="store_true", help="go on with the run in --out")

    report = commands.add_parser("report", help="table and picture of a run folder")
    report.set_defaults(command=report_command)
    report.add_argument("run", type=Path, help="run folder")

    methods = commands.add_parser("methods", help="the pruning methods and their cards")
    methods.set_defaults(command=methods_command)
    methods.add_argument("name", nargs="?", help="show this method's card whole")

    info = commands.add_parser("info", help="versions, devices and kernels in use")
    info.set_defaults(command=info_command)
    return top


def finetune_command(arguments: argparse.Namespace) -> None:
    """``fastprune finetune``."""
    from fastprune import data as data_sets
    from fastprune.finetune.spec import plan_runs
    from fastprune.report.folder import METRICS

    _need_packages("transformers", "seqeval", "pyarrow", "matplotlib", "rich")
    training = _training(arguments, joint=True)
    data = data_sets.load(
        arguments.data,
        text_column=arguments.text_column,
        label_column=arguments.label_column,
        pair_column=arguments.pair_column,
        slots_column=arguments.slots_column,
    )
    if arguments.max_train is not None:
        data = data.limit(arguments.max_train)
    if not data.joint:
        training = _training(arguments, joint=False)
    specs = plan_runs(
        arguments.method,
        arguments.keep_fraction,
        arguments.seed,
        n=len(data.train),
        training=training,
        compare=arguments.compare,
    )
    if arguments.resume and arguments.out is None:
        raise UsageError("--resume needs --out, the run folder to go on with")
    out = arguments.out or Path("runs") / f"{data.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    if not arguments.resume and (out / METRICS).is_file():
        raise UsageError(f"--out {out} holds a run already; add --resume to go on with it, or choose another folder")
    _warn_of_unseen(data.unseen)
    if arguments.warmup_epochs >= arguments.epochs:
        print("note: --warmup-epochs covers all --epochs, so nothing is pruned", file=sys.stderr)

    from rich.console import Console

    from fastprune.finetune.session import finetune
    from fastprune.report import rich_table

    try:
        report = finetune(data, arguments.model, specs, training, out, resume=arguments.resume)
    except KeyboardInterrupt:
        print(f"the same command with --out {out} --resume goes on after the last whole epoch", file=sys.stderr)
        raise
    Console().print(rich_table(report.summary))
    print(f"run folder: {out} (report.png, summary.json, metrics.jsonl, scores.parquet, model/)")


def report_command(arguments: argparse.Namespace) -> None:
    """``fastprune report``."""
    from rich.console import Console

    from fastprune.report import rich_table, write_report

    report = write_report(arguments.run)
    Console().print(rich_table(report.summary))
    print(f"picture: {report.picture}")


def methods_command(arguments: argparse.Namespace) -> None:
    """``fastprune methods``."""
    from fastprune.methods import METHOD_CARDS

    if arguments.name is not None:
        if arguments.name not in METHOD_CARDS:
            raise UsageError(f"method {arguments.name!r} is unknown; choose one of {', '.join(METHOD_CARDS)}")
        print(METHOD_CARDS[arguments.name])
        return
    width = max(map(len, METHOD_CARDS))
    for name, card in METHOD_CARDS.items():
        print(f"{name:<{width}}  {card.splitlines()[0]}")


def info_command(arguments: argparse.Namespace) -> None:
    """``fastprune info``."""
    import platform

    import numpy
    import torch

    import fastprune
    from fastprune import _core

    rows = {
        "fastprune": fastprune.__version__,
        "python": platform.python_version(),
        "torch": f"{torch.__version__}, {torch.get_num_threads()} threads",
        "numpy": numpy.__version__,
        "triton": _version("triton"),
        "transformers": _version("transformers"),
        "CPU scores": f"C++ kernels for {_core.instruction_set()}, of {', '.join(_core.instruction_sets())}",
        "CUDA": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
    }
    for name, value in rows.items():
        print(f"{name:<14}{value}")


def _training(arguments: argparse.Namespace, *, joint: bool):  # type: ignore[no-untyped-def]
    from fastprune.finetune.precision import fast_bf16
    from fastprune.finetune.spec import Training

    smoothing = arguments.smoothing
    if smoothing == "auto":
        smoothing = "ema" if joint else "latest"
    return Training(
        epochs=arguments.epochs,
        warmup_epochs=arguments.warmup_epochs,
        cycle_epochs=arguments.cycle_epochs,
        batch_size=arguments.batch_size,
        lr=arguments.lr,
        bf16=fast_bf16() if arguments.precision == "auto" else arguments.precision == "bf16",
        smoothing=smoothing,
        offset=arguments.offset,
        max_length=arguments.max_length,
    )


def _need_packages(*names: str) -> None:
    # Before hours of training, not after them.
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(f"finetune needs {', '.join(missing)}: pip install 'fastprune[demo]'")


def _warn_of_unseen(unseen: dict[str, dict[str, int]]) -> None:
    for kind, labels in unseen.items():
        if labels:
            shown = ", ".join(f"{name} ({count})" for name, count in list(labels.items())[:5])
            more = f" and {len(labels) - 5} more" if len(labels) > 5 else ""
            print(
                f"note: {len(labels)} {kind} label(s) occur only outside the training data and count as errors, "
                f"{sum(labels.values())} times in all: {shown}{more}",
                file=sys.stderr,
            )


def _version(package: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


if __name__ == "__main__":
    sys.exit(main())
