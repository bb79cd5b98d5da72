"""From what the user names to a manifest: finds the way in, opens every image, fills in splits.

Owns the joining of train, val and test sources. See `ways_in` for the kinds of sources and
`scan_summary` for the report on data that nothing is trained on.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from discern.base.errors import DataError
from discern.data.fold_choice import FoldChoice, split_by_folds
from discern.data.fold_split import FoldRule, hold_out_fold
from discern.data.inspection import (
    ImageFacts,
    Inspection,
    Problem,
    Progress,
    image_facts,
    inspect_listing,
    refuse_or_skip,
    skip_unlabeled,
)
from discern.data.label_columns import (
    check_known,
    class_order,
    given_classes,
    join_heads,
    match_columns,
    missing_rows,
    same_column,
)
from discern.data.label_decisions import apply_decisions, read_decisions
from discern.data.label_origin import draw_splits, scored_on_models
from discern.data.label_spec import LabelChoice
from discern.data.listing import Listing, join_column
from discern.data.manifest import (
    NO_SPLIT,
    SPLITS,
    Head,
    Locations,
    Manifest,
    join_locations,
    unique_ids,
)
from discern.data.scan_summary import ScanReport, summarize
from discern.data.split import LEAST_PER_CLASS, SplitRule
from discern.data.ways_in import WayIn, list_manifest, list_source

__all__ = [
    "DataRequest",
    "ImageFacts",
    "Problem",
    "ScanReport",
    "ScannedData",
    "SplitRule",
    "list_manifest",
    "list_source",
    "scan_data",
    "scan_report",
]

_CODES = {"train": 0, "val": 1, "test": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class DataRequest:
    """What to scan. `split` None leaves the images unsplit, as evaluation wants them.

    `folds`: splits by folds, before what is still missing is drawn. `held_out`, in the place of all
    this, holds one fold out, or only deals the images to folds. `classes`: names in order, for
    several label columns by column. `label`: see `label_spec`. `root`, `lst`, `class_index`,
    `needs_labels`: see `ways_in.WayIn`. `source_args`: arguments of a source of one's own.
    `overlay`: decisions on single images, see `label_decisions`, done before anything is split.
    `on_missing_label` skip leaves out what has no label at all, where images are split to train.
    """

    train: str
    val: str | None = None
    test: str | None = None
    root: str | None = None
    classes: Sequence[str] | Mapping[str, Sequence[str]] | None = None
    label: LabelChoice = None
    on_bad_image: str = "error"
    on_missing_label: str = "error"
    split: SplitRule | None = field(default_factory=SplitRule)
    folds: FoldChoice | None = None
    held_out: FoldRule | None = None
    threads: int | None = None
    lst: str | None = None
    class_index: str | None = None
    needs_labels: bool = True
    source_args: Mapping[str, Any] = field(default_factory=dict)
    overlay: str | None = None

    def way(self, *, lenient: bool = False) -> WayIn:
        """What is said about the sources besides their names; labels are not needed if lenient."""
        return WayIn(
            root=self.root,
            label=self.label,
            lst=self.lst,
            class_index=self.class_index,
            needs_labels=self.needs_labels and not lenient,
            lenient=lenient,
            skip_damaged=lenient or self.on_bad_image == "skip",
            arguments=self.source_args,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ScannedData:
    """A manifest and what was noticed on the way. `reported`: the name of the split called test."""

    manifest: Manifest
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]
    name: str
    facts: ImageFacts
    reported: str
    random_split: bool
    warnings: tuple[str, ...] = ()


def scan_data(request: DataRequest, progress: Progress | None = None) -> ScannedData:
    """Find, open and describe the images of `request`. Raises DataError."""
    parts = _list_parts(request, request.way(), progress)
    sources = [s for s in (request.train, request.val, request.test) if s is not None]
    classes = _classes(parts, sources, request)
    inspections = _inspect(parts, request, progress)
    sound, problems = [], []
    for part, inspection in zip(parts, inspections, strict=True):
        rows, bad = refuse_or_skip(part, inspection, request.on_bad_image)
        if request.on_missing_label == "skip" and (request.split or request.held_out):
            rows, unlabeled = skip_unlabeled(part, rows)
            bad += unlabeled
        sound.append(rows)
        problems += bad
    manifest = _build_manifest(parts, inspections, sound, classes)
    notes = [note for part in parts for note in part.notes]
    if request.overlay is not None:
        manifest, told = apply_decisions(manifest, read_decisions(request.overlay))
        notes += told
    notes += [note for head in manifest.heads for note in _class_notes(head.classes)]
    reported, random = "test", False
    warnings: list[str] = []
    if request.held_out is not None:
        notes += _check_trainable(manifest, parts[0])
        folded = hold_out_fold(manifest, request.held_out)
        manifest, random = folded.manifest, folded.drawn
        notes += folded.notes
        reported = "test" if request.held_out.held is None else f"fold {request.held_out.held}"
        warnings = _overlaps(manifest)
    elif request.split is not None:
        notes += _check_trainable(manifest, parts[0])
        if request.folds is not None:
            manifest, note = split_by_folds(manifest, request.folds)
            notes.append(note)
        outcome = draw_splits(manifest, request.split)
        manifest = manifest.with_split(outcome.codes)
        reported, random = outcome.reported, outcome.random
        notes += outcome.notes
        warnings = _overlaps(manifest)
    return ScannedData(
        manifest=manifest,
        problems=tuple(problems),
        notes=tuple(notes),
        name=parts[0].name,
        facts=_joined_facts(inspections, sound),
        reported=reported,
        random_split=random,
        warnings=tuple(warnings),
    )


def scan_report(request: DataRequest, progress: Progress | None = None) -> ScanReport:
    """What there is at `request`, faults and all: classes are not needed, nothing is split.

    Unreadable images, files that a table names in vain, and links that lead nowhere or back are
    among the problems. Raises DataError only where no way in can be read.
    """
    parts = _list_parts(request, request.way(lenient=True), progress)
    sources = [s for s in (request.train, request.val, request.test) if s is not None]
    match_columns([part.heads for part in parts], sources)
    return summarize(parts, _inspect(parts, request, progress))


def _inspect(
    parts: list[Listing], request: DataRequest, progress: Progress | None
) -> list[Inspection]:
    threads = request.threads or len(os.sched_getaffinity(0))
    return [inspect_listing(part, threads, progress) for part in parts]


def _list_parts(request: DataRequest, way: WayIn, progress: Progress | None) -> list[Listing]:
    first = list_source(request.train, progress=progress, way=way)
    if request.val is None and request.test is None:
        return [first]
    return _joined_parts(request, way, first, progress)


def _joined_parts(
    request: DataRequest, way: WayIn, first: Listing, progress: Progress | None
) -> list[Listing]:
    """Train, val and test, each from its own source; a source's own splits are looked for."""
    parts = [first if not (request.val and request.test) else first.only(_CODES["train"])]
    if len(parts[0]) == len(first) and (first.split == NO_SPLIT).all():
        parts = [first.select(np.arange(len(first), dtype=np.int64), _CODES["train"])]
    for split, source in (("val", request.val), ("test", request.test)):
        if source is not None:
            other = list_source(source, progress=progress, way=way)
            parts.append(other.only(_CODES[split]))
    if any(part.arrays for part in parts) and not all(part.arrays for part in parts):
        raise DataError(
            "a built-in set and files cannot be mixed in one run",
            got=", ".join(part.layout for part in parts),
            hint="`discern train NAME` brings its own test images",
        )
    given = {part.split[0] for part in parts[1:]}
    keep = np.flatnonzero(~np.isin(parts[0].split, list(given))).astype(np.int64)
    if len(keep) < len(parts[0]):
        codes = parts[0].split[keep]
        parts[0] = replace(parts[0].select(keep, 0), split=codes)
    return parts


def _classes(
    parts: list[Listing], sources: list[str], request: DataRequest
) -> list[tuple[str, ...]]:
    """The class names of each head, from the train data. Raises DataError.

    A class that train lacks is an error that names it; bare numbers are compared by count.
    """
    first = parts[0]
    codes = {int(code) for code in first.split}
    train = (first.split == _CODES["train"]) | (first.split == NO_SPLIT)
    if request.split is not None and not train.any():
        raise DataError(
            "there is no train split", where=first.root,
            got=", ".join(SPLITS[code] for code in sorted(codes)),
            expected="train, and val or test or both",
        )  # fmt: skip
    match_columns([part.heads for part in parts], sources)
    given = given_classes(request.classes, first.heads)
    orders = []
    for place, column in enumerate(first.heads):
        needs_train = request.split is not None
        order = class_order(column, given[place], train, needs_train=needs_train)
        numeric = column.numeric and given[place] is None and not column.ordered
        columns = same_column(column, [part.heads for part in parts])
        for own, source in zip(columns, sources, strict=True):
            check_known(own, order, source, numeric=numeric)
        orders.append(order)
    return orders


def _class_notes(classes: tuple[str, ...]) -> list[str]:
    folded: dict[str, list[str]] = {}
    for name in classes:
        folded.setdefault(name.casefold(), []).append(name)
    return [
        f"these classes differ only in upper and lower case: {', '.join(names)}"
        for names in folded.values()
        if len(names) > 1
    ]


def _overlaps(manifest: Manifest) -> list[str]:
    """What is scored should be unseen, and labeled by people."""
    digests = np.array([name.partition("-")[0] for name in manifest.ids.tolist()])
    trained = digests[manifest.positions("train")]
    found = []
    for split in ("val", "test"):
        held = digests[manifest.positions(split)]
        shared = int(np.isin(held, trained).sum())
        if shared:
            found.append(
                f"{shared} of {len(held)} {split} images are in train, too: scores are too good"
            )
    return found + scored_on_models(manifest)


def _check_trainable(manifest: Manifest, first: Listing) -> list[str]:
    """Notes on rare classes. Raises DataError for too few classes, or images without a label."""
    notes = []
    for head in manifest.heads:
        if len(head.classes) < (2 if head.kind == "single" else 1):
            named = "" if len(manifest.heads) == 1 else f" in '{head.name}'"
            raise DataError(
                f"there is nothing to tell apart{named}",
                where=first.root,
                got=f"{len(head.classes)} class: {', '.join(head.classes)}",
                expected="at least 2 classes",
                hint="images of each class go into a folder of its own: DATA/CLASS/image.jpg",
            )
        if len(manifest.heads) > 1 or head.kind == "multi":
            notes += _rare_notes(head)
    unknown = [missing_rows(head.kind, head.targets) for head in manifest.heads]
    unlabeled = np.flatnonzero(np.all(unknown, axis=0))
    if len(unlabeled):
        raise DataError(
            f"{len(unlabeled)} images have no class",
            where=first.root,
            got=", ".join(str(manifest.locations.paths[row]) for row in unlabeled[:5]),
            hint="put them into a class folder, label them in the table, remove them, or leave "
            "them out with --set data.on_missing_label=skip",
        )
    return notes


def _rare_notes(head: Head) -> list[str]:
    rare = [name for name, n in head.counts().items() if n < LEAST_PER_CLASS]
    if not rare:
        return []
    shown = ", ".join(rare[:10]) + (f" and {len(rare) - 10} more" if len(rare) > 10 else "")
    return [f"'{head.name}' has classes of fewer than {LEAST_PER_CLASS} images: {shown}"]


def _build_manifest(
    parts: list[Listing],
    inspections: list[Inspection],
    sound: list[NDArray[np.int64]],
    classes: list[tuple[str, ...]],
) -> Manifest:
    digests = [
        inspection.digests[row]
        for inspection, rows in zip(inspections, sound, strict=True)
        for row in rows
    ]
    kept = [part.select(rows) for part, rows in zip(parts, sound, strict=True)]
    arrays = {name: array for part in parts for name, array in part.arrays.items()}
    single = len(parts) == 1
    locations = kept[0].locations if single else _join(kept, arrays)

    return Manifest(
        ids=unique_ids(digests),
        locations=locations,
        heads=join_heads([part.heads for part in kept], classes),
        split=np.concatenate([part.split for part in kept]),
        root=parts[0].root if single else Path("/"),
        layout="; ".join(part.layout for part in parts),
        fold=join_column("fold", kept),
        group=join_column("group", kept),
        weight=join_column("weight", kept),
        origin=join_column("origin", kept),
        confidence=join_column("confidence", kept),
        numbers=join_column("numbers", kept),
        arrays=arrays,
    )


def _join(parts: list[Listing], arrays: dict[str, Any]) -> Locations:
    """Array containers keep their names; files and archives get absolute paths."""
    return join_locations([(part.locations, Path() if arrays else part.root) for part in parts])


def _joined_facts(inspections: list[Inspection], sound: list[NDArray[np.int64]]) -> ImageFacts:
    joined = Inspection(
        [],
        [],
        np.concatenate([i.sizes[rows] for i, rows in zip(inspections, sound, strict=True)]),
        np.concatenate([i.grey[rows] for i, rows in zip(inspections, sound, strict=True)]),
        frozenset().union(*(i.bands for i in inspections)),
    )
    return image_facts(joined, np.arange(len(joined.sizes), dtype=np.int64))
