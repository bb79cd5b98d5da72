"""What is reviewed: images, one label column, and which images must stay together.

Axes: N images of the manifest.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from discern.base.console import Console
from discern.base.errors import ConfigError, DataError
from discern.base.names import counted, did_you_mean
from discern.base.progress_bar import counting_bar
from discern.compute.device import usable_cores
from discern.config.request import Request
from discern.data.check import look_at_images
from discern.data.check_copies import find_copies
from discern.data.duplicates import NEAR_COSINE, NEAR_DISTANCE
from discern.data.folds import contents, find_units
from discern.data.label_decisions import DecisionHistory
from discern.data.manifest import SPLITS, Head, Manifest
from discern.data.scan import DataRequest, ScannedData, scan_data
from discern.data.sources import Source, open_source
from discern.worker.data_scan import tell_problems
from discern.worker.request_values import named_pairs, pair_value

_NAMED: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewSubject:
    """What is reviewed: the images, the label column, and who stays with whom.

    `codes` int64 [N]: labels, -1 for none and for classes that are alone. `groups` int64 [N].
    `same`: rows that show the same picture.
    """

    manifest: Manifest
    source: Source
    head: Head
    codes: NDArray[np.int64]
    groups: NDArray[np.int64]
    same: list[NDArray[np.int64]]
    lone: tuple[str, ...]


def scan_to_review(request: Request, folder: Path, console: Console) -> ScannedData:
    """The images, after the decisions in `folder` if no other overlay is named."""
    overlay = pair_value(request, "data.overlay")
    if overlay is None and DecisionHistory.of(folder).numbers():
        overlay = str(folder)
    data = DataRequest(
        train=request.arguments["data"],
        root=pair_value(request, "data.root"),
        label=pair_value(request, "data.labels"),
        on_bad_image=pair_value(request, "data.on_bad_image", "error"),
        split=None,
        source_args=named_pairs(request, "data.source_args"),
        overlay=overlay,
    )
    with counting_bar(console, "reading images") as progress:
        scanned = scan_data(data, progress)
    for note in scanned.notes:
        console.say(f"note: {note}")
    tell_problems(scanned, console)
    wanted = request.arguments.get("split")
    if wanted is None:
        return scanned
    if wanted not in SPLITS or not len(scanned.manifest.positions(wanted)):
        there = [*scanned.manifest.sizes()]
        raise ConfigError(
            "the data has no such split", where="--split", got=wanted,
            expected=", ".join(there) or "no --split: the data has none",
        )  # fmt: skip
    rows = scanned.manifest.positions(wanted)
    return replace(scanned, manifest=scanned.manifest.select(rows))


def review_subject(request: Request, scanned: ScannedData, console: Console) -> ReviewSubject:
    """The label column with who stays with whom; copies are looked for in every image."""
    manifest = scanned.manifest
    head = _head(manifest, request.arguments.get("head"))
    source = open_source(manifest)
    threads = pair_value(request, "data.workers")
    with counting_bar(console, "looking for copies") as progress:
        seen = look_at_images([source], usable_cores() if threads is None else threads, progress)
    copies, notes = find_copies(
        seen.digests, seen.looks, seen.sizes,
        distance=NEAR_DISTANCE, embeddings=None, cosine=NEAR_COSINE,
    )  # fmt: skip
    for note in notes:
        console.say(f"note: {note}")
    same = [np.array(group.rows, dtype=np.int64) for group in copies]
    keys: list[NDArray[Any]] = [contents(manifest.ids)]
    if manifest.group is not None:
        keys.append(manifest.group)
    for group in same:
        key = np.full(len(manifest), -1, dtype=np.int64)
        key[group] = 0
        keys.append(key)
    groups = find_units(manifest.ids, 0, keys).of_image
    codes, lone = _checkable(head, groups)
    if lone:
        console.warn(
            f"{counted(len(lone), 'class', 'classes')} of one image (or one group of copies) "
            f"cannot be checked: {', '.join(lone[:_NAMED])}{' ...' if len(lone) > _NAMED else ''}"
        )
    return ReviewSubject(
        manifest=manifest, source=source, head=head, codes=codes, groups=groups, same=same,
        lone=lone,
    )  # fmt: skip


def _head(manifest: Manifest, wanted: str | None) -> Head:
    known = {head.name: head for head in manifest.heads}
    if wanted is not None and wanted not in known:
        raise ConfigError(
            "there is no such label column", where="--head", got=wanted, expected=", ".join(known),
            hint=did_you_mean(wanted, known),
        )  # fmt: skip
    if wanted is None and len(known) != 1:
        raise ConfigError(
            "one label column is reviewed at a time", where="--head",
            got=", ".join(known) or "none", expected="one of them",
        )  # fmt: skip
    head = known[wanted] if wanted is not None else manifest.heads[0]
    if head.kind != "single":
        raise DataError(
            "several labels an image cannot be reviewed", where=f"label column '{head.name}'",
            got=f"{len(head.classes)} classes, any number an image", expected="one label an image",
        )  # fmt: skip
    return head


def _checkable(head: Head, groups: NDArray[np.int64]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """(labels without those of classes that stand in one group only, the names of these)."""
    codes = head.targets.astype(np.int64)
    lone = [
        code
        for code in range(len(head.classes))
        if (codes == code).any() and len(np.unique(groups[codes == code])) < 2
    ]
    return np.where(np.isin(codes, lone), -1, codes), tuple(head.classes[code] for code in lone)
