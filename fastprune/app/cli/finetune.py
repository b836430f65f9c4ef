"""``fastprune finetune``: finetune on all examples and pruned, and report both."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastprune.app.cli.arguments import (
    add_data,
    add_held_out,
    add_trust,
    need_packages,
    say,
    source_of,
    trust_of,
    use_bf16,
)
from fastprune.app.cli.paths import user_path
from fastprune.app.cli.settings import check_unchanged, parsed, read_config_file, stored, undefaulted
from fastprune.app.cli.usual import fill_in, said, usual
from fastprune.app.data import TextData, load
from fastprune.app.data.types import CAUSAL_LM, UNMEASURED
from fastprune.app.printable import printable
from fastprune.app.termination import Termination
from fastprune.errors import UsageError
from fastprune.files.lock import LOCK, new_folder, only_writer
from fastprune.pruning import DEFAULT_METHOD

COMPARED = {"warmup_epochs": 1, "cycle_epochs": 1}
"""The schedule of all runs of a comparison, unless the user gives another."""
LORA_RANK = 16
"""The rank of the adapters of ``--lora`` alone."""


def add(commands: Any) -> None:
    """Add the command's grammar."""
    job = commands.add_parser(
        "finetune",
        help="finetune on all examples and pruned, and report both",
        description="Finetune an encoder or a causal language model on all examples and with dynamic pruning, side by "
        "side. Without arguments: the packaged MiniLM on the packaged joint intent + slot data.",
    )
    job.set_defaults(command=run)
    what = job.add_argument_group("what")
    what.add_argument(
        "--model",
        help="model folder or hub id (the packaged MiniLM, and for causal-lm a tiny random model made of the data, "
        "which is no evidence)",
    )
    add_data(what)
    add_held_out(what)
    add_trust(what)
    prune = job.add_argument_group("pruning")
    prune.add_argument(
        "--method",
        nargs="+",
        default=[DEFAULT_METHOD],
        help="one or more of `fastprune methods`, perhaps with settings, in quotes: 'orderdp(ratio=0.375)'. "
        f"{DEFAULT_METHOD} is rs2, random subsets, for {', '.join(UNMEASURED)}",
    )
    prune.add_argument(
        "--keep-fraction",
        nargs="+",
        default=["0.5"],
        help="share kept, in (0, 1], or linear:A:B or cosine:A:B from the first cycle to the last, or budget:X, the "
        "share of all epochs' examples that the run may read; budget:X:tokens is that share of the tokens, too",
    )
    prune.add_argument(
        "--warmup-epochs",
        type=int,
        help="epochs on everything first (by default the method's own, with --compare "
        f"{COMPARED['warmup_epochs']} for all, if not every share is a budget)",
    )
    prune.add_argument(
        "--cycle-epochs",
        type=int,
        help="epochs between two selections (by default the method's own, with --compare "
        f"{COMPARED['cycle_epochs']} for all)",
    )
    prune.add_argument(
        "--smoothing",
        default="auto",
        help="latest, ema or mean:M, for methods that rank by latest scores. auto means ema for joint data",
    )
    prune.add_argument(
        "--offset", type=float, default=0.0, help="share dropped from the hard end first. 0 leaves the method its own"
    )
    prune.add_argument(
        "--final-share",
        type=float,
        help="share of the epochs, at the end, on all examples (by default the method's own)",
    )
    prune.add_argument(
        "--compare",
        action="store_true",
        help="also full cut short to the pruned budget, and random",
    )
    train = job.add_argument_group("training")
    train.add_argument("--epochs", type=int, help=f"passes over all examples, or over the kept ones ({said('epochs')})")
    train.add_argument(
        "--lr", type=float, help=f"the highest learning rate ({said('lr')}, with --lora {said('lr_lora').split()[-1]})"
    )
    train.add_argument("--batch-size", type=int, help=f"examples in a batch of one process ({said('batch_size')})")
    train.add_argument("--max-length", type=int, help=f"tokens a text is cut to ({said('max_length')})")
    train.add_argument(
        "--lora",
        nargs="?",
        type=int,
        const=LORA_RANK,
        metavar="RANK",
        help=f"train low-rank adapters of a causal-lm alone. RANK is theirs ({LORA_RANK}). It needs the peft package",
    )
    train.add_argument("--seed", nargs="+", type=int, default=[0], help="one run of everything per seed")
    train.add_argument(
        "--precision",
        choices=("auto", "fp32", "bf16"),
        default="auto",
        help="number format. auto is bf16 where that is fast",
    )
    train.add_argument(
        "--best", action="store_true", help="keep the best epoch of each run by the validation split, not the last"
    )
    train.add_argument(
        "--trainer",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="any field of transformers.TrainingArguments, such as weight_decay=0.1 gradient_accumulation_steps=2 "
        "report_to=tensorboard. Those that would break what is promised are refused",
    )
    train.add_argument("--out", type=user_path, help="run folder (runs/<data>-<time>)")
    train.add_argument(
        "--resume",
        action="store_true",
        help="go on with the run in --out, from its newest checkpoint. It needs no other option",
    )
    train.add_argument(
        "--extend",
        action="store_true",
        help="add the given --seed, --method and --keep-fraction to the finished comparison in --out. With another "
        "--epochs all of its runs are made again",
    )
    train.add_argument("--config", type=user_path, help="YAML file of options by name. The command line goes before it")
    train.add_argument(
        "--dynamics", type=user_path, help="folder for each run's logits by epoch, in the form of Dataset Cartography"
    )
    job.set_defaults(parser=job, defaults=undefaulted(job))


def run(arguments: argparse.Namespace) -> None:
    """Run ``fastprune finetune``, on every process that torchrun or accelerate has started."""
    need_packages("finetune", "transformers", "accelerate", "seqeval", "pyarrow", "matplotlib", "rich")
    from fastprune.app.finetune import ranks
    from fastprune.app.finetune.requirements import check_given, with_substitutes
    from fastprune.app.finetune.spec import plan_runs
    from fastprune.app.report.folder import METRICS

    options, command = settled(arguments)
    ranks.join()
    _training(options, options.task)  # what is wrong with it is said before data are read
    data = load(source_of(options))
    training = _training(options, data.kind)
    specs = plan_runs(
        with_substitutes(options.method, data.kind),
        options.keep_fraction,
        options.seed,
        rows=data.train.row_numbers,
        training=training,
        compare=options.compare,
    )
    if not going_on(options):
        smoothing = None if options.smoothing == "auto" else options.smoothing
        check_given(options.method, smoothing=smoothing, offset=options.offset)
        if options.out is not None and (options.out / METRICS).is_file():
            raise UsageError(
                f"--out {options.out} holds a run already; add --resume to go on with it, or choose another folder"
            )
    if ranks.first():
        say(data.notes)
        _warn_of_unseen(data.unseen)
    _finetune(options, command, data, specs, training)


def _finetune(options: argparse.Namespace, command: dict[str, Any], data: TextData, specs: Any, training: Any) -> None:
    """Make the runs and show the report."""
    from rich.console import Console

    from fastprune.app.finetune import ranks
    from fastprune.app.finetune.arguments import parse_trainer
    from fastprune.app.finetune.session import finetune
    from fastprune.app.report import rich_table
    from fastprune.app.report.folder import is_ours

    own = parse_trainer(options.trainer)
    holder = ranks.first()  # of the lock
    with Termination(active=holder) as termination, ranks.of_first(reserved_folder(options.out, data.name)) as out:
        try:
            report = finetune(
                data,
                options.model,
                specs,
                training,
                out,
                resume=options.resume,
                extend=options.extend,
                best=options.best,
                trainer=own,
                dynamics=options.dynamics,
                source=source_of(options).settings(),
                command=command,
                trust=trust_of(options),
            )
        except BaseException as error:
            if holder and is_ours(out) and not isinstance(error, (UsageError, OSError)):
                alike = " and as many processes" if ranks.launched()[1] > 1 else ""
                print(
                    f"fastprune finetune --out {out} --resume{alike} goes on after the last whole epoch",
                    file=sys.stderr,
                )
            raise
        finally:
            termination.settled()
    if report is not None:
        Console().print(rich_table(report.summary))
        print(f"run folder: {out} (report.md, report.png, summary.json, metrics.jsonl, scores.parquet, model/)")


NOT_KEPT = ("command", "parser", "defaults", "out", "resume", "extend", "config")
ADDED = ("seed", "method", "keep_fraction")
"""The options whose values --extend adds to those of the folder."""
PATHS = ("data", "model", "dynamics", "train_file", "validation_file", "test_file", "keep")


def settled(arguments: argparse.Namespace) -> tuple[argparse.Namespace, dict[str, Any]]:
    """Return all options of a run, and the same options as config.json keeps them.

    The command line wins over ``--config``, and ``--config`` over the defaults.  With ``--resume`` and ``--extend`` the
    options are those of the folder, and the command line must agree with them.

    Raises:
        UsageError: it does not agree, or there is no such folder.
    """
    parser, defaults = arguments.parser, arguments.defaults
    given = {name: value for name, value in vars(arguments).items() if name not in ("command", "parser", "defaults")}
    if "config" in given:
        given = {**read_config_file(parser, given["config"]), **given}
    options = argparse.Namespace(**{**defaults, **given})
    if going_on(options):
        kept = _kept(options)
        extended = (*ADDED, "epochs") if options.extend else ()
        check_unchanged(given, kept, PATHS, f"{options.out}: the run", (*NOT_KEPT, *extended))
        before = parsed(parser, kept, f"{options.out / 'config.json'}")
        for name in ADDED if options.extend else ():
            if name in given:
                given[name] = list(dict.fromkeys([*before.get(name, defaults[name]), *given[name]]))
        options = argparse.Namespace(**{**defaults, **before, **given})
    fill_in(options)
    command = {name: value for name, value in vars(options).items() if name not in NOT_KEPT}
    return options, stored(command, PATHS)


def going_on(options: argparse.Namespace) -> bool:
    """Return whether the run folder is there already."""
    return bool(options.resume or options.extend)


def _kept(options: argparse.Namespace) -> dict[str, Any]:
    """Return the command that began the folder, as its config.json holds it."""
    from fastprune.app.finetune.checkpoint import has_checkpoint
    from fastprune.app.report.folder import CONFIG, SUMMARY, is_ours, read_json

    option = "--extend" if options.extend else "--resume"
    if options.resume and options.extend:
        raise UsageError("--resume and --extend do not go together; --resume also goes on with an extended comparison")
    if options.out is None:
        raise UsageError(f"{option} needs --out, the run folder to go on with")
    if not options.out.is_dir():
        raise UsageError(f"{option}: there is no folder {options.out}; leave {option} out to start")
    if not is_ours(options.out):
        raise UsageError(
            f"{option}: {options.out} is no run folder of fastprune, so nothing in it is touched; see --out"
        )
    config = read_json(options.out / CONFIG)
    kept = config.get("command")
    has_checkpoint(options.out)  # refuses those of an earlier version
    if not isinstance(kept, dict):
        raise UsageError(
            f"{option}: {options.out} is of an earlier version, whose runs this one cannot go on with; start again in "
            "another folder (`fastprune report` reads it)"
        )
    if options.resume and (options.out / SUMMARY).is_file() and not has_checkpoint(options.out):
        raise UsageError(f"--resume: the run in {options.out} has ended; `fastprune report {options.out}` shows it")
    # An earlier version may have compared with another schedule.
    return {**kept, **{name: config.get(name) for name in COMPARED if kept.get("compare") and kept.get(name) is None}}


@contextmanager
def reserved_folder(wanted: Path | None, data: str) -> Iterator[Path]:
    """Hold the run folder, so that no other process writes into it.

    Without a name it is a new folder that nobody else has.  A folder that this function made, and that stayed empty, is
    removed again.
    """
    out = wanted or new_folder(Path("runs") / f"{data}-{time.strftime('%Y%m%d-%H%M%S')}")
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out} is a file; choose another name for the run folder")
    made = wanted is None or not out.exists()
    out.mkdir(parents=True, exist_ok=True)
    try:
        with only_writer(out):
            yield out
    finally:
        if made and not set(out.iterdir()) - {out / LOCK}:
            shutil.rmtree(out)


def _schedule_of(arguments: argparse.Namespace) -> dict[str, int | None]:
    """Return warm-up and cycles as they were given. In a comparison they are the same for all runs.

    Runs with a budget read equally many examples whatever their warm-up is, so each method keeps its own there.
    """
    unsaid: dict[str, int | None] = {**COMPARED} if arguments.compare else dict.fromkeys(COMPARED)
    if all(str(keep).startswith("budget:") for keep in arguments.keep_fraction):
        unsaid["warmup_epochs"] = None
    given = {name: getattr(arguments, name) for name in COMPARED}
    return {name: unsaid[name] if value is None else value for name, value in given.items()}


def _training(arguments: argparse.Namespace, kind: str | None):  # type: ignore[no-untyped-def]
    from fastprune.app.finetune.spec import Training

    if arguments.lora is not None and kind != CAUSAL_LM:
        raise UsageError(f"--lora is for --task {CAUSAL_LM}, and these data are for {kind or 'another'}; leave it out")
    return Training(
        epochs=arguments.epochs,
        **_schedule_of(arguments),
        batch_size=arguments.batch_size,
        lr=arguments.lr,
        bf16=use_bf16(arguments.precision),
        smoothing=usual(kind).smoothing if arguments.smoothing == "auto" else arguments.smoothing,
        offset=arguments.offset,
        max_length=arguments.max_length,
        final_share=arguments.final_share,
        lora=arguments.lora,
    )


def _warn_of_unseen(unseen: dict[str, dict[str, int]]) -> None:
    for kind, labels in unseen.items():
        if labels:
            shown = ", ".join(f"{printable(name)} ({count})" for name, count in list(labels.items())[:5])
            more = f" and {len(labels) - 5} more" if len(labels) > 5 else ""
            print(
                f"note: {len(labels)} {kind} label(s) occur only outside the training data and count as errors, "
                f"{sum(labels.values())} times in all: {shown}{more}",
                file=sys.stderr,
            )
