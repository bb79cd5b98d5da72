"""From what the user names to a manifest: finds the way in, opens every image, fills in splits."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from discern.base.errors import DataError
from discern.base.names import did_you_mean, nearest_names
from discern.data.archives import TAR_SUFFIXES, is_tar, list_tar
from discern.data.catalog import BUILT_IN, read_catalog
from discern.data.folders import list_folder
from discern.data.inspection import (
    ImageFacts,
    Inspection,
    Problem,
    Progress,
    image_facts,
    inspect_listing,
    refuse_or_skip,
)
from discern.data.listing import Listing
from discern.data.manifest import (
    MISSING,
    NO_SPLIT,
    SPLITS,
    Head,
    Locations,
    Manifest,
    join_locations,
    order_classes,
    unique_ids,
)
from discern.data.manifest_files import is_manifest, read_manifest
from discern.data.split import SplitRule, complete_split
from discern.data.tables import TABLE_SUFFIXES, is_table, list_table

__all__ = ["DataRequest", "ImageFacts", "Problem", "ScannedData", "SplitRule", "scan_data"]

_CODES = {"train": 0, "val": 1, "test": 2, "all": NO_SPLIT}


@dataclass(frozen=True, slots=True, kw_only=True)
class DataRequest:
    """What to scan. `split` None leaves the images unsplit, as evaluation wants them."""

    train: str
    val: str | None = None
    test: str | None = None
    root: str | None = None
    classes: tuple[str, ...] | None = None
    label: str | None = None
    on_bad_image: str = "error"
    split: SplitRule | None = field(default_factory=SplitRule)
    threads: int | None = None


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
    parts = [list_source(request.train, request.root, request.label, progress)]
    if request.val is not None or request.test is not None:
        parts = _joined_parts(request, parts[0], progress)
    classes, numeric = _class_map(parts[0], request.classes, needs_train=request.split is not None)
    sources = [s for s in (request.train, request.val, request.test) if s is not None]
    _check_other_classes(parts, sources, classes, numeric)
    threads = request.threads or len(os.sched_getaffinity(0))
    inspections = [inspect_listing(part, threads, progress) for part in parts]
    sound, problems = [], []
    for part, inspection in zip(parts, inspections, strict=True):
        rows, bad = refuse_or_skip(part, inspection, request.on_bad_image)
        sound.append(rows)
        problems += bad
    manifest = _build_manifest(parts, inspections, sound, classes)
    notes = [note for part in parts for note in part.notes] + _class_notes(classes)
    reported, random = "test", False
    warnings: list[str] = []
    if request.split is not None:
        _check_trainable(manifest, parts[0])
        outcome = complete_split(
            manifest.ids, manifest.targets, classes, manifest.split, request.split
        )
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


def list_source(
    source: str, root: str | None, label: str | None, progress: Progress | None
) -> Listing:
    """The images of one DATA, whatever it is. Raises DataError for nothing of that name."""
    path = Path(source).expanduser()
    if source in BUILT_IN and not (path.exists() and root is None):
        return _list_built_in(source, root, progress)
    if path.is_dir():
        return list_folder(path)
    if path.is_file():
        if is_tar(path):
            return list_tar(path)
        if is_table(path):
            return list_manifest(path) if is_manifest(path) else list_table(path, label)
        raise DataError(
            "not a kind of data that can be read", where=path,
            expected=f"a folder, or a file ending in {', '.join([*TABLE_SUFFIXES, *TAR_SUFFIXES])}",
        )  # fmt: skip
    raise _nothing_there(source)


def list_manifest(path: Path) -> Listing:
    """The images of a manifest file. Raises DataError."""
    manifest = read_manifest(path)
    names: tuple[str | None, ...] = (*manifest.classes, None)  # the last one for MISSING, -1
    return Listing(
        locations=manifest.locations,
        labels=[names[target] for target in manifest.targets],
        split=manifest.split,
        root=manifest.root,
        layout=f"manifest of {manifest.layout}",
        name=path.stem,
        classes=manifest.classes,
        fold=manifest.fold,
        group=manifest.group,
        weight=manifest.weight,
    )


def _nothing_there(source: str) -> DataError:
    parent = Path(source).parent
    beside = [entry.name for entry in parent.iterdir()] if parent.is_dir() else []
    near = nearest_names(source, BUILT_IN) + [
        str(parent / name) for name in nearest_names(Path(source).name, beside)
    ]
    return DataError(
        "there is no such data",
        got=source,
        expected=f"a folder, table or archive, or one of {', '.join(BUILT_IN)}",
        hint="did you mean " + " or ".join(f"'{name}'" for name in near[:3]) + "?"
        if near
        else None,
    )


def _list_built_in(name: str, root: str | None, progress: Progress | None) -> Listing:
    data = read_catalog(name, root, progress)
    names = tuple(f"{name}/{split}" for split in data.pixels)
    arrays = dict(zip(names, data.pixels.values(), strict=True))
    counts = [len(array) for array in arrays.values()]
    total = sum(counts)
    containers = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    offsets = np.concatenate([np.arange(count, dtype=np.int64) for count in counts])
    codes = np.repeat(np.array([_CODES[split] for split in data.pixels], dtype=np.int8), counts)
    labels = np.concatenate([data.targets[split] for split in data.pixels])
    return Listing(
        locations=Locations(
            np.array([f"{offset:05d}" for offset in offsets], dtype=np.str_),
            containers,
            offsets,
            np.ones(total, dtype=np.int64),
            names,
        ),
        labels=[data.classes[label] for label in labels],
        split=codes,
        root=Path(),
        layout=data.layout,
        name=name,
        classes=data.classes,
        arrays=arrays,
    )


def _joined_parts(request: DataRequest, first: Listing, progress: Progress | None) -> list[Listing]:
    """Train, val and test, each from its own source; a source's own splits are looked for."""
    parts = [first if not (request.val and request.test) else first.only(_CODES["train"])]
    if len(parts[0]) == len(first) and (first.split == NO_SPLIT).all():
        parts = [first.select(np.arange(len(first), dtype=np.int64), _CODES["train"])]
    for split, source in (("val", request.val), ("test", request.test)):
        if source is not None:
            other = list_source(source, request.root, request.label, progress)
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


def _class_map(
    first: Listing,
    given: tuple[str, ...] | None,
    *,
    needs_train: bool,
) -> tuple[tuple[str, ...], bool]:
    """(class names in order, whether they are bare numbers) from the train data.

    Without `needs_train`, as for evaluation, data that has no train split gives its own classes.
    """
    codes = {int(code) for code in first.split}
    if needs_train and not codes & {_CODES["train"], NO_SPLIT}:
        raise DataError(
            "there is no train split", where=first.root,
            got=", ".join(SPLITS[code] for code in sorted(codes)),
            expected="train, and val or test or both",
        )  # fmt: skip
    train = [
        label
        for label, code in zip(first.labels, first.split, strict=True)
        if label is not None and code in (_CODES["train"], NO_SPLIT)
    ]
    if given is not None:
        return given, False
    if not train and not needs_train:
        train = [label for label in first.labels if label is not None]
    if first.classes is not None:
        return first.classes, False
    return order_classes(train), first.numeric


def _check_other_classes(
    parts: list[Listing],
    sources: list[str],
    classes: tuple[str, ...],
    numeric: bool,  # noqa: FBT001
) -> None:
    """A class that train lacks is an error that names it; bare numbers are compared by count."""
    known = set(classes)
    for part, source in zip(parts, sources, strict=True):
        labels = {label for label in part.labels if label is not None}
        unknown = sorted(labels - known)
        if not unknown:
            continue
        what = "there are classes" if len(unknown) > 1 else "there is a class"
        near = did_you_mean(unknown[0], classes)
        raise DataError(
            f"{what} that the training images do not have",
            where=source,
            got=", ".join(unknown[:10]),
            expected=f"{len(classes)} numbered classes" if numeric else ", ".join(classes[:20]),
            hint=near
            or "give them images in train, leave them out, or name the classes in data.classes",
        )


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
    """What is scored should not have been learned: images of equal content in train and beyond."""
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
    return found


def _check_trainable(manifest: Manifest, first: Listing) -> None:
    if len(manifest.classes) < 2:
        raise DataError(
            "there is nothing to tell apart",
            where=first.root,
            got=f"{len(manifest.classes)} class: {', '.join(manifest.classes)}",
            expected="at least 2 classes",
            hint="images of each class go into a folder of its own: DATA/CLASS/image.jpg",
        )
    unlabeled = np.flatnonzero(manifest.targets == MISSING)
    if len(unlabeled):
        raise DataError(
            f"{len(unlabeled)} images have no class",
            where=first.root,
            got=", ".join(str(manifest.locations.paths[row]) for row in unlabeled[:5]),
            hint="put them into a class folder, label them in the table, or remove them",
        )


def _build_manifest(
    parts: list[Listing],
    inspections: list[Inspection],
    sound: list[NDArray[np.int64]],
    classes: tuple[str, ...],
) -> Manifest:
    numbers = {name: number for number, name in enumerate(classes)}
    targets = [
        numbers.get(part.labels[row] or "", MISSING)
        for part, rows in zip(parts, sound, strict=True)
        for row in rows
    ]
    digests = [
        inspection.digests[row]
        for inspection, rows in zip(inspections, sound, strict=True)
        for row in rows
    ]
    chosen = [
        (part.locations.select(rows), part.root) for part, rows in zip(parts, sound, strict=True)
    ]
    arrays = {name: array for part in parts for name, array in part.arrays.items()}
    single = len(parts) == 1
    locations = chosen[0][0] if single else _join(chosen, arrays)

    def column(name: str) -> Any:
        values = [getattr(part, name) for part in parts]
        if any(value is None for value in values):
            return None
        return np.concatenate([v[rows] for v, rows in zip(values, sound, strict=True)])

    return Manifest(
        ids=unique_ids(digests),
        locations=locations,
        heads=(Head("label", "single", classes, np.array(targets, dtype=np.int64)),),
        split=np.concatenate([p.split[rows] for p, rows in zip(parts, sound, strict=True)]),
        root=parts[0].root if single else Path("/"),
        layout="; ".join(part.layout for part in parts),
        fold=column("fold"),
        group=column("group"),
        weight=column("weight"),
        arrays=arrays,
    )


def _join(chosen: list[tuple[Locations, Path]], arrays: dict[str, Any]) -> Locations:
    """Array containers keep their names; files and archives get absolute paths."""
    return join_locations([(where, Path() if arrays else root) for where, root in chosen])


def _joined_facts(inspections: list[Inspection], sound: list[NDArray[np.int64]]) -> ImageFacts:
    joined = Inspection(
        [],
        [],
        np.concatenate([i.sizes[rows] for i, rows in zip(inspections, sound, strict=True)]),
        np.concatenate([i.grey[rows] for i, rows in zip(inspections, sound, strict=True)]),
    )
    return image_facts(joined, np.arange(len(joined.sizes), dtype=np.int64))
