"""What there is, at a glance: how many images of which classes and sizes, and what is wrong.

Owns the report of `discern data scan`. See `scan` for how the images are found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from discern.data.folders import link_notes
from discern.data.inspection import Inspection, Problem, image_facts
from discern.data.label_columns import join_columns
from discern.data.listing import Listing
from discern.data.manifest import SPLITS, Head


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanReport:
    """Data at a glance. `files`: files that hold images; `images`: images found in them.

    `classes`: images per class, `head/class` with several label columns; unreadable ones count.
    `sizes`: smallest, median and largest as [height, width] of the readable ones; None without any.
    """

    name: str
    layout: str
    files: int
    images: int
    classes: dict[str, int]
    unlabeled: int
    unreadable: int
    splits: dict[str, int]
    sizes: dict[str, list[int]] | None
    channels: int | None
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]

    def record(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "name": self.name,
            "layout": self.layout,
            "files": self.files,
            "images": self.images,
            "classes": self.classes,
            "unlabeled": self.unlabeled,
            "unreadable": self.unreadable,
            "splits": self.splits,
            "sizes": self.sizes,
            "channels": self.channels,
            "problems": [problem.record() for problem in self.problems],
            "notes": list(self.notes),
        }


def summarize(parts: Sequence[Listing], inspections: Sequence[Inspection]) -> ScanReport:
    """The report on listings and what opening their images gave."""
    columns = join_columns([part.heads for part in parts])
    heads = [Head(c.name, c.kind, c.classes, c.targets) for c in columns]
    sound = [
        np.array([row for row, text in enumerate(i.errors) if text is None], dtype=np.int64)
        for i in inspections
    ]
    problems = [Problem(*fault) for part in parts for fault in part.faults]
    problems += [
        Problem("unreadable", str(part.locations.paths[row]), text)
        for part, inspection in zip(parts, inspections, strict=True)
        for row, text in enumerate(inspection.errors)
        if text is not None
    ]
    codes = np.concatenate([part.split for part in parts])
    readable = sum(len(rows) for rows in sound)
    images = sum(len(part) for part in parts)
    sizes, channels = _sizes(inspections, sound) if readable else (None, None)
    return ScanReport(
        name=parts[0].name,
        layout="; ".join(part.layout for part in parts),
        files=_files(parts),
        images=images,
        classes={
            name if len(heads) == 1 else f"{head.name}/{name}": number
            for head in heads
            for name, number in head.counts().items()
        },
        unlabeled=int(np.all([column.missing() for column in columns], axis=0).sum()),
        unreadable=images - readable,
        splits={name: int(n) for code, name in enumerate(SPLITS) if (n := (codes == code).sum())},
        sizes=sizes,
        channels=channels,
        problems=tuple(problems),
        notes=tuple(
            note
            for part in parts
            for note in part.notes
            if note not in link_notes(list(part.faults))  # told as problems already
        ),
    )


def _files(parts: Sequence[Listing]) -> int:
    """Files that hold images: each container counts once, as does a file of arrays."""
    names: set[str] = set()
    for part in parts:
        where = part.locations
        used = np.unique(where.containers[where.containers >= 0]).tolist()
        containers = [where.container_names[number] for number in used]
        if part.arrays:
            containers = [name.rpartition("#")[0] or name for name in containers]
        names.update(str(part.root / name) for name in containers)
        own = where.paths[where.containers < 0].tolist()
        names.update(str(part.root / path) for path in own)
    return len(names)


def _sizes(
    inspections: Sequence[Inspection], sound: Sequence[Any]
) -> tuple[dict[str, list[int]], int]:
    joined = Inspection(
        [],
        [],
        np.concatenate([i.sizes[rows] for i, rows in zip(inspections, sound, strict=True)]),
        np.concatenate([i.grey[rows] for i, rows in zip(inspections, sound, strict=True)]),
        frozenset().union(*(i.bands for i in inspections)),
    )
    facts = image_facts(joined, np.arange(len(joined.sizes), dtype=np.int64))
    sizes = {
        "smallest": list(facts.smallest),
        "median": [facts.median_height, facts.median_width],
        "largest": list(facts.largest),
    }
    return sizes, facts.channels
