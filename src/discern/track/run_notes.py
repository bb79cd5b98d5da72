"""What people write about a run: title, note, tags. Owns `notes.json`, version 1.

It is a file of its own because `run.json` belongs to the run's writer, who may be at work.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from discern.base.errors import ConfigError, RunError
from discern.base.files import write_json

NOTES_FILE: Final = "notes.json"
NOTES_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Notes:
    """Title and note of a run, its tags in their order, and what is wrong with their file."""

    title: str = ""
    note: str = ""
    tags: tuple[str, ...] = ()
    problem: str | None = None


def read_notes(folder: Path, record: Mapping[str, Any]) -> Notes:
    """The notes of the run in `folder`; what nobody has changed comes from its `record`.

    An experiment of a loop of one's own gives tags and a comment of its own there.
    """
    begun = record.get("experiment")
    begun = begun if isinstance(begun, dict) else {}
    tags = begun.get("tags", record.get("tags"))
    own = [str(tag) for tag in tags] if isinstance(tags, list) else []
    notes = Notes("", str(begun.get("comment") or ""), tuple(dict.fromkeys(own)))
    try:
        written = json.loads((folder / NOTES_FILE).read_bytes())
    except FileNotFoundError:
        return notes
    except (OSError, ValueError, RecursionError) as error:
        return replace(notes, problem=f"{NOTES_FILE} cannot be read: {error}")
    if not isinstance(written, dict) or written.get("version") != NOTES_VERSION:
        return replace(notes, problem=f"{NOTES_FILE} is not of version {NOTES_VERSION}")
    title, note, tags = (written.get(name) for name in ("title", "note", "tags"))
    return Notes(
        title if isinstance(title, str) else notes.title,
        note if isinstance(note, str) else notes.note,
        tuple(str(tag) for tag in tags) if isinstance(tags, list) else notes.tags,
    )


def write_notes(folder: Path, notes: Notes) -> None:
    """Replace the notes of the run in `folder`. Raises RunError if the disk refuses."""
    content = {"version": NOTES_VERSION, "title": notes.title, "note": notes.note}
    try:
        write_json(folder / NOTES_FILE, {**content, "tags": list(notes.tags)})
    except OSError as error:
        raise RunError(
            f"the notes cannot be written: {error.strerror or error}", where=folder / NOTES_FILE
        ) from error


def change_tags(tags: Iterable[str], add: Iterable[str], remove: Iterable[str]) -> tuple[str, ...]:
    """`tags` with and without some, each once. Raises ConfigError for a tag that is no word."""
    added, removed = [*add], {*remove}
    for tag in added:
        if not tag.strip() or not tag.isprintable() or "," in tag:
            raise ConfigError("this cannot be a tag", where="--add", got=tag, expected="a word")
    both = dict.fromkeys([*tags, *added])
    return tuple(tag for tag in both if tag not in removed)
