"""`discern data ...`: the tree of its commands. The light process does them, but for previews."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import typer

from discern.cli.data_change_commands import list_images, merge, relabel, split
from discern.cli.data_decide_command import decide
from discern.cli.data_file_commands import extract, get, index
from discern.cli.data_flags import data_flags_of
from discern.cli.data_look_commands import check, preview, scan, stats
from discern.cli.data_pack_commands import pack, unpack, verify
from discern.cli.flags import flags_of
from discern.cli.options import build_command

data_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

# In the order of a data set's life.
_COMMANDS: tuple[tuple[str, Callable[..., Any], str], ...] = (
    ("get", get, "Download or convert a data set: a name, or an address."),
    ("extract", extract, "Unpack an archive safely."),
    ("scan", scan, "What there is: the way in, classes, counts, sizes, problems."),
    ("check", check, "Decode everything; find damage, duplicates, leaks, odd images."),
    ("stats", stats, "Counts, sizes, shapes, modes, mean and std."),
    ("preview", preview, "What the network sees: augmented and evaluation images."),
    ("split", split, "Train, val and test, or folds, in a new manifest."),
    ("merge", merge, "Several data sets as one manifest."),
    ("relabel", relabel, "Other labels from a table or .lst, in a new manifest."),
    ("decide", decide, "Decisions on a review's images: made, shown, taken back."),
    ("list", list_images, "Lists of images (.lst) as im2rec makes them."),
    ("pack", pack, "Tar shards, a .rec with .idx and .lst, or a folder."),
    ("unpack", unpack, "Shards or records back to files in class folders."),
    ("verify", verify, "Hash packed files against their index."),
    ("index", index, "The .idx of a .rec file."),
)
for _name, _function, _help in _COMMANDS:
    _flags = flags_of("data preview") if _name == "preview" else data_flags_of(_name)
    _command = build_command(_function, _flags) if _flags else _function
    data_app.command(_name, help=_help)(_command)
