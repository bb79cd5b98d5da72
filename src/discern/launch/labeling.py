"""A request for automatic labeling: its places, and what is done without torch.

Owns the checks of a request's arguments, the look at both folders, and taking rounds back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from discern.base.console import Console
from discern.base.errors import ConfigError
from discern.base.names import counted
from discern.config.assemble import resolve_request
from discern.config.request import Request
from discern.data.label_folders import LabelFolders, check_folders, deal_folds, read_folders
from discern.data.label_home import LabelHome, find_home, undo_rounds
from discern.data.label_ledger import LEDGER_FOLDER, LabelLedger
from discern.data.label_placing import MODES
from discern.track.run import runs_root
from discern.track.run_folder import clean_name
from discern.track.run_lock import RunLock

# Keys of the data section that would choose images, labels or splits otherwise.
_NOT_GIVEN = (
    *("val", "test", "labels", "classes", "overlay", "held_fold", "train_folds", "val_folds"),
    *("test_folds", "n_folds", "folds", "source_args"),
)


def label_arguments(**given: Any) -> dict[str, Any]:
    """The arguments of the request, checked. Raises ConfigError."""
    for name, flag in (("threshold", "--threshold"), ("precision_target", "--precision-target")):
        value = given[name]
        if not 0.0 <= value <= 1.0:
            raise ConfigError(
                "a share lies from 0 to 1", where=flag, got=value, expected="0 to 1",
                hint=f"{flag} {value / 100:g}?" if 10.0 <= value <= 100.0 else None,
            )  # fmt: skip
    if given["mode"] not in MODES:
        raise ConfigError(
            "no such mode", where="--mode", got=given["mode"], expected=", ".join(MODES)
        )
    for name, least in (("n_trials", 1), ("audit", 0), ("folds", 2)):
        if given[name] < least:
            raise ConfigError(
                "the number is too small", where=f"--{name.replace('_', '-')}",
                got=given[name], expected=f"{least} or more",
            )  # fmt: skip
    return given


def label_place(request: Request) -> LabelHome:
    """Where the request's images and labels are. Raises ConfigError and DataError."""
    given = request.arguments
    config = resolve_request(request).config
    for name in _NOT_GIVEN:
        if getattr(config.data, name, None):
            raise ConfigError(
                "which images are used, and which are held out, is said by the two folders",
                where=f"data.{name}",
                got=getattr(config.data, name),
                hint="leave it out",
            )
    root = runs_root(given["runs"])
    clean = Path(given["data_clean"]).expanduser().absolute()
    raw = Path(given["data_raw"]).expanduser().absolute()
    check_folders(clean, raw, root)
    return LabelHome(
        clean=clean,
        raw=raw,
        home=find_home(clean, given["mode"], root / label_project(request)),
        mode=given["mode"],
        folds=given["folds"],
        on_bad_image=config.data.on_bad_image,
    )


def label_project(request: Request) -> str:
    """The project of the request's runs: as named, else the clean folder's name."""
    config = resolve_request(request).config
    clean = Path(request.arguments["data_clean"]).expanduser().absolute()
    return clean_name(config.tracking.project or clean.name)


def look_at_folders(request: Request, console: Console) -> dict[str, Any]:
    """What there is to label, and in how many folds people's images lie; nothing is written."""
    place = label_place(request)
    labels = list(LabelLedger(place.ledger_folder).state.labels.values())
    folders = read_folders(place.clean, place.raw, labels, on_bad_image=place.on_bad_image)
    deal_folds(folders.human, place.folds)  # refuses what a trial would refuse
    for line in folders_told(folders):
        console.result(line)
    for problem in folders.problems[:10]:
        console.warn(f"left out: {problem.path}: {problem.text}")
    return {
        "human": len(folders.human),
        "classes": folders.human.head.counts(),
        "labels": len(labels),
        "raw": len(folders.raw),
        "in_clean": folders.in_clean,
        "repeats": folders.repeats,
        "left_out": [problem.record() for problem in folders.problems],
    }


def folders_told(folders: LabelFolders) -> list[str]:
    """What lies in both folders, for the terminal."""
    human, raw = folders.human, folders.raw
    told = f"labeled  {len(human)} images of {len(human.classes)} classes by people"
    if folders.placed:
        told += f", {len(folders.placed)} by models"
    lines = [told, f"raw      {counted(len(raw), 'image')}"]
    if folders.in_clean:
        lines.append(f"  {folders.in_clean} more are labeled by people already")
    if folders.repeats:
        lines.append(f"  {folders.repeats} more are byte for byte like another raw one")
    if folders.problems:
        lines.append(f"  {counted(len(folders.problems), 'image')} cannot be read")
    return lines


def undo_labels(request: Request, rounds: Sequence[int], console: Console) -> dict[str, Any]:
    """Take back all labels of `rounds`; gives the object of `--json`. Raises ConfigError."""
    given = request.arguments
    if not (Path(given["data_clean"]).expanduser() / LEDGER_FOLDER).is_dir():
        request = replace(request, arguments={**given, "mode": "manifest"})
    elif given["mode"] == "manifest":
        request = replace(request, arguments={**given, "mode": "copy"})
    place = label_place(request)
    if not place.ledger_folder.is_dir():
        raise ConfigError(
            "nothing was labeled here", where="--undo", got=place.ledger_folder,
            expected="a ledger of labels", hint="with --mode manifest it lies in --baselogdir",
        )  # fmt: skip
    lock = RunLock(place.ledger_folder)
    try:
        lock.sign(1)
        outcome = undo_rounds(place, rounds, console.warn)
    finally:
        lock.close()
    for one in outcome["undone"]:
        console.result(f"round {one['round']}: {counted(one['labels'], 'label')} taken back")
    return outcome
