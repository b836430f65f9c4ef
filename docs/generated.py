"""The parts of the documentation that are made from the code and from committed results.

They are the methods' cards, the command line, and the pages beside the results.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

import torch

from fastprune.app.cli import parser
from fastprune.app.cli.methods import fields_of
from fastprune.methods import METHOD_CARDS
from fastprune.pruning.method import Method, get_method

ROOT = Path(__file__).resolve().parents[1]
NEEDS_A_FILE = {"static"}
"""Methods that cannot be made without an argument."""


def write(folder: Path) -> None:
    """Write every generated part into ``folder``, but leave files alone that would not change."""
    folder.mkdir(exist_ok=True)
    parts = {
        "method-table.md": method_table(),
        "method-cards.md": method_cards(),
        "command-line.md": command_line(),
        "evidence.md": committed_page("benchmarks/results/evidence/README.md"),
        "protocol.md": committed_page("benchmarks/README.md"),
    }
    for name, text in parts.items():
        path = folder / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


# --- methods ---------------------------------------------------------------------------------------------------------


def method_table() -> str:
    """A row for each method: what it keeps, where its scores come from, and what it costs."""
    lines = [
        "| method | what it does | scores come from | weights | warm-up, cycle, final share | bytes an example |",
        "|---|---|---|---|---|--:|",
    ]
    for name, card in METHOD_CARDS.items():
        facts = ["a file", "no", "", ""] if name in NEEDS_A_FILE else _facts(get_method(name))
        lines.append(f"| [`{name}`](#method-{name}) | {_title(card)} | {' | '.join(facts)} |")
    return "\n".join(lines) + "\n"


def method_cards() -> str:
    """Every card as a section of its own."""
    return "\n".join(_card(name, card) for name, card in METHOD_CARDS.items())


def _title(card: str) -> str:
    return " ".join(card.split("\n\n")[0].split())


def _facts(method: Method) -> list[str]:
    history = method.new_history(1)
    if method.observes:
        source = "the training step"
    elif method.scoring_pass(history, 1) is None:
        source = "nowhere"
    else:
        history.update(*_one_score(method), 0)
        source = "one pass" if method.scoring_pass(history, 2) is None else "a pass each cycle"
    schedule = f"{method.warmup_epochs}, {method.cycle_epochs}, {method.final_share:g}"
    # A vector statistic takes its size from the first scores, so an untouched history says too little of it.
    size = (
        "12 or 16" if method.name == "ucb" else "48 + 4 C" if method.name == "tdds" else f"{history.bytes_per_example}"
    )
    return [source, "yes" if method.weighted else "no", schedule, size]


def _one_score(method: Method) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    return torch.tensor([0]), dict.fromkeys(method.reads, torch.ones(1))


def _card(name: str, card: str) -> str:
    title, parts = fields_of(card)
    lines = [f"(method-{name})=", "", f"## `{name}`", "", _escaped(title), ""]
    for field, text in parts:
        if field in ("In Python", "On the command line"):
            lines += [f"{field}:", "", f"```{'python' if field == 'In Python' else 'sh'}"]
            lines += [text.replace("; ", "\n", 1) if field == "In Python" else f"fastprune finetune {text}", "```", ""]
        elif field:
            for name, said in _subfields(field, text):
                lines += [f"**{name}.** {_escaped(_capital(said))}", ""]
        else:
            lines += [_escaped(text), ""]
    return "\n".join(lines)


def _subfields(field: str, text: str) -> Iterator[tuple[str, str]]:
    """The text of a field, and what it says under "Published:" and "Advice:" as fields of their own."""
    first, *others = re.split(r"\s+(?=(?:Published|Advice): )", text)
    yield field, first
    for part in others:
        name, _, said = part.partition(": ")
        yield name, said


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:] if text[1:2].islower() else text


def _escaped(text: str) -> str:
    """The text of a docstring as Markdown.  Outside of literals no character is markup, and arXiv numbers are links."""
    pieces = re.split(r"(``[^`]+``|`[^`]+`)", text)
    plain = "".join(piece if piece.startswith("`") else re.sub(r"([*_<|])", r"\\\1", piece) for piece in pieces)
    return re.sub(r"arXiv (\d{4}\.\d{5})", r"[arXiv \1](https://arxiv.org/abs/\1)", plain)


# --- the command line ------------------------------------------------------------------------------------------------


def command_line() -> str:
    """Every command with its usage and its options, as the parser has them."""
    top = parser()
    (commands,) = (action for action in top._actions if isinstance(action, argparse._SubParsersAction))
    helps = {choice.dest: choice.help for choice in commands._choices_actions}
    return "\n".join(
        "\n".join(_command(name, command, helps[name] or "")) for name, command in commands.choices.items()
    )


def _command(name: str, command: argparse.ArgumentParser, said: str) -> Iterator[str]:
    text = " ".join((command.description or f"{said[:1].upper()}{said[1:]}.").split())
    yield from (f"## fastprune {name}", "", _escaped(text), "", "```text")
    yield from (command.format_usage().rstrip(), "```", "")
    for group in command._action_groups:
        actions = [action for action in group._group_actions if not isinstance(action, argparse._HelpAction)]
        if not actions:
            continue
        if group.title not in ("options", "positional arguments"):
            yield from (f"### {name}: {group.title}", "")
        for action in actions:
            yield from (f"`{_invocation(action)}`", f": {_escaped(_help(command, action))}", "")


def _invocation(action: argparse.Action) -> str:
    value = "" if action.nargs == 0 else f" {_value(action)}"
    return f"{', '.join(action.option_strings)}{value}" if action.option_strings else _value(action)


def _value(action: argparse.Action) -> str:
    if action.choices is not None:
        name = "{" + ",".join(map(str, action.choices)) + "}"
    else:
        name = str(action.metavar or (action.dest.upper() if action.option_strings else action.dest))
    return {"+": f"{name} [{name} ...]", "?": f"[{name}]", "*": f"[{name} ...]"}.get(str(action.nargs), name)


def _help(command: argparse.ArgumentParser, action: argparse.Action) -> str:
    said = " ".join((action.help or "").split())
    said = said % {**vars(action), "prog": command.prog} if "%(" in said else said.replace("%%", "%")
    default = action.default
    shown = " ".join(map(str, default)) if isinstance(default, (list, tuple)) else default
    known = action.required or default in (None, False, argparse.SUPPRESS, []) or f"{shown}" in said
    said = _capital(said) or "As its name says"
    said = said if said.endswith((".", "?")) else f"{said}."
    if action.required and action.option_strings:
        return f"{said} Required."
    return said if known else f"{said} Default: {shown}."


# --- pages beside the results ----------------------------------------------------------------------------------------


def committed_page(path: str) -> str:
    """A page of the repository, without its title, its pictures and links being those of this folder.

    A link to a file that is no page here becomes the file's name.
    """
    folder = (ROOT / path).parent

    def moved(match: re.Match[str]) -> str:
        bang, text, target = match.groups()
        if "://" in target:
            return match[0]
        where = (folder / target).resolve().relative_to(ROOT).as_posix()
        return f"![{text}](../{where})" if bang else f"{text} (`{where}`)"

    lines = (ROOT / path).read_text(encoding="utf-8").split("\n")
    return re.sub(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)", moved, "\n".join(lines[1:]))
