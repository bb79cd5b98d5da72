"""Packed data back to folders of images: one folder a class, as `data pack --to folder` writes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from discern.base.errors import DataError
from discern.data.inspection import Problem, Progress
from discern.data.listing import Listing
from discern.data.manifest import Head, Manifest, unique_ids
from discern.data.pack_plan import PackOptions
from discern.data.packed_check import verify_packed
from discern.data.packing import pack
from discern.data.record_data import is_records, list_records
from discern.data.shard_index import ShardIndex, read_index_file, refuse_unfinished
from discern.data.tar_shards import is_shards, list_shards


@dataclass(frozen=True, slots=True, kw_only=True)
class UnpackReport:
    """What was unpacked. `problems`: images that were left out."""

    path: str
    out: str
    images: int
    classes: tuple[str, ...]
    verified: bool
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]
    seconds: float

    def record(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "path": self.path,
            "out": self.out,
            "images": self.images,
            "classes": list(self.classes),
            "verified": self.verified,
            "problems": [problem.record() for problem in self.problems],
            "notes": list(self.notes),
            "seconds": self.seconds,
        }


def unpack(
    path: Path | str,
    out: Path | str,
    progress: Progress | None = None,
    *,
    on_bad_image: str = "error",
    workers: int | None = None,
) -> UnpackReport:
    """Write every image of shards or records as a file of its own: OUT/[SPLIT/]CLASS/name.jpg.

    The bytes are those packed. Data with our index is verified first, other data's images are
    decoded. A killed unpacking goes on where it stopped. With several label columns the labels go
    into `metadata.jsonl` beside the images. Raises DataError for damage, naming it.
    """
    path = Path(path)
    listing = _list_packed(path)
    indexes = _indexes(listing)
    if indexes is not None:
        report = verify_packed(path, threads=workers)
        if not report.sound:
            first = report.problems[0]
            raise DataError(
                f"the packed data is damaged in {len(report.problems)} places",
                where=first.path,
                got=first.text,
                hint="`discern data verify` names all of them",
            )
    manifest = _manifest(listing, indexes)
    options = PackOptions(format="folder", on_bad_image=on_bad_image, workers=workers)
    packed = pack(manifest, out, options, progress)
    return UnpackReport(
        path=str(path),
        out=packed.out,
        images=packed.images,
        classes=manifest.heads[0].classes,
        verified=indexes is not None,
        problems=packed.problems,
        notes=(*listing.notes, *packed.notes),
        seconds=packed.seconds,
    )


def _list_packed(path: Path) -> Listing:
    if not path.exists():
        raise DataError("there is no such file or folder", where=path)
    if path.is_dir():
        refuse_unfinished(path)
    if is_records(path):
        return list_records(path)
    if is_shards(path):
        return list_shards(path)
    raise DataError(
        "this is no packed data",
        where=path,
        expected="tar shards (KEY.jpg beside KEY.cls), or .rec files",
        hint="`discern data extract` unpacks other archives",
    )


def _indexes(listing: Listing) -> list[ShardIndex] | None:
    """Our index of every file, or None if one has none."""
    names = listing.locations.container_names
    found = [read_index_file(listing.root / name) for name in names]
    known = [index for index in found if index is not None]
    return known if len(known) == len(names) else None


def _manifest(listing: Listing, indexes: list[ShardIndex] | None) -> Manifest:
    """The listing as a manifest; by our index, images get their names and digests back."""
    locations = listing.locations
    ids: NDArray[np.str_] = np.array([f"{row}" for row in range(len(listing))], dtype=np.str_)
    if indexes is not None:
        images = [image for index in indexes for image in index.images]
        if len(images) != len(listing):
            raise DataError(
                "the packed data and its index disagree", where=listing.root,
                got=f"{len(listing)} images", expected=f"{len(images)}",
            )  # fmt: skip
        ids = unique_ids(image.digest for image in images)
        paths = [image.path for image in images]
        locations = replace(locations, paths=np.array(paths, dtype=np.str_))
    return Manifest(
        ids=ids,
        locations=locations,
        heads=tuple(
            Head(column.name, column.kind, column.classes, np.array(column.targets))
            for column in listing.heads
        ),
        split=np.array(listing.split),
        root=listing.root,
        layout=listing.layout,
    )
