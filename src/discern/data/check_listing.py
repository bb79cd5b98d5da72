"""What a check looks at: the images of all sources in a row, their names, labels and splits.

Owns the step from what the user names to rows, and what can be told before any image is opened.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from discern.data.archives import is_archive
from discern.data.check_classes import ColumnCounts
from discern.data.check_findings import KINDS, Finding, ImageRows
from discern.data.examination import foreign_image, image_type
from discern.data.label_columns import LabelColumn, join_columns, match_columns
from discern.data.listing import SUFFIXES, Listing
from discern.data.manifest import SPLITS, YES
from discern.data.scan import DataRequest, list_source

_TRAIN, _VAL, _TEST = range(len(SPLITS))
# Kinds of the faults that the ways in tell, and of the findings that they become.
_FAULTS: Final = {
    "missing": "missing",
    "empty": "empty-class",
    "link": "link",
    "skipped-line": "skipped-line",
}
_START_BYTES: Final = 64


def list_parts(request: DataRequest) -> list[Listing]:
    """Train, val and test, each from its own source if named; rows of splits named twice go.

    Raises DataError where no way in can be read.
    """
    way = request.way(lenient=True)
    parts = [list_source(request.train, way=way)]
    others = [(_VAL, request.val), (_TEST, request.test)]
    given = [code for code, source in others if source is not None]
    if given:
        first = parts[0]
        keep = np.flatnonzero(~np.isin(first.split, given))
        split = np.where(first.split[keep] < 0, _TRAIN, first.split[keep]).astype(np.int8)
        parts[0] = replace(first.select(keep.astype(np.int64)), split=split)
        parts += [list_source(source, way=way).only(code) for code, source in others if source]
        match_columns([part.heads for part in parts], source_names(request))
    return parts


def source_names(request: DataRequest) -> list[str]:
    """What the user named, in the order of `list_parts`."""
    return [source for source in (request.train, request.val, request.test) if source is not None]


def is_ordered(source: str) -> bool:
    """Whether the images come in an order that somebody made: that of a table or list."""
    path = Path(source).expanduser()
    return path.is_file() and not is_archive(path)


def image_rows(parts: Sequence[Listing], sources: Sequence[str]) -> ImageRows:
    """Names, labels and splits of all images, in the order listed; sizes are still unknown."""
    paths: list[str] = []
    labels: list[str | None] = []
    splits: list[str | None] = []
    for part, source in zip(parts, sources, strict=True):
        paths += _names(part, source if len(parts) > 1 else None)
        texts = [head.texts() for head in part.heads]
        labels += [
            " | ".join(text or "?" for text in row) if any(row) else None
            for row in zip(*texts, strict=True)
        ]
        splits += [None if code < 0 else SPLITS[code] for code in part.split.tolist()]
    return ImageRows(
        paths=paths,
        labels=labels,
        splits=splits,
        sizes=np.zeros((len(paths), 2), dtype=np.int32),
        bytes=np.zeros(len(paths), dtype=np.int64),
    )


def _names(part: Listing, source: str | None) -> list[str]:
    """What to call each image: its path; with `source`, one of several, a path that tells which."""
    where = part.locations
    many = len(where.container_names) > 1
    names = []
    for path, container in zip(where.paths.tolist(), where.containers.tolist(), strict=True):
        if container < 0:
            names.append(path if source is None else str(part.root / path))
            continue
        # A container may be a decompressed copy in the cache: its source is what people know.
        outside = [] if source is None else [source]
        if many:
            outside.append(Path(where.container_names[container]).name)
        names.append(":".join([*outside, path]))
    return names


def class_counts(parts: Sequence[Listing]) -> list[ColumnCounts]:
    """Images per class and split of each label column, classes in their order.

    Classes are called `column/class` if there are several columns.
    """
    columns = join_columns([part.heads for part in parts])
    codes = np.concatenate([part.split for part in parts])
    return [_column_counts(column, codes, named=len(columns) > 1) for column in columns]


def _column_counts(column: LabelColumn, codes: NDArray[np.int8], *, named: bool) -> ColumnCounts:
    counts: dict[str, dict[str, int]] = {}
    for code in sorted({int(code) for code in codes}, key=lambda code: (code < 0, code)):
        targets = column.targets[codes == code]
        if column.kind == "single":
            numbers = np.bincount(targets[targets >= 0], minlength=len(column.classes))
        else:
            numbers = (targets >= YES).sum(axis=0)
        if numbers.any():
            names = [f"{column.name}/{name}" if named else name for name in column.classes]
            row = dict(zip(names, numbers.tolist(), strict=True))
            counts["all" if code < 0 else SPLITS[code]] = row
    return ColumnCounts(counts, column.kind == "single")


def listing_findings(sources: Sequence[str], parts: Sequence[Listing]) -> list[Finding]:
    """What the ways in tell: missing files, empty classes, bad links; and files left out."""
    found = []
    faults = [fault for part in parts for fault in part.faults]
    for of, text in dict.fromkeys((fault[0], fault[2]) for fault in faults):
        kind = _FAULTS.get(of, "damaged")
        paths = tuple(fault[1] for fault in faults if (fault[0], fault[2]) == (of, text))
        found.append(Finding(kind=kind, severity=KINDS[kind].severity, text=text, paths=paths))
    for source in sources:
        path = Path(source).expanduser()
        if path.is_dir():
            found += _ignored_files(path)
    return found


def _ignored_files(root: Path) -> list[Finding]:
    """Files that are images by their first bytes, but are not listed."""
    found = []
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            suffix = name[name.rfind(".") :].lower() if "." in name else ""
            path = Path(folder, name) if suffix not in SUFFIXES else None
            if path is None or name.startswith(".") or not path.is_file():
                continue
            text = _left_out(path)
            if text is not None:
                paths = (str(path.relative_to(root)),)
                severity = KINDS["ignored-file"].severity
                found.append(
                    Finding(kind="ignored-file", severity=severity, text=text, paths=paths)
                )
    return found


def _left_out(path: Path) -> str | None:
    """Why a file that is not listed should be: an image by its first bytes; None for others."""
    try:
        with open(path, "rb") as stream:
            start = stream.read(_START_BYTES)
    except OSError as error:
        return f"cannot be opened: {error.strerror}"
    what = image_type(start)
    return f"a {what} image, left out for its name" if what else foreign_image(start)
