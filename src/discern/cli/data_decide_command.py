"""`discern data decide`: decisions on a review's images, their history, and back again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from discern.base.console import Console
from discern.base.errors import ConfigError
from discern.base.names import counted
from discern.cli.options import DebugFlag, JsonFlag, QuietFlag

if TYPE_CHECKING:
    from discern.data.label_decisions import DecisionHistory, DecisionSet

_SHOWN = 20

Which = Annotated[
    list[str] | None,
    typer.Option("--accept", help="take the suggested label: ranks 1-20, ids or paths, by commas"),
]


def decide(
    review: Annotated[str, typer.Argument(help="folder that `discern review` wrote")],
    accept: Which = None,
    relabel: Annotated[
        list[str] | None, typer.Option("--relabel", help="IMAGE=CLASS, images as for --accept")
    ] = None,
    drop: Annotated[
        list[str] | None, typer.Option("--drop", help="leave images out of trainings")
    ] = None,
    keep: Annotated[
        list[str] | None, typer.Option("--keep", help="the label is right: not asked again")
    ] = None,
    clear: Annotated[
        list[str] | None, typer.Option("--clear", help="forget the decision on ids or paths")
    ] = None,
    table: Annotated[
        str | None, typer.Option("--from", help="an edited queue.csv: its column `decision`")
    ] = None,
    new_classes: Annotated[
        bool, typer.Option("--new-classes", help="--relabel may name classes that are new")
    ] = False,
    note: Annotated[str, typer.Option("--note", help="kept with the version")] = "",
    undo: Annotated[bool, typer.Option("--undo", help="take the newest version back")] = False,
    restore: Annotated[
        int | None, typer.Option("--restore", min=0, help="all as in this version")
    ] = None,
    diff: Annotated[
        str | None, typer.Option("--diff", help="what differs between two versions: 1:3")
    ] = None,
    json: JsonFlag = False,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,  # noqa: ARG001 - read by the last door
) -> int:
    """Decide on suspect labels."""
    from discern.data.deciding import Words
    from discern.data.deciding import decide as decide_on
    from discern.data.label_decisions import DecisionHistory
    from discern.data.review_queue import read_review

    console = Console(json=json, quiet=quiet)
    words = Words(
        accept=accept or (), relabel=relabel or (), drop=drop or (), keep=keep or (),
        clear=clear or (), table=table, new_classes=new_classes, note=note,
    )  # fmt: skip
    decided = any((accept, relabel, drop, keep, clear, table))
    _one_way({"--undo": undo, "--restore": restore is not None, "--diff": diff is not None,
              "decisions": decided})  # fmt: skip
    history = DecisionHistory.of(review)
    if diff is not None:
        return _tell_difference(history, diff, console)
    if not (decided or undo or restore is not None):
        return _tell_history(history, console)
    before = history.newest()
    if decided:
        before, after = decide_on(read_review(review), words)
    else:
        after = history.undo() if restore is None else history.restore(restore)
    return _tell_change(history, before, after, console)


def _one_way(ways: dict[str, bool]) -> None:
    if sum(ways.values()) > 1:
        raise ConfigError(
            "one thing at a time", where="discern data decide",
            got=", ".join(name for name, given in ways.items() if given),
        )  # fmt: skip


def _tell_change(
    history: DecisionHistory, before: DecisionSet, after: DecisionSet, console: Console
) -> int:
    from discern.data.label_decisions import differences

    changed = differences(before, after)
    for one in changed[:_SHOWN]:
        console.say(f"  {one.words()}")
    if len(changed) > _SHOWN:
        console.say(f"  and {len(changed) - _SHOWN} more")
    if after.number == before.number:
        console.result(f"nothing new: still v{before.number}")
    else:
        console.result(f"v{after.number}: {after.words()}")
        console.say(f"wrote    {history.path(after.number)}")
        console.say(f"next     discern train DATA --overlay {history.folder.parent}")
    console.emit(_record(history, after) | {"changed": len(changed)})
    return 0


def _tell_history(history: DecisionHistory, console: Console) -> int:
    versions = [history.read(number) for number in history.numbers()]
    for version in versions:
        note = f"  ({version.note})" if version.note else ""
        console.result(f"v{version.number}: {version.words()}{note}")
    if not versions:
        console.result("no decisions yet")
    console.emit({"versions": [_record(history, version) for version in versions]})
    return 0


def _tell_difference(history: DecisionHistory, text: str, console: Console) -> int:
    from discern.data.label_decisions import differences

    first, colon, last = text.partition(":")
    if not (colon and first.isdecimal() and last.isdecimal()):
        raise ConfigError("not two versions", where="--diff", got=text, expected="1:3")
    newest = history.newest(needed=True)
    sides = [
        newest.empty() if number == 0 else history.read(number)
        for number in (int(first), int(last))
    ]
    found = differences(*sides)
    for one in found:
        console.result(one.words())
    console.say(f"{counted(len(found), 'image')} decided differently")
    changes = [
        {
            "id": one.id,
            "path": one.path,
            "before": one.before.words() if one.before else None,
            "after": one.after.words() if one.after else None,
        }
        for one in found
    ]
    console.emit({"from": int(first), "to": int(last), "changes": changes})
    return 0


def _record(history: DecisionHistory, version: DecisionSet) -> dict[str, Any]:
    path = str(history.path(version.number)) if version.number else None
    return {
        "version": version.number,
        "overlay": path if path is None or Path(path).exists() else None,
        **version.counts(),
        "note": version.note,
    }
