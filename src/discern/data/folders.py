"""Folders of images: CLASS/image.jpg, or train|val|test/CLASS/image.jpg.

Owns the walk: links are followed, and each loop and dangling link is told once.
"""

from __future__ import annotations

import os
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from discern.base.errors import DataError
from discern.data.listing import SUFFIXES, Fault, Listing, labels_from_paths
from discern.data.manifest import Locations

DANGLING: Final = "a link leads nowhere"
EMPTY: Final = "a class folder has no images"
LOOP: Final = "a link leads back to a folder above it"
# Links in folders that are linked themselves multiply: one is followed this often, then no more.
_MOST_VISITS: Final = 16

_Place = tuple[int, int]  # device and inode


@dataclass(slots=True)
class ImageTree:
    """What a walk found: relative paths of images, folders without any image below, bad links.

    Paths and folders are sorted by code point, folder by folder.
    """

    paths: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)


class _Walk:
    """One walk through a folder; remembers which links and loops it has met."""

    def __init__(self) -> None:
        self.tree = ImageTree()
        self._visits: dict[_Place, int] = {}
        self._loops: set[frozenset[_Place]] = set()

    def enter(self, folder: str, prefix: str, above: tuple[_Place, ...]) -> int:
        """Collect the images of `folder` and below; gives their number."""
        here = _place(os.stat(folder))
        if here in above:
            loop = frozenset(above[above.index(here) :])
            if loop not in self._loops:
                self._loops.add(loop)
                self._fault(prefix.rstrip("/"), LOOP)
            return 0
        count = 0
        for entry in sorted(os.scandir(folder), key=lambda e: e.name):
            if not entry.name.startswith("."):
                count += self._take(entry, f"{prefix}{entry.name}", (*above, here))
        return count

    def _take(self, entry: os.DirEntry[str], path: str, above: tuple[_Place, ...]) -> int:
        if entry.is_symlink():
            place = _place(entry.stat(follow_symlinks=False))
            visits = self._visits[place] = self._visits.get(place, 0) + 1
            if not os.path.exists(entry.path):  # noqa: PTH110 - many files
                if visits == 1:
                    self._fault(path, DANGLING)
                return 0
            if visits > _MOST_VISITS and entry.is_dir():
                if visits == _MOST_VISITS + 1:
                    text = f"a link is met again and again: it was followed {_MOST_VISITS} times"
                    self._fault(path, text)
                return 0
        if entry.is_dir():
            inside = self.enter(entry.path, f"{path}/", above)
            if not inside:
                self.tree.empty.append(path)
            return inside
        if os.path.splitext(entry.name)[1].lower() in SUFFIXES:  # noqa: PTH122 - many files
            self.tree.paths.append(path)
            return 1
        return 0

    def _fault(self, path: str, text: str) -> None:
        self.tree.faults.append(("link", path, text))


def _place(status: os.stat_result) -> _Place:
    return status.st_dev, status.st_ino


def walk_images(root: Path) -> ImageTree:
    """The images in `root` and below. Hidden files and folders are skipped, links are followed.

    Raises DataError if a folder cannot be read.
    """
    walk = _Walk()
    try:
        walk.enter(str(root), "", ())
    except OSError as error:
        raise DataError(
            "a folder cannot be read", where=error.filename or root, got=error.strerror
        ) from error
    return walk.tree


def list_images(root: Path) -> tuple[list[str], list[str], list[str]]:
    """(relative paths of images, folders without any image below, notes on links)."""
    tree = walk_images(root)
    return tree.paths, tree.empty, link_notes(tree.faults)


def link_notes(faults: list[Fault]) -> list[str]:
    """The faults as notes."""
    return [f"{text}: {path}" for _, path, text in faults]


def list_folder(root: Path, tree: ImageTree | None = None, *, lenient: bool = False) -> Listing:
    """The images in the folder `root`, whose walk may be given.

    Raises DataError for none, or for an empty class folder unless `lenient`: then it is a fault.
    """
    tree = walk_images(root) if tree is None else tree
    if not tree.paths:
        raise DataError(
            "there are no images in the folder",
            where=root,
            got="; ".join(link_notes(tree.faults)[:3]) or None,
            expected="CLASS/image.jpg, or train|val|test/CLASS/image.jpg",
        )
    labels, split, layout = labels_from_paths(tree.paths)
    depth = 2 if (split >= 0).any() else 1
    empty = [folder for folder in tree.empty if folder.count("/") == depth - 1]
    if empty and not lenient:
        raise DataError(EMPTY, where=root / empty[0], hint="add images, or remove the folder")
    return Listing(
        locations=Locations.files(tree.paths),
        labels=[None if label is None else unicodedata.normalize("NFC", label) for label in labels],
        split=split,
        root=root.absolute(),
        layout=f"{layout}, {len(tree.paths)} files",
        name=root.absolute().name or "data",
        notes=tuple(link_notes(tree.faults)),
        faults=(*tree.faults, *(("empty", folder, EMPTY) for folder in empty)),
    )
