"""Texts to finetune on: the packaged default, files, folders and hub ids, all as `TextData`."""

from fastprune.app.data.build import build
from fastprune.app.data.fingerprint import identity_of
from fastprune.app.data.load import files_of, load, load_rows
from fastprune.app.data.source import Source
from fastprune.app.data.types import Kind, Label, Split, TextData

__all__ = ["Kind", "Label", "Source", "Split", "TextData", "build", "files_of", "identity_of", "load", "load_rows"]
