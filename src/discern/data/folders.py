"""Folders of images: CLASS/image.jpg, or train|val|test/CLASS/image.jpg."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

from discern.base.errors import DataError
from discern.data.listing import SUFFIXES, Listing, labels_from_paths
from discern.data.manifest import Locations


def list_images(root: Path) -> tuple[list[str], list[str], list[str]]:
    """(relative paths of images, folders without any image below, notes), sorted by code point.

    Hidden files and folders are skipped. Links are followed; a loop or a dangling one is noted.
    """
    found: list[str] = []
    empty: list[str] = []
    notes: list[str] = []

    def walk(folder: str, prefix: str, above: tuple[tuple[int, int], ...]) -> int:
        status = os.stat(folder)
        here = (status.st_dev, status.st_ino)
        if here in above:
            notes.append(f"a link leads back to a folder above it: {prefix}")
            return 0
        count = 0
        for entry in sorted(os.scandir(folder), key=lambda e: e.name):
            if entry.name.startswith("."):
                continue
            path = f"{prefix}{entry.name}"
            if entry.is_symlink() and not os.path.exists(entry.path):  # noqa: PTH110
                notes.append(f"a link leads nowhere: {path}")
            elif entry.is_dir():
                inside = walk(entry.path, f"{path}/", (*above, here))
                if not inside:
                    empty.append(path)
                count += inside
            elif os.path.splitext(entry.name)[1].lower() in SUFFIXES:  # noqa: PTH122
                found.append(path)
                count += 1
        return count

    walk(str(root), "", ())
    return found, empty, notes


def list_folder(root: Path) -> Listing:
    """The images in the folder `root`. Raises DataError for none, or an empty class folder."""
    paths, empty, notes = list_images(root)
    if not paths:
        raise DataError(
            "there are no images in the folder",
            where=root,
            expected="CLASS/image.jpg, or train|val|test/CLASS/image.jpg",
        )
    labels, split, layout = labels_from_paths(paths)
    depth = 2 if (split >= 0).any() else 1
    for folder in empty:
        if folder.count("/") == depth - 1:
            raise DataError(
                "a class folder has no images",
                where=root / folder,
                hint="add images, or remove the folder",
            )
    return Listing(
        locations=Locations.files(paths),
        labels=[None if label is None else unicodedata.normalize("NFC", label) for label in labels],
        split=split,
        root=root.absolute(),
        layout=f"{layout}, {len(paths)} files",
        name=root.absolute().name or "data",
        notes=tuple(notes),
    )
