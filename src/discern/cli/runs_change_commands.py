"""What `discern runs note|tag|delete|clean` do, as functions of plain values."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from discern.base.console import Console
from discern.base.errors import OK, ConfigError, Interrupted, RunError
from discern.base.names import counted, did_you_mean, printable
from discern.cli.byte_text import byte_text
from discern.track.run_folder import CHECKPOINTS, RUN_FILE, read_run
from discern.track.run_index import read_index
from discern.track.run_lock import RunLock
from discern.track.run_notes import Notes, change_tags, read_notes, write_notes
from discern.track.run_query import select_rows
from discern.track.run_removal import (
    CLEANABLE,
    Removal,
    carry_out,
    plan_cleaning,
    plan_deletion,
    plan_leftovers,
)
from discern.track.run_rows import RunRow


def note_command(
    words: Sequence[str],
    root: Path,
    console: Console,
    *,
    text: str | None = None,
    append: str | None = None,
    title: str | None = None,
) -> int:
    """Set the note or the title of runs, or add a line to the note; without any, show them.

    `--json`: {"runs": [{id, title, note, tags}]}. Raises ConfigError for words that mean no run.
    """

    def change(notes: Notes) -> Notes:
        note = notes.note if text is None else text
        if append is not None:
            note = f"{note}\n{append}" if note else append
        return replace(notes, note=note, title=notes.title if title is None else title)

    wanted = None if (text, append, title) == (None, None, None) else change
    return _change_notes(words, root, console, wanted)


def tag_command(
    words: Sequence[str],
    root: Path,
    console: Console,
    *,
    add: Sequence[str] = (),
    remove: Sequence[str] = (),
) -> int:
    """Add tags to runs and take some away; without any, show them. `--json` as `note`."""

    def change(notes: Notes) -> Notes:
        return replace(notes, tags=change_tags(notes.tags, add, remove))

    return _change_notes(words, root, console, change if add or remove else None)


def delete_command(
    words: Sequence[str], root: Path, console: Console, *, yes: bool = False, dry_run: bool = False
) -> int:
    """Delete runs with all their files, after telling the bytes and asking.

    Raises RunError if one of them is being written, ConfigError where nobody can be asked.
    """
    return _remove(words, root, console, plan_deletion, yes=yes, dry_run=dry_run)


def clean_command(
    words: Sequence[str],
    root: Path,
    console: Console,
    *,
    parts: Sequence[str] = (),
    everything: bool = False,
    yes: bool = False,
    dry_run: bool = False,
) -> int:
    """Remove `parts` of runs (default: checkpoints), after telling the bytes and asking.

    What a run goes on from stays, unless `everything`. Raises as `delete`.
    """
    for part in parts:
        if part not in CLEANABLE:
            raise ConfigError(
                f"'{part}' cannot be cleaned",
                where="--part",
                got=part,
                expected=", ".join(CLEANABLE),
                hint=did_you_mean(part, CLEANABLE),
            )

    def plan(row: RunRow) -> Removal:
        return plan_cleaning(row, parts or (CHECKPOINTS,), everything=everything)

    return _remove(words, root, console, plan, yes=yes, dry_run=dry_run)


def _change_notes(
    words: Sequence[str], root: Path, console: Console, change: Callable[[Notes], Notes] | None
) -> int:
    rows = select_rows(read_index(root), words)
    told = []
    for row in rows:
        with _alone(row.path):
            notes = _notes_of(row)
            if change is not None:
                notes = change(notes)
                write_notes(row.path, notes)
        told.append(
            {"id": row.id, "title": notes.title, "note": notes.note, "tags": list(notes.tags)}
        )
        console.say(printable(f"{row.id}  {notes.title}".rstrip()))
        if notes.tags:
            console.say(f"  tags: {printable(', '.join(notes.tags))}")
        for line in notes.note.splitlines():
            console.say(f"  {printable(line)}")
    console.emit({"runs": told})
    return OK


def _notes_of(row: RunRow) -> Notes:
    """The notes as they are now; those that cannot be read are not written over."""
    record = read_run(row.path).record if (row.path / RUN_FILE).is_file() else {}
    notes = read_notes(row.path, record)
    if notes.problem is not None:
        raise RunError(notes.problem, where=row.path)
    return notes


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One change of the notes at a time; the run's own lock is its writer's."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _remove(
    words: Sequence[str],
    root: Path,
    console: Console,
    plan: Callable[[RunRow], Removal],
    *,
    yes: bool,
    dry_run: bool,
) -> int:
    rows = select_rows(read_index(root), words)
    with contextlib.ExitStack() as locks:
        # All locks first: nothing is removed if one of the runs is being written.
        for row in rows:
            locks.enter_context(contextlib.closing(RunLock(row.path)))
        removals = [plan(row) for row in rows]
        for project in dict.fromkeys(row.path.parent for row in rows):
            removals += plan_leftovers(project)
        total = sum(removal.bytes for removal in removals)
        _say_plan(removals, total, console)
        files = sum(removal.files for removal in removals)
        nothing = not any(removal.paths for removal in removals)
        if not (dry_run or nothing or yes):
            _ask(f"Remove {counted(files, 'file')}, {byte_text(total)}?")
        freed = 0 if dry_run else sum(carry_out(removal) for removal in removals)
    if not dry_run:
        read_index(root)  # what was deleted here is not told as gone by the next look
        console.say(f"freed {byte_text(freed)}")
        if freed != total:
            console.warn(f"{total:,} bytes were to be freed; files changed on the way")
    runs = [
        {"id": r.run, "files": r.files, "bytes": r.bytes, "kept": r.kept or None} for r in removals
    ]
    console.emit({"runs": runs, "bytes": total, "freed": freed, "dry_run": dry_run})
    return OK


def _say_plan(removals: Sequence[Removal], total: int, console: Console) -> None:
    rows = [(removal.run, removal.files, f"{removal.bytes:,}") for removal in removals]
    console.table(("run", "files", "bytes"), rows)
    for removal in removals:
        if removal.kept:
            console.say(f"{removal.run}: {removal.kept}")
    console.say(f"in all {byte_text(total)}")


def _ask(question: str) -> None:
    """Go on after a yes. Raises Interrupted for another answer, ConfigError without a terminal."""
    if not sys.stdin.isatty():
        raise ConfigError(
            "this removes files and nobody can be asked",
            where="stdin",
            expected="a terminal, or --yes",
            hint="--dry-run shows what would go, --yes removes it",
        )
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)  # noqa: T201
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Interrupted("nothing was removed", hint="answer y, or give --yes")
