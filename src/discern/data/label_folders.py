"""The two folders of automatic labeling, read: what is labeled by people, and what is raw.

Images are told apart by their content alone, never by their name. Owns the checks of the folders,
the manifests that trials are trained on (labels of models are in train only), and `dataset.csv`.

Axes: N images.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from discern.base.errors import ConfigError, DataError
from discern.base.files import write_text
from discern.base.seeds import derive_seed
from discern.data.fold_split import FoldRule, hold_out_fold
from discern.data.folders import list_folder, walk_images
from discern.data.folds import contents
from discern.data.inspection import Problem, Progress, inspect_listing, refuse_or_skip
from discern.data.label_ledger import GivenLabel
from discern.data.listing import Listing
from discern.data.manifest import (
    MISSING,
    NO_SPLIT,
    Head,
    Locations,
    Manifest,
    order_classes,
    unique_ids,
)
from discern.data.split import LEAST_PER_CLASS, TRAIN

HUMAN: Final = "human"
HEAD: Final = "label"
DATASET_FILE: Final = "dataset.csv"
_HEADER: Final = ("tag", "filepath", "class", "fold", "origin", "round", "confidence")
# Catalyst's, whose five folds of seed 42 train on 0 to 3 and validate on 4.
SEED: Final = 42


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelFolders:
    """`human`: images that people labeled, unsplit. `raw`: images to label, each content once.

    `placed`: paths in the clean folder that hold a model's label. `repeats`: raw files left out
    because an equal one comes before, `in_clean`: because people labeled it; `problems`: because
    they cannot be read.
    """

    human: Manifest
    raw: Manifest
    placed: frozenset[str]
    repeats: int
    in_clean: int
    problems: tuple[Problem, ...]


def check_folders(clean: Path, raw: Path, logs: Path) -> None:
    """Raises DataError for a folder that is not there, ConfigError for folders within another."""
    for path, flag in ((clean, "--data-clean"), (raw, "--data-raw")):
        if not path.is_dir():
            raise DataError("there is no such folder", where=flag, got=path)
    named = ((raw, "--data-raw"), (clean, "--data-clean"), (logs, "--baselogdir"))
    for place, (one, flag) in enumerate(named):
        for other, second in named[place + 1 :]:
            if _inside(one, other) or (_inside(other, one)):
                raise ConfigError(
                    "one folder lies within the other" if one != other else "one folder twice",
                    where=f"{flag}, {second}",
                    got=f"{one}, {other}",
                    expected="folders apart: images must not be raw and labeled at once",
                )


def _inside(one: Path, other: Path) -> bool:
    return one.resolve().is_relative_to(other.resolve())


def read_folders(
    clean: Path,
    raw: Path,
    labels: Sequence[GivenLabel],
    *,
    on_bad_image: str = "error",
    progress: Progress | None = None,
) -> LabelFolders:
    """Look at every image of both folders. `labels`: those of models that stand.

    Unreadable raw images are left out and told; unreadable labeled ones are refused unless
    `on_bad_image` is skip. Raises DataError for classes of fewer than 3 images of people.
    """
    human, placed, problems = _read_clean(clean, labels, on_bad_image, progress)
    listing = _raw_listing(raw)
    inspection = inspect_listing(listing, _threads(), progress)
    sound, unread = refuse_or_skip(listing, inspection, "skip")
    known = set(contents(human.ids).tolist())
    rows, seen, repeats, in_clean = [], set(), 0, 0
    for row in sound.tolist():
        content = inspection.digests[row][:16]
        if content in known:
            in_clean += 1
        elif content in seen:
            repeats += 1
        else:
            seen.add(content)
            rows.append(row)
    kept = np.array(rows, dtype=np.int64)
    manifest = Manifest(
        ids=np.array([inspection.digests[row][:16] for row in rows], dtype="<U16"),
        locations=listing.locations.select(kept),
        heads=(Head(HEAD, "single", human.classes, np.full(len(kept), MISSING, dtype=np.int64)),),
        split=np.full(len(kept), NO_SPLIT, dtype=np.int8),
        root=listing.root,
        layout="raw images",
    )
    return LabelFolders(
        human=human,
        raw=manifest,
        placed=placed,
        repeats=repeats,
        in_clean=in_clean,
        problems=(*problems, *unread),
    )


def _threads() -> int:
    return len(os.sched_getaffinity(0))


def _raw_listing(raw: Path) -> Listing:
    """All images below the folder, whatever the folders in it are called."""
    tree = walk_images(raw)
    listing = list_folder(raw, tree, lenient=True)
    return listing.with_labels([None] * len(listing))


def _read_clean(
    clean: Path, labels: Sequence[GivenLabel], on_bad_image: str, progress: Progress | None
) -> tuple[Manifest, frozenset[str], list[Problem]]:
    listing = list_folder(clean, lenient=True)
    if (listing.split != NO_SPLIT).any():
        raise ConfigError(
            "the labeled images are split already",
            where=clean, got=listing.layout, expected="CLASS/image.jpg",
            hint="name the folder of train: what is held out is drawn from people's labels",
        )  # fmt: skip
    loose = [p for p, t in zip(listing.locations.paths, listing.labels, strict=True) if t is None]
    if loose:
        raise DataError(
            "images of the labeled folder are in no class folder",
            where=clean, got=", ".join(map(str, loose[:5])), expected="CLASS/image.jpg",
        )  # fmt: skip
    inspection = inspect_listing(listing, _threads(), progress)
    sound, problems = refuse_or_skip(listing, inspection, on_bad_image)
    given = {label.path: label.id for label in labels if label.path is not None}
    paths = listing.locations.paths.tolist()
    ours = [row for row in sound.tolist() if paths[row] in given]
    changed = [paths[row] for row in ours if inspection.digests[row][:16] != given[paths[row]]]
    gone = [path for path in given if os.path.islink(clean / path)  # noqa: PTH114
            and not (clean / path).exists()]  # fmt: skip
    if changed or gone:
        raise DataError(
            "images that a model labeled have changed" if changed else
            "images that a model labeled are links to raw images that are gone",
            where=clean, got=", ".join((changed or gone)[:5]), expected="the bytes that it saw",
            hint="put them back, or remove them: a removed one is not labeled again",
        )  # fmt: skip
    placed = frozenset(paths[row] for row in ours)
    rows = np.array([row for row in sound if paths[row] not in placed], dtype=np.int64)
    tags = [str(listing.labels[row]) for row in rows]
    classes = order_classes(tags)
    numbers = {name: number for number, name in enumerate(classes)}
    manifest = Manifest(
        ids=unique_ids(inspection.digests[row] for row in rows),
        locations=listing.locations.select(rows),
        heads=(Head(HEAD, "single", classes, np.array([numbers[t] for t in tags], dtype=int)),),
        split=np.full(len(rows), NO_SPLIT, dtype=np.int8),
        root=listing.root,
        layout=listing.layout,
    )
    _check_classes(manifest, clean)
    return manifest, placed, problems


def _check_classes(human: Manifest, clean: Path) -> None:
    if len(human.classes) < 2:
        raise DataError(
            "there is nothing to tell apart", where=clean,
            got=f"{len(human.classes)} class: {', '.join(human.classes)}",
            expected="at least 2 classes of images labeled by people",
        )  # fmt: skip
    few = {name: n for name, n in human.head.counts().items() if n < LEAST_PER_CLASS}
    if few:
        raise DataError(
            "a class has too few images labeled by people",
            where=f"{clean}, class '{next(iter(few))}'",
            got=", ".join(f"{name}: {count}" for name, count in few.items()),
            expected=f"at least {LEAST_PER_CLASS}: one to learn from, one to choose by, "
            "one to be scored on",
            hint="label some more by hand, or take the class folder away",
        )


def deal_folds(human: Manifest, folds: int) -> Manifest:
    """The images of people with a fold each, every class spread evenly. Raises DataError."""
    return hold_out_fold(human, FoldRule(folds=folds, seed=SEED)).manifest


def trial_manifest(
    dealt: Manifest, held: int, labels: Sequence[GivenLabel], raw: Path, *, val_share: float
) -> Manifest:
    """What a trial is trained on: fold `held` is test, val is drawn from people's other images.

    Every label of a model is in train. `dealt`: as `deal_folds` gives it.
    """
    split = hold_out_fold(dealt, FoldRule(held=held, inner_val=val_share, seed=SEED)).manifest
    root = split.root
    paths = [str(root / path) for path in split.locations.paths.tolist()]
    paths += [str(root / label.path if label.path else raw.absolute() / label.source)
              for label in labels]  # fmt: skip
    numbers = {name: number for number, name in enumerate(split.classes)}
    targets = [*split.targets.tolist(), *(numbers[label.tag] for label in labels)]
    human = len(split)
    return Manifest(
        ids=np.array([*split.ids.tolist(), *(label.id for label in labels)], dtype=np.str_),
        locations=Locations.files(paths),
        heads=(replace(split.head, targets=np.array(targets, dtype=np.int64)),),
        split=np.concatenate([split.split, np.full(len(labels), TRAIN, dtype=np.int8)]),
        root=root,
        layout=f"{human} images labeled by people, {len(labels)} by models",
        origin=np.array([HUMAN] * human + [label.origin for label in labels], dtype=np.str_),
        confidence=np.array(
            [np.nan] * human + [label.confidence for label in labels], dtype=np.float32
        ),
    )


def check_dataset(path: Path) -> None:
    """Raises ConfigError if the file `path` is not a table that this module wrote."""
    try:
        with open(path, encoding="utf-8", newline="") as stream:
            header = next(csv.reader(stream), [])
    except (FileNotFoundError, UnicodeDecodeError):
        header = list(_HEADER) if not path.exists() else []
    if tuple(header) != _HEADER:
        raise ConfigError(
            "a file stands where the table of the labeled images belongs",
            where=path,
            got=f"columns {', '.join(header)[:200]}",
            expected=",".join(_HEADER),
            hint="move it away; it would be overwritten",
        )


def write_dataset(path: Path, dealt: Manifest, labels: Sequence[GivenLabel], raw: Path) -> None:
    """Catalyst's dataset.csv (tag, filepath, class, fold) with origin, round and confidence.

    Paths are relative to the clean folder, and absolute for images that stay in the raw one. The
    last fold, on which Catalyst validates, has images of people alone: labels of models are dealt
    to the others.
    """
    fold = np.asarray(dealt.fold)
    last = int(fold.max())
    numbers = {name: number for number, name in enumerate(dealt.classes)}
    rows: list[tuple[str, str, int, int, str, str, str]] = [
        (dealt.classes[target], str(name), target, number, HUMAN, "", "")
        for target, name, number in zip(
            dealt.targets.tolist(), dealt.locations.paths.tolist(), fold.tolist(), strict=True
        )
    ]
    for label in labels:
        place = label.path if label.path else str(raw.absolute() / label.source)
        number = derive_seed(SEED, label.id) % last
        rows.append((label.tag, place, numbers[label.tag], number, label.origin,
                     str(label.round), f"{label.confidence:.6f}"))  # fmt: skip
    stream = io.StringIO()
    table = csv.writer(stream, lineterminator="\n")
    table.writerow(_HEADER)
    ordered = sorted(rows, key=lambda row: (row[2], row[1]))
    table.writerows(ordered)
    write_text(path, stream.getvalue())
