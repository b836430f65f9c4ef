"""Options that come from three places: the command line, a ``--config`` file, and the run folder that stored them.

A command's parser is `undefaulted`, so that its namespace holds what the user gave and nothing else.
"""

from __future__ import annotations

import argparse
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from fastprune.errors import UsageError

Options = dict[str, Any]


def undefaulted(parser: argparse.ArgumentParser) -> Options:
    """Remove the defaults from a parser, write them into its help texts, and return them by name."""
    defaults = {}
    for action in parser._actions:
        if action.default is argparse.SUPPRESS:
            continue
        if action.default not in (None, False, []) and "%(default)" not in (action.help or ""):
            shown = " ".join(map(str, action.default)) if isinstance(action.default, list) else action.default
            action.help = f"{action.help or ''} (default: {shown})".strip()
        defaults[action.dest] = action.default
        action.default = argparse.SUPPRESS
    return defaults


def parsed(parser: argparse.ArgumentParser, options: Mapping[str, Any], where: str) -> Options:
    """Read options by name, as a file holds them, as if they stood on the command line.

    Raises:
        UsageError: there is no such option, or it takes no such value.
    """
    known = {action.dest: action for action in parser._actions if action.option_strings}
    words: list[str] = []
    for name, value in options.items():
        action = known.get(str(name).replace("-", "_"))
        if action is None or action.dest == "help":
            raise UsageError(f"{where}: there is no option {str(name)!r}; names are those of the command line")
        option = action.option_strings[-1]
        if action.nargs == 0:
            if not isinstance(value, bool):
                raise UsageError(f"{where}: {name} must be true or false, got {value!r}")
            words += [option] if value else []
        elif isinstance(value, list) and action.nargs in ("+", "*"):
            words += [option, *map(str, value)]
        elif value is not None:
            if isinstance(value, (dict, list)):
                raise UsageError(f"{where}: {name} takes one value, got {value!r}")
            words += [f"{option}={value}"]
    return vars(parser.parse_args(words))


def read_config_file(parser: argparse.ArgumentParser, path: Path) -> Options:
    """Read the options in a YAML file.

    Raises:
        UsageError: the file cannot be read, or holds anything but options and values.
    """
    import yaml

    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"--config {path} cannot be read: {reason}") from None
    if not isinstance(found, dict):
        raise UsageError(f"--config {path} must hold options with their values, such as 'epochs: 3'")
    return parsed(parser, found, f"--config {path}")


def stored(options: Mapping[str, Any], paths: Collection[str]) -> Options:
    """Return options as config.json keeps them.

    Those named in ``paths`` that are files or folders here are kept with their whole path.
    """

    def plain(name: str, value: Any) -> Any:
        if isinstance(value, tuple):
            return ",".join(value)  # as it is typed
        if isinstance(value, list):
            return [plain(name, item) for item in value]
        if isinstance(value, Path) or (name in paths and isinstance(value, str) and Path(value).exists()):
            return str(Path(value).expanduser().resolve())
        return value

    return {name: plain(name, value) for name, value in options.items() if value not in (None, False, [])}


def check_unchanged(
    given: Mapping[str, Any], kept: Mapping[str, Any], paths: Collection[str], where: str, free: Collection[str]
) -> None:
    """Refuse options that differ from those that a run folder keeps.

    Args:
        given: what stands on the command line.
        kept: what the folder keeps.
        paths: names whose values are files or folders.
        free: names that may differ.
        where: the folder, for messages.

    Raises:
        UsageError: an option differs.
    """
    for name, value in stored({n: v for n, v in given.items() if n not in free}, paths).items():
        if value != kept.get(name):
            option = f"--{name.replace('_', '-')}"
            raise UsageError(f"{where} was made with {option} {_shown(kept.get(name))}, now it is {_shown(value)}; "
                             f"leave {option} out")  # fmt: skip


def _shown(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else "left out" if value is None else str(value)
